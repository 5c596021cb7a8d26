"""Claims: who uses how much of which host. The database says who won.

A claim has an id of its own: the server's, or that of the migration that made it, so that a server that moves may hold
several, and give back each by itself.

What a batch takes of a host is added up, and hosts that give the same amounts share one conditional UPDATE, checked by
its row count. Only when that finds somebody without room are the rows locked and the losers told apart. Rows are met
in the order of their hosts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from cellcloud import errors, metrics
from cellcloud.db import bulk, numa_pci_conflicts, scheduler_change_log
from cellcloud.db.cell_schema import claims, inventories, runs, servers
from cellcloud.db.engine import Json, LostRace
from cellcloud.model import codec
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import Changes
from cellcloud.model.decision import ClaimConflict
from cellcloud.server_states import VmState

_PLAIN = codec.to_plain(Allocation())
TOPOLOGY = "TOPOLOGY"  # what a conflict names when a place on NUMA cells or a PCI device is somebody else's
_FIGURES = (
    sa.select(inventories.c.host, inventories.c.resource_class, inventories.c.capacity, inventories.c.used)
    .where(inventories.c.host.in_(sa.bindparam("hosts", expanding=True)))
    .order_by(inventories.c.host, inventories.c.resource_class)
    .with_for_update()
)
_LOCKED = sa.select(sa.func.count()).select_from(_FIGURES.subquery())
Amounts = tuple[tuple[str, int], ...]  # (resource class, amount) in the order of the classes


class Claim(NamedTuple):
    """Room for a server on one host. ``id``: the server's own, or that of the migration which makes the claim.

    ``others``: the hosts it would go to instead, the better first.
    """

    id: str
    server_id: str
    host: str
    allocation: Allocation
    others: tuple[str, ...] = ()

    def at(self, host: str) -> Claim:
        """Return the same on another host."""
        return self if host == self.host else self._replace(host=host)


class Lost(errors.ClaimLost):
    """Some host has not enough for all: the transaction must be given up, and the claims be judged one by one."""


def claim_all(connection: Connection, wanted: Sequence[Claim]) -> None:
    """Take room for each, on the host it names first. Raises Lost. Call it late in the transaction: others wait for
    these hosts until it commits. The caller writes the log."""
    if not wanted:
        return
    _insert(connection, wanted)
    if not _add_all(connection, _kinds(wanted)) or _clashes(connection, wanted):
        raise Lost("Others were faster.")
    metrics.CLAIMS.labels("won").inc(len(wanted))


def _no_conflict(_claim: Claim, _host: str) -> ClaimConflict | None:
    return None


def claim_judged(
    connection: Connection,
    wanted: Sequence[Claim],
    *,
    admit: Callable[[Claim, str], ClaimConflict | None] = _no_conflict,
) -> tuple[dict[str, Claim], dict[str, list[ClaimConflict]]]:
    """Take room for each on the first of its hosts that has it, first come, first served, by figures that are locked
    from here to the end of the transaction. Begin a transaction with it: whoever judges locks hosts first. (Against
    ``claim_all``, which locks them last, that is another order only for one claim made twice at once: one of the
    two is then told LostRace.)

    ``admit``: asked last about a claim on a host with room, says why it is not to be.

    Returns the claims that were made, and the races that were lost, by claim id. The caller writes the log.
    """
    figures = _lock(connection, {host for item in wanted for host in (item.host, *item.others)})
    taken: Counter[tuple[str, str]] = Counter()
    won: dict[str, Claim] = {}
    lost: dict[str, list[ClaimConflict]] = defaultdict(list)
    for item in wanted:
        for host in (item.host, *item.others):
            conflict = _conflict(item, host, figures, taken) or admit(item, host)
            if conflict is None:
                won[item.id] = item.at(host)
                taken.update({(host, name): amount for name, amount in item.allocation.resources.items()})
                break
            lost[item.id].append(conflict)
    for claim_id, clash in _clashes(connection, list(won.values())).items():
        lost[claim_id].append(clash)
        del won[claim_id]
    if not _add_all(connection, _kinds(won.values())):
        raise LostRace("A host's figures changed under their lock; try again shortly.")
    _insert(connection, list(won.values()))
    metrics.CLAIMS.labels("won").inc(len(won))
    metrics.CLAIMS.labels("lost").inc(sum(map(len, lost.values())))
    return won, lost


def _insert(connection: Connection, won: Sequence[Claim]) -> None:
    bulk.insert(connection, claims, ("id", "server_id", "host", "holding"), _rows(won))


def _clashes(connection: Connection, winners: Sequence[Claim]) -> dict[str, ClaimConflict]:
    """Those whose CPUs, pages or devices somebody else got, by claim id."""
    placed = [(item.id, item.host, item.allocation.placed) for item in winners]
    told = [(claim_id, host, place) for claim_id, host, place in placed if place and (place.guest or place.devices)]
    if not told:
        return {}
    hosts = {claim_id: host for claim_id, host, _ in told}
    return {
        claim_id: ClaimConflict(host=hosts[claim_id], resource_class=TOPOLOGY, capacity=1, used=1, wanted=1)
        for claim_id in numa_pci_conflicts.list_clashes(connection, told)
    }


def _kinds(wanted: Iterable[Claim], sign: int = 1) -> dict[Amounts, list[str]]:
    """Return the hosts by what is taken of them."""
    sources: dict[int, Mapping[str, int]] = {}
    shares: dict[str, tuple[int, ...]] = {}
    for item in wanted:
        amounts = item.allocation.resources
        sources[id(amounts)] = amounts
        shares[item.host] = (*shares.get(item.host, ()), id(amounts))
    hosts_of: dict[tuple[int, ...], list[str]] = {}
    for host, numbers in shares.items():
        hosts_of.setdefault(numbers, []).append(host)
    kinds: dict[Amounts, list[str]] = {}
    for numbers, hosts in hosts_of.items():
        total: Counter[str] = Counter()
        for number in numbers:
            total.update(sources[number])
        taken = tuple(sorted((name, sign * amount) for name, amount in total.items() if amount))
        kinds.setdefault(taken, []).extend(hosts)
    kinds.pop((), None)
    return kinds


def _rows(wanted: Sequence[Claim]) -> list[tuple[str, str, str, str]]:
    texts: dict[int, str] = {}
    rows = []
    for item in wanted:
        taken = item.allocation
        if id(taken) not in texts:
            texts[id(taken)] = _text(taken)
        rows.append((item.id, item.server_id, item.host, texts[id(taken)]))
    return rows


def _text(taken: Allocation) -> str:
    plain = codec.to_plain(taken)
    return msgspec.json.encode({name: value for name, value in plain.items() if value != _PLAIN[name]}).decode()


def _add_all(connection: Connection, kinds: Mapping[Amounts, Sequence[str]]) -> bool:
    """Add to what hosts give where it stays within capacity; False, half done, when it does not somewhere. What is
    taken away is let pass."""
    alike: dict[tuple[str, ...], dict[Amounts, Sequence[str]]] = {}  # by the resource classes
    for amounts, hosts in kinds.items():
        alike.setdefault(tuple(name for name, _ in amounts), {})[amounts] = hosts
    hosts = sorted(host for members in kinds.values() for host in members)
    if len(hosts) > 1 and (len(alike) > 1 or connection.dialect.name == "postgresql"):
        connection.execute(_LOCKED, {"hosts": hosts})  # where the UPDATE alone would lock in another order
    for names, members in alike.items():
        rows = len(names) * sum(map(len, members.values()))
        if connection.execute(_adding(members, arrays=connection.dialect.name == "postgresql")).rowcount != rows:
            return False
    return True


def _adding(kinds: Mapping[Amounts, Sequence[str]], *, arrays: bool) -> sa.Update:
    """Make an UPDATE that adds amounts of the same classes, as many for each kind of host. ``arrays``: hosts are bound
    as one value, where the database has such."""
    *others, (most, _) = sorted(kinds.items(), key=lambda kind: len(kind[1]))
    columns = inventories.c
    more: sa.ColumnElement[Any] = _amount(most)
    if others:
        more = sa.case(*((_is_of(hosts, arrays=arrays), _amount(amounts)) for amounts, hosts in others), else_=more)
    everyone = sorted(host for hosts in kinds.values() for host in hosts)
    used = columns.used + more
    gives = all(number < 0 for amounts in kinds for _, number in amounts)
    fits = used.is_not(None) if gives else used <= columns.capacity
    return sa.update(inventories).values(used=used).where(_is_of(everyone, arrays=arrays), fits)


def _is_of(hosts: Sequence[str], *, arrays: bool) -> sa.ColumnElement[bool]:
    column = inventories.c.host
    if arrays:
        return column == sa.any_(sa.literal(list(hosts), postgresql.ARRAY(sa.Text)))
    return column.in_(hosts)


def _amount(amounts: Amounts) -> sa.ColumnElement[Any]:
    """Return the amount of the row's class; null for others, whose rows are then left alone. (To name the classes in a
    condition would have the database look each of them up by itself, which is half as slow again.)"""
    numbers = {name: sa.literal(number, sa.BigInteger) for name, number in amounts}
    return sa.case(numbers, value=inventories.c.resource_class)


def _lock(connection: Connection, hosts: Iterable[str]) -> dict[tuple[str, str], tuple[int, int]]:
    """(host, resource class) -> (capacity, used), the hosts' rows locked in their order."""
    rows = connection.execute(_FIGURES, {"hosts": sorted(hosts)})
    return {(row.host, row.resource_class): (row.capacity, row.used) for row in rows}


