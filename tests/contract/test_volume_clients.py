"""What conductors and the Compute API ask of the volume service: of the embedded one in process, and over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from cellcloud import errors
from cellcloud.clients.cinder import CinderClient
from cellcloud.clients.volume import VolumeClient, out_of_reach
from cellcloud.db import server_index
from cellcloud.db.engine import transact
from cellcloud.embedded.volume.client import EmbeddedVolumes
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import NewVolume, Volume
from cellcloud.server_states import VmState
from tests.embedded_cloud import serving
from tests.volume_world import VolumeWorld
from tests.workflows.world import make_spec

NOWHERE = "00000000-0000-4000-8000-ffffffffffff"


@dataclass(frozen=True)
class Volumes:
    """A client of a service whose volumes lie in two cells, and what the router does."""

    world: VolumeWorld
    client: VolumeClient

    @property
    def project(self) -> str:
        return self.world.cloud.project("demo")

    def wanted(self, mark: str = "server/0", **values: object) -> NewVolume:
        given: dict[str, object] = {"mark": mark, "project_id": self.project, "user_id": "u", "size_gb": 1}
        return NewVolume(**(given | values))  # type: ignore[arg-type]

    def make(self, mark: str = "server/0", **values: object) -> Volume:
        made = self.client.ensure_volume(self.wanted(mark, **values))
        self.world.settle()
        return self.client.get_volume(made.id)

    def server(self, cell: str) -> str:
        """One that the index has in that cell."""
        made = str(uuid.uuid4())
        record = ServerRecord(spec=make_spec(made), cell=cell, version=1, generation=1, vm_state=VmState.ACTIVE)
        transact(self.world.database, lambda c: server_index.upsert(c, [record], adopt=True))
        return made

    def status(self, volume_id: str) -> str:
        return self.client.get_volume(volume_id).status


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumeWorld]:
    world = VolumeWorld(tmp_path_factory.mktemp("volumes"))
    yield world
    world.close()


@pytest.fixture(scope="module")
def over_http(world: VolumeWorld) -> Iterator[CinderClient]:
    """Cinder's adapter. Volumes are made in sessions of their projects, where its account has a role by its domain."""
    with serving(world.cloud) as settings:
        yield CinderClient.from_config(settings)


@pytest.fixture(params=["embedded", "http"])
def volumes(request: pytest.FixtureRequest, world: VolumeWorld) -> Iterator[Volumes]:
    world.add_cell("west")
    if request.param == "embedded":
        yield Volumes(world, EmbeddedVolumes(world.service))
    else:
        yield Volumes(world, request.getfixturevalue("over_http"))
    world.empty()


def test_a_volume_as_it_is(volumes: Volumes) -> None:
    made = volumes.make(name="data", size_gb=2)
    wanted = Volume(
        id=made.id,
        status="available",
        size_gb=2,
        project_id=volumes.project,
        name="data",
        availability_zone="nova",
        volume_type="__DEFAULT__",
        cell="east",
        follows=True,
    )
    assert replace(made, created_at="", metadata={}) == wanted
    assert made.created_at
    assert volumes.client.get_volume(made.id, project_id=volumes.project, is_admin=False) == made
    assert volumes.make("another", cell="west").cell == "west"
    for volume_id, project in ((made.id, "another"), (NOWHERE, volumes.project), ("..", volumes.project), ("", "p")):
        with pytest.raises(errors.NotFound, match=f"Volume {volume_id} could not be found"):
            volumes.client.get_volume(volume_id, project_id=project, is_admin=False)


def test_what_is_made_for_a_server_is_made_once(volumes: Volumes) -> None:
    client = volumes.client
    assert client.find_volume("server/0", project_id=volumes.project) is None
    made = volumes.make()
    assert volumes.make().id == made.id
    found = client.find_volume("server/0", project_id=volumes.project)
    assert found == client.get_volume(made.id)
    assert client.find_volume("server/1", project_id=volumes.project) is None
    snapshot = client.ensure_snapshot(made.id, mark="s", name="photo")
    assert client.ensure_snapshot(made.id, mark="s", name="photo").id == snapshot.id
    known = [client.find_snapshot(mark, volume_id=made.id) for mark in ("s", "t")]
    assert [one and one.id for one in known] == [snapshot.id, None]
    with pytest.raises(errors.Invalid):
        client.reimage_volume(made.id, NOWHERE)
    volumes.world.settle()
    shown = client.get_snapshot(snapshot.id, project_id=volumes.project, is_admin=False)
    assert (shown.status, shown.volume_id, shown.size_gb, shown.name) == ("available", made.id, 1, "photo")
    copy = volumes.make("server/2", size_gb=0, snapshot_id=snapshot.id)
    assert (copy.status, copy.snapshot_id, copy.size_gb, copy.follows) == ("available", snapshot.id, 1, False)
    with pytest.raises(errors.Invalid):  # it has a snapshot
        client.delete_volume(made.id)
    for _ in range(2):
        client.delete_snapshot(snapshot.id)
        volumes.world.settle()
    for volume_id in (made.id, made.id, copy.id):
        client.delete_volume(volume_id)
        volumes.world.settle()
    with pytest.raises(errors.NotFound):
        client.get_snapshot(snapshot.id)
    assert volumes.world.held() == {}


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"snapshot_id": NOWHERE}, errors.NotFound),
        ({"source_volume_id": NOWHERE}, errors.NotFound),
        ({"image_id": NOWHERE}, errors.Invalid),
        ({"availability_zone": "mars"}, errors.Invalid),
        ({"size_gb": 1 << 19}, errors.QuotaExceeded),
    ],
)
def test_a_volume_that_cannot_be_made(
    volumes: Volumes, given: dict[str, object], refused: type[errors.CellcloudError]
) -> None:
    with pytest.raises(refused):
        volumes.client.ensure_volume(volumes.wanted(**given))
    assert volumes.client.find_volume("server/0", project_id=volumes.project) is None


