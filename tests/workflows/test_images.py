"""What a server's images walk through: task states, rotation, a delete in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import GuestCommand, Snapshot, UploadSnapshot
from cellcloud.model.operations import Operation
from cellcloud.server_states import TaskState
from tests.workflows.test_every_step import SERVER, image_of
from tests.workflows.world import CellUnderTest

WALKS = {
    Operation.CREATE_IMAGE: TaskState.IMAGE_SNAPSHOT_PENDING,
    Operation.CREATE_BACKUP: TaskState.IMAGE_BACKUP,
}


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    world = CellUnderTest(cell_database)
    world.create(SERVER)
    world.run()
    return world


@pytest.mark.parametrize("operation", WALKS)
def test_the_task_states_are_novas(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: Operation) -> None:
    seen = [cell.begin(SERVER, operation, image=image_of(SERVER), rotation=1).task_state]
    send = cell.send

    def look(command: GuestCommand) -> None:
        seen.append(cell.record(SERVER).task_state)
        send(command)

    monkeypatch.setattr(cell, "send", look)
    cell.run()
    assert seen == [WALKS[operation], TaskState.IMAGE_PENDING_UPLOAD, TaskState.IMAGE_UPLOADING]
    assert cell.assert_clean(SERVER).power_state == 1


def test_the_oldest_backups_of_one_kind_are_rotated_out(cell: CellUnderTest) -> None:
    others = replace(image_of(SERVER, 90), properties={**image_of(SERVER).properties, "backup_type": "weekly"})
    cell.images.images[others.id] = replace(others, status="active")
    for number in range(1, 5):
        cell.begin(SERVER, Operation.CREATE_BACKUP, image=image_of(SERVER, number), rotation=2)
        cell.run()
        assert cell.assert_clean(SERVER).vm_state == "active"
    assert list(cell.images.images) == [others.id, image_of(SERVER, 3).id, image_of(SERVER, 4).id]
    cell.begin(SERVER, Operation.CREATE_BACKUP, image=image_of(SERVER, 5), rotation=0)
    cell.run()
    cell.assert_clean(SERVER)
    assert list(cell.images.images) == [others.id]


def test_a_backup_that_is_protected_is_kept(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    discard = cell.images.discard_image

    def discard_unless_protected(image_id: str) -> None:
        if image_id == image_of(SERVER, 1).id:
            raise errors.Forbidden("It is protected.")
        discard(image_id)

    monkeypatch.setattr(cell.images, "discard_image", discard_unless_protected)
    for number in range(1, 4):
        cell.begin(SERVER, Operation.CREATE_BACKUP, image=image_of(SERVER, number), rotation=1)
        cell.run()
        cell.assert_clean(SERVER)
    assert list(cell.images.images) == [image_of(SERVER, 1).id, image_of(SERVER, 3).id]


@pytest.mark.parametrize("operation", [Operation.CREATE_IMAGE, Operation.CREATE_BACKUP, Operation.SHELVE])
@pytest.mark.parametrize("deleted", [False, True], ids=["failed", "deleted"])
def test_an_image_that_its_owner_protects_holds_nothing_up(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: Operation, deleted: bool
) -> None:
    def refuse(image_id: str) -> None:
        raise errors.Forbidden("It is protected.")

    send = cell.send

    def fail(command: GuestCommand) -> None:
        if isinstance(command, UploadSnapshot) and deleted:
            cell.begin(SERVER, Operation.DELETE)
        send(command)

    monkeypatch.setattr(cell.images, "discard_image", refuse)
    monkeypatch.setattr(cell, "send", fail)
    cell.fail[UploadSnapshot] = [errors.GuestFailed("no")]
    cell.begin(SERVER, operation, image=image_of(SERVER), rotation=1)
    cell.run()
    assert cell.images.images.pop(image_of(SERVER).id).status == "queued"
    record = cell.assert_clean(SERVER)
    assert record.deleted == deleted
    assert deleted or (record.vm_state, record.spec.shelved_image) == ("active", None)


@pytest.mark.parametrize("command", [Snapshot, UploadSnapshot])
def test_an_image_that_cannot_be_made_is_gone_and_its_server_is_as_before(
    cell: CellUnderTest, command: type[GuestCommand]
) -> None:
    cell.fail[command] = [errors.GuestFailed("no")]
    cell.begin(SERVER, Operation.CREATE_IMAGE, image=image_of(SERVER))
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == "active"
    assert cell.images.images == {}


def test_an_image_that_its_owner_deletes_meanwhile_stays_deleted(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.CREATE_IMAGE, image=image_of(SERVER))
    cell.fail[UploadSnapshot] = [errors.NotFound("no such image")]
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == "active"
    assert cell.images.images == {}


def test_a_host_that_is_away_holds_nothing_up_when_an_image_is_given_up(cell: CellUnderTest) -> None:
    """It drops the copy when it is back."""
    cell.begin(SERVER, Operation.CREATE_IMAGE, image=image_of(SERVER))
    cell.fail[UploadSnapshot] = [errors.GuestFailed("no")]
    send = cell.send

    def go_away(command: GuestCommand) -> None:
        send(command)
        if isinstance(command, UploadSnapshot):
            cell.away.add(command.host)

    cell.send = go_away  # type: ignore[method-assign]
    cell.run()
    cell.copies.clear()
    assert cell.assert_clean(SERVER).vm_state == "active"
    assert cell.images.images == {}
