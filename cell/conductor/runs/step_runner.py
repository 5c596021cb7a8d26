"""How a run moves: one step at a time, in memory. Cancellation and deadlines are looked at here, between steps, and
nowhere else. What has happened is a ``RunState``, which ``checkpoint`` stores.

A run's direction is "do"; "undo" once it has failed for good; or, once a host has refused, "leave", which undoes what
was done on that host, then "move", which finds another host, and "do" from the first step again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Protocol

from msgspec import structs

from cell.conductor.runs.present_step import find_present_step
from cell.conductor.steps.records import mark_put_back
from cell.conductor.workflow import (
    PassiveServices,
    PassiveStep,
    Step,
    StepContext,
    StepResult,
    StepServices,
    Wait,
    Workflow,
)
from cell.conductor.workflows import REGISTRY
from cellcloud import clock, errors, metrics
from cellcloud.db.engine import Connection
from cellcloud.model.guest_commands import GuestCommand
from cellcloud.model.run import LeasedRun, StepEnd, StepTime, TriedHost
from cellcloud.model.server import NO_CHANGES, ServerChanges, ServerRecord
from cellcloud.server_states import TaskState

LOG = logging.getLogger(__name__)
DEFECT_ATTEMPTS = 3
MOVE = "hosts.find_another"
ANOTHERS = 5.0  # seconds for which a run is left to conductors of another release


@dataclass(slots=True, kw_only=True)
class RunState:
    """What has happened to a run since it was last saved. ``began``: when its present step was first taken, by this
    process's monotonic clock, unless before. ``address``: the step whose result it waits for, if it waits.
    ``commands``: to be sent once it is saved. ``claim_changes``: (swap | release, migration), in their order.
    ``forget``: the step whose results are dropped, or nothing."""

    run: LeasedRun
    record: ServerRecord
    began: float | None = None
    changes: ServerChanges = NO_CHANGES
    release_claims: bool = False
    claim_changes: list[tuple[str, str]] = field(default_factory=list)
    ends: list[StepEnd] = field(default_factory=list)
    commands: list[GuestCommand] = field(default_factory=list)
    wait: float | None = None
    address: str = ""
    forget: str = ""
    finished: str = ""

    @property
    def rests(self) -> bool:
        """Whether the run waits or has ended."""
        return bool(self.finished) or self.wait is not None

    @property
    def step_time(self) -> StepTime | None:
        """When the present step was first taken, if it was."""
        if self.run.step_since is not None:
            return StepTime(since=self.run.step_since)
        return None if self.began is None else StepTime(began=self.began)

    def take(self, done: StepResult) -> None:
        """Add a step's end."""
        if done.moved is not None:
            self.record = done.moved
        self.changes = self.changes.followed_by(done.changes)
        self.release_claims = self.release_claims or done.release_claims
        self.claim_changes += [("swap", done.swap_claims)] if done.swap_claims else []
        self.claim_changes += [("release", done.release_claim)] if done.release_claim else []
        if done.command is not None:
            self.commands.append(done.command)
        self.record = done.changes.applied(self.record)

    def turn_to(self, run: LeasedRun) -> None:
        """Another step is the present one now, or the same in another direction."""
        trail = REGISTRY[run.operation].trail(run.step)
        self.run, self.began = replace(run, trail=trail, step_since=None), None

    def end_step(self, step: Step | PassiveStep, outcome: str, message: str = "") -> None:
        """Note how the present step ended."""
        run, now = self.run, clock.monotonic()
        end = StepEnd(
            run_id=run.id,
            step=MOVE if run.direction == "move" else step.name,
            direction=run.direction,
            outcome=outcome,
            attempt=run.attempt,
            step_time=self.step_time or StepTime(began=now),
            ended=now,
            message=message,
        )
        self.ends.append(end)


class RunServices(StepServices, Protocol):
    """What the executor of runs needs."""

    def within(self, connection: Connection) -> PassiveServices:
        """For passive steps that are taken inside that transaction."""
        ...

    def send(self, command: GuestCommand) -> None:
        """Cast a command to the host it names; it may get lost. Raises Unreachable with the broker away."""
        ...


def take_step(state: RunState, services: StepServices) -> None:
    """Take the run's present step, and those after it that change nothing outside. Raises Stale when another host was
    to be found and the run's lease went to another worker."""
    _resume(state)
    if not state.rests:
        _take_one(state, services, services)
    take_passive_steps(state, services)


