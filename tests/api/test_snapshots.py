"""Images and backups of servers, as the API accepts and refuses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.db.image_schema import images
from cellcloud.embedded.image_contents import ImageLimits
from cellcloud.model.image import Image, ImageQuery
from cellcloud.server_states import TaskState, VmState
from tests.api.world import DEMO, IMAGE, World
from top_api.operations.server_in_cell import save_answer

BACKUP = {"name": "b", "backup_type": "daily", "rotation": 2}
ACTIONS = {"createImage": {"name": "i"}, "createBackup": BACKUP}


def act(world: World, server_id: str, body: dict[str, Any], **more: Any) -> Any:
    return world.post(f"/servers/{server_id}/action", body, **more)


def made(world: World, **query: Any) -> list[Image]:
    return world.images.search_images(ImageQuery(**query), project_id="", is_admin=True)


@pytest.mark.parametrize("action", ACTIONS)
def test_who_asks_is_told_which_image_it_will_be(world: World, action: str) -> None:
    server_id = world.create()
    answer = act(world, server_id, {action: ACTIONS[action]}, version="2.44")
    (first,) = made(world)
    url = {"createImage": "http://localhost/image/v2/images/", "createBackup": "http://localhost/v2.1/images/"}[action]
    assert (answer.status_code, answer.get_data(), answer.headers["Location"]) == (202, b"", url + first.id)
    answer = act(world, server_id, {action: ACTIONS[action]}, version="2.45")
    assert answer.status_code == 202
    assert "Location" not in answer.headers
    assert answer.get_json() == {"image_id": next(one.id for one in made(world) if one.id != first.id)}


def test_a_backup_of_which_none_is_kept_has_no_location(world: World) -> None:
    answer = act(world, world.create(), {"createBackup": {**BACKUP, "rotation": "0"}})
    assert (answer.status_code, "Location" in answer.headers) == (202, False)


def test_an_image_says_what_it_was_made_of(world: World) -> None:
    world.images.images[IMAGE] = Image(
        id=IMAGE, min_ram=64, properties={"hw_disk_bus": "scsi", "os_distro": "debian", "img_signature": "s"}
    )
    server_id = world.create()
    metadata = {"purpose": "test", "os_distro": "other", "instance_uuid": "another", "image_type": "test"}
    body = {"createImage": {"name": " snap ", "metadata": metadata}}
    assert act(world, server_id, body, version="2.1").status_code == 400
    body["createImage"]["name"] = "snap"
    assert act(world, server_id, body).status_code == 202
    (image,) = made(world)
    assert (image.name, image.status, image.owner, image.visibility) == ("snap", "queued", DEMO, "private")
    assert (image.disk_format, image.container_format, image.min_ram, image.min_disk) == ("qcow2", "bare", 64, 1)
    assert image.properties == {
        "hw_disk_bus": "scsi",
        "os_distro": "other",
        "purpose": "test",
        "image_type": "test",
        "instance_uuid": server_id,
        "user_id": "demo-user",
        "base_image_ref": IMAGE,
        "owner_id": DEMO,
        "image_location": "snapshot",
        "image_state": "available",
    }
    cell = world.cell_of(server_id)
    assert cell.arguments["image"]["id"] == image.id  # type: ignore[index]
    assert act(world, server_id, {"createBackup": BACKUP}).status_code == 202
    (backup,) = made(world, properties=(("backup_type", "daily"),))
    assert (backup.properties["image_type"], cell.arguments["rotation"]) == ("backup", 2)


def test_an_administrators_image_of_anothers_server_is_both_theirs(world: World) -> None:
    server_id = world.create()
    image_id = act(world, server_id, {"createImage": {"name": "i"}}, token="admin", version="2.45").get_json()[
        "image_id"
    ]
    (image,) = made(world)
    assert (image.owner, image.visibility, image.properties["instance_owner"]) == ("a" * 32, "shared", DEMO)
    assert world.get(f"/images/{image_id}").status_code == 200
    assert world.get(f"/images/{image_id}", token="other").status_code == 404


@pytest.mark.parametrize("action", [*ACTIONS, "shelve"])
@pytest.mark.parametrize(
    ("properties", "running", "quiet"),
    [
        ({"os_require_quiesce": "yes"}, True, False),
        ({"os_require_quiesce": "yes"}, False, True),
        ({"os_require_quiesce": "yes", "hw_qemu_guest_agent": "yes"}, True, True),
        ({}, True, True),
    ],
)
def test_a_guest_that_cannot_be_at_rest_for_its_image_is_refused_at_once(
    world: World, action: str, properties: dict[str, str], running: bool, quiet: bool
) -> None:
    """A shelved one is stopped first."""
    world.images.images[IMAGE] = replace(world.images.images[IMAGE], properties=properties)
    server_id = world.create()
    if not running:
        act(world, server_id, {"os-stop": None})
    answer = act(world, server_id, {action: ACTIONS.get(action)})
    served = quiet or action == "shelve"
    assert answer.status_code == (202 if served else 409), answer.text
    assert len(made(world)) == served
    assert served or answer.get_json()["conflictingRequest"]["message"] == (
        f"Quiescing is not supported in instance {server_id}"
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_refused_leaves_no_image(world: World, action: str) -> None:
    server_id, given = world.create(), ACTIONS[action]
    cell = world.cell_of(server_id)
    for wrong in (
        {},
        {**given, "name": ""},
        {**given, "name": "n" * 256},
        {**given, "more": 1},
        {**given, "metadata": {"a": 1}},
    ):
        assert act(world, server_id, {action: wrong}).status_code == 400, wrong
    assert act(world, server_id, {action: {**given, "metadata": {"status": "x"}}}).status_code == 400
    many = {f"k{number}": "v" for number in range(129)}
    answer = act(world, server_id, {action: {**given, "metadata": many}}, version="2.38")
    assert (answer.status_code, answer.get_json()["forbidden"]["message"]) == (403, "Image metadata limit exceeded")
    assert act(world, server_id, {action: given}, token="other").status_code == 404
    assert act(world, server_id, {action: given}, token="reader").status_code == 403
    cell.slow = True
    assert act(world, server_id, {"os-stop": None}).status_code == 202
    answer = act(world, server_id, {action: given})
    message = f"Cannot '{action}' instance {server_id} while it is in task_state {TaskState.POWERING_OFF}"
    assert (answer.status_code, answer.get_json()["conflictingRequest"]["message"]) == (409, message)
    assert made(world) == []


@pytest.mark.parametrize("action", [*ACTIONS, "shelve"])
@pytest.mark.parametrize(
    ("error", "status", "kept"),
    [
        (errors.Unreachable, 503, True),
        (errors.DeadlineExceeded, 503, True),
        (errors.Busy, 503, True),
        (errors.CallHuman, 500, True),
        (errors.Conflict, 409, False),
        (errors.NotFound, 404, False),
    ],
)
def test_an_image_is_taken_back_only_where_the_cell_refuses(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    error: type[errors.CellcloudError],
    status: int,
    kept: bool,
) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    begin = cell.begin_operation

    def lose_the_answer(*asked: Any) -> Any:
        if kept:
            begin(*asked)
        raise error("no")

    monkeypatch.setattr(cell, "begin_operation", lose_the_answer)
    assert act(world, server_id, {action: ACTIONS.get(action)}).status_code == status
    assert bool(made(world)) == kept
    if kept:
        assert [image.id for image in made(world)] == [cell.arguments["image"]["id"]]  # type: ignore[index]


@pytest.mark.parametrize("action", [*ACTIONS, "shelve"])
def test_no_image_is_made_for_a_cell_that_is_known_to_be_away(world: World, action: str) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    cell.away = True
    for _ in range(20):
        if not world.cells.is_unreachable(cell.name):
            assert act(world, server_id, {"os-stop": None}).status_code == 503
    calls = cell.calls
    assert act(world, server_id, {action: ACTIONS.get(action)}).status_code == 503
    assert (cell.calls, made(world)) == (calls, [])
    world.heal(cell)
    assert act(world, server_id, {action: ACTIONS.get(action)}).status_code == 202
    assert len(made(world)) == 1


@pytest.mark.parametrize("accepted", [True, False])
def test_a_server_that_was_shelved_and_reset_has_one_image_when_it_is_shelved_again(
    world: World, accepted: bool
) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    assert act(world, server_id, {"shelve": None}).status_code == 202
    (first,) = made(world)
    task = None if accepted else TaskState.POWERING_OFF
    reset = replace(cell.servers[server_id].spec, shelved_image=first)
    changed = cell.change(server_id, vm_state=VmState.ACTIVE, task_state=task, spec=reset)
    save_answer(world.database, changed, cell.name)
    assert act(world, server_id, {"shelve": None}).status_code == (202 if accepted else 409)
    assert len(made(world)) == 1
    assert (made(world) != [first]) == accepted


def test_many_properties_are_the_image_services_business_from_2_39_on(world: World) -> None:
    body = {"createImage": {"name": "i", "metadata": {f"k{number}": "v" for number in range(129)}}}
    assert act(world, world.create(), body, version="2.39").status_code == 202


@pytest.mark.parametrize(
    "wrong", [{"rotation": -1}, {"rotation": "x"}, {"backup_type": None}, {"backup_type": "b" * 256}]
)
def test_backups_that_are_none(world: World, wrong: dict[str, Any]) -> None:
    assert act(world, world.create(), {"createBackup": BACKUP | wrong}).status_code == 400
    assert made(world) == []


@pytest.mark.parametrize("limits", [ImageLimits(count=1), ImageLimits(size=1)])
def test_a_project_has_no_more_images_than_it_may(top_database: Database, tmp_path: Path, limits: ImageLimits) -> None:
    world = World(top_database, tmp_path)
    world.images._limits = limits
    server_id = world.create()
    assert act(world, server_id, {"createImage": {"name": "i"}}).status_code == 202
    first = made(world)[0].id
    if limits.size > 0:
        with world.database.write() as c:
            c.execute(images.update().where(images.c.id == first).values(size=1))
    again = replace(world.images.get_image(first, project_id="", is_admin=True), size=0)
    assert world.images.ensure_image(again).id == first, "the one that it made is no second one"
    answer = act(world, server_id, {"createImage": {"name": "i"}})
    assert answer.status_code == 403
    assert len(made(world)) == 1
    world.close()
