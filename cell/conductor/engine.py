"""Moves runs: leases them, takes their steps, saves each step with its outcome in one transaction.

Kill this process between any two instructions: the lease ends, another engine adopts the run, and its present step
is taken again. Cancellation and deadlines are looked at here, between steps, and nowhere else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from cell.conductor.saving import Progress, Saver
from cell.conductor.workflow import Done, Step, Turn, Wait, Workflow, World
from cell.conductor.workflows import REGISTRY
from cellcloud import errors, log, metrics
from cellcloud.db import runs, servers
from cellcloud.db.engine import Database, retried
from cellcloud.db.runs import Lease, LeasedRun, Note
from cellcloud.lifecycle import TaskState
from cellcloud.model.server import ServerRecord
from cellcloud.service import Loop

LOG = logging.getLogger(__name__)
DEFECT_ATTEMPTS = 3


class Engine:
    """Moves up to ``threads`` runs at once. ``wake`` makes it look for due ones now."""

    def __init__(
        self, database: Database, world: World, *, owner: str, lease: float, threads: int, interval: float = 0.5
    ) -> None:
        self._database = database
        self._world = world
        self._terms = Lease(owner=owner, seconds=lease)
        self._saver = Saver(database, owner)
        self._threads = threads
        self._busy: set[str] = set()
        self._full = False  # runs may be due that found no room
        self._stopping = False
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="run")
        self.loop = Loop("engine", interval, self._lease_and_submit)
        self._renewing = Loop("leases", lease / 3, self._renew)
        self.on_feed: Any = lambda: None

    def start(self) -> None:
        """Begin to move runs."""
        self.loop.start()
        self._renewing.start()

    def stop(self) -> None:
        """Finish the steps at hand; their runs stay for whoever comes next."""
        self.loop.stop()
        with self._lock:
            self._stopping = True
        self._pool.shutdown(wait=True)
        self._renewing.stop()

    def wake(self) -> None:
        """Something became due."""
        self.loop.wake()

    def offer(self) -> Lease | None:
        """The lease under which this engine takes runs now, to be given in the transaction that makes them due; None
        with enough at hand."""
        with self._lock:
            self._full = len(self._busy) >= 2 * self._threads
            return None if self._full or self._stopping else self._terms

    def adopt(self, leased: Sequence[tuple[LeasedRun, ServerRecord]]) -> None:
        """Move runs that were leased under the offer."""
        with self._lock:
            if self._stopping:
                return  # their leases end by themselves
            self._busy.update(run.id for run, _ in leased)
        for run, record in leased:
            self._pool.submit(self._work, run, record)

    def _lease_and_submit(self) -> bool:
        with self._lock:
            room = 2 * self._threads - len(self._busy)
            self._full = room <= 0
        if room <= 0:
            return False
        leased = _lease_batch(self._database, self._terms, room)
        self.adopt(leased)
        return len(leased) == room

    def _work(self, run: LeasedRun, record: ServerRecord) -> None:
        log.request_id.set(run.request_id)
        due = False
        try:
            due = self.advance(run, record)
        except errors.Stale:
            LOG.info("run adopted elsewhere", extra={"run": run.id})
        except errors.CellcloudError as error:
            LOG.warning("run waits", extra={"run": run.id, "why": error.message, "detail": error.detail})
        except Exception:
            LOG.exception("run failed to move", extra={"run": run.id})
        finally:
            with self._lock:
                self._busy.discard(run.id)
                due = due or self._full
            if due:
                self.loop.wake()

    def _renew(self) -> None:
        with self._lock:
            busy = sorted(self._busy)
        if busy:
            with self._database.write() as connection:
                runs.renew(connection, self._terms, busy)

    def advance(self, run: LeasedRun, record: ServerRecord) -> bool:
        """Take steps until the run waits or ends; whether another one is due at once. Raises Stale when its lease is
        lost."""
        workflow = REGISTRY[run.operation]
        progress = Progress(run=run, record=record)
        while True:
            self._take_step(workflow, progress)
            if not progress.finished and progress.wait is None and _next_is_passive(workflow, progress.run):
                continue
            progress = self._saver.save(progress)
            if progress.changes:
                self.on_feed()
            if progress.finished or progress.wait is not None:
                return progress.record.task_state == TaskState.DELETING
            progress = Progress(run=progress.run, record=progress.record)

    def _take_step(self, workflow: Workflow, progress: Progress) -> None:
        run = progress.run
        if run.direction == "do" and not workflow.is_committed(run.step):
            if run.cancel_requested:
                run = _turned(run, errors.Conflict("The operation was cancelled."))
            elif run.overdue:
                run = _turned(run, errors.DeadlineExceeded("The operation took longer than it may."))
        progress.run = run
        step = workflow.steps[run.step]
        action = step.do if run.direction == "do" else step.undo
        try:
            done = action(_turn(run, progress.record, step), self._world) if action else Done()
        except Wait as wait:
            progress.wait, progress.forget = wait.seconds, wait.forget
            progress.address = _address(run, step)
            return
        except Exception as error:  # noqa: BLE001 -- a step's every failure is a failure of the run, not of the engine
            self._fail(workflow, progress, step, error)
            return
        metrics.STEPS.labels(step.name, run.direction, "done").inc()
        progress.notes.append(_note(run, step, "done"))
        progress.take(done)
        _move_on(workflow, progress, step, done)

    def _fail(self, workflow: Workflow, progress: Progress, step: Step, error: Exception) -> None:
        run = progress.run
        known = error if isinstance(error, errors.CellcloudError) else None
        if known is None:
            LOG.exception("step failed", extra={"run": run.id, "step": step.name}, exc_info=error)
            known = errors.CallHuman("An internal error occurred.", detail=f"{step.name}: {type(error).__name__}")
        metrics.STEPS.labels(step.name, run.direction, type(known).__name__).inc()
        progress.notes.append(_note(run, step, "failed", known.message))
        only_forward = run.direction == "undo" or workflow.is_committed(run.step)
        again = isinstance(known, errors.TryLater) or (known is not error and run.attempt < DEFECT_ATTEMPTS)
        if only_forward or again:
            progress.address = _address(run, step)
            progress.wait = min(0.25 * 2.0 ** min(run.attempt, 7), 15.0)
            return
        progress.run = _turned(run, known)


def _turn(run: LeasedRun, record: ServerRecord, step: Step) -> Turn:
    address = _address(run, step)
    return Turn(run=run, record=record, step=address, event=run.events.get(address))


def _address(run: LeasedRun, step: Step) -> str:
    return step.name if run.direction == "do" else f"undo:{step.name}"


def _note(run: LeasedRun, step: Step, outcome: str, message: str = "") -> Note:
    return Note(
        run_id=run.id,
        step=step.name,
        direction=run.direction,
        outcome=outcome,
        attempt=run.attempt,
        message=message,
    )


def _turned(run: LeasedRun, error: errors.CellcloudError) -> LeasedRun:
    """The run going backwards from its present step, whose own undo runs first."""
    return replace(
        run,
        direction="undo",
        attempt=1,
        error=type(error).__name__,
        message=error.message[:2000],
        detail=error.detail[:4000],
    )


def _next_is_passive(workflow: Workflow, run: LeasedRun) -> bool:
    if run.direction == "undo":
        return workflow.steps[run.step].undo is None
    return workflow.steps[run.step].passive


def _move_on(workflow: Workflow, progress: Progress, step: Step, done: Done) -> None:
    run = progress.run
    following = run.step + 1 if run.direction == "do" else run.step - 1
    if following in (-1, len(workflow.steps)):
        if run.direction == "undo":
            progress.take(workflow.on_failure(run, progress.record))
        progress.finished = "done" if run.direction == "do" else "undone"
        progress.run = replace(run, outputs={**run.outputs, step.name: dict(done.outputs)})
        return
    upcoming = workflow.steps[following]
    if run.direction == "do" and upcoming.task_state is not None:
        progress.take(Done(changes={"task_state": upcoming.task_state}))
    progress.run = replace(run, step=following, attempt=1, outputs={**run.outputs, step.name: dict(done.outputs)})


@retried
def _lease_batch(database: Database, lease: Lease, limit: int) -> list[tuple[LeasedRun, ServerRecord]]:
    with database.write() as connection:
        leased = runs.lease_due(connection, lease, limit=limit)
        if not leased:
            return []
        records = {r.id: r for r in servers.list_by_id(connection, [run.server_id for run in leased])}
    return [(run, records[run.server_id]) for run in leased]
