"""How a run moves: one step at a time, in memory. Cancellation and deadlines are looked at here, between steps, and
nowhere else. What has happened is a ``Progress``, which ``saving`` stores."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

from cell.conductor.workflow import Done, Step, Turn, Wait, Workflow, World
from cell.conductor.workflows import REGISTRY
from cellcloud import errors, metrics
from cellcloud.db import servers
from cellcloud.db.runs import LeasedRun, Note
from cellcloud.model.guest import GuestCommand
from cellcloud.model.server import ServerRecord

LOG = logging.getLogger(__name__)
DEFECT_ATTEMPTS = 3


@dataclass(slots=True, kw_only=True)
class Progress:
    """What has happened to a run since it was last saved. ``address``: whose word it waits for, if it waits.
    ``commands``: to be sent once it is saved."""

    run: LeasedRun
    record: ServerRecord
    changes: dict[str, Any] = field(default_factory=dict)
    release_claims: bool = False
    notes: list[Note] = field(default_factory=list)
    commands: list[GuestCommand] = field(default_factory=list)
    wait: float | None = None
    address: str = ""
    forget: bool = False
    finished: str = ""

    @property
    def rests(self) -> bool:
        """Whether the run waits or has ended."""
        return bool(self.finished) or self.wait is not None

    def take(self, done: Done) -> None:
        """Add a step's end."""
        self.changes.update(done.changes)
        self.release_claims = self.release_claims or done.release_claims
        if done.command is not None:
            self.commands.append(done.command)
        shown = {name: value for name, value in done.changes.items() if hasattr(self.record, name)}
        self.record = replace(self.record, **{name: v for name, v in shown.items() if v is not servers.NOW})


def take_step(progress: Progress, world: World) -> None:
    """Take the run's present step, and those after it that change nothing outside."""
    _take_one(progress, world)
    take_passive_steps(progress, world)


def take_passive_steps(progress: Progress, world: World) -> None:
    """Take steps for as long as they change nothing outside: they may be taken inside a transaction."""
    while not progress.rests and _is_passive(progress.run):
        _take_one(progress, world)


def undo_late(run: LeasedRun, record: ServerRecord, world: World) -> None:
    """Undo what the run's present step did outside, for a server that has ended without it."""
    step = REGISTRY[run.operation].steps[run.step]
    if run.direction == "do" and not step.passive and step.undo is not None:
        step.undo(_turn(run, record, step), world)


def _is_passive(run: LeasedRun) -> bool:
    step = REGISTRY[run.operation].steps[run.step]
    return step.passive or (run.direction == "undo" and step.undo is None)


def _take_one(progress: Progress, world: World) -> None:
    run = progress.run
    workflow = REGISTRY[run.operation]
    if run.direction == "do" and not workflow.is_committed(run.step):
        if run.cancel_requested:
            run = _turned(run, errors.Conflict("The operation was cancelled."))
        elif run.overdue:
            run = _turned(run, errors.DeadlineExceeded("The operation took longer than it may."))
    progress.run = run
    step = workflow.steps[run.step]
    action = step.do if run.direction == "do" else step.undo
    try:
        done = action(_turn(run, progress.record, step), world) if action else Done()
    except Wait as wait:
        progress.wait, progress.forget = wait.seconds, wait.forget
        progress.address = _address(run, step)
        if wait.command is not None:
            progress.commands.append(wait.command)
        return
    except Exception as error:  # noqa: BLE001 -- a step's every failure is a failure of the run, not of the engine
        _fail(workflow, progress, step, error)
        return
    metrics.STEPS.labels(step.name, run.direction, "done").inc()
    progress.notes.append(_note(run, step, "done"))
    progress.take(done)
    _move_on(workflow, progress, step, done)


def _fail(workflow: Workflow, progress: Progress, step: Step, error: Exception) -> None:
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
