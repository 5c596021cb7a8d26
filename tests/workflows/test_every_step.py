"""Every step of every workflow: done twice, failed, cancelled, killed after the call and before the save, undone
twice. Afterwards all of the server is there, or nothing of it. A new workflow gets all this by existing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cell.conductor.workflow import Action, Step, StepContext, StepResult, StepServices, Workflow
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.lifecycle import Operation
from cellcloud.model.guest import CommandKind
from tests.workflows.world import CellUnderTest, Killed

STEPS = [(name, step.name) for name, workflow in REGISTRY.items() for step in workflow.steps]
UNDOS = [(name, step.name) for name, workflow in REGISTRY.items() for step in workflow.steps if step.undo]
SERVER = "11111111-0000-4000-8000-000000000001"
ENDS = {"create": "active", "delete": "deleted", "start": "active", "stop": "stopped", "reboot": "active"}


@pytest.fixture(params=[False, True], ids=["stored", "moved"])
def cell(cell_database: Database, request: pytest.FixtureRequest) -> CellUnderTest:
    """A host's result is stored and its run moved later, or both at once."""
    world = CellUnderTest(cell_database)
    world.moves_on_results = request.param
    return world


def begin(cell: CellUnderTest, operation: str) -> None:
    """Bring the server to where the operation may start, then begin it without moving it."""
    cell.create(SERVER)
    if operation == "create":
        return
    cell.run()
    if operation == "start":
        cell.begin(SERVER, Operation.STOP)
        cell.run()
    cell.begin(SERVER, Operation(operation), **({"type": "HARD"} if operation == "reboot" else {}))


def wrapped(
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    step_name: str,
    wrap: Callable[[Action], Action],
    *,
    undo: bool = False,
) -> None:
    """Put ``wrap`` round one step's action in the registry for this test."""
    workflow = REGISTRY[operation]

    def changed(step: Step) -> Step:
        if step.name != step_name:
            return step
        return replace(step, undo=wrap(step.undo)) if undo and step.undo else replace(step, do=wrap(step.do))

    monkeypatch.setitem(REGISTRY, operation, replace(workflow, steps=tuple(changed(s) for s in workflow.steps)))


def twice(action: Action) -> Action:
    def act(context: StepContext, services: StepServices) -> StepResult:
        action(context, services)
        return action(replace(context, run=replace(context.run, attempt=context.run.attempt + 1)), services)

    return act


def killed_after_call(action: Action) -> Action:
    deaths = [True]

    def act(context: StepContext, services: StepServices) -> StepResult:
        done = action(context, services)
        if deaths:
            deaths.pop()
            raise Killed
        return done

    return act


def failing(error: Exception, *, after_call: bool) -> Callable[[Action], Action]:
    def wrap(action: Action) -> Action:
        failed = [True]

        def act(context: StepContext, services: StepServices) -> StepResult:
            if after_call:
                action(context, services)
            if failed:
                failed.pop()
                raise error
            return action(context, services)

        return act

    return wrap


@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_done_twice_is_done_once(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str
) -> None:
    begin(cell, operation)
    wrapped(monkeypatch, operation, step, twice)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == ENDS[operation]


@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_killed_after_the_call_and_before_the_save(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str
) -> None:
    begin(cell, operation)
    wrapped(monkeypatch, operation, step, killed_after_call)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == ENDS[operation]


@pytest.mark.parametrize("after_call", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_a_failed_step_leaves_all_or_nothing(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str, after_call: bool
) -> None:
    begin(cell, operation)
    before = cell.record(SERVER)
    wrapped(monkeypatch, operation, step, failing(errors.GuestFailed("no"), after_call=after_call))
    cell.run()
    record = cell.record(SERVER)
    if operation == "create":
        assert cell.assert_clean(SERVER).vm_state == "error"
        assert record.fault is not None
        assert record.fault.message == "no"
    elif operation == "delete":
        assert cell.assert_clean(SERVER).vm_state == "deleted"
    else:
        assert record.vm_state == before.vm_state
        assert record.task_state is None


@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_a_step_that_must_wait_is_taken_again(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str
) -> None:
    begin(cell, operation)
    wrapped(monkeypatch, operation, step, failing(errors.Unreachable("away"), after_call=True))
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == ENDS[operation]


@pytest.mark.parametrize("operation", sorted(REGISTRY))
def test_killed_between_the_save_and_the_command(cell: CellUnderTest, operation: str) -> None:
    begin(cell, operation)
    cell.deaths_before_sending = 1
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == ENDS[operation]


@pytest.mark.parametrize(("operation", "step"), [s for s in STEPS if s[0] != "delete"])
def test_delete_preempts_at_every_step(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str
) -> None:
    def cancelling(action: Action) -> Action:
        def act(context: StepContext, services: StepServices) -> StepResult:
            cell.begin(SERVER, Operation.DELETE)
            return action(context, services)

        return act

    cell.moves_on_results = False  # nothing comes between the steps of one transaction
    begin(cell, operation)
    wrapped(monkeypatch, operation, step, cancelling)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.deleted


@pytest.mark.parametrize("wrap", [twice, killed_after_call], ids=["twice", "killed"])
@pytest.mark.parametrize(("operation", "step"), UNDOS)
def test_every_undo_twice_and_killed(
    cell: CellUnderTest,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    step: str,
    wrap: Callable[[Action], Action],
) -> None:
    begin(cell, operation)
    wrapped(monkeypatch, operation, step, wrap, undo=True)
    cell.fail[CommandKind.SPAWN] = [errors.GuestFailed("no")]
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == "error"


@pytest.mark.parametrize("operation", REGISTRY)
def test_lost_commands_are_sent_again(cell: CellUnderTest, operation: str) -> None:
    begin(cell, operation)
    cell.lost = 3
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == ENDS[operation]


def test_a_workflow_past_its_deadline_unwinds(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "create", replace(REGISTRY["create"], deadline=-1.0))
    cell.create(SERVER)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.vm_state == "error"
    assert record.fault is not None
    assert "longer" in record.fault.message


def test_schedulers_learn_when_a_build_ends(cell: CellUnderTest) -> None:
    cell.create(SERVER)
    assert cell.count_under_way() == 1
    cell.run()
    assert cell.count_under_way() == 0
    assert cell.record(SERVER).vm_state == "active"


def test_every_step_name_is_unique_in_its_workflow() -> None:
    for workflow in REGISTRY.values():
        names = [step.name for step in workflow.steps]
        assert len(names) == len(set(names))
        assert isinstance(workflow, Workflow)
