"""Servers that are made with volumes: these are there with the server, or nothing of them is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cell.conductor.workflow import Action, StepContext, StepResult, StepServices
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Arrive, PrepareRebuild, Rebuild, Spawn, Stop
from cellcloud.model.image import Image
from cellcloud.model.operations import Operation
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import BlockDevice, DeviceSource
from cellcloud.model.volume_names import SWAP
from cellcloud.server_states import PowerState, VmState
from tests.workflows.test_every_step import failing, image_of, killed_after_call, twice, wrapped
from tests.workflows.world import CellUnderTest, Killed, SavedCell

SERVER = "11111111-0000-4000-8000-000000000001"
ROOT = BlockDevice(source=DeviceSource.IMAGE, is_volume=True, source_id="i", boot_index=0, size_gb=2)
DATA = BlockDevice(source=DeviceSource.BLANK, is_volume=True, size_gb=1, delete_on_termination=True)


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    return CellUnderTest(cell_database)


def create(cell: CellUnderTest, *devices: BlockDevice) -> None:
    cell.create(SERVER, image=Image(id=""), block_devices=devices or (DATA, ROOT))


def made(cell: CellUnderTest) -> ServerRecord:
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.vm_state == "active"
    return record


def test_a_server_is_made_with_its_volumes(cell: CellUnderTest) -> None:
    cell.volumes.slow = 3  # looks, until a volume is there
    create(cell)
    root, data = made(cell).volumes
    assert (root.device, root.boot_index, data.device, data.boot_index) == ("/dev/vda", 0, "/dev/vdb", None)
    assert len(cell.volumes.volumes) == 2
    assert {one.name for one in cell.volumes.volumes.values()} == {""}
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert cell.assert_clean(SERVER).deleted
    assert [*cell.volumes.volumes] == [root.volume_id], "what was not told to go stays"


def test_a_volume_that_there_is_boots_a_server(cell: CellUnderTest) -> None:
    volume = cell.volumes.add(bootable=True)
    create(cell, BlockDevice(source=DeviceSource.VOLUME, is_volume=True, source_id=volume.id, boot_index=0))
    assert [one.volume_id for one in made(cell).volumes] == [volume.id]


def test_on_another_host_it_has_the_same_volumes(cell: CellUnderTest) -> None:
    cell.fail[Spawn] = [errors.HostRefused("no")]
    create(cell)
    record = made(cell)
    assert len(cell.volumes.volumes) == 2
    assert {one.host for one in cell.volumes.attachments.values()} == {record.host}


@pytest.mark.parametrize("error", [errors.GuestFailed("no"), errors.HostRefused("no")])
def test_nothing_is_left_of_volumes_of_a_server_that_never_was(
    cell: CellUnderTest, error: errors.CellcloudError
) -> None:
    kept = cell.volumes.add(bootable=True)
    cell.fail[Spawn] = [error] * 3
    create(cell, BlockDevice(source=DeviceSource.VOLUME, is_volume=True, source_id=kept.id, boot_index=0), DATA)
    cell.run()
    record = cell.record(SERVER)
    assert record.vm_state == "error" or record.given_up
    assert [(one.id, one.status) for one in cell.volumes.volumes.values()] == [(kept.id, "available")]
    assert cell.volumes.attachments == {}


@pytest.mark.parametrize("status", ["error", "error_extending"])
def test_a_volume_that_cannot_be_made_ends_it(cell: CellUnderTest, status: str) -> None:
    cell.volumes.becomes = status
    create(cell)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.vm_state == "error"
    assert record.fault is not None
    assert "did not finish being created" in record.fault.message
    assert cell.volumes.volumes == {}


@pytest.mark.parametrize("verb", ["ensure_volume", "create_attachment", "update_attachment", "complete_attachment"])
def test_killed_after_each_call_all_or_nothing_is_there(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    whole = getattr(cell.volumes, verb)
    deaths = [True]

    def dying(*args: Any, **kwargs: Any) -> Any:
        done = whole(*args, **kwargs)
        if deaths:
            deaths.pop()
            raise Killed
        return done

    monkeypatch.setattr(cell.volumes, verb, dying)
    create(cell)
    assert len(made(cell).volumes) == 2
    assert len(cell.volumes.volumes) == 2
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert cell.assert_clean(SERVER).deleted


def test_a_delete_meanwhile_leaves_nothing(cell: CellUnderTest) -> None:
    cell.volumes.slow = 5
    create(cell)
    with pytest.raises(AssertionError, match="never ended"):
        cell.run(limit=2)
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert cell.assert_clean(SERVER).deleted
    assert cell.volumes.volumes == {}


# ---- what else is done to it ---------------------------------------------------------------------------------------
REBUILT: dict[str, Any] = {"spec_changes": {"name": "rebuilt", "image": {"id": ""}}, "reimage": "other"}
BEFORE: dict[Operation, tuple[Operation, ...]] = {
    Operation.CREATE_IMAGE: (),
    Operation.SHELVE: (),
    Operation.UNSHELVE: (Operation.SHELVE,),
    Operation.REBUILD: (),
    Operation.RESIZE: (),
    Operation.REVERT_RESIZE: (Operation.RESIZE,),
}
"""Operation -> those that bring a server to where it may begin."""
LEADS_TO = {Operation.SHELVE: VmState.SHELVED_OFFLOADED, Operation.RESIZE: VmState.RESIZED}
STEPS = [(operation, step.name) for operation in BEFORE for step in REGISTRY[operation].steps]
RESTING: dict[tuple[Operation, ...], SavedCell] = {}


def begin(cell: CellUnderTest, operation: Operation) -> ServerRecord:
    """Begin it on a server with a root volume, and another; as that was before."""
    before = BEFORE[operation]
    if before in RESTING:
        cell.load(RESTING[before])
    else:
        create(cell)
        cell.run()
        for one in before:
            cell.begin(SERVER, one)
            cell.run()
        RESTING[before] = cell.save()
    record = cell.assert_clean(SERVER)
    cell.begin(SERVER, operation, **asked(operation))
    return record


def asked(operation: Operation) -> dict[str, Any]:
    if operation is Operation.REBUILD:
        return REBUILT
    return {"image": image_of(SERVER)} if operation is Operation.CREATE_IMAGE else {}


def assert_done(cell: CellUnderTest, operation: Operation) -> None:
    record = cell.assert_clean(SERVER)
    assert record.vm_state == LEADS_TO.get(operation, VmState.ACTIVE)
    assert len(record.volumes) == 2
    assert_image(cell, there=operation is Operation.CREATE_IMAGE)
    if operation is Operation.REBUILD:
        assert record.spec.name == "rebuilt"
        assert cell.volumes.volumes[record.volumes[0].volume_id].image == {"image_id": "other"}


def assert_image(cell: CellUnderTest, *, there: bool) -> None:
    """The image is whole and there are the snapshots that it names, or there is nothing of it."""
    assert [one.status for one in cell.images.images.values()] == ["active"] * there
    named = [
        disk["snapshot_id"]
        for one in cell.images.images.values()
        for disk in json.loads(one.properties["block_device_mapping"])
        if disk["source_type"] == "snapshot"
    ]
    assert sorted(cell.volumes.snapshots) == sorted(named)
    assert len(named) == 2 * there


@pytest.mark.parametrize(
    "wrap",
    [twice, killed_after_call, failing(errors.Unreachable("away"), after_call=True)],
    ids=["twice", "killed", "waits"],
)
@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_every_step_is_done_once(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: Operation, step: str, wrap: Any
) -> None:
    begin(cell, operation)
    wrapped(monkeypatch, operation, step, wrap)
    cell.run()
    assert_done(cell, operation)


@pytest.mark.parametrize("after_call", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_a_step_that_fails_leaves_all_or_nothing(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: Operation, step: str, after_call: bool
) -> None:
    before = begin(cell, operation)
    wrapped(monkeypatch, operation, step, failing(errors.GuestFailed("no"), after_call=after_call))
    cell.run()
    names = [one.name for one in REGISTRY[operation].steps]
    record = cell.record(SERVER)
    if REGISTRY[operation].is_committed(names.index(step)):
        assert_done(cell, operation)
    elif operation is Operation.REBUILD and names.index(step) > names.index("records.rebuild"):
        assert (record.vm_state, record.spec.name) == (VmState.ERROR, "rebuilt")
        cell.assert_volumes(record)
        cell.begin(SERVER, operation, **REBUILT)
        cell.run()
        assert_done(cell, operation)
    else:
        assert cell.assert_clean(SERVER).vm_state == before.vm_state
        assert (record.host, record.spec) == (before.host, before.spec)
        assert_image(cell, there=False)


@pytest.mark.parametrize(("operation", "step"), STEPS)
def test_a_delete_takes_all_away_at_every_step(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: Operation, step: str
) -> None:
    def cancelling(action: Action) -> Action:
        def act(context: StepContext, services: StepServices) -> StepResult:
            cell.begin(SERVER, Operation.DELETE)
            return action(context, services)

        return act

    begin(cell, operation)
    wrapped(monkeypatch, operation, step, cancelling)
    cell.run()
    assert cell.assert_clean(SERVER).deleted
    whole = operation is Operation.CREATE_IMAGE and bool(cell.images.images)  # one that is outlives its server
    assert_image(cell, there=whole)


@pytest.mark.parametrize("wrap", [twice, killed_after_call], ids=["twice", "killed"])
@pytest.mark.parametrize("operation", [Operation.REBUILD, Operation.CREATE_IMAGE, Operation.UNSHELVE, Operation.RESIZE])
def test_every_undo_twice_and_killed(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: Operation, wrap: Callable[[Action], Action]
) -> None:
    for step in REGISTRY[operation].steps:
        if step.undo is not None:
            wrapped(monkeypatch, operation, step.name, wrap, undo=True)
    if operation is Operation.CREATE_IMAGE:
        wrapped(monkeypatch, operation, "guests.uploaded", lambda action: refusing)
    before = begin(cell, operation)
    cell.fail |= {kind: [errors.GuestFailed("no")] for kind in (Rebuild, Spawn, Arrive)}
    cell.run()
    record = cell.record(SERVER)
    cell.assert_volumes(record)
    assert record.vm_state == (VmState.ERROR if operation is Operation.REBUILD else before.vm_state)
    assert_image(cell, there=False)


def refusing(context: StepContext, services: StepServices) -> StepResult:
    raise errors.GuestFailed("no")


def test_an_image_says_which_disks_its_servers_have(cell: CellUnderTest) -> None:
    swap = BlockDevice(source=DeviceSource.BLANK, is_volume=False, size_mb=64, is_swap=True)
    create(cell, ROOT, DATA, swap)
    root, data = made(cell).volumes
    cell.begin(SERVER, Operation.CREATE_IMAGE, image=image_of(SERVER))
    cell.run()
    assert_image(cell, there=True)
    (image,) = cell.images.images.values()
    first, second, third = json.loads(image.properties["block_device_mapping"])
    for disk, volume in ((first, root), (second, data)):
        snapshot = cell.volumes.snapshots[disk["snapshot_id"]]
        assert (snapshot.volume_id, disk["device_name"], disk["boot_index"], disk["volume_size"]) == (
            volume.volume_id,
            volume.device,
            volume.boot_index,
            volume.size_gb,
        )
        assert disk["delete_on_termination"] == volume.delete_on_termination
    assert (third["guest_format"], third["volume_size"], third["destination_type"]) == (SWAP, 64, "local")
    assert (image.properties["bdm_v2"], image.properties["root_device_name"]) == ("True", "/dev/vda")


def test_put_away_it_keeps_its_volumes_for_its_next_host(cell: CellUnderTest) -> None:
    create(cell)
    held = {one.volume_id for one in made(cell).volumes}
    cell.begin(SERVER, Operation.SHELVE)
    cell.run()
    assert_done(cell, Operation.SHELVE)
    assert {one.status for one in cell.volumes.volumes.values()} == {"reserved"}
    cell.begin(SERVER, Operation.DETACH_VOLUME, volume=cell.record(SERVER).volumes[1])
    cell.run()
    cell.begin(SERVER, Operation.UNSHELVE)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert {one.volume_id for one in record.volumes} < held
    assert all(one.connection for one in record.volumes)


@pytest.mark.parametrize("slow", [0, 3])
def test_its_root_volume_is_written_while_no_host_reaches_it(cell: CellUnderTest, slow: int) -> None:
    create(cell)
    before = made(cell)
    cell.volumes.slow = slow
    cell.begin(SERVER, Operation.REBUILD, **REBUILT)
    cell.run()
    assert_done(cell, Operation.REBUILD)
    after = cell.record(SERVER)
    assert cell.volumes.reimaged == 1
    assert after.volumes[0].attachment_id != before.volumes[0].attachment_id
    assert after.volumes[1] == before.volumes[1]


def test_below_2_93_it_is_made_anew_around_its_volumes(cell: CellUnderTest) -> None:
    create(cell)
    before = made(cell)
    cell.begin(SERVER, Operation.REBUILD, spec_changes={"name": "rebuilt", "image": {"id": ""}})
    cell.run()
    assert cell.assert_clean(SERVER).volumes == before.volumes
    assert cell.volumes.reimaged == 0


@pytest.mark.parametrize("kind", [PrepareRebuild, Stop, Rebuild])
def test_a_rebuild_that_fails_can_be_asked_for_again(cell: CellUnderTest, kind: Any) -> None:
    create(cell)
    made(cell)
    cell.fail[kind] = [errors.GuestFailed("no")]
    cell.begin(SERVER, Operation.REBUILD, **REBUILT)
    cell.run()
    record = cell.record(SERVER)
    assert record.vm_state == (VmState.ACTIVE if kind is PrepareRebuild else VmState.ERROR)
    cell.assert_volumes(record)
    cell.begin(SERVER, Operation.REBUILD, **REBUILT)
    cell.run()
    assert_done(cell, Operation.REBUILD)
    assert cell.record(SERVER).power_state == PowerState.RUNNING


def test_a_volume_that_cannot_be_written_leaves_a_server_in_error(cell: CellUnderTest) -> None:
    create(cell)
    made(cell)
    cell.volumes.becomes = "error"
    cell.begin(SERVER, Operation.REBUILD, **REBUILT)
    cell.run()
    record = cell.record(SERVER)
    assert record.vm_state == VmState.ERROR
    assert record.fault is not None
    assert "could not be written" in record.fault.message
    cell.volumes.becomes = "available"
    cell.begin(SERVER, Operation.REBUILD, **REBUILT)
    cell.run()
    assert_done(cell, Operation.REBUILD)
