"""Stores the progress of runs: what a step did, what it changed in its server's record, and the feed's entry, in one
transaction. Runs that get there together share it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cell.conductor.stepping import Progress
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import changes as log
from cellcloud.db import claims, feed, runs, servers
from cellcloud.db.cell_schema import servers as servers_table
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.db.runs import Saved
from cellcloud.gathering import Gathered
from cellcloud.lifecycle import Operation, TaskState
from cellcloud.model.change import Changes
from cellcloud.model.server import ServerRecord


class Saver:
    """Saves for many threads: those that come together share a transaction."""

    def __init__(self, database: Database, owner: str) -> None:
        self._store: Gathered[Progress, Progress | None] = Gathered(functools.partial(_save_all, database, owner))

    def save(self, progress: Progress) -> Progress:
        """The progress as the database now has it. Raises Stale when the run's lease went to another."""
        stored = self._store(progress)
        if stored is None:
            raise errors.Stale("The lease of this run went to another conductor.", detail=progress.run.id)
        return stored


@retried
def _save_all(database: Database, owner: str, batch: Sequence[Progress]) -> list[Progress | None]:
    with database.write() as connection:
        now = runs.list_leased(connection, {p.run.id: p.run.lease_number for p in batch}, owner)
        kept = [meet(progress, *now[progress.run.id]) for progress in batch if progress.run.id in now]
        store(connection, kept)
    by_run = {progress.run.id: progress for progress in kept}
    return [by_run.get(progress.run.id) for progress in batch]


def store(connection: Connection, kept: Sequence[Progress]) -> None:
    """Store progress of runs whose rows this transaction holds; each gets its server's record as it is now."""
    ending = [progress.run.server_id for progress in kept if progress.finished]
    deletes = servers.list_requested_deletes(connection, ending) if ending else {}
    for progress in kept:
        if progress.finished and progress.run.server_id in deletes and not _is_delete(progress):
            progress.changes, progress.release_claims = {}, False  # the delete that follows takes all away
    runs.record_steps(connection, [note for progress in kept for note in progress.notes])
    runs.save(connection, [Saved(run=p.run, wait=p.wait, finished=p.finished) for p in kept])
    changed = servers.change_many(
        connection, [(p.run.server_id, p.run.generation, p.changes) for p in kept if p.changes]
    )
    claims.release(connection, [p.run.server_id for p in kept if p.release_claims])
    built = [p.run.server_id for p in kept if p.finished == "done" and p.run.operation == Operation.CREATE]
    log.append(connection, Changes(ended=tuple(built)))
    records = {record.id: record for record in changed}
    for progress in kept:
        if progress.finished and not _is_delete(progress) and progress.run.server_id in deletes:
            asked = deletes[progress.run.server_id]
            record = begin_run(
                connection, progress.run.server_id, Operation.DELETE, asked, task_state=TaskState.DELETING
            )
            records[record.id] = record
            progress.changes = {"task_state": TaskState.DELETING}
        progress.record = records.get(progress.run.server_id, progress.record)
    feed.append(connection, list(records.values()))


def _is_delete(progress: Progress) -> bool:
    return progress.run.operation == Operation.DELETE


def meet(progress: Progress, events: dict[str, Any], cancel_requested: bool) -> Progress:
    """The progress with what happened to its run meanwhile: a word that has arrived, or a wish to cancel, takes it on
    at once instead of waiting. A copy: the transaction may have to be tried again."""
    run = progress.run
    events = {name: word for name, word in events.items() if not (progress.forget and name == progress.address)}
    changes = dict(progress.changes)
    if cancel_requested and not (progress.finished or changes.get("deleted")):
        changes.pop("task_state", None)
    wait, attempt, commands = progress.wait, run.attempt, progress.commands
    if wait is not None:
        heard = progress.address in events and progress.address not in run.events
        if heard or (cancel_requested and not run.cancel_requested):
            wait, attempt, commands = None, attempt + 1, []
    met = replace(run, events=events, cancel_requested=cancel_requested, attempt=attempt)
    return replace(progress, run=met, changes=changes, wait=wait, commands=commands)


def begin_run(
    connection: Connection, server_id: str, operation: Operation, asked: dict[str, Any], *, task_state: TaskState
) -> ServerRecord:
    """Insert the run, give the server its next generation and the operation's task state. The caller holds the row.

    ``asked``: request_id, user_id, project_id, arguments.
    """
    changes = {"generation": servers_table.c.generation + 1, "task_state": task_state}
    record = servers.change(connection, server_id, changes)
    if record is None:
        raise errors.NotFound(f"Instance {server_id} could not be found.")
    runs.insert(connection, [new_run(record, operation, asked)])
    return record


def new_run(record: ServerRecord, operation: Operation, asked: Mapping[str, Any]) -> runs.NewRun:
    """What the run of an operation begins with, for a server that was just given its generation."""
    return runs.NewRun(
        server_id=record.id,
        operation=operation,
        generation=record.generation,
        request_id=asked.get("request_id", ""),
        user_id=asked.get("user_id", ""),
        project_id=asked.get("project_id", record.spec.project_id),
        arguments=asked.get("arguments", {}),
        deadline=REGISTRY[operation].deadline,
    )
