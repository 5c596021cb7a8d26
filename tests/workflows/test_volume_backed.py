"""Servers that are made with volumes: these are there with the server, or nothing of them is left."""

from __future__ import annotations

from typing import Any

import pytest

from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Spawn
from cellcloud.model.image import Image
from cellcloud.model.operations import Operation
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import BlockDevice, DeviceSource
from tests.workflows.world import CellUnderTest, Killed

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
