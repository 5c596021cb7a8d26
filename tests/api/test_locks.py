"""A locked server: who may do what is Nova's, for every action and change that there is."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.api.world import DEMO, IMAGE, NETWORK, World
from top_api.routes.server_actions import actions

LOCKERS = {"owner": "member", "admin": "admin"}
METADATA = {"metadata": {"a": "c"}}
PORTS = "/os-interface"
VOLUMES, VOLUME, HELD = "/os-volume_attachments", str(uuid.UUID(int=21)), str(uuid.UUID(int=22))
# Source: which calls of Nova's compute API ask for the lock.
CALLS: dict[str, tuple[str, str, Any, bool]] = {
    "delete": ("DELETE", "", None, True),
    "os-start": ("POST", "/action", {"os-start": None}, True),
    "os-stop": ("POST", "/action", {"os-stop": None}, True),
    "reboot": ("POST", "/action", {"reboot": {"type": "HARD"}}, True),
    "pause": ("POST", "/action", {"pause": None}, True),
    "unpause": ("POST", "/action", {"unpause": None}, True),
    "suspend": ("POST", "/action", {"suspend": None}, True),
    "resume": ("POST", "/action", {"resume": None}, True),
    "rebuild": ("POST", "/action", {"rebuild": {"imageRef": IMAGE}}, True),
    "shelve": ("POST", "/action", {"shelve": None}, True),
    "unshelve": ("POST", "/action", {"unshelve": None}, True),
    "rescue": ("POST", "/action", {"rescue": None}, True),
    "unrescue": ("POST", "/action", {"unrescue": None}, True),
    "createImage": ("POST", "/action", {"createImage": {"name": "i"}}, False),
    "createBackup": ("POST", "/action", {"createBackup": {"name": "i", "backup_type": "b", "rotation": 1}}, False),
    "restore": ("POST", "/action", {"restore": None}, True),
    "forceDelete": ("POST", "/action", {"forceDelete": None}, True),
    "changePassword": ("POST", "/action", {"changePassword": {"adminPass": "x"}}, True),
    "resize": ("POST", "/action", {"resize": {"flavorRef": "2"}}, True),
    "confirmResize": ("POST", "/action", {"confirmResize": None}, True),
    "revertResize": ("POST", "/action", {"revertResize": None}, True),
    "set metadata": ("POST", "/metadata", METADATA, True),
    "replace metadata": ("PUT", "/metadata", METADATA, True),
    "set an item": ("PUT", "/metadata/a", {"meta": {"a": "c"}}, True),
    "delete an item": ("DELETE", "/metadata/a", None, True),
    "attach": ("POST", VOLUMES, {"volumeAttachment": {"volumeId": VOLUME}}, True),
    "detach": ("DELETE", f"{VOLUMES}/{HELD}", None, True),
    "update a volume": ("PUT", f"{VOLUMES}/{HELD}", {"volumeAttachment": {"volumeId": HELD}}, False),
    "attach a port": ("POST", PORTS, {}, True),
    "detach a port": ("DELETE", f"{PORTS}/{HELD}", None, True),
    "addFixedIp": ("POST", "/action", {"addFixedIp": {"networkId": NETWORK}}, True),
    "removeFixedIp": ("POST", "/action", {"removeFixedIp": {"address": "203.0.113.1"}}, True),
    "set tags": ("PUT", "/tags", {"tags": ["a"]}, False),
    "update": ("PUT", "", {"server": {"name": "new"}}, False),
    "os-getConsoleOutput": ("POST", "/action", {"os-getConsoleOutput": {}}, False),
    "os-getSPICEConsole": ("POST", "/action", {"os-getSPICEConsole": {"type": "spice-html5"}}, False),
    "os-getSerialConsole": ("POST", "/action", {"os-getSerialConsole": {"type": "serial"}}, False),
    "injectNetworkInfo": ("POST", "/action", {"injectNetworkInfo": None}, False),
    "addFloatingIp": ("POST", "/action", {"addFloatingIp": {"address": "203.0.113.1"}}, False),
    "removeFloatingIp": ("POST", "/action", {"removeFloatingIp": {"address": "203.0.113.1"}}, False),
    "addSecurityGroup": ("POST", "/action", {"addSecurityGroup": {"name": "default"}}, False),
    "removeSecurityGroup": ("POST", "/action", {"removeSecurityGroup": {"name": "default"}}, False),
    "os-getVNCConsole": ("POST", "/action", {"os-getVNCConsole": {"type": "novnc"}}, False),
}
UNLOCKED = {
    "addFloatingIp": (400, 404),
    "removeFloatingIp": (404,),
    "addSecurityGroup": (400,),
    "removeSecurityGroup": (400,),
    "os-getSPICEConsole": (400,),
    "injectNetworkInfo": (403,),
}
"""What a member is answered otherwise than with success: for want of such a console, of ports, or of the right."""


# What the rule lets only administrators and managers do.
ADMINISTRATORS = {"migrate", "shelveOffload"}


def test_every_action_is_in_the_table() -> None:
    apart = {"lock", "unlock", "os-resetState", "trigger_crash_dump"} | ADMINISTRATORS
    assert actions.by_name.keys() - apart <= CALLS.keys()


@pytest.mark.parametrize("locker", LOCKERS)
@pytest.mark.parametrize("name", CALLS)
def test_what_a_lock_refuses(world: World, locker: str, name: str) -> None:
    method, path, body, refused = CALLS[name]
    server_id = world.create(metadata={"a": "b"})
    for volume_id in (VOLUME, HELD):
        world.volumes.add(volume_id, project_id=DEMO)
    world.post(f"/servers/{server_id}{VOLUMES}", {"volumeAttachment": {"volumeId": HELD}})
    assert world.post(f"/servers/{server_id}/action", {"lock": None}, token=LOCKERS[locker]).status_code == 202
    version = {"set tags": "2.26", "update a volume": "2.85"}.get(name)
    answer = world.call(method, f"/servers/{server_id}{path}", body, version=version)
    if not refused:
        assert "is locked" not in answer.text
        assert answer.status_code in UNLOCKED.get(name, (200, 202)), answer.text
        return
    assert answer.status_code == 409, answer.text
    assert answer.get_json()["conflictingRequest"]["message"] == f"Instance {server_id} is locked"
    answer = world.call(method, f"/servers/{server_id}{path}", body, token="admin")
    assert answer.status_code in (200, 202, 204) or "is locked" not in answer.text


@pytest.mark.parametrize(
    ("locker", "unlocker", "status"),
    [
        ("member", "member", 202),
        ("member", "admin", 202),
        ("admin", "admin", 202),
        ("admin", "member", 403),
        ("admin", "reader", 403),
        ("member", "other", 404),
    ],
)
def test_who_unlocks(world: World, locker: str, unlocker: str, status: int) -> None:
    server_id = world.create()
    path = f"/servers/{server_id}/action"
    assert world.post(path, {"lock": {"locked_reason": "because"}}, token=locker, version="2.73").status_code == 202
    assert world.post(path, {"lock": None}, token="member").status_code == 202  # takes nothing over
    assert world.post(path, {"unlock": None}, token=unlocker).status_code == status
    shown = world.get(f"/servers/{server_id}", version="2.73").get_json()["server"]
    assert (shown["locked"], shown["locked_reason"]) == ((False, None) if status == 202 else (True, "because"))
    assert world.call("DELETE", f"/servers/{server_id}").status_code == (204 if status == 202 else 409)


def test_an_administrator_takes_a_lock_over(world: World) -> None:
    server_id = world.create()
    path = f"/servers/{server_id}/action"
    for token in ("member", "admin"):
        assert world.post(path, {"lock": None}, token=token).status_code == 202
    assert world.post(path, {"unlock": None}).status_code == 403
    assert world.post(path, {"unlock": None}, token="admin").status_code == 202
    assert world.call("DELETE", f"/servers/{server_id}").status_code == 204
