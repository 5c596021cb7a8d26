"""What hosts hold against what the cell's records say: the cell's half of reconciling.

Only a record that says deleted, and is no older than the guest, has a guest destroyed, or one that says which move has
left it there, as on a host that was away: a cell that knows nothing of it may have been put back from a backup, or be
another cell. A guest that no record accounts for is kept in mind until somebody adopts or removes it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from cellcloud import errors
from cellcloud.db import claims, feed, hosts, runs, scheduler_change_log, servers, unknown_guests
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model.allocation import Allocation
from cellcloud.model.database_incarnation import count_in_one
from cellcloud.model.guest_commands import ExpectedGuest, GuestOrder, GuestOrders, OrderKind
from cellcloud.model.observed_guests import GuestDescription, GuestState, UnknownGuest
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import PowerState, VmState, expected_power

LOG = logging.getLogger(__name__)
CONFIRMED_SECONDS = 600.0
NO_RECORD = "no record"
OLDER_RECORD = "its record says deleted, but is older than the guest"


@dataclass(slots=True)
class _Judged:
    """``unknown``: server id -> guest and why nobody accounts for it. ``ahead``: server id -> generation, where the
    host has obeyed a newer one than the record names."""

    orders: list[GuestOrder] = field(default_factory=list)
    unknown: dict[str, tuple[GuestState, str]] = field(default_factory=dict)
    ahead: dict[str, int] = field(default_factory=dict)


@retried
def compare(database: Database, host: str, guests: Sequence[GuestState], *, fence: bool) -> GuestOrders:
    """Say what the host should hold and what it is to do with the rest. The guests were listed before this reads
    records, so none is too new for its record. ``fence``: cut guests without a record off their networks."""
    with database.read_as_one() as connection:
        expected = expected_on(connection, host)
        judged = _judge(connection, host, guests, expected)
        known = unknown_guests.list_all(connection, host)
    removals = {guest.server_id: guest.generation for guest in known if guest.removal}
    for server_id, (guest, reason) in judged.unknown.items():
        if server_id in removals and guest.generation <= removals[server_id]:
            judged.orders.append(_order(guest, OrderKind.DESTROY, guest.generation, "an operator has it removed"))
        elif fence and not guest.fenced:
            judged.orders.append(_order(guest, OrderKind.FENCE, guest.generation, reason))
    if not any(order.kind is OrderKind.DESTROY for order in judged.orders):
        _confirm(database, host)
    if judged.ahead or _differs(known, judged):
        _store(database, host, known, judged)
    return GuestOrders(expected=tuple(expected), orders=tuple(judged.orders))


def list_unknown(database: Database, host: str | None) -> list[UnknownGuest]:
    with database.read() as connection:
        return unknown_guests.list_all(connection, host)


@retried
def ask_removal(database: Database, host: str, server_id: str) -> None:
    """Ask for the removal of a guest that no record accounts for. Raises NotFound."""
    with database.write() as connection:
        unknown_guests.ask_removal(connection, host, server_id)


@retried
def adopt(database: Database, host: str, described: GuestDescription) -> ServerRecord:
    """Give the guest a record, its claim, and a place in the feed. Where a record has it elsewhere and is older, since
    the database was put back to before a move, that is kept but for what a move changes. Raises NotFound, Conflict."""
    spec = described.spec
    wanted = Claim(spec.id, spec.id, host, _holding(spec))
    with database.write() as connection:
        unknown_guests.get(connection, host, spec.id)
        record = servers.adopt(
            connection, described, host=host, zone=hosts.list_zones(connection).get(host, ""), now=_vm_state(described)
        )
        claims.release_all(connection, [spec.id])  # what nobody owns, or what it had on another host
        won, lost = claims.claim_judged(connection, [wanted])
        if not won:
            short = ", ".join(f"{one.resource_class}: {one.used} of {one.capacity} in use" for one in lost[spec.id])
            raise errors.Conflict(f"Host {host} has no room for the guest by its records ({short}).")
        unknown_guests.forget(connection, host, spec.id)
        scheduler_change_log.append(connection, claims.log(claimed=[wanted]))
        feed.append(connection, [record])
    LOG.warning("guest adopted", extra={"host": host, "server": spec.id})
    return record


def _holding(spec: ServerSpec) -> Allocation:
    """Return what a guest has of its host: dedicated CPUs are a class of their own."""
    guest = spec.placed.guest if spec.placed else None
    cells = guest.cells if guest else ()
    pinned = sum(len(cell.cpu_pinning) for cell in cells)
    amounts = spec.resources()
    amounts["VCPU"] -= pinned
    amounts["PCPU"] = pinned + sum(len(cell.cpuset_reserved) for cell in cells)
    resources = {name: amount for name, amount in amounts.items() if amount}
    return Allocation(resources=resources, placed=spec.placed, building=False)


def _judge(
    connection: Connection, host: str, guests: Sequence[GuestState], expected: Sequence[ExpectedGuest]
) -> _Judged:
    judged = _Judged()
    here = {entry.server_id: entry for entry in expected}
    strangers = [guest for guest in guests if guest.server_id not in here]
    doubled = [guest for guest in guests if guest.server_id in here and guest.beside]
    asked = [guest.server_id for guest in (*strangers, *doubled)]
    records = {record.id: record for record in servers.list_by_id(connection, asked)}
    busy = runs.list_active(connection, list(records))
    put_away = servers.list_soft_deleted_on(connection, host)
    for guest in guests:
        entry = here.get(guest.server_id)
        if entry is not None and entry.running is not None and guest.server_id in put_away and _runs(guest):
            judged.orders.append(_order(guest, OrderKind.STOP, entry.generation, "its server is deleted"))
        if entry is not None and guest.generation > entry.generation:
            judged.ahead[guest.server_id] = guest.generation
    for guest in doubled:
        record = records.get(guest.server_id)
        if record is not None and any(one.has_left_aside(host, guest.beside) for one in record.migrations):
            judged.orders.append(
                _order(guest, OrderKind.DISCARD, record.generation, "a move that is over left it aside")
            )
    for guest in strangers:
        record = records.get(guest.server_id)
        if record is None:
            judged.unknown[guest.server_id] = (guest, NO_RECORD)
        elif record.deleted and record.generation < guest.generation:
            judged.unknown[guest.server_id] = (guest, OLDER_RECORD)
        elif record.deleted:
            judged.orders.append(_order(guest, OrderKind.DESTROY, record.generation, "deleted"))
        elif record.host != host and record.id not in busy and not _waits_aside(guest, record, host):
            if any(one.has_given_up(host, guest.generation) for one in record.migrations):
                judged.orders.append(_order(guest, OrderKind.DESTROY, guest.generation, "a move that is over left it"))
            else:
                _judge_misplaced(judged, guest, record)
    return judged


def _waits_aside(guest: GuestState, record: ServerRecord, host: str) -> bool:
    """Return whether the guest is what a move that is not over has left on its old host."""
    return guest.aside and record.migration is not None and record.migration.source == host


def _judge_misplaced(judged: _Judged, guest: GuestState, record: ServerRecord) -> None:
    """Judge a guest whose server is elsewhere, or nowhere: it must not run here too, but its disks stay."""
    reason = f"its record has it on host {record.host}" if record.host else "its record has it on no host"
    judged.unknown[guest.server_id] = (guest, reason)
    told, obeyed = (count_in_one(one.generation) for one in (record, guest))
    if told >= obeyed and _runs(guest):
        judged.orders.append(_order(guest, OrderKind.STOP, record.generation, reason))


def _runs(guest: GuestState) -> bool:
    return guest.power_state in (PowerState.RUNNING, PowerState.PAUSED)


def _order(guest: GuestState, kind: OrderKind, generation: int, reason: str) -> GuestOrder:
    return GuestOrder(server_id=guest.server_id, kind=kind, generation=generation, reason=reason)


def _differs(known: Sequence[UnknownGuest], judged: _Judged) -> bool:
    before = {(one.server_id, one.generation, one.power_state, one.reason) for one in known}
    now = {(one.server_id, one.generation, one.power_state, reason) for one, reason in judged.unknown.values()}
    return before != now


@retried
def _confirm(database: Database, host: str) -> None:
    """Note that the host holds nothing that is to go; told now and then is enough."""
    with database.read() as connection:
        if not hosts.is_unconfirmed(connection, host, CONFIRMED_SECONDS):
            return
    with database.write() as connection:
        hosts.confirm(connection, host)


@retried
def _store(database: Database, host: str, known: Sequence[UnknownGuest], judged: _Judged) -> None:
    new = judged.unknown.keys() - {guest.server_id for guest in known}
    for server_id in sorted(new):
        LOG.warning(
            "guest without a record", extra={"host": host, "server": server_id, "why": judged.unknown[server_id][1]}
        )
    with database.write() as connection:
        unknown_guests.replace(connection, host, judged.unknown, known)
        feed.append(connection, servers.raise_generations(connection, host, judged.ahead))


def _vm_state(described: GuestDescription) -> VmState:
    if described.rescued:
        return VmState.RESCUED
    shown = {
        PowerState.RUNNING: VmState.ACTIVE,
        PowerState.PAUSED: VmState.PAUSED,
        PowerState.SUSPENDED: VmState.SUSPENDED,
    }
    return shown.get(PowerState(described.state.power_state), VmState.STOPPED)


def list_expected(database: Database, host: str) -> list[ExpectedGuest]:
    """Return what the records say the host should hold, but for servers that only wait for their reclaim."""
    with database.read() as connection:
        put_away = servers.list_soft_deleted_on(connection, host)
        return [entry for entry in expected_on(connection, host) if entry.server_id not in put_away]


def expected_on(connection: Connection, host: str) -> list[ExpectedGuest]:
    """Return the same in a transaction under way."""
    records = servers.list_on(connection, host)
    busy = runs.list_active_servers(connection, host)
    return [
        _expected(record, busy=record.id in busy)
        for record in records
        if record.vm_state != VmState.ERROR or record.id in busy
    ]


def _expected(record: ServerRecord, *, busy: bool) -> ExpectedGuest:
    power = expected_power(record.vm_state, record.power_state)
    return ExpectedGuest(
        server_id=record.id,
        generation=record.generation,
        running=None if busy else power == PowerState.RUNNING,
        project_id=record.spec.project_id,
        paused=power == PowerState.PAUSED,
        suspended=power == PowerState.SUSPENDED,
    )
