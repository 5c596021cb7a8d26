"""What hosts say: outcomes of commands, and changes of guests that nobody asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cell.conductor import saving
from cell.conductor.stepping import Progress, take_passive_steps
from cell.conductor.workflow import World
from cellcloud.db import feed, runs, servers
from cellcloud.db.cell_schema import servers as servers_table
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.db.runs import Lease, LeasedRun
from cellcloud.lifecycle import PowerState, VmState
from cellcloud.model.guest import ExpectedGuest, GuestCommand, GuestEvent
from cellcloud.model.server import ServerRecord

# Power state a guest took by itself -> vm state shown; Nova's power sync.
FOLLOWS = {
    (VmState.ACTIVE, PowerState.SHUTDOWN): VmState.STOPPED,
    (VmState.ACTIVE, PowerState.CRASHED): VmState.STOPPED,
    (VmState.STOPPED, PowerState.RUNNING): VmState.ACTIVE,
    (VmState.ACTIVE, PowerState.PAUSED): VmState.PAUSED,
    (VmState.PAUSED, PowerState.RUNNING): VmState.ACTIVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What events led to: commands to send now, runs leased with their servers' records, whether other runs are due,
    and whether servers changed."""

    commands: tuple[GuestCommand, ...]
    leased: tuple[tuple[LeasedRun, ServerRecord], ...]
    others: bool
    changed: bool


@retried
def hear(database: Database, world: World, events: Sequence[GuestEvent], lease: Lease | None = None) -> Heard:
    """Store the events. With a lease, the runs they wake are moved on in the same transaction as far as nothing
    outside is needed; those that go on are its owner's."""
    ordered = sorted(events, key=lambda event: (event.server_id, event.generation))
    with database.write() as connection:
        named = [event for event in ordered if event.run_id]
        woken, others = runs.add_events(connection, named, lease)
        moved = _move(connection, world, woken)
        if lease is not None:
            runs.lease(connection, lease, [progress.run.id for progress in moved if not progress.rests])
        saving.store(connection, moved)
        changed = _follow_all(connection, [event for event in ordered if not (event.run_id or event.error)])
    return Heard(
        commands=tuple(command for progress in moved for command in progress.commands),
        leased=tuple((progress.run, progress.record) for progress in moved if not progress.rests),
        others=others,
        changed=changed or any(progress.changes for progress in moved),
    )


def _move(connection: Connection, world: World, woken: Sequence[LeasedRun]) -> list[Progress]:
    records = {record.id: record for record in servers.list_by_id(connection, [run.server_id for run in woken])}
    moved = [Progress(run=run, record=records[run.server_id]) for run in woken]
    for progress in moved:
        take_passive_steps(progress, world)
    return [saving.meet(p, p.run.events, p.run.cancel_requested) for p in moved]


def _follow_all(connection: Connection, events: Sequence[GuestEvent]) -> bool:
    if not events:
        return False
    records = {record.id: record for record in servers.list_by_id(connection, sorted({e.server_id for e in events}))}
    busy = runs.list_active(connection, list(records))
    changed = []
    for event in events:
        known = records.get(event.server_id)
        record = None if known is None or known.id in busy else _follow(connection, known, event)
        if record is not None:
            records[record.id] = record
            changed.append(record)
    feed.append(connection, changed)
    return bool(changed)


def _follow(connection: Connection, record: ServerRecord, event: GuestEvent) -> ServerRecord | None:
    stale = record.generation != event.generation or record.host != event.host or record.deleted
    if stale or record.power_state == event.power_state or record.task_state is not None:
        return None
    changes: dict[str, object] = {"power_state": event.power_state}
    shown = FOLLOWS.get((VmState(record.vm_state), PowerState(event.power_state)))
    if shown is not None:
        changes["vm_state"] = shown
    return servers.change(
        connection,
        record.id,
        changes,
        servers_table.c.generation == event.generation,
        servers_table.c.version == record.version,
    )


def list_expected(database: Database, host: str) -> list[ExpectedGuest]:
    """What the records say the host should hold."""
    with database.read() as connection:
        return expected_on(connection, host)


def expected_on(connection: Connection, host: str) -> list[ExpectedGuest]:
    """The same in a transaction under way."""
    records = servers.list_on(connection, host)
    busy = runs.list_active_servers(connection, host)
    return [
        ExpectedGuest(
            server_id=record.id,
            generation=record.generation,
            running=None if record.id in busy else record.power_state == PowerState.RUNNING,
            project_id=record.spec.project_id,
        )
        for record in records
        if record.vm_state != VmState.ERROR or record.id in busy
    ]
