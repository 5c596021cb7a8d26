"""Volumes of servers at the API: what is answered, what is refused, and that nothing refused holds a volume."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from cellcloud import errors
from cellcloud.server_states import VmState
from tests.api.world import DEMO, OTHER, World
from top_api.operations.server_in_cell import save_answer

UNKNOWN = str(uuid.UUID(int=77))
NEWEST = "2.100"


def attach(
    world: World, server_id: str, volume_id: str, *, version: str = NEWEST, token: str = "member", **more: Any
) -> Any:
    body = {"volumeAttachment": {"volumeId": volume_id, **more}}
    return world.post(f"/servers/{server_id}/os-volume_attachments", body, version=version)


def at(server_id: str, volume_id: str = "") -> str:
    return f"/servers/{server_id}/os-volume_attachments" + (f"/{volume_id}" if volume_id else "")


def volume(world: World, **values: Any) -> str:
    return world.volumes.add(**({"project_id": DEMO} | values)).id


SHOWN = {
    "2.1": {"id", "volumeId", "serverId", "device"},
    "2.70": {"id", "volumeId", "serverId", "device", "tag"},
    "2.79": {"id", "volumeId", "serverId", "device", "tag", "delete_on_termination"},
    "2.89": {"volumeId", "serverId", "device", "tag", "delete_on_termination", "attachment_id", "bdm_uuid"},
}


def test_attached_shown_and_detached(world: World) -> None:
    server_id, first, second = world.create(), volume(world), volume(world)
    made = attach(world, server_id, first, tag="data", delete_on_termination=True).get_json()["volumeAttachment"]
    assert made == {
        "id": first,
        "volumeId": first,
        "serverId": server_id,
        "device": "/dev/vdb",
        "tag": "data",
        "delete_on_termination": True,
    }
    assert attach(world, server_id, second, version="2.1", device="/dev/vdz").get_json()["volumeAttachment"] == {
        "id": second,
        "volumeId": second,
        "serverId": server_id,
        "device": "/dev/vdc",
    }
    assert {one.status for one in world.volumes.volumes.values()} == {"in-use"}
    for version, fields in SHOWN.items():
        listed = world.get(at(server_id), version=version).get_json()["volumeAttachments"]
        assert [one["volumeId"] for one in listed] == [first, second]
        assert set(listed[0]) == fields
        assert world.get(at(server_id, first), version=version).get_json()["volumeAttachment"] == listed[0]
    page = world.get(at(server_id) + "?limit=1&offset=1").get_json()["volumeAttachments"]
    assert [one["volumeId"] for one in page] == [second]
    shown = world.get(f"/servers/{server_id}", version="2.3").get_json()["server"]
    assert shown["os-extended-volumes:volumes_attached"] == [
        {"id": first, "delete_on_termination": True},
        {"id": second, "delete_on_termination": False},
    ]
    assert world.call("DELETE", at(server_id, first)).status_code == 202
    assert world.get(at(server_id, first)).status_code == 404
    assert world.volumes.volumes[first].status == "available"


def test_what_is_attached_is_told_to_be_deleted_with_its_server(world: World) -> None:
    server_id, known = world.create(), volume(world)
    attach(world, server_id, known, tag="data")
    same = {"volumeId": known, "id": known, "serverId": server_id, "device": "/dev/vdb", "tag": "data"}

    def put(version: str = "2.85", **values: Any) -> int:
        body = {"volumeAttachment": {"volumeId": known, **values}}
        return world.call("PUT", at(server_id, known), body, version=version).status_code

    assert put(**same, delete_on_termination=True) == 202
    assert world.get(at(server_id, known), version="2.79").get_json()["volumeAttachment"]["delete_on_termination"]
    for name, other in (("id", UNKNOWN), ("serverId", UNKNOWN), ("device", "/dev/vdz"), ("tag", "other")):
        assert put(**{name: other}) == 400
    assert put("2.84", delete_on_termination=True) == 400
    assert put("2.84") == 403, "only the volume service may swap"
    body = {"volumeAttachment": {"volumeId": volume(world)}}
    answer = world.call("PUT", at(server_id, known), body, version="2.85", token="admin")
    assert (answer.status_code, "only be called by Cinder" in answer.text) == (409, True)


REFUSED: dict[str, tuple[dict[str, Any], str, int]] = {
    "another project's": ({"project_id": OTHER}, NEWEST, 404),
    "in use": ({"status": "in-use", "attached_to": (UNKNOWN,)}, NEWEST, 400),
    "in error": ({"status": "error"}, NEWEST, 400),
    "multiattach before 2.60": ({"multiattach": True}, "2.59", 400),
    "multiattach": ({"multiattach": True}, "2.60", 200),
    "encrypted": ({"encrypted": True}, NEWEST, 400),
    "of another cell": ({"cell": "nowhere"}, NEWEST, 400),
    "new in another cell": ({"cell": "nowhere", "follows": True}, NEWEST, 200),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_attached(world: World, name: str) -> None:
    values, version, status = REFUSED[name]
    server_id, known = world.create(), volume(world, **values)
    assert attach(world, server_id, known, version=version).status_code == status
    assert bool(world.volumes.attachments) == (status == 200)


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("POST", {"volumeAttachment": {"volumeId": UNKNOWN}}, 404),
        ("POST", {"volumeAttachment": {"volumeId": "x"}}, 400),
        ("POST", {"volumeAttachment": {"volumeId": UNKNOWN, "device": "sda"}}, 400),
        ("POST", {"volumeAttachment": {"volumeId": UNKNOWN, "tag": "a,b"}}, 400),
        ("POST", {"volumeAttachment": {}}, 400),
        ("PUT", {"volumeAttachment": {"volumeId": UNKNOWN}}, 404),
        ("DELETE", None, 404),
        ("GET", None, 404),
    ],
)
def test_bad_requests(world: World, method: str, body: Any, status: int) -> None:
    path = at(world.create(), "" if method == "POST" else UNKNOWN)
    assert world.call(method, path, body, version=NEWEST, token="admin").status_code == status


@pytest.mark.parametrize("state", sorted(set(VmState) - {VmState.DELETED}))
def test_the_states_of_servers_and_nothing_refused_holds_a_volume(world: World, state: VmState) -> None:
    server_id, held, free = world.create(), volume(world), volume(world)
    attach(world, server_id, held)
    world.cell_of(server_id).change(server_id, vm_state=state)
    _told(world, server_id)
    allowed = state in ("active", "paused", "stopped", "resized", "soft-delete", "shelved", "shelved_offloaded")
    answer = attach(world, server_id, free)
    assert answer.status_code == (200 if allowed else 409), answer.text
    assert world.volumes.volumes[free].status == ("in-use" if allowed else "available")
    detached = world.call("DELETE", at(server_id, held), version=NEWEST)
    assert detached.status_code == (202 if allowed else 409)
    assert world.volumes.volumes[held].status == ("available" if allowed else "in-use")
    if state in ("shelved", "shelved_offloaded"):
        assert attach(world, server_id, volume(world), version="2.19").status_code == 409


def _told(world: World, server_id: str) -> None:
    """The index has the server's newest copy."""
    cell = world.cell_of(server_id)
    save_answer(world.database, cell.servers[server_id], cell.name)


