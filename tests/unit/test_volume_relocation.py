"""New volumes follow their first server to its cell: whatever is lost or late, there is one of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import server_index, volume_attachments
from cellcloud.db import volumes as db
from cellcloud.db.engine import transact
from cellcloud.embedded.volume import attachments, reservations, snapshots, volumes
from cellcloud.embedded.volume.client import EmbeddedVolumes
from cellcloud.embedded.volume.service import VolumeViewer
from cellcloud.embedded.volume.volumes import VolumeRequest
from cellcloud.model.block_storage import GIB, BlockVolume
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import AttachedVolume
from cellcloud.server_states import VmState
from tests.volume_world import OtherCell, VolumeWorld
from tests.workflows.world import make_spec
from top_api.operations import volume_audit


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumeWorld]:
    world = VolumeWorld(tmp_path_factory.mktemp("volumes"))
    yield world
    world.close()


@pytest.fixture
def world(built: VolumeWorld) -> Iterator[VolumeWorld]:
    """Two cells, each with a volume service; new volumes are made in the first one, which has more room."""
    built.add_cell("west")
    yield built
    built.empty()


def west(world: VolumeWorld) -> OtherCell:
    other = world.others["west"].world
    assert isinstance(other, OtherCell)
    return other


def viewer(world: VolumeWorld) -> VolumeViewer:
    return VolumeViewer(project_id=world.cloud.project("demo"), user_id="u")


def make(world: VolumeWorld, **wanted: object) -> str:
    request = VolumeRequest(**({"size": 1} | wanted))  # type: ignore[arg-type]
    made = volumes.create_volume(world.service, viewer(world), request).id
    world.settle()
    assert get(world, made).status == "available"
    return made


def get(world: VolumeWorld, volume_id: str) -> BlockVolume:
    with world.database.read() as c:
        return db.get_volume(c, volume_id)


def server(world: VolumeWorld, cell: str = "west", *held: AttachedVolume) -> str:
    made = str(uuid.uuid4())
    record = ServerRecord(
        spec=make_spec(made), cell=cell, version=1, generation=1, vm_state=VmState.ACTIVE, volumes=held
    )
    transact(world.database, lambda c: server_index.upsert(c, [record], adopt=True))
    return made


def client(world: VolumeWorld) -> EmbeddedVolumes:
    return EmbeddedVolumes(world.service)


def places(world: VolumeWorld) -> dict[str, set[str]]:
    """Cell -> what its volume service keeps, once nothing is left to do; the auditor has nothing to say."""
    world.settle()
    found = volume_audit.findings(world.service, service_context())
    assert [each.text for each in found if each.severity != "ok"] == []
    return {"east": set(world.held()), "west": west(world).held()}


def attach(world: VolumeWorld, volume_id: str, server_id: str) -> None:
    """As Compute does, up to the volume in use."""
    attachment = client(world).create_attachment(volume_id, server_id)
    client(world).update_attachment(attachment, {"host": "h1"})
    client(world).complete_attachment(attachment)


# ---- what follows --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("of_image", [False, True])
def test_a_new_volume_follows_its_server(world: VolumeWorld, of_image: bool) -> None:
    image = world.cloud.image(b"content" + bytes(1000), visibility="public") if of_image else None
    made = make(world, image_id=image.id if image else None)
    assert (get(world, made).cell, client(world).get_volume(made).follows) == ("east", True)
    attach(world, made, server(world))
    assert (get(world, made).cell, get(world, made).host, get(world, made).status) == ("west", "west", "in-use")
    assert not client(world).get_volume(made).follows
    assert places(world) == {"east": set(), "west": {made}}
    data = west(world).files.data(made)
    assert data.stat().st_size == GIB
    with data.open("rb") as file:
        assert file.read(7) == (b"content" if image else bytes(7))


def test_it_stays_where_it_is_for_a_server_that_reaches_it(world: VolumeWorld) -> None:
    made = make(world)
    attach(world, made, server(world, "east"))
    assert places(world) == {"east": {made}, "west": set()}


def test_it_follows_again_and_back_as_long_as_nobody_writes_to_it(world: VolumeWorld) -> None:
    made = make(world)
    for cell in ("west", "east", "west"):  # deletes of what was left are late, and come all together
        attachment = client(world).create_attachment(made, server(world, cell))
        assert get(world, made).cell == cell
        client(world).delete_attachment(attachment)
    volumes.extend_volume(world.service, viewer(world), made, 2, attached=False)
    world.settle()
    attach(world, made, server(world, "east"))
    assert places(world) == {"east": {made}, "west": set()}
    assert world.files.data(made).stat().st_size == 2 * GIB


def test_it_is_deleted_wherever_it_was(world: VolumeWorld) -> None:
    made = make(world)
    client(world).delete_attachment(client(world).create_attachment(made, server(world)))
    client(world).delete_volume(made)
    assert places(world) == {"east": set(), "west": set()}


# ---- what stays ----------------------------------------------------------------------------------------------------
def _attached_before(world: VolumeWorld, made: str) -> None:
    for attachment, _ in client(world).list_attachments(_first(world, made)):
        client(world).delete_attachment(attachment)


def _first(world: VolumeWorld, made: str) -> str:
    first = server(world, "east")
    attach(world, made, first)
    return first


def _connected_before(world: VolumeWorld, made: str) -> None:
    reservations.initialize_connection(world.service, viewer(world), made, {"host": "h"})
    with world.database.read() as c:
        (left,) = volume_attachments.list_of(c, [made])[made]
    attachments.discard_attachment(world.service, left.id)


def _noted_before(world: VolumeWorld, made: str) -> None:
    reservations.attach(world.service, viewer(world), made, server_id=None, host="h", mountpoint="/dev/vdb", mode=None)
    reservations.detach(world.service, viewer(world), made, None)


def _with_a_snapshot(world: VolumeWorld, made: str) -> None:
    snapshots.create_snapshot(world.service, viewer(world), made)


def _being_copied(world: VolumeWorld, made: str) -> None:
    volumes.create_volume(world.service, viewer(world), VolumeRequest(size=1, source_volid=made))


def _west_is_full(world: VolumeWorld, made: str) -> None:
    with world.database.engine.begin() as c:
        c.exec_driver_sql("UPDATE volume_hosts SET free_gb = 0 WHERE cell = 'west'")


STAYS: dict[str, tuple[dict[str, str], Callable[[VolumeWorld, str], None]]] = {
    "attached before": ({}, _attached_before),
    "connected before": ({}, _connected_before),
    "noted as attached before": ({}, _noted_before),
    "with a snapshot": ({}, _with_a_snapshot),
    "being copied": ({}, _being_copied),
    "of a zone that was named": ({"availability_zone": "nova"}, lambda world, made: None),
    "of a cell that was named": ({"cell": "east"}, lambda world, made: None),
    "no room there": ({}, _west_is_full),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_is_refused_with_what_to_do(world: VolumeWorld, name: str) -> None:
    wanted, happen = STAYS[name]
    made = make(world, **wanted)
    happen(world, made)
    world.settle()
    before = places(world)
    with pytest.raises(errors.Invalid, match="Upload it to an image"):
        client(world).create_attachment(made, server(world))
    assert (get(world, made).status, get(world, made).cell) == ("available", "east")
    assert places(world) == before
    attach(world, made, server(world, "east"))


@pytest.mark.parametrize("state", ["deleted", "deactivated"])
def test_without_its_image_it_stays(world: VolumeWorld, state: str) -> None:
    image = world.cloud.image(b"content", visibility="public")
    made = make(world, image_id=image.id)
    if state == "deleted":
        world.cloud.images.discard_image(image.id)
    else:
        world.cloud.images.deactivate(image.id, project_id="", is_admin=True)
    with pytest.raises(errors.Invalid, match="Upload it to an image"):
        client(world).create_attachment(made, server(world))
    assert places(world) == {"east": {made}, "west": set()}


# ---- lost, late, raced ---------------------------------------------------------------------------------------------
def test_a_cell_that_does_not_answer_loses_nothing(world: VolumeWorld) -> None:
    made, wanted = make(world), server(world)
    west(world).away = True
    for _ in range(2):
        with pytest.raises(errors.Unreachable):
            client(world).create_attachment(made, wanted)
    assert (get(world, made).status, get(world, made).cell) == ("available", "east")
    west(world).away = False
    attach(world, made, wanted)
    assert places(world) == {"east": set(), "west": {made}}


def test_a_lost_answer_doubles_nothing(world: VolumeWorld) -> None:
    made, wanted = make(world), server(world)
    world.others["west"].lost = lambda verb: verb == "perform"
    with pytest.raises(errors.Unreachable):
        client(world).create_attachment(made, wanted)
    assert west(world).held() == {made}
    world.others["west"].lost = lambda verb: False
    generation = get(world, made).generation
    client(world).create_attachment(made, wanted)  # takes the copy that is there
    assert get(world, made).generation == generation + 1
    assert places(world) == {"east": set(), "west": {made}}


def test_a_copy_that_nobody_came_back_for_is_deleted(world: VolumeWorld) -> None:
    made, wanted = make(world), server(world)
    world.others["west"].lost = lambda verb: verb == "perform"
    with pytest.raises(errors.Unreachable):
        client(world).create_attachment(made, wanted)
    world.others["west"].lost = lambda verb: False
    assert places(world) == {"east": {made}, "west": set()}
    attach(world, made, wanted)
    assert places(world) == {"east": set(), "west": {made}}


def test_a_late_removal_leaves_a_newer_copy_alone(world: VolumeWorld) -> None:
    made, wanted = make(world), server(world)
    world.others["west"].lost = lambda verb: verb == "perform"
    with pytest.raises(errors.Unreachable):
        client(world).create_attachment(made, wanted)
    with world.database.read() as c:
        (old,) = db.list_task_ids(c) - {made}
        removal = db.find_held_task(c, old)
    assert removal is not None
    world.free()  # somebody takes it now, and is slow
    world.others["west"].lost = lambda verb: False
    attach(world, made, wanted)
    west(world).endpoint.perform(service_context(), [removal])
    assert places(world) == {"east": set(), "west": {made}}


def test_whoever_changes_it_meanwhile_is_not_overlooked(world: VolumeWorld) -> None:
    made, wanted = make(world), server(world)
    changed: list[str] = []

    def grow_once(verb: str) -> bool:
        if verb == "perform" and not changed:
            changed.append(verb)
            volumes.extend_volume(world.service, viewer(world), made, 2, attached=False)
            world.route()
        return False

    world.others["west"].lost = grow_once
    attach(world, made, wanted)
    assert get(world, made).size == 2
    assert places(world) == {"east": set(), "west": {made}}
    assert west(world).files.data(made).stat().st_size == 2 * GIB


@pytest.mark.parametrize("second", ["east", "west", "north"])
def test_of_two_servers_one_has_it(world: VolumeWorld, second: str) -> None:
    """The other one comes in while the first one's copy is made."""
    world.add_cell("north")
    made, wanted, rival = make(world), server(world), server(world, second)
    won: list[str] = []

    def come_in(verb: str) -> bool:
        if verb == "perform" and not won:
            won.append("")
            won[0] = client(world).create_attachment(made, rival)
        return False

    world.others["west"].lost = come_in
    with pytest.raises(errors.Invalid, match="status must be available"):
        client(world).create_attachment(made, wanted)
    assert client(world).list_attachments(rival) == [(won[0], made)]
    assert client(world).list_attachments(wanted) == []
    assert get(world, made).cell == second
    world.settle()
    there = {cell: made in other.world.held() for cell, other in world.others.items()}
    assert there | {"east": made in world.held()} == {each: each == second for each in ("east", "west", "north")}
