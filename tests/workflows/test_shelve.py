"""Shelving: what was put away comes back with its ports and nothing is left of it elsewhere, whatever fails between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cell.conductor.runs import begin_operations
from cell.conductor.workflow import Action, StepContext, StepResult, StepServices
from cell.conductor.workflows import REGISTRY
from cell.conductor.workflows.shelving import SHELVE_OFFLOAD, UNSHELVE
from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Spawn, Start, UploadSnapshot
from cellcloud.model.operations import Operation
from cellcloud.server_states import PowerState, VmState
from tests.workflows.test_every_step import SERVER, failing, image_of, killed_after_call, twice, wrapped
from tests.workflows.world import CellUnderTest

STEPS = [step.name for step in UNSHELVE.steps]


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    world = CellUnderTest(cell_database)
    world.create(SERVER)
    world.run()
    return world


def offload(cell: CellUnderTest) -> None:
    """Let the server be on no host."""
    cell.begin(SERVER, Operation.SHELVE, image=image_of(SERVER))
    cell.run()
    begun = begin_operations.begin_offloads(cell.database, "req-1", 0.0)
    assert [one.id for one in begun] == [SERVER]
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.SHELVED_OFFLOADED
    assert begin_operations.begin_offloads(cell.database, "req-1", 0.0) == []


def unshelve(cell: CellUnderTest, **asked: Any) -> None:
    cell.begin(SERVER, Operation.UNSHELVE, **asked)


def test_a_server_comes_back_with_its_ports_from_its_image_which_goes(cell: CellUnderTest) -> None:
    before = cell.record(SERVER)
    offload(cell)
    put_away = cell.record(SERVER)
    assert [port.fixed_ips for port in put_away.ports] == [port.fixed_ips for port in before.ports]
    unshelve(cell)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.power_state) == (VmState.ACTIVE, PowerState.RUNNING)
    assert [port.id for port in record.ports] == [port.id for port in before.ports]
    assert {port.host_id for port in record.ports} == {record.host}
    assert cell.images.images == {}
    assert record.spec.root_image == image_of(SERVER)
    assert record.spec.image == before.spec.image


@pytest.mark.parametrize("wrap", [twice, killed_after_call], ids=["twice", "killed"])
@pytest.mark.parametrize("step", STEPS)
def test_every_step_of_the_way_back_twice_and_killed(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, step: str, wrap: Any
) -> None:
    offload(cell)
    wrapped(monkeypatch, "unshelve", step, wrap)
    unshelve(cell)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE
    assert cell.images.images == {}


@pytest.mark.parametrize("after_call", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", [step for step in STEPS if step not in ("images.discard", "records.settle")])
def test_a_way_back_that_fails_leaves_the_server_where_it_was(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, step: str, after_call: bool
) -> None:
    offload(cell)
    wrapped(monkeypatch, "unshelve", step, failing(errors.GuestFailed("no"), after_call=after_call))
    unshelve(cell)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.SHELVED_OFFLOADED
    unshelve(cell)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


@pytest.mark.parametrize("step", STEPS)
def test_a_delete_on_the_way_back_leaves_nothing(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def cancelling(action: Action) -> Action:
        def act(context: StepContext, services: StepServices) -> StepResult:
            cell.begin(SERVER, Operation.DELETE)
            return action(context, services)

        return act

    offload(cell)
    wrapped(monkeypatch, "unshelve", step, cancelling)
    unshelve(cell)
    cell.run()
    assert cell.assert_clean(SERVER).deleted
    assert cell.images.images == {}


def test_a_host_that_refuses_is_left_for_another(cell: CellUnderTest) -> None:
    offload(cell)
    cell.fail[Spawn] = [errors.HostRefused("no")]
    unshelve(cell)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


def test_without_room_the_server_stays_put_away(cell: CellUnderTest) -> None:
    offload(cell)
    cell.fail[Spawn] = [errors.HostRefused("no")] * 9
    unshelve(cell)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.SHELVED_OFFLOADED
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert cell.assert_clean(SERVER).deleted
    assert cell.images.images == {}


@pytest.mark.parametrize("error", [errors.HostRefused, errors.GuestFailed])
def test_a_disk_that_is_on_its_host_is_left_for_no_other(
    cell: CellUnderTest, error: type[errors.CellcloudError]
) -> None:
    cell.begin(SERVER, Operation.SHELVE, image=image_of(SERVER))
    cell.run()
    before = cell.record(SERVER)
    cell.fail[Start] = [error("no")]
    unshelve(cell)
    cell.run()
    after = cell.assert_clean(SERVER)
    assert (after.vm_state, after.host) == (VmState.SHELVED, before.host)


@pytest.mark.parametrize("state", [None, Operation.STOP, Operation.PAUSE, Operation.SUSPEND])
def test_an_image_that_fails_leaves_the_server_as_it_was(cell: CellUnderTest, state: Operation | None) -> None:
    if state is not None:
        cell.begin(SERVER, state)
        cell.run()
    before = cell.record(SERVER)
    cell.fail[UploadSnapshot] = [errors.GuestFailed("no")]
    cell.begin(SERVER, Operation.SHELVE, image=image_of(SERVER))
    cell.run()
    after = cell.assert_clean(SERVER)
    assert (after.vm_state, after.power_state, after.spec) == (before.vm_state, before.power_state, before.spec)
    assert cell.images.images == {}


@pytest.mark.parametrize("status", [None, "queued", "saving"])
def test_a_disk_whose_image_is_not_whole_stays_on_its_host(cell: CellUnderTest, status: str | None) -> None:
    cell.begin(SERVER, Operation.SHELVE, image=image_of(SERVER))
    cell.run()
    before = cell.record(SERVER)
    image = cell.images.images.pop(image_of(SERVER).id)
    if status is not None:
        cell.images.images[image.id] = replace(image, status=status)
    assert begin_operations.begin_offloads(cell.database, "req-1", 0.0) != []
    cell.run()
    after = cell.record(SERVER)
    assert (after.vm_state, after.task_state, after.host) == (VmState.SHELVED, None, before.host)
    assert cell.guests[SERVER][0] == before.host
    assert begin_operations.begin_offloads(cell.database, "req-1", 0.0) == []  # not again and again
    unshelve(cell)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


def test_an_image_service_that_is_away_for_long_lets_the_offload_be_tried_again(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell.begin(SERVER, Operation.SHELVE, image=image_of(SERVER))
    cell.run()
    with monkeypatch.context() as away:
        away.setitem(REGISTRY, Operation.SHELVE_OFFLOAD, replace(SHELVE_OFFLOAD, deadline=-1.0))
        begin_operations.begin_offloads(cell.database, "req-1", 0.0)
        cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.SHELVED
    begin_operations.begin_offloads(cell.database, "req-1", 0.0)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.SHELVED_OFFLOADED


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"zone": "none such"}, "The requested availability zone is not available"),
        ({"host": "none-such"}, "Compute host none-such could not be found."),
    ],
)
def test_places_that_there_are_not(cell: CellUnderTest, asked: dict[str, str], message: str) -> None:
    offload(cell)
    with pytest.raises(errors.Invalid, match=message):
        unshelve(cell, **asked)
    assert cell.assert_clean(SERVER).vm_state == VmState.SHELVED_OFFLOADED


def test_a_place_is_chosen_for_a_server_on_no_host_only(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.SHELVE, image=image_of(SERVER))
    cell.run()
    for asked in ({"zone": None}, {"host": "h2"}):
        with pytest.raises(errors.Conflict, match="must be SHELVED_OFFLOADED"):
            unshelve(cell, **asked)
