"""Every step of every workflow: done twice, failed, cancelled, killed after the call and before the save, undone
twice. Afterwards all of the server is there, or nothing of it. A new workflow gets all this by existing."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from cell.conductor.workflow import Action, Step, StepContext, StepResult, StepServices, Workflow
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import cell_schema
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import (
    Arrive,
    AttachPort,
    AttachVolume,
    DetachPort,
    DetachVolume,
    ExtendVolume,
    GuestCommand,
    ImageCommand,
    Rescue,
    Spawn,
    Start,
    UploadSnapshot,
)
from cellcloud.model.image import Image
from cellcloud.model.operations import TABLE, Operation, OperationSpec, spec_of
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import PowerState, VmState
from tests.workflows.world import CellUnderTest, Killed, SavedCell

OFFLOADED = "unshelve offloaded"
SPECS = {f"{spec.operation} {spec.variant}".strip(): spec for spec in TABLE} | {OFFLOADED: spec_of(Operation.UNSHELVE)}
STEPPING = {name: REGISTRY[spec.operation].steps for name, spec in SPECS.items() if name != "migrate"}
"""Operation -> its steps; those of a migration are the steps of a resize."""
STEPS = [(name, step.name) for name, steps in STEPPING.items() for step in steps]
UNDOS = [(name, step.name) for name, steps in STEPPING.items() for step in steps if step.undo]
SERVER = "11111111-0000-4000-8000-000000000001"
FAILING = (
    Spawn,
    UploadSnapshot,
    Arrive,
    Rescue,
    AttachVolume,
    DetachVolume,
    ExtendVolume,
    AttachPort,
    DetachPort,
)
AFTER_THE_RECORD = ("guests.stop", "volumes.reimage", "guests.rebuild", "guests.rebuilt", "records.settle")
"""Steps of a rebuild from which on the server is what it is rebuilt to."""
RESTING: dict[tuple[bool, VmState], SavedCell] = {}
"""How its runs move, and the state in which its one server rests -> a cell that was brought there."""


@pytest.fixture(params=[False, True], ids=["stored", "moved"])
def cell(cell_database: Database, request: pytest.FixtureRequest) -> CellUnderTest:
    """A host's result is stored and its run moved later, or both at once."""
    world = CellUnderTest(cell_database)
    world.moves_on_results = request.param
    return world


def assert_done(cell: CellUnderTest, spec: OperationSpec) -> None:
    """It ended as the table says, of a server that was where it first starts from, with the image that it makes."""
    assert cell.assert_clean(SERVER).vm_state == (spec.vm_state or first_start(spec))
    assert list(cell.images.images) == ([image_of(SERVER).id] if makes_image(spec) else [])


def image_of(server_id: str, number: int = 1) -> Image:
    """One that an operation is to make."""
    kind = {"image_type": "backup", "backup_type": "daily", "instance_uuid": server_id}
    return Image(id=f"22222222-0000-4000-8000-{number:012}", owner="p", properties=kind)


def makes_image(spec: OperationSpec) -> bool:
    """Whether there is an image of the server once the operation has ended."""
    return issubclass(spec.command, ImageCommand) or spec.operation in (Operation.SHELVE, Operation.SHELVE_OFFLOAD)


def arguments_of(spec: OperationSpec) -> dict[str, Any]:
    """What the operation must be told."""
    given: dict[str, Any] = {"type": spec.variant}
    if makes_image(spec):
        given |= {"image": image_of(SERVER), "rotation": 1}
    if spec.operation is Operation.REBUILD:
        given |= {"spec_changes": {"name": "rebuilt", "image": {"id": "other"}, "user_data": "eA=="}}
    if issubclass(spec.command, Rescue):
        given |= {"image": image_of(SERVER), "admin_pass": "secret"}
    return given


def rest_of(spec: OperationSpec, before: ServerRecord) -> VmState:
    """The state in which the operation leaves a server."""
    if spec.operation is Operation.REBUILD and before.vm_state == VmState.ERROR:
        return VmState.ACTIVE
    return VmState(before.vm_state) if spec.vm_state is None else spec.vm_state


def begin(cell: CellUnderTest, name: str, start: VmState | None = None, server_id: str = SERVER) -> None:
    """Bring the server to where the operation may start, or to ``start``, then begin it without moving it."""
    spec = SPECS[name]
    cell.create(server_id)
    if spec.operation is Operation.CREATE:
        return
    cell.run()
    assert bring(cell, start or start_of(name), server_id)
    cell.begin(server_id, spec.operation, **arguments_of(spec))