def test_an_attachment_from_its_first_moment_to_its_last(volumes: Volumes) -> None:
    client, made, server = volumes.client, volumes.make().id, volumes.server("east")
    attachment = client.create_attachment(made, server)
    assert client.create_attachment(made, server) == attachment
    assert volumes.status(made) == "reserved"
    with pytest.raises((errors.Invalid, errors.Conflict)):
        client.create_attachment(made, volumes.server("east"))
    first = client.update_attachment(attachment, {"host": "h1"})
    again = client.update_attachment(attachment, {"host": "h1"})
    moved = client.update_attachment(attachment, {"host": "h2"})
    assert first["driver_volume_type"] == "nbd"
    assert first["data"]["export"] == again["data"]["export"] != moved["data"]["export"]
    assert moved["data"]["socket"]
    for _ in range(2):
        client.complete_attachment(attachment)
    assert (volumes.status(made), client.get_volume(made).attached_to) == ("in-use", (server,))
    assert not client.get_volume(made).follows
    assert list(client.list_attachments(server)) == [(attachment, made)]
    with pytest.raises((errors.Invalid, errors.Conflict)):
        client.delete_volume(made)
    client.begin_detaching(made)
    assert volumes.status(made) == "detaching"
    with pytest.raises(errors.Invalid):
        client.begin_detaching(made)
    for _ in range(2):
        client.roll_detaching(made)
    assert volumes.status(made) == "in-use"
    for _ in range(2):
        client.delete_attachment(attachment)
        volumes.world.settle()
    assert (volumes.status(made), list(client.list_attachments(server))) == ("available", [])
    assert volumes.world.exporter.list_serving() == []
    with pytest.raises(errors.Invalid):
        client.begin_detaching(made)
    client.roll_detaching(made)


def test_what_is_not_there_is_not_found(volumes: Volumes) -> None:
    client = volumes.client
    client.delete_volume(NOWHERE)
    client.delete_snapshot(NOWHERE)
    client.delete_attachment(NOWHERE)
    client.roll_detaching(NOWHERE)
    assert list(client.list_attachments(NOWHERE)) == []
    for ask in (
        lambda: client.get_snapshot(NOWHERE),
        lambda: client.ensure_snapshot(NOWHERE, mark="m", name="n"),
        lambda: client.create_attachment(NOWHERE, NOWHERE),
        lambda: client.update_attachment(NOWHERE, {"host": "h1"}),
        lambda: client.complete_attachment(NOWHERE),
        lambda: client.begin_detaching(NOWHERE),
    ):
        with pytest.raises(errors.NotFound):
            ask()


def test_a_new_volume_follows_its_first_server(volumes: Volumes) -> None:
    """One that was used stays, and so does one that was asked for where it is."""
    client, made = volumes.client, volumes.make().id
    assert (client.get_volume(made).cell, client.get_volume(made).follows) == ("east", True)
    attachment = client.create_attachment(made, volumes.server("west"))
    client.update_attachment(attachment, {"host": "h1"})
    client.complete_attachment(attachment)
    assert (client.get_volume(made).cell, client.get_volume(made).follows) == ("west", False)
    client.delete_attachment(attachment)
    volumes.world.settle()
    for stays, cell in ((made, "east"), (volumes.make("placed", cell="east").id, "west")):
        with pytest.raises(errors.Invalid) as told:
            client.create_attachment(stays, volumes.server(cell))
        assert told.value.message == out_of_reach(stays)
        assert volumes.status(stays) == "available"


def test_a_volume_of_cells_in_one_process_is_reached_everywhere(volumes: Volumes) -> None:
    with volumes.world.database.engine.begin() as c:
        c.exec_driver_sql("UPDATE cells SET transport_url = 'kombu+memory://'")
    made = volumes.make()
    assert (made.cell, made.follows) == ("", False)


def test_what_a_project_has_is_listed_in_pages(volumes: Volumes) -> None:
    client = volumes.client
    made = [volumes.make(f"server/{number}", name=f"v{number}").id for number in range(3)]
    pages = [client.list_volumes(volumes.project, offset=offset, limit=2) for offset in (0, 2, 4)]
    assert [len(page) for page in pages] == [2, 1, 0]
    assert sorted(one.id for page in pages for one in page) == sorted(made)
    snapshot = client.ensure_snapshot(made[0], mark="", name="s", description="of one").id
    shown = client.list_snapshots(volumes.project, offset=0, limit=2)
    assert [(one.id, one.name, one.description) for one in shown] == [(snapshot, "s", "of one")]
    assert list(client.list_volumes(volumes.world.cloud.project("admin"), offset=0, limit=2)) == []
