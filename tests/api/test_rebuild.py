"""Rebuilds as the API accepts, answers and refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from cellcloud.model.image import Image
from cellcloud.server_states import TaskState, VmState
from tests.api.world import BIG_IMAGE, IMAGE, QUEUED_IMAGE, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGSXS8dJ/0bBcHAGQbbMXNbHMrFbOfVTQrqf5hPCN+kk me@here"
OTHER_IMAGE, NUMA_IMAGE = (f"00000000-0000-0000-0000-00000000000{number}" for number in (8, 9))


@pytest.fixture
def server_id(world: World) -> str:
    world.images.images |= {
        OTHER_IMAGE: Image(id=OTHER_IMAGE, name="other", size=1, properties={"os_distro": "x"}),
        NUMA_IMAGE: Image(id=NUMA_IMAGE, properties={"hw_numa_nodes": "1"}),
    }
    return world.create(metadata={"old": "1"}, config_drive=True, user_data="b2xk")


def rebuild(world: World, server_id: str, version: str = "2.1", token: str = "member", **given: Any) -> Any:
    body = {"rebuild": {"imageRef": OTHER_IMAGE, **given}}
    return world.post(f"/servers/{server_id}/action", body, version=version, token=token)


def changes_of(world: World, server_id: str) -> dict[str, Any]:
    """What the cell was told to change."""
    found = world.cell_of(server_id).arguments["spec_changes"]
    assert isinstance(found, dict)
    return found


def test_the_answer_is_the_server_as_it_is_going_to_be(world: World, server_id: str) -> None:
    world.cell_of(server_id).slow = True
    answer = rebuild(world, server_id, name="new", metadata={"new": "2"}, accessIPv4="192.0.2.1", adminPass="secret")
    assert (answer.status_code, answer.headers["Location"]) == (202, f"http://localhost/v2.1/servers/{server_id}")
    shown = answer.get_json()["server"]
    assert (shown["id"], shown["name"], shown["metadata"]) == (server_id, "new", {"new": "2"})
    assert (shown["image"]["id"], shown["accessIPv4"], shown["adminPass"]) == (OTHER_IMAGE, "192.0.2.1", "secret")
    assert (shown["status"], shown["progress"]) == ("REBUILD", 0)
    assert not {"key_name", "user_data", "OS-EXT-STS:task_state", "locked"} & shown.keys()
    seen = world.get(f"/servers/{server_id}").get_json()["server"]
    assert (seen["status"], seen["OS-EXT-STS:task_state"]) == ("REBUILD", TaskState.REBUILDING)
    assert [one["id"] for one in world.get("/servers?status=REBUILD").get_json()["servers"]] == [server_id]
    changes = changes_of(world, server_id)
    assert (changes["name"], changes["image"]["id"], changes["admin_pass"]) == ("new", OTHER_IMAGE, "secret")
    assert changes.keys() == {"name", "image", "admin_pass", "metadata", "access_ip_v4"}


@pytest.mark.parametrize(
    ("version", "there", "missing"),
    [
        ("2.53", {"locked", "description", "tags"}, {"key_name", "user_data"}),
        ("2.54", {"key_name"}, {"user_data", "trusted_image_certificates"}),
        ("2.57", {"key_name", "user_data"}, {"trusted_image_certificates"}),
        ("2.74", {"server_groups", "locked_reason"}, {"OS-EXT-STS:task_state", "config_drive", "security_groups"}),
        ("2.75", {"OS-EXT-STS:task_state", "config_drive", "security_groups"}, {"OS-EXT-SRV-ATTR:user_data"}),
        ("2.100", {"OS-EXT-SRV-ATTR:hostname", "scheduler_hints"}, {"OS-EXT-SRV-ATTR:user_data"}),
    ],
)
def test_the_answers_fields_are_the_microversions(
    world: World, server_id: str, version: str, there: set[str], missing: set[str]
) -> None:
    for token in ("member", "admin"):
        shown = rebuild(world, server_id, version, token=token, imageRef=IMAGE).get_json()["server"]
        assert there | {"adminPass"} <= shown.keys()
        assert not missing & shown.keys()
        assert shown.get("user_data", "b2xk") == "b2xk"


def test_what_may_be_given_by_microversion(world: World, server_id: str) -> None:
    world.post("/os-keypairs", {"keypair": {"name": "k", "public_key": KEY}})
    cases: list[tuple[int, dict[str, Any], str | None]] = [
        (19, {"description": "d"}, "description"),
        (54, {"key_name": "k"}, "keypair"),
        (54, {"key_name": None}, "keypair"),
        (57, {"user_data": "bmV3"}, "user_data"),
        (57, {"user_data": None}, "user_data"),
        (63, {"trusted_image_certificates": None}, None),
        (90, {"hostname": "host"}, "hostname"),
        (94, {"hostname": "host.example.org"}, "hostname"),
    ]
    for minor, given, field in cases:
        assert rebuild(world, server_id, f"2.{minor - 1}", **given).status_code == 400, given
        answer = rebuild(world, server_id, f"2.{minor}", **given)
        assert answer.status_code == 202, answer.text
        changes = changes_of(world, server_id)
        assert changes.keys() - {"image", "admin_pass"} == ({field} if field else set())
        if field == "user_data":
            assert answer.get_json()["server"]["user_data"] == given["user_data"]
    assert rebuild(world, server_id, "2.56", personality=[]).status_code == 202
    assert rebuild(world, server_id, "2.57", personality=[]).status_code == 400
    assert rebuild(world, server_id, preserve_ephemeral="true").status_code == 202
    assert world.cell_of(server_id).arguments["keep_ephemeral"] is True


def test_what_is_refused(world: World, server_id: str) -> None:
    refused: list[tuple[str, dict[str, Any], int]] = [
        ("2.1", {"imageRef": "00000000-0000-0000-0000-00000000ffff"}, 400),
        ("2.1", {"imageRef": "no-uuid"}, 400),
        ("2.1", {"imageRef": BIG_IMAGE}, 400),
        ("2.1", {"imageRef": QUEUED_IMAGE}, 400),
        ("2.1", {"imageRef": NUMA_IMAGE}, 400),
        ("2.1", {"name": ""}, 400),
        ("2.1", {"metadata": {f"k{number}": "v" for number in range(129)}}, 403),
        ("2.1", {"personality": [{"path": "/a", "contents": "eA=="}]}, 403),
        ("2.54", {"key_name": "nobodys"}, 400),
        ("2.57", {"user_data": "no base64!"}, 400),
        ("2.63", {"trusted_image_certificates": ["c"]}, 400),
        ("2.90", {"hostname": "with space"}, 400),
    ]
    for version, given, status in refused:
        answer = rebuild(world, server_id, version, **given)
        assert answer.status_code == status, (given, answer.text)
    assert world.post(f"/servers/{server_id}/action", {"rebuild": {}}).status_code == 400
    assert world.cell_of(server_id).arguments == {}
    for token, status in (("other", 404), ("reader", 403)):
        assert rebuild(world, server_id, token=token).status_code == status


def test_a_server_in_error_is_rebuilt(world: World, server_id: str) -> None:
    cell = world.cell_of(server_id)
    cell.change(server_id, vm_state=VmState.ERROR)
    assert rebuild(world, server_id, imageRef=IMAGE).status_code == 202