def begin_alone(cell: CellUnderTest, name: str) -> None:
    """The same in an empty cell: a copy of the first that was brought to where the operation may start."""
    spec = SPECS[name]
    if spec.operation is Operation.CREATE:
        cell.create(SERVER)
        return
    known = cell.moves_on_results, start_of(name)
    if known in RESTING:
        cell.load(RESTING[known])
    else:
        cell.create(SERVER)
        cell.run()
        assert bring(cell, start_of(name))
        RESTING[known] = cell.save()
    cell.begin(SERVER, spec.operation, **arguments_of(spec))


def start_of(name: str) -> VmState:
    """Where it is begun."""
    return VmState.SHELVED_OFFLOADED if name == OFFLOADED else first_start(SPECS[name])


def first_start(spec: OperationSpec) -> VmState:
    """Where it starts from that another operation leads to: from a server that was just built, if it can."""
    return VmState.ACTIVE if VmState.ACTIVE in spec.starts_from else ways_to(spec.starts_from)[0].vm_state


def ways_to(states: Collection[VmState]) -> list[OperationSpec]:
    """Operations that bring a server that was just built to one of these states."""
    return [one for one in TABLE if VmState.ACTIVE in one.starts_from and one.vm_state in states and not one.preempts]


def bring(cell: CellUnderTest, state: VmState, server_id: str = SERVER) -> bool:
    """Let a server that was just built rest in a state; False when no operation leads there."""
    if state == VmState.ACTIVE:
        return True
    if state == VmState.SHELVED_OFFLOADED:
        bring(cell, VmState.SHELVED, server_id)
        ways = [spec_of(Operation.SHELVE_OFFLOAD)]
    else:
        ways = ways_to({state})
    if ways:
        cell.begin(server_id, ways[0].operation, **arguments_of(ways[0]))
        cell.run()
        assert cell.record(server_id).vm_state == state
    return bool(ways)


def wrapped(
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    step_name: str,
    wrap: Callable[[Action], Action],
    *,
    undo: bool = False,
) -> None:
    """Put ``wrap`` round one step's action in the registry for this test."""
    workflow = REGISTRY[SPECS[operation].operation]

    def changed(step: Step) -> Step:
        if step.name != step_name:
            return step
        return replace(step, undo=wrap(step.undo)) if undo and step.undo else replace(step, do=wrap(step.do))

    monkeypatch.setitem(
        REGISTRY, workflow.operation, replace(workflow, steps=tuple(changed(s) for s in workflow.steps))
    )


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
    begin_alone(cell, operation)
    wrapped(monkeypatch, operation, step, twice)
    cell.run()
    assert_done(cell, SPECS[operation])


@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_killed_after_the_call_and_before_the_save(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str
) -> None:
    begin_alone(cell, operation)
    wrapped(monkeypatch, operation, step, killed_after_call)
    cell.run()
    assert_done(cell, SPECS[operation])


