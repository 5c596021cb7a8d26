"""Claims: who uses how much of which host. The database says who won.

What a batch takes of a host is added up, and hosts that give the same amounts share one conditional UPDATE, checked by
its row count. Only when that finds somebody without room are the rows locked and the losers told apart. Rows are met
in the order of their hosts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors, metrics
from cellcloud.db import bulk, changes, places
from cellcloud.db.cell_schema import claims, inventories
from cellcloud.db.engine import Json, LostRace
from cellcloud.model import codec
from cellcloud.model.allocation import Allocation
from cellcloud.model.change import Changes
from cellcloud.model.decision import Conflict

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


class Wanted(NamedTuple):
    """Room for one server on one host. ``allocation`` says it, else ``resources``: resource class -> amount.

    ``others``: the hosts it would go to instead, the better first.
    """

    server_id: str
    host: str
    resources: Mapping[str, int] = MappingProxyType({})
    allocation: Allocation | None = None
    others: tuple[str, ...] = ()

    @property
    def amounts(self) -> Mapping[str, int]:
        return self.allocation.resources if self.allocation else self.resources

    def at(self, host: str) -> Wanted:
        """The same on another host."""
        return self if host == self.host else self._replace(host=host)


class Lost(errors.ClaimLost):
    """Some host has not enough for all: the transaction must be given up, and the claims be judged one by one."""


def claim_all(connection: Connection, wanted: Sequence[Wanted]) -> None:
    """Take room for each, on the host it names first. Raises Lost. Call it late in the transaction: others wait for
    these hosts until it commits. The caller writes the log."""
    if not wanted:
        return
    _insert(connection, wanted)
    if not _add_all(connection, _kinds(wanted)) or _clashes(connection, wanted):
        raise Lost("Others were faster.")
    metrics.CLAIMS.labels("won").inc(len(wanted))


def claim_judged(
    connection: Connection, wanted: Sequence[Wanted]
) -> tuple[dict[str, Wanted], dict[str, list[Conflict]]]:
    """Take room for each on the first of its hosts that has it, first come, first served, by figures that are locked
    from here to the end of the transaction. Begin a transaction with it: whoever judges locks hosts first. (Against
    ``claim_all``, which locks them last, that is another order only for one server claimed twice at once: one of the
    two is then told LostRace.)

    Returns the claims that were made, and the races that were lost, by server id. The caller writes the log.
    """
    figures = _lock(connection, {host for item in wanted for host in (item.host, *item.others)})
    taken: Counter[tuple[str, str]] = Counter()
    won: dict[str, Wanted] = {}
    lost: dict[str, list[Conflict]] = defaultdict(list)
    for item in wanted:
        for host in (item.host, *item.others):
            conflict = _conflict(item, host, figures, taken)
            if conflict is None:
                won[item.server_id] = item.at(host)
                taken.update({(host, name): amount for name, amount in item.amounts.items()})
                break
            lost[item.server_id].append(conflict)
    for server_id, clash in _clashes(connection, list(won.values())).items():
        lost[server_id].append(clash)
        del won[server_id]
    if not _add_all(connection, _kinds(won.values())):
        raise LostRace("A host's figures changed under their lock; try again shortly.")
    _insert(connection, list(won.values()))
    metrics.CLAIMS.labels("won").inc(len(won))
    metrics.CLAIMS.labels("lost").inc(sum(map(len, lost.values())))
    return won, lost


def claim(connection: Connection, wanted: Sequence[Wanted]) -> dict[str, Conflict]:
    """As claim_judged; returns those that got nothing, with the last race each lost."""
    won, lost = claim_judged(connection, wanted)
    return {server_id: races[-1] for server_id, races in lost.items() if server_id not in won}


def _insert(connection: Connection, won: Sequence[Wanted]) -> None:
    bulk.insert(connection, claims, ("server_id", "host", "holding"), _rows(won))


def _clashes(connection: Connection, winners: Sequence[Wanted]) -> dict[str, Conflict]:
    """Those whose CPUs, pages or devices somebody else got, by server id."""
    placed = [(item.server_id, item.host, item.allocation.placed) for item in winners if item.allocation]
    told = [(server_id, host, place) for server_id, host, place in placed if place and (place.guest or place.devices)]
    if not told:
        return {}
    hosts = {server_id: host for server_id, host, _ in told}
    return {
        server_id: Conflict(host=hosts[server_id], resource_class=TOPOLOGY, capacity=1, used=1, wanted=1)
        for server_id in places.list_clashes(connection, told)
    }


def _kinds(wanted: Iterable[Wanted], sign: int = 1) -> dict[Amounts, list[str]]:
    """The hosts by what is taken of them."""
    sources: dict[int, Mapping[str, int]] = {}
    shares: dict[str, tuple[int, ...]] = {}
    for item in wanted:
        amounts = item.amounts
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


def _rows(wanted: Sequence[Wanted]) -> list[tuple[str, str, str]]:
    texts: dict[int, str] = {}
    rows = []
    for item in wanted:
        source = item.allocation or item.resources
        if id(source) not in texts:
            texts[id(source)] = _text(item)
        rows.append((item.server_id, item.host, texts[id(source)]))
    return rows


def _text(item: Wanted) -> str:
    given = item.allocation or Allocation(resources={name: amount for name, amount in item.resources.items() if amount})
    plain = codec.to_plain(given)
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
        statement, given = _adding(names, members, "?" if connection.dialect.name == "sqlite" else "%s")
        rows = len(names) * sum(map(len, members.values()))
        if bulk.execute(connection, statement, given).rowcount != rows:
            return False
    return True


def _adding(names: tuple[str, ...], kinds: Mapping[Amounts, Sequence[str]], mark: str) -> tuple[str, tuple[str, ...]]:
    """An UPDATE that adds amounts of these classes, as many for each kind of host, and its parameters. Written out
    here: with hundreds of names SQLAlchemy takes longer to write it than the database to do it."""

    def marks(count: int) -> str:
        return ", ".join([mark] * count)

    *others, (most, _) = sorted(kinds.items(), key=lambda kind: len(kind[1]))
    written = [f"WHEN host IN ({marks(len(hosts))}) THEN {_amount(amounts, mark)}" for amounts, hosts in others]
    given = [value for _, hosts in others for value in (*hosts, *names)] + list(names)
    amount = f"CASE {' '.join(written)} ELSE {_amount(most, mark)} END" if others else _amount(most, mark)
    everyone = sorted(host for hosts in kinds.values() for host in hosts)
    gives = all(number < 0 for amounts in kinds for _, number in amounts)
    return (
        f"UPDATE inventories SET used = used + {amount} WHERE host IN ({marks(len(everyone))}) "  # noqa: S608 -- of marks
        f"AND used + {amount} {'IS NOT NULL' if gives else '<= capacity'}"
    ), (*given, *everyone, *given)


def _amount(amounts: Amounts, mark: str) -> str:
    """The amount of the row's class; null for others, whose rows are then left alone. (To name the classes in a
    condition would have the database look each of them up by itself, which is half as slow again.)"""
    return f"CASE resource_class {' '.join(f'WHEN {mark} THEN {number:d}' for _, number in amounts)} END"


def _lock(connection: Connection, hosts: Iterable[str]) -> dict[tuple[str, str], tuple[int, int]]:
    """(host, resource class) -> (capacity, used), the hosts' rows locked in their order."""
    rows = connection.execute(_FIGURES, {"hosts": sorted(hosts)})
    return {(row.host, row.resource_class): (row.capacity, row.used) for row in rows}


