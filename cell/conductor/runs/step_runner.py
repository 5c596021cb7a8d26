"""How a run moves: one step at a time, in memory. Cancellation and deadlines are looked at here, between steps, and
nowhere else. What has happened is a ``RunState``, which ``checkpoint`` stores.

A run's direction is "do"; "undo" once it has failed for good; or, once a host has refused, "leave", which undoes what
was done on that host, then "move", which finds another host, and "do" from the first step again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

from cell.conductor.workflow import TRIED, Action, Step, StepContext, StepResult, StepServices, Wait, Workflow, tried
from cell.conductor.workflows import REGISTRY
from cellcloud import errors, metrics
from cellcloud.db import servers
from cellcloud.db.runs import LeasedRun, Note
from cellcloud.lifecycle import TaskState
from cellcloud.model.guest import GuestCommand
from cellcloud.model.operations import OperationSpec, spec_of
from cellcloud.model.server import ServerRecord

LOG = logging.getLogger(__name__)
DEFECT_ATTEMPTS = 3
MOVE = "hosts.find_another"


@dataclass(slots=True, kw_only=True)
class RunState:
    """What has happened to a run since it was last saved. ``address``: the step whose result it waits for, if it waits.
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
    def spec(self) -> OperationSpec:
        """The operation's row of the table."""
        return spec_of(self.run.operation, self.run.arguments.get("type"))

    @property
    def rests(self) -> bool:
        """Whether the run waits or has ended."""
        return bool(self.finished) or self.wait is not None

    def take(self, done: StepResult) -> None:
        """Add a step's end."""
        if done.moved is not None:
            self.record = done.moved
        self.changes.update(done.changes)
        self.release_claims = self.release_claims or done.release_claims
        if done.command is not None:
            self.commands.append(done.command)
        shown = {name: value for name, value in done.changes.items() if hasattr(self.record, name)}
        self.record = replace(self.record, **{name: v for name, v in shown.items() if v is not servers.NOW})


def take_step(state: RunState, services: StepServices) -> None:
    """Take the run's present step, and those after it that change nothing outside. Raises Stale when another host was
    to be found and the run's lease went to another worker."""
    _take_one(state, services)
    take_passive_steps(state, services)


def take_passive_steps(state: RunState, services: StepServices) -> None:
    """Take steps for as long as they change nothing outside: they may be taken inside a transaction."""
    while not state.rests and _is_passive(state.run):
        _take_one(state, services)


def undo_late(run: LeasedRun, record: ServerRecord, services: StepServices) -> None:
    """Undo what the run's present step did outside, for a server that has ended without it."""
    step = REGISTRY[run.operation].steps[run.step]
    if run.direction == "do" and not step.passive and step.undo is not None:
        step.undo(_context(run, record, step), services)


def _is_passive(run: LeasedRun) -> bool:
    if run.direction == "move":
        return False
    step = REGISTRY[run.operation].steps[run.step]
    return step.passive or (run.direction != "do" and _undo_of(run, step) is None)


def _undo_of(run: LeasedRun, step: Step) -> Action | None:
    return None if run.direction == "leave" and step.stays else step.undo


def _action_of(run: LeasedRun, workflow: Workflow, step: Step) -> Action | None:
    if run.direction == "move":
        return workflow.elsewhere
    return step.do if run.direction == "do" else _undo_of(run, step)


def _take_one(state: RunState, services: StepServices) -> None:
    run = state.run
    workflow = REGISTRY[run.operation]
    if run.direction in ("do", "move") and not workflow.is_committed(run.step):
        if run.cancel_requested:
            run = _turned(run, errors.Conflict("The operation was cancelled."))
        elif run.overdue:
            run = _turned(run, errors.DeadlineExceeded("The operation took longer than it may."))
    state.run = run
    step = workflow.steps[run.step]
    action = _action_of(run, workflow, step)
    try:
        done = action(_context(run, state.record, step), services) if action else StepResult()
    except Wait as wait:
        state.wait, state.forget = wait.seconds, wait.forget
        state.address = _address(run, step)
        if wait.command is not None:
            state.commands.append(wait.command)
        state.take(StepResult(changes=wait.changes))
        if wait.outputs:
            state.run = replace(run, outputs={**run.outputs, step.name: dict(wait.outputs)})
        return
    except Exception as error:
        if run.direction == "move" and isinstance(error, errors.Stale):
            raise  # no failure: this worker has lost its run, or knows it no more as it is
        _fail(workflow, state, step, error, services)
        return
    metrics.STEPS.labels(step.name, run.direction, "done").inc()
    state.notes.append(_note(run, step, "done"))
    state.take(done)
    _move_on(workflow, state, step, done)