def _conflict(
    item: Claim,
    host: str,
    figures: Mapping[tuple[str, str], tuple[int, int]],
    taken: Mapping[tuple[str, str], int],
) -> ClaimConflict | None:
    for name, amount in sorted(item.allocation.resources.items()):
        capacity, used = figures.get((host, name), (0, 0))
        used += taken.get((host, name), 0)
        if amount and used + amount > capacity:
            return ClaimConflict(host=host, resource_class=name, capacity=capacity, used=used, wanted=amount)
    return None


def release(connection: Connection, claim_ids: Sequence[str]) -> None:
    """Give back these claims, and log it; those that are not there are left alone. Idempotent."""
    if claim_ids:
        _release(connection, claims.c.id.in_(claim_ids))


def release_all(connection: Connection, server_ids: Sequence[str]) -> None:
    """Give back all that the servers hold, what their migrations have claimed included, and log it. Idempotent."""
    if server_ids:
        _release(connection, claims.c.server_id.in_(server_ids))


def _release(connection: Connection, which: sa.ColumnElement[bool]) -> None:
    held = _list(connection, which)
    if held:
        _give_back(connection, held, which)
        scheduler_change_log.append(connection, log(released=held))


def swap(connection: Connection, server_id: str, migration_id: str) -> None:
    """Let a server's own claim and that of its migration exchange what they stand for, and log it: the server lives
    where it was moved to, and what it had belongs to the migration. A second time undoes it. Raises Conflict unless the
    server holds both."""
    own, moved = _pair(connection, server_id, migration_id)
    _store(connection, moved.allocation, moved.host, own.id)
    _store(connection, own.allocation, own.host, moved.id)
    scheduler_change_log.append(connection, log(swapped=[(own, moved)]))


