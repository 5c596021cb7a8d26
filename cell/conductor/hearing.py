"""What hosts say: outcomes of commands, and changes of guests that nobody asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cellcloud.db import feed, runs, servers
from cellcloud.db.cell_schema import servers as servers_table
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.db.runs import Lease, LeasedRun
from cellcloud.lifecycle import PowerState, VmState
from cellcloud.model.guest import ExpectedGuest, GuestEvent
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
    """What events led to: runs leased with their servers' records, whether other runs are due, and how many servers
    changed by themselves."""

    leased: tuple[tuple[LeasedRun, ServerRecord], ...]
    others: bool
    changed: int


@retried
def hear(database: Database, events: Sequence[GuestEvent], lease: Lease | None = None) -> Heard:
    """Store the events. With a lease, the runs they wake are its owner's to move."""
    ordered = sorted(events, key=lambda event: (event.server_id, event.generation))
    with database.write() as connection:
        woken = runs.add_events(connection, [event for event in ordered if event.run_id], lease)
        records = {r.id: r for r in servers.list_by_id(connection, [run.server_id for run in woken.leased])}
        changed: list[ServerRecord] = []
        for event in ordered:
            if event.run_id or event.error:
                continue
            record = _follow(connection, event)
            if record is not None:
                changed.append(record)
        feed.append(connection, changed)
    leased = tuple((run, records[run.server_id]) for run in woken.leased)
    return Heard(leased=leased, others=woken.others, changed=len(changed))


def _follow(connection: Connection, event: GuestEvent) -> ServerRecord | None:
    found = servers.list_by_id(connection, [event.server_id])
    if not found:
        return None
    record = found[0]
    stale = record.generation != event.generation or record.host != event.host or record.deleted
    if stale or record.power_state == event.power_state or record.task_state is not None:
        return None
    if runs.find_active(connection, record.id) is not None:
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
