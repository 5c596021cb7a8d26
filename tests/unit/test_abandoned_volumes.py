"""What killed processes have begun with volumes and nobody came back to: the server's cell says what becomes of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cellcloud import errors
from cellcloud.db import server_index
from cellcloud.db.engine import transact
from cellcloud.embedded.volume import abandoned
from cellcloud.embedded.volume.client import EmbeddedVolumes
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import AttachedVolume, AttachmentState, NewVolume
from cellcloud.server_states import TaskState, VmState
from tests.volume_world import VolumeWorld
from tests.workflows.world import make_spec


@dataclass
class Cell:
    """What the servers' cell answers; ``away``: it does not."""

    world: VolumeWorld
    records: dict[str, ServerRecord] = field(default_factory=dict)
    away: bool = False

    def __post_init__(self) -> None:
        self.client = EmbeddedVolumes(self.world.service)

    def volume(self) -> str:
        project = self.world.cloud.project("demo")
        return self.client.ensure_volume(
            NewVolume(mark=str(uuid.uuid4()), project_id=project, user_id="u", size_gb=1)
        ).id

    def server(self, **values: Any) -> str:
        made = str(uuid.uuid4())
        record = ServerRecord(
            **{"spec": make_spec(made), "cell": "east", "version": 1, "generation": 1, "vm_state": VmState.ACTIVE}
            | values
        )
        transact(self.world.database, lambda c: server_index.upsert(c, [replace(record, deleted=False)], adopt=True))
        self.records[made] = record
        return made

    def has(self, server: str, volume_id: str, attachment_id: str, state: AttachmentState) -> None:
        held = AttachedVolume(id=attachment_id, volume_id=volume_id, attachment_id=attachment_id, state=state)
        record = self.records[server]
        self.records[server] = replace(record, volumes=(*record.volumes, held))

    def sweep(self, *, later: bool = True) -> None:
        if later:
            with self.world.database.engine.begin() as c:
                c.exec_driver_sql("UPDATE volume_attachments SET created_at = '2020-01-01 00:00:00.000000'")
                c.exec_driver_sql("UPDATE volumes SET updated_at = '2020-01-01 00:00:00.000000'")
        abandoned.sweep(self.world.service, self._ask)

    def _ask(self, cell: str, ids: list[str]) -> list[ServerRecord]:
        if self.away:
            raise errors.Unreachable("It does not answer.")
        assert cell == "east"
        return [self.records[one] for one in ids if one in self.records]

    def status(self, volume_id: str) -> str:
        return self.client.get_volume(volume_id).status


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumeWorld]:
    world = VolumeWorld(tmp_path_factory.mktemp("volumes"))
    yield world
    world.close()


@pytest.fixture
def cell(built: VolumeWorld) -> Iterator[Cell]:
    yield Cell(built)
    built.empty()


@pytest.mark.parametrize(
    ("record", "knows", "left"),
    [
        ({}, False, "available"),
        ({}, True, "reserved"),
        ({"task_state": TaskState.NETWORKING}, False, "reserved"),  # it is being built with the volume
        ({"held": True}, False, "reserved"),
        ({"vm_state": VmState.ERROR}, False, "available"),
        ({"vm_state": VmState.DELETED, "deleted": True}, False, "available"),
    ],
)
def test_a_reservation_that_its_server_knows_nothing_of(
    cell: Cell, record: dict[str, Any], knows: bool, left: str
) -> None:
    volume, server = cell.volume(), cell.server(**record)
    cell.world.settle()
    attachment = cell.client.create_attachment(volume, server)
    if knows:
        cell.has(server, volume, attachment, AttachmentState.ATTACHING)
    cell.sweep(later=False)
    assert cell.status(volume) == "reserved"
    cell.away = True
    cell.sweep()
    assert cell.status(volume) == "reserved"
    cell.away = False
    cell.sweep()
    assert cell.status(volume) == left


def test_a_reservation_for_a_server_that_nobody_knows_stays(cell: Cell) -> None:
    volume = cell.volume()
    cell.world.settle()
    cell.client.create_attachment(volume, str(uuid.uuid4()))
    cell.sweep()
    assert cell.status(volume) == "reserved"


@pytest.mark.parametrize(
    ("state", "deleted", "left"),
    [
        (AttachmentState.ATTACHED, False, "in-use"),
        (AttachmentState.DETACHING, False, "detaching"),
        (None, False, "detaching"),  # it has been given back, and the rest of it follows
        (AttachmentState.ATTACHED, True, "detaching"),
    ],
)
def test_a_volume_that_is_about_to_be_detached_and_is_not(
    cell: Cell, state: AttachmentState | None, deleted: bool, left: str
) -> None:
    volume, server = cell.volume(), cell.server(deleted=deleted)
    cell.world.settle()
    attachment = cell.client.create_attachment(volume, server)
    cell.client.update_attachment(attachment, {"host": "h1"})
    cell.client.complete_attachment(attachment)
    if state is not None:
        cell.has(server, volume, attachment, state)
    cell.client.begin_detaching(volume)
    cell.sweep(later=False)
    assert cell.status(volume) == "detaching"
    cell.away = True
    cell.sweep()
    assert cell.status(volume) == "detaching"
    cell.away = False
    cell.sweep()
    assert cell.status(volume) == left