def confirm(connection: Connection, server_id: str, migration_id: str) -> None:
    """Keep a server where its migration took it: ``swap``, and give back what it had, in one entry of the log. Its
    counterpart, which leaves it where it was, is to release the migration's claim. Raises Conflict unless the server
    holds both."""
    own, moved = _pair(connection, server_id, migration_id)
    given = own._replace(id=moved.id)
    _give_back(connection, [given], claims.c.id == moved.id)
    _store(connection, moved.allocation, moved.host, own.id)
    scheduler_change_log.append(connection, log(swapped=[(own, moved)], released=[given]))


def lock_own(connection: Connection, server_ids: Sequence[str]) -> None:
    """Keep the servers' own claims until the transaction ends: beside them it may make those of migrations. Begin a
    transaction with it. Raises Conflict when one holds none."""
    if server_ids:
        own = sa.select(claims.c.id).where(claims.c.id.in_(server_ids)).order_by(claims.c.id)
        missing = set(server_ids).difference(connection.execute(own.with_for_update()).scalars())
        if missing:
            raise errors.Conflict(f"Instance {min(missing)} holds no host that it could be moved from.")


def list_of(connection: Connection, *server_ids: str) -> list[Claim]:
    """Return the claims of servers."""
    return _list(connection, claims.c.server_id.in_(server_ids), lock=False)


def _pair(connection: Connection, server_id: str, migration_id: str) -> tuple[Claim, Claim]:
    """Return the server's own claim and its migration's, locked."""
    mine = sa.and_(claims.c.id.in_((server_id, migration_id)), claims.c.server_id == server_id)
    found = {one.id: one for one in _list(connection, mine)}
    if found.keys() != {server_id, migration_id} or server_id == migration_id:
        raise errors.Conflict(f"Instance {server_id} has not both its own claim and that of migration {migration_id}.")
    return found[server_id], found[migration_id]


def _list(connection: Connection, which: sa.ColumnElement[bool], *, lock: bool = True) -> list[Claim]:
    query = sa.select(claims).where(which).order_by(claims.c.id)
    rows = connection.execute(query.with_for_update() if lock else query)
    return [Claim(row.id, row.server_id, row.host, codec.from_plain(row.holding, Allocation)) for row in rows]