def test_one_of_many_that_want_a_volume_has_it(world: World) -> None:
    known, servers = volume(world), [world.create(f"vm{number}") for number in range(4)]
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: answers.append(attach(world, one, known).status_code))
        for one in servers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 400, 400, 400]
    assert len(world.volumes.attachments) == 1


def test_what_a_process_that_died_had_noted_is_taken_up(world: World) -> None:
    server_id, known = world.create(), volume(world)
    world.volumes.create_attachment(known, server_id)
    assert attach(world, server_id, known).status_code == 200
    assert len(world.volumes.attachments) == 1
    world.volumes.begin_detaching(known)
    assert world.call("DELETE", at(server_id, known)).status_code == 202
    assert world.volumes.volumes[known].status == "available"


def test_what_a_cell_has_begun_and_its_answer_was_lost_is_kept(world: World) -> None:
    server_id, known = world.create(), volume(world)
    world.cell_of(server_id).unheard = True
    assert attach(world, server_id, known).status_code == 503
    assert world.volumes.volumes[known].status == "in-use"
    assert len(world.volumes.attachments) == 1


def test_a_cell_that_does_not_answer_holds_no_volume(world: World) -> None:
    server_id, held, free = world.create(), volume(world), volume(world)
    attach(world, server_id, held)
    world.cell_of(server_id).away = True
    assert attach(world, server_id, free).status_code == 503
    assert world.call("DELETE", at(server_id, held)).status_code == 503
    assert world.volumes.volumes[free].status == "available"
    assert world.volumes.volumes[held].status == "in-use"


def test_without_a_volume_service_that_answers(world: World) -> None:
    server_id = world.create()
    world.volumes.refusal = errors.Unreachable("away")
    assert attach(world, server_id, UNKNOWN).status_code == 503