def take_passive_steps(state: RunState, services: PassiveServices) -> None:
    """Take steps for as long as they change nothing outside: they may be taken inside a transaction."""
    _resume(state)
    while not state.rests and _is_passive(state.run):
        _take_one(state, services, None)


def undo_late(run: LeasedRun, record: ServerRecord, services: StepServices) -> None:
    """Undo what the run's present step did outside, for a server that has ended without it."""
    found = find_present_step(run)
    step = REGISTRY[found.operation].steps[found.step] if found else None
    if found and found.direction == "do" and isinstance(step, Step) and step.undo is not None:
        step.undo(_context(found, record, step), services)


def _resume(state: RunState) -> None:
    """Find the present step of a run that another release may have stored, or leave it to that one."""
    found = find_present_step(state.run)
    if found is None:
        LOG.warning("run left to another release", extra={"run": state.run.id, "operation": state.run.operation})
        state.wait = ANOTHERS
    else:
        state.run = found


def _is_passive(run: LeasedRun) -> bool:
    if run.direction == "move":
        return False
    step = REGISTRY[run.operation].steps[run.step]
    return isinstance(step, PassiveStep) or (run.direction != "do" and not _is_undone(run, step))


def _is_undone(run: LeasedRun, step: Step | PassiveStep) -> bool:
    return step.undo is not None and not (run.direction == "leave" and step.stays)


def _perform(state: RunState, passive: PassiveServices, active: StepServices | None) -> StepResult:
    """Return what the present step comes to; one that is not passive needs services of its own. Raises Wait, and
    whatever the step does."""
    run, workflow = state.run, REGISTRY[state.run.operation]
    step = workflow.steps[run.step]
    context = _context(run, state.record, step)
    if run.direction != "move":
        if run.direction != "do" and not _is_undone(run, step):
            return StepResult()
        if isinstance(step, PassiveStep):
            passively = step.do if run.direction == "do" else step.undo
            return passively(context, passive) if passively else StepResult()
    if active is None:
        raise ValueError(f"{step.name} is to be taken inside a transaction.")
    action = workflow.elsewhere
    if run.direction != "move" and isinstance(step, Step):
        action = step.do if run.direction == "do" else step.undo
    return action(context, active) if action else StepResult()


def _take_one(state: RunState, passive: PassiveServices, active: StepServices | None) -> None:
    run = state.run
    workflow = REGISTRY[run.operation]
    if run.direction in ("do", "move") and not workflow.is_committed(run.step):
        if run.cancel_requested:
            state.turn_to(_turned(run, errors.Conflict("The operation was cancelled.")))
        elif run.overdue:
            _turn(state, errors.DeadlineExceeded("The operation took longer than it may."))
    if state.rests:
        return
    run = state.run
    step = workflow.steps[run.step]
    if state.step_time is None:
        state.began = clock.monotonic()
    try:
        done = _perform(state, passive, active)
    except Wait as wait:
        state.wait, state.forget = wait.seconds, _address(run, step) if wait.forget else ""
        state.address = wait.answer_to or _address(run, step)
        if wait.command is not None:
            state.commands.append(wait.command)
        state.take(StepResult(changes=wait.changes))
        if wait.put_off is not None:
            state.run = replace(run, outputs=structs.replace(run.outputs, put_off=wait.put_off))
        return
    except Exception as error:
        if run.direction == "move" and isinstance(error, errors.Stale):
            raise  # no failure: this worker has lost its run, or knows it no more as it is
        _fail(workflow, state, step, error, passive.max_attempts)
        return
    metrics.STEPS.labels(step.name, run.direction, "done").inc()
    state.end_step(step, "done")
    state.take(done)
    _move_on(workflow, state, done)


def _fail(workflow: Workflow, state: RunState, step: Step | PassiveStep, error: Exception, max_attempts: int) -> None:
    run = state.run
    known = error if isinstance(error, errors.CellcloudError) else None
    if known is None:
        LOG.exception("step failed", extra={"run": run.id, "step": step.name}, exc_info=error)
        known = errors.CallHuman("An internal error occurred.", detail=f"{step.name}: {type(error).__name__}")
    metrics.STEPS.labels(step.name, run.direction, type(known).__name__).inc()
    state.end_step(step, "failed", known.message)
    only_forward = run.direction in ("undo", "leave") or workflow.is_committed(run.step)
    again = isinstance(known, errors.TryLater) or (known is not error and run.attempt < DEFECT_ATTEMPTS)
    if only_forward or again:
        state.address = _address(run, step)
        state.forget = state.address if only_forward else ""  # whoever refused is asked again
        state.wait = min(0.25 * 2.0 ** min(run.attempt, 7), 15.0)
        return
    refused = run.direction == "do" and workflow.elsewhere is not None and _is_the_hosts(known)
    if refused and not run.outputs.put_back:
        run = _note_try(state, known)
    tries = len(run.outputs.tried)
    state.run = run
    _turn(state, known)
    if refused and not state.rests and tries < max_attempts and not (run.cancel_requested or run.overdue):
        state.run = replace(state.run, direction="leave")