def _fail(workflow: Workflow, state: RunState, step: Step, error: Exception, services: StepServices) -> None:
    run = state.run
    known = error if isinstance(error, errors.CellcloudError) else None
    if known is None:
        LOG.exception("step failed", extra={"run": run.id, "step": step.name}, exc_info=error)
        known = errors.CallHuman("An internal error occurred.", detail=f"{step.name}: {type(error).__name__}")
    metrics.STEPS.labels(step.name, run.direction, type(known).__name__).inc()
    state.notes.append(_note(run, step, "failed", known.message))
    only_forward = run.direction in ("undo", "leave") or workflow.is_committed(run.step)
    again = isinstance(known, errors.TryLater) or (known is not error and run.attempt < DEFECT_ATTEMPTS)
    if only_forward or again:
        state.address = _address(run, step)
        state.wait = min(0.25 * 2.0 ** min(run.attempt, 7), 15.0)
        return
    refused = run.direction == "do" and workflow.elsewhere is not None and _is_the_hosts(known)
    if refused:
        one = {"host": state.record.host or "", "error": errors.lineage(known)[0], "message": known.message[:500]}
        run = replace(run, outputs={**run.outputs, TRIED: [*tried(run), one]})
        told = f"{one['host']}: {known.message}"
        state.notes.append(
            Note(
                run_id=run.id,
                step=f"try {len(tried(run))}",
                direction="do",
                outcome="failed",
                attempt=1,
                message=told,
            )
        )
    state.run = _turned(run, known)
    if refused and len(tried(run)) < services.max_attempts and not (run.cancel_requested or run.overdue):
        state.run = replace(state.run, direction="leave")


def _is_the_hosts(error: errors.CellcloudError) -> bool:
    """Whether another host may do what this one could not. An error of a newer release is taken for one."""
    return isinstance(error, errors.TryElsewhere) or type(error) is errors.CellcloudError


def _context(run: LeasedRun, record: ServerRecord, step: Step) -> StepContext:
    address = _address(run, step)
    may_move = REGISTRY[run.operation].elsewhere is not None
    return StepContext(run=run, record=record, step=address, event=run.events.get(address), may_move=may_move)


def _address(run: LeasedRun, step: Step) -> str:
    if run.direction == "move":
        return MOVE
    return step.name if run.direction == "do" else f"undo:{step.name}"


def _note(run: LeasedRun, step: Step, outcome: str, message: str = "") -> Note:
    return Note(
        run_id=run.id,
        step=MOVE if run.direction == "move" else step.name,
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
        error=errors.lineage(error)[0],
        message=error.message[:2000],
        detail=error.detail[:4000],
    )


def _move_on(workflow: Workflow, state: RunState, step: Step, done: StepResult) -> None:
    run = state.run
    if run.direction == "move":
        _begin_again(workflow, state, done)
        return
    following = run.step + 1 if run.direction == "do" else run.step - 1
    if following == -1 and run.direction == "leave":
        state.take(StepResult(changes={"host": None, "task_state": TaskState.SCHEDULING}, release_claims=True))
        state.run = replace(run, direction="move", attempt=1)
        return
    if following in (-1, len(workflow.steps)):
        if run.direction == "undo":
            state.take(workflow.on_failure(run, state.record))
        state.finished = "done" if run.direction == "do" else "undone"
        state.run = replace(run, outputs={**run.outputs, step.name: dict(done.outputs)})
        return
    upcoming = workflow.steps[following]
    if run.direction == "do" and upcoming.task_state is not None:
        state.take(StepResult(changes={"task_state": upcoming.task_state}))
    state.run = replace(run, step=following, attempt=1, outputs={**run.outputs, step.name: dict(done.outputs)})


def _begin_again(workflow: Workflow, state: RunState, done: StepResult) -> None:
    """From the first step, on the host that was found."""
    if done.moved is None:
        raise ValueError("No host was found.")
    first = workflow.steps[0].task_state
    state.take(StepResult(changes={} if first is None else {"task_state": first}))
    state.run = replace(
        state.run,
        step=0,
        direction="do",
        attempt=1,
        generation=done.moved.generation,
        outputs={TRIED: tried(state.run)},
        error="",
        message="",
        detail="",
    )