def _conflict(
    item: Wanted,
    host: str,
    figures: Mapping[tuple[str, str], tuple[int, int]],
    taken: Mapping[tuple[str, str], int],
) -> Conflict | None:
    for name, amount in sorted(item.amounts.items()):
        capacity, used = figures.get((host, name), (0, 0))
        used += taken.get((host, name), 0)
        if amount and used + amount > capacity:
            return Conflict(host=host, resource_class=name, capacity=capacity, used=used, wanted=amount)
    return None


def release(connection: Connection, server_ids: Sequence[str]) -> None:
    """Give back all that the servers hold, and log it; what holds nothing is left alone. Idempotent."""
    if not server_ids:
        return
    rows = connection.execute(
        sa.select(claims)
        .where(claims.c.server_id.in_(server_ids))
        .order_by(claims.c.server_id, claims.c.host)
        .with_for_update()
    ).all()
    if not rows:
        return
    if connection.execute(sa.delete(claims).where(claims.c.server_id.in_(server_ids))).rowcount != len(rows):
        raise LostRace("A server claimed more while it was released; try again shortly.")
    held = [
        Wanted(server_id=row.server_id, host=row.host, allocation=codec.from_plain(row.holding, Allocation))
        for row in rows
    ]
    if not _add_all(connection, _kinds(held, -1)):
        raise LostRace("A host went while its servers did; try again shortly.")
    changes.append(connection, log(released=held))


def log(*, claimed: Sequence[Wanted] = (), released: Sequence[Wanted] = (), dropped: Sequence[str] = ()) -> Changes:
    """What to write into the change log of claims made, given back, and not got."""
    numbers: dict[str, int] = {}
    holdings: list[Allocation] = []
    known: dict[int, int] = {}

    def number_of(item: Wanted) -> int:
        source = item.allocation or item.resources
        if id(source) not in known:
            text = _text(item)
            if text not in numbers:
                numbers[text] = len(holdings)
                holdings.append(codec.from_plain(msgspec.json.decode(text), Allocation))
            known[id(source)] = numbers[text]
        return known[id(source)]

    return Changes(
        claimed=tuple((item.server_id, item.host, number_of(item)) for item in claimed),
        released=tuple((item.server_id, item.host, number_of(item)) for item in released),
        dropped=tuple(dropped),
        holdings=tuple(holdings),
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


def count(connection: Connection) -> int:
    """How many claims there are: reads them all."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(claims)).scalar_one())


def list_owners(connection: Connection) -> list[str]:
    """Ids of servers that hold a claim."""
    return [row.server_id for row in connection.execute(sa.select(claims.c.server_id).distinct())]