def _store(connection: Connection, taken: Allocation, host: str, claim_id: str) -> None:
    holding = msgspec.json.decode(_text(taken))
    connection.execute(sa.update(claims).where(claims.c.id == claim_id).values(host=host, holding=holding))


def _give_back(connection: Connection, held: Sequence[Claim], which: sa.ColumnElement[bool]) -> None:
    if connection.execute(sa.delete(claims).where(which)).rowcount != len(held):
        raise LostRace("More was claimed while it was released; try again shortly.")
    if not _add_all(connection, _kinds(held, -1)):
        raise LostRace("A host went while its servers did; try again shortly.")


def log(
    *,
    claimed: Sequence[Claim] = (),
    released: Sequence[Claim] = (),
    dropped: Sequence[str] = (),
    swapped: Sequence[tuple[Claim, Claim]] = (),
) -> Changes:
    """Return what to write into the change log of claims made, given back, not got (their ids), and exchanged."""
    numbers: dict[str, int] = {}
    allocations: list[Allocation] = []
    known: dict[int, int] = {}

    def number_of(item: Claim) -> int:
        taken = item.allocation
        if id(taken) not in known:
            text = _text(taken)
            if text not in numbers:
                numbers[text] = len(allocations)
                allocations.append(taken)
            known[id(taken)] = numbers[text]
        return known[id(taken)]

    told = (*claimed, *released, *(one for pair in swapped for one in pair))
    return Changes(
        claimed=tuple([(item.id, item.host, number_of(item)) for item in claimed]),
        released=tuple([(item.id, item.host, number_of(item)) for item in released]),
        swapped=tuple((own.id, own.host, moved.id, moved.host) for own, moved in swapped),
        servers={item.id: item.server_id for item in told if item.id != item.server_id},
        dropped=tuple(dropped),
        holdings=tuple(allocations),
    )


def list_mismatches(connection: Connection) -> list[tuple[str, str, int, int]]:
    """(host, resource class, used as counted, sum of its claims) where the two differ. Both are read at once."""
    nothing = sa.cast(sa.null(), Json)
    rows = connection.execute(
        sa.union_all(
            sa.select(inventories.c.host, inventories.c.resource_class, inventories.c.used, nothing.label("holding")),
            sa.select(claims.c.host, sa.literal(""), sa.literal(0, sa.BigInteger), claims.c.holding),
        )
    )
    used: dict[tuple[str, str], int] = {}
    held: Counter[tuple[str, str]] = Counter()
    for host, name, amount, holding in rows:
        if name:
            used[(host, name)] = int(amount)
        else:
            held.update({(host, each): count for each, count in holding["resources"].items()})
    return [
        (host, name, used.get((host, name), 0), held[(host, name)])
        for host, name in sorted(used.keys() | held.keys())
        if used.get((host, name), 0) != held[(host, name)]
    ]


def count_own(connection: Connection) -> int:
    """Return how many servers hold a claim of their own: reads all claims."""
    own = sa.select(sa.func.count()).select_from(claims).where(claims.c.id == claims.c.server_id)
    return int(connection.execute(own).scalar_one())


def list_owners(connection: Connection) -> list[str]:
    """Ids of servers that hold a claim."""
    return [row.server_id for row in connection.execute(sa.select(claims.c.server_id).distinct())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A claim that does not agree with its server's record. ``living``: whether the server is there, and not deleted.
    ``busy``: whether a run is at work on it."""

    id: str
    server_id: str
    host: str
    living: bool
    busy: bool


def list_strays(connection: Connection) -> list[Stray]:
    """Claims without a living server; those of migrations that nobody is at work on and that wait for nobody's word;
    and servers' own on another host than the record names, unless somebody is at work on it."""
    active = sa.exists().where(runs.c.server_id == claims.c.server_id, runs.c.active == 1)
    gone = sa.or_(servers.c.id.is_(None), servers.c.deleted.is_(True))
    left = sa.and_(claims.c.id != claims.c.server_id, servers.c.vm_state != VmState.RESIZED, ~active)
    elsewhere = sa.and_(claims.c.id == claims.c.server_id, claims.c.host != servers.c.host, ~active)
    query = (
        sa.select(claims.c.id, claims.c.server_id, claims.c.host, ~gone, active)
        .join_from(claims, servers, servers.c.id == claims.c.server_id, isouter=True)
        .where(sa.or_(gone, left, elsewhere))
        .order_by(claims.c.id)
    )
    return [
        Stray(id=claim_id, server_id=server_id, host=host, living=bool(living), busy=bool(busy))
        for claim_id, server_id, host, living, busy in connection.execute(query)
    ]
