"""Checkpoints of runs: what a step did, what it changed in its server's record, and the feed's entry, in one
transaction. Runs that get there together share it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from msgspec import UNSET, structs

from cell.conductor.runs import begin_moves, begin_ports, begin_volumes
from cell.conductor.runs.begin_run import begin_run
from cell.conductor.runs.step_runner import RunState
from cellcloud import errors
from cellcloud.batching import Batcher
from cellcloud.context import new_request_id
from cellcloud.db import claims, feed, runs, servers
from cellcloud.db import scheduler_change_log as log
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model.change_log import Changes
from cellcloud.model.network import ports_after
from cellcloud.model.operations import FIRST_VARIANTS, Operation
from cellcloud.model.run import Checkpoint, GuestResult, OperationRequest, RunArguments
from cellcloud.model.server import NO_CHANGES, ServerChanges, ServerRecord, ServerSpec, with_accepted
from cellcloud.model.volume import volumes_after
from cellcloud.server_states import TaskState, VmState


class Checkpointer:
    """Saves for many threads: those that come together share a transaction."""

    def __init__(self, database: Database, owner: str) -> None:
        self._store: Batcher[RunState, RunState | None] = Batcher(
            functools.partial(_save_all, database, owner), name="checkpoints"
        )

    def save(self, state: RunState) -> RunState:
        """Return the state as the database now has it. Raises Stale when the run's lease went to another."""
        stored = self._store(state)
        if stored is None:
            raise errors.Stale("The lease of this run went to another conductor.", detail=state.run.id)
        return stored


@retried
def _save_all(database: Database, owner: str, batch: Sequence[RunState]) -> list[RunState | None]:
    with database.write() as connection:
        now = runs.list_leased(connection, {p.run.id: p.run.lease_number for p in batch}, owner)
        kept = [merge(state, *now[state.run.id]) for state in batch if state.run.id in now]
        store(connection, kept)
    by_run = {state.run.id: state for state in kept}
    return [by_run.get(state.run.id) for state in batch]


def store(connection: Connection, kept: Sequence[RunState]) -> None:
    """Store state of runs whose rows this transaction holds; each gets its server's record as it is now."""
    ending = [state.run.server_id for state in kept if state.finished]
    deletes = servers.list_requested_deletes(connection, ending) if ending else {}
    followed = [state for state in kept if state.finished and state.run.server_id in deletes]
    followed = [state for state in followed if not state.run.spec.preempts]
    for state in followed:
        if not deletes[state.run.server_id].arguments.soft:  # the delete that follows takes all away
            state.changes, state.release_claims, state.claim_changes = NO_CHANGES, False, []
    runs.save(
        connection,
        [Checkpoint(run=p.run, wait=p.wait, finished=p.finished, step_time=p.step_time) for p in kept],
        [end for state in kept for end in state.ends],
    )
    _keep_accepted(connection, kept)
    servers.raise_to(connection, {p.run.server_id: p.run.generation for p in kept if p.run.direction != "do"})
    changed = servers.change_many(
        connection, [(p.run.server_id, p.run.generation, p.changes) for p in kept if p.changes]
    )
    for state in kept:
        for change, migration_id in state.claim_changes:
            if change == "swap":
                claims.swap(connection, state.run.server_id, migration_id)
            else:
                claims.release(connection, [migration_id])
    claims.release_all(connection, [p.run.server_id for p in kept if p.release_claims])
    built = [p.run.server_id for p in kept if p.finished == "done" and p.run.spec.moves]
    log.append(connection, Changes(ended=tuple(built)))
    records = {record.id: record for record in changed}
    for state in followed:
        asked = deletes[state.run.server_id]
        now = records.get(state.run.server_id, state.record)
        if now.deleted:
            continue
        if asked.arguments.soft and now.host:
            records[now.id] = begin_soft_delete(connection, now, asked, after=state.run.operation)
        else:
            records[now.id] = begin_run(connection, now.id, FIRST_VARIANTS[Operation.DELETE], asked)
        state.changes = ServerChanges(task_state=records[now.id].task_state)
    free = [server_id for server_id in ending if server_id in records and server_id not in deletes]
    for server_id in free:
        before = records[server_id]
        now = begin_volumes.begin_next(connection, before)
        records[server_id] = now if now is not before else begin_ports.begin_next(connection, before)
    for state in kept:
        state.record = records.get(state.run.server_id, state.record)
    feed.append(connection, list(records.values()))