def _note_try(state: RunState, refusal: errors.CellcloudError) -> LeasedRun:
    """Return the run with the present host among those that could not."""
    run, host = state.run, state.record.host or ""
    one = TriedHost(host=host, error=errors.lineage(refusal)[0], message=refusal.message[:500])
    tried = (*run.outputs.tried, one)
    last = state.ends[-1]
    message = f"{host}: {refusal.message}"
    state.ends.append(replace(last, step=f"try {len(tried)}", direction="do", attempt=1, message=message))
    return replace(run, outputs=structs.replace(run.outputs, tried=tried))


def _is_the_hosts(error: errors.CellcloudError) -> bool:
    """Return whether another host may do what this one could not. An error of a newer release is taken for one."""
    return isinstance(error, errors.TryElsewhere) or type(error) is errors.CellcloudError


def _context(run: LeasedRun, record: ServerRecord, step: Step | PassiveStep) -> StepContext:
    address = _address(run, step)
    may_move = REGISTRY[run.operation].elsewhere is not None
    return StepContext(run=run, record=record, step=address, event=run.events.get(address), may_move=may_move)


def _address(run: LeasedRun, step: Step | PassiveStep) -> str:
    if run.direction == "move":
        return MOVE
    return step.name if run.direction == "do" else f"undo:{step.name}"


def _turn(state: RunState, error: errors.CellcloudError) -> None:
    """Begin to take everything back. What stood in a backup stays as it is, and so does what it made on its host: the
    guest may have come up after the backup, and be in use."""
    run = _turned(state.run, error)
    if not state.run.outputs.put_back:
        state.turn_to(run)
        return
    state.take(mark_put_back(run, state.record))
    state.finished = "failed"
    state.turn_to(run)


def _turned(run: LeasedRun, error: errors.CellcloudError) -> LeasedRun:
    """Return the run going backwards from its present step, whose own undo runs first. Where there is anything to undo
    its generation is the next: hosts that hear of that refuse what it asked for before, however late that comes."""
    undone = any(step.undo is not None for step in REGISTRY[run.operation].steps[: run.step + 1])
    return replace(
        run,
        direction="undo",
        generation=run.generation + 1 if undone else run.generation,
        attempt=1,
        error=errors.lineage(error)[0],
        message=error.message[:2000],
        detail=error.detail[:4000],
    )


def _move_on(workflow: Workflow, state: RunState, done: StepResult) -> None:
    run = replace(state.run, outputs=structs.replace(state.run.outputs, put_off=0))
    if run.direction == "move":
        _begin_again(workflow, state, done)
        return
    following = run.step + 1 if run.direction == "do" else run.step - 1
    if following == -1 and run.direction == "leave":
        state.take(StepResult(changes=ServerChanges(host=None, task_state=TaskState.SCHEDULING), release_claims=True))
        state.turn_to(replace(run, direction="move", attempt=1))
        return
    if following in (-1, len(workflow.steps)):
        if run.direction == "undo":
            state.take(workflow.on_failure(run, state.record))
        state.finished = "done" if run.direction == "do" else "undone"
        state.turn_to(run)
        return
    upcoming = workflow.steps[following]
    if run.direction == "do" and upcoming.task_state is not None:
        state.take(StepResult(changes=ServerChanges(task_state=upcoming.task_state)))
    state.turn_to(replace(run, step=following, attempt=1))


def _begin_again(workflow: Workflow, state: RunState, done: StepResult) -> None:
    """From the first step, on the host that was found."""
    if done.moved is None:
        raise ValueError("No host was found.")
    first = workflow.steps[0].task_state
    state.take(StepResult(changes=NO_CHANGES if first is None else ServerChanges(task_state=first)))
    state.turn_to(
        replace(
            state.run,
            step=0,
            direction="do",
            attempt=1,
            generation=done.moved.generation,
            outputs=structs.replace(state.run.outputs, put_off=0),
            error="",
            message="",
            detail="",
        )
    )
