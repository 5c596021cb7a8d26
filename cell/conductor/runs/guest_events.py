"""Apply what hosts report: the results of commands, and changes of guests that nobody asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import UNSET

from cell.conductor.runs import checkpoint
from cell.conductor.runs.step_runner import RunServices, RunState, take_passive_steps
from cellcloud.db import feed, runs, servers
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model import migration as migrations
from cellcloud.model.guest_commands import GuestCommand, GuestEvent
from cellcloud.model.migration import MigrationStatus
from cellcloud.model.run import Lease, LeasedRun
from cellcloud.model.server import ServerChanges, ServerRecord
from cellcloud.server_states import contradicts, seen_as


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedEvents:
    """What events led to: commands to send now, runs leased with their servers' records, whether other runs are due,
    and whether servers changed."""

    commands: tuple[GuestCommand, ...]
    leased: tuple[tuple[LeasedRun, ServerRecord], ...]
    others: bool
    changed: bool


@retried
def apply(
    database: Database, services: RunServices, events: Sequence[GuestEvent], lease: Lease | None = None
) -> AppliedEvents:
    """Store the events. With a lease, the runs they wake are moved on in the same transaction as far as nothing
    outside is needed; those that go on are its owner's."""
    ordered = sorted(events, key=lambda event: (event.server_id, event.generation))
    with database.write() as connection:
        named = [event for event in ordered if event.run_id and event.progress is None]
        woken, others = runs.add_events(connection, named, lease)
        moved = _move(connection, services, woken)
        if lease is not None:
            runs.lease(connection, lease, [state.run.id for state in moved if not state.rests])
        checkpoint.store(connection, moved)
        changed = _follow_all(connection, [event for event in ordered if not (event.run_id or event.error)])
        changed = _note_progress(connection, [event for event in ordered if event.progress is not None]) or changed
    return AppliedEvents(
        commands=tuple(command for state in moved for command in state.commands),
        leased=tuple((state.run, state.record) for state in moved if not state.rests),
        others=others,
        changed=changed or any(state.changes for state in moved),
    )


def _move(connection: Connection, services: RunServices, woken: Sequence[LeasedRun]) -> list[RunState]:
    records = {record.id: record for record in servers.list_by_id(connection, [run.server_id for run in woken])}
    moved = [RunState(run=run, record=records[run.server_id]) for run in woken]
    passive = services.within(connection)
    for state in moved:
        take_passive_steps(state, passive)
    return [checkpoint.merge(p, p.run.events, p.run.cancel_requested) for p in moved]


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


def _note_progress(connection: Connection, events: Sequence[GuestEvent]) -> bool:
    """Show how far a move's disks are copied."""
    newest = {event.server_id: event for event in events}
    changed = []
    for record in servers.list_by_id(connection, sorted(newest)):
        event, migration = newest[record.id], record.migration
        if migration is None or event.generation != record.generation or event.host != migration.destination:
            continue
        if migration.status == MigrationStatus.MIGRATING and migration.progress != event.progress:
            told = migrations.changed(record.migrations, progress=event.progress)
            changed.append(servers.change(connection, record.id, ServerChanges(migrations=told), seen=record))
    feed.append(connection, [record for record in changed if record is not None])
    return bool(changed)


def _follow(connection: Connection, record: ServerRecord, event: GuestEvent) -> ServerRecord | None:
    stale = record.generation != event.generation or record.host != event.host or record.deleted
    known = record.power_state == event.power_state and not contradicts(record.vm_state, event.power_state)
    if stale or known or record.task_state is not None:
        return None
    shown = seen_as(record.vm_state, event.power_state)
    changes = ServerChanges(power_state=event.power_state, vm_state=UNSET if shown == record.vm_state else shown)
    return servers.change(connection, record.id, changes, seen=record)