def _keep_accepted(connection: Connection, kept: Sequence[RunState]) -> None:
    """Let the specs, the volumes and the ports that runs give their servers have what was changed in the records since
    the runs read them."""
    plugged = [
        (state, state.changes.ports, state.run.arguments.port)
        for state in kept
        if isinstance(state.changes.ports, tuple) and state.run.arguments.port is not None
    ]
    held = [(state, state.changes.volumes) for state in kept if isinstance(state.changes.volumes, tuple)]
    specs = [(state, state.changes.spec) for state in kept if isinstance(state.changes.spec, ServerSpec)]
    concerned = {state.run.server_id for state, _ in specs} | {state.run.server_id for state, _ in held}
    concerned |= {state.run.server_id for state, _, _ in plugged}
    now = servers.lock_living(connection, concerned) if concerned else {}
    for state, volumes in held:
        if state.run.server_id in now:
            about = state.run.arguments.volume
            known = volumes_after(now[state.run.server_id].volumes, volumes, about.id if about else "")
            state.changes = structs.replace(state.changes, volumes=known)
    for state, ports, port in plugged:
        if state.run.server_id in now and port is not None:
            merged_ports = ports_after(now[state.run.server_id].ports, ports, port.id)
            state.changes = structs.replace(state.changes, ports=merged_ports)
    for state, spec in specs:
        if state.run.server_id in now:
            record, given = now[state.run.server_id], state.run.arguments.spec_changes
            merged = with_accepted(spec, record.spec, given=given)
            state.changes = structs.replace(state.changes, spec=merged)


def begin_soft_delete(
    connection: Connection, record: ServerRecord, asked: OperationRequest, *, after: str = ""
) -> ServerRecord:
    """Put a server away. A move that waits to be confirmed is confirmed before, as in Nova, so that it holds room on
    one host only. ``after``: the operation that has just ended. The caller holds the row."""
    servers.forget_requested_delete(connection, record.id)
    if record.vm_state == VmState.RESIZED and after != Operation.CONFIRM_RESIZE:
        confirm = structs.replace(asked, request_id=new_request_id(), arguments=RunArguments())
        with suppress(errors.FixRequest):  # the host that it left is away
            changes = begin_moves.changes_of(connection, Operation.CONFIRM_RESIZE, record, confirm)
            begun = begin_run(connection, record.id, FIRST_VARIANTS[Operation.CONFIRM_RESIZE], confirm, changes)
            return request_soft_delete(connection, begun, asked)
    return begin_run(connection, record.id, FIRST_VARIANTS[Operation.SOFT_DELETE], asked)


def request_soft_delete(connection: Connection, record: ServerRecord, asked: OperationRequest) -> ServerRecord:
    """Put a server away once its present run has ended. The caller holds the row."""
    soft = structs.replace(asked, arguments=RunArguments(soft=True))
    return servers.request_deletes(connection, [record], {record.id: soft}, TaskState.SOFT_DELETING)[0]


def merge(state: RunState, events: dict[str, GuestResult], cancel_requested: bool) -> RunState:
    """Return the state with what happened to its run meanwhile: a result that has arrived, or a wish to cancel, takes
    it on at once instead of waiting. A copy: the transaction may have to be tried again."""
    run = state.run
    dropped = state.forget
    events = {
        name: result
        for name, result in events.items()
        if not (dropped and (name == dropped or name.startswith(f"{dropped}/")))
    }
    changes = state.changes
    if cancel_requested and not (state.finished or changes.deleted is True):
        changes = structs.replace(changes, task_state=UNSET)
    wait, attempt, commands = state.wait, run.attempt, state.commands
    if wait is not None:
        answered = state.address in events and state.address not in run.events
        if answered or (cancel_requested and not run.cancel_requested):
            wait, attempt, commands = None, attempt + 1, []
    merged = replace(run, events=events, cancel_requested=cancel_requested, attempt=attempt)
    return replace(state, run=merged, changes=changes, wait=wait, commands=commands)