@pytest.mark.parametrize("after_call", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_a_failed_step_leaves_all_or_nothing(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str, after_call: bool
) -> None:
    begin_alone(cell, operation)
    before = cell.record(SERVER)
    wrapped(monkeypatch, operation, step, failing(errors.GuestFailed("no"), after_call=after_call))
    cell.run()
    record = cell.record(SERVER)
    workflow = REGISTRY[SPECS[operation].operation]
    if SPECS[operation].operation is Operation.CREATE:
        assert cell.assert_clean(SERVER).vm_state == "error"
        assert record.fault is not None
        assert record.fault.message == "no"
    elif SPECS[operation].waits:  # what its guest became its host tells later
        assert (record.vm_state, record.task_state) == (SPECS[operation].vm_state, None)
    elif workflow.is_committed([one.name for one in workflow.steps].index(step)):
        assert_done(cell, SPECS[operation])
    else:
        rebuilt = SPECS[operation].operation is Operation.REBUILD and record.spec.name == "rebuilt"
        assert record.vm_state == ("error" if rebuilt else before.vm_state)
        assert rebuilt == (operation == "rebuild" and step in AFTER_THE_RECORD)
        assert record.task_state is None
        assert cell.copies == set()
        assert operation != "rescue" or not cell.rescued
        assert bool(cell.images.images) == (
            operation in ("unshelve", OFFLOADED, "shelveOffload")
            or (step == "records.settle" and issubclass(SPECS[operation].command, ImageCommand))
        )
        cell.assert_volumes(record)
        if SPECS[operation].moves:
            cell.assert_clean(SERVER)
            assert (record.host, record.spec, record.ports) == (before.host, before.spec, before.ports)


@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_a_step_that_must_wait_is_taken_again(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str
) -> None:
    begin_alone(cell, operation)
    wrapped(monkeypatch, operation, step, failing(errors.Unreachable("away"), after_call=True))
    cell.run()
    assert_done(cell, SPECS[operation])


@pytest.mark.parametrize("operation", SPECS)
def test_killed_between_the_save_and_the_command(cell: CellUnderTest, operation: str) -> None:
    begin_alone(cell, operation)
    cell.deaths_before_sending = 1
    cell.run()
    assert_done(cell, SPECS[operation])


@pytest.mark.parametrize(("operation", "step"), [s for s in STEPS if not SPECS[s[0]].preempts])
def test_delete_preempts_at_every_step(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str, step: str
) -> None:
    def cancelling(action: Action) -> Action:
        def act(context: StepContext, services: StepServices) -> StepResult:
            cell.begin(SERVER, Operation.DELETE)
            return action(context, services)

        return act

    cell.moves_on_results = False  # nothing comes between the steps of one transaction
    begin_alone(cell, operation)
    wrapped(monkeypatch, operation, step, cancelling)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.deleted
    whole = step in ("images.rotate", "records.settle") and issubclass(SPECS[operation].command, ImageCommand)
    assert bool(cell.images.images) == whole  # an image that is whole outlives its server


@pytest.mark.parametrize("wrap", [twice, killed_after_call], ids=["twice", "killed"])
@pytest.mark.parametrize(("operation", "step"), UNDOS)
def test_every_undo_twice_and_killed(
    cell: CellUnderTest,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    step: str,
    wrap: Callable[[Action], Action],
) -> None:
    begin_alone(cell, operation)
    before = cell.record(SERVER)
    wrapped(monkeypatch, operation, step, wrap, undo=True)
    starts = (Start,) if operation == "unshelve" else ()
    shelved = SPECS[operation].operation is Operation.UNSHELVE
    cell.fail |= {kind: [errors.GuestFailed("no")] for kind in (*starts, *FAILING)}
    cell.run()
    ends_as = "error" if before.vm_state == VmState.BUILDING else before.vm_state
    assert cell.assert_clean(SERVER).vm_state == ends_as
    assert bool(cell.images.images) == shelved


@pytest.mark.parametrize("operation", SPECS)
def test_lost_commands_are_sent_again(cell: CellUnderTest, operation: str) -> None:
    begin_alone(cell, operation)
    cell.lost = 3
    cell.run()
    assert_done(cell, SPECS[operation])


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


def set_state(cell: CellUnderTest, state: VmState) -> None:
    """As the database has it where no operation leads there."""
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).values(vm_state=state, deleted=state == VmState.DELETED))


STARTS = [(name, state) for name, spec in SPECS.items() for state in spec.starts_from]


@pytest.mark.parametrize(("operation", "state"), STARTS)
def test_an_operation_starts_from_its_states(cell_database: Database, operation: str, state: VmState) -> None:
    cell, spec = CellUnderTest(cell_database), SPECS[operation]
    cell.create(SERVER)
    cell.run()
    at_once = spec.waits and state == VmState.SHELVED_OFFLOADED  # with no host, its delete is not put off
    if at_once or not bring(cell, state):
        set_state(cell, state)
    begun = cell.begin(SERVER, spec.operation, **arguments_of(spec))
    assert begun.task_state == spec.task_state
    for other in (
        one
        for one in TABLE
        if state in one.starts_from
        and not (one.preempts or one.waits or spec.task_state in one.overtakes)
        and not (one.task_state is None and spec.task_state is None)  # test_volumes has these
    ):
        with pytest.raises(errors.Conflict, match="task_state"):
            cell.begin(SERVER, other.operation, **arguments_of(other))
    cell.run()
    done = cell.assert_clean(SERVER)
    assert done.vm_state == rest_of(spec, begun)
    stays_off = spec.moves and state == VmState.STOPPED
    power = begun.power_state if spec.power_state is None else spec.power_state
    assert done.power_state == (PowerState.SHUTDOWN if stays_off else power)


def test_an_operation_starts_from_no_other_state(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(SERVER)
    cell.run()
    for state in VmState:
        set_state(cell, state)
        for spec in (spec for spec in TABLE if state not in spec.starts_from and not spec.waits):
            with pytest.raises((errors.Conflict, errors.NotFound)):
                cell.begin(SERVER, spec.operation, **arguments_of(spec))


def test_every_row_of_the_table_stands_for_itself() -> None:
    assert len({(spec.operation, spec.variant) for spec in TABLE}) == len(TABLE)
    assert {spec.operation for spec in TABLE} == set(Operation) == set(REGISTRY)
    for spec in TABLE:
        same = [one for one in TABLE if one.operation is spec.operation]
        assert len({(one.action, one.policy, one.event, one.vm_state) for one in same}) == 1
        assert all(one.variant for one in same) or len(same) == 1
        assert typing.get_args(GuestCommand).count(spec.command) == 1
