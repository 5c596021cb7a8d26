"""What may be asked of a server in each of its states, and the words of a refusal: Nova's, for every action."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from cellcloud.model.operations import TABLE, spec_of
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import PowerState, TaskState, VmState
from tests.api.test_server_operations import take_in
from tests.api.world import IMAGE, World
from tests.workflows.world import make_spec
from top_api.routes.server_actions import actions

ANY = frozenset(VmState) - {VmState.DELETED}
ACTIVE, STOPPED, PAUSED, SUSPENDED, RESCUED = (
    VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.RESCUED
)  # fmt: skip
ERROR, RESIZED, SHELVED, OFFLOADED = VmState.ERROR, VmState.RESIZED, VmState.SHELVED, VmState.SHELVED_OFFLOADED
IMAGED = (ACTIVE, STOPPED, PAUSED, SUSPENDED)
IDLE: frozenset[TaskState] = frozenset()
BUSY = frozenset(TaskState)
REBOOTED = frozenset({TaskState.REBOOTING, TaskState.REBOOTING_HARD, TaskState.RESUMING, TaskState.UNPAUSING,
                      TaskState.PAUSING, TaskState.SUSPENDING})  # fmt: skip
STATES = [state for state in VmState if state != VmState.DELETED]
OPERATIONS = {spec.action: spec for spec in TABLE if spec.action}
UNSEEN = (TaskState.DELETING, TaskState.MIGRATING)
METADATA = {"metadata": {"a": "c"}}

# What is asked: method, path, body; the word of a refusal; the vm states it is allowed in, and the task states besides
# none. Source: the checks in front of the calls of Nova's compute API.
Row = tuple[str, str, Any, str, Any, Any]
CALLS: dict[str, Row] = {
    "delete": ("DELETE", "", None, "delete", ANY, BUSY),
    "forceDelete": ("POST", "/action", {"forceDelete": None}, "delete", ANY, BUSY),
    "os-start": ("POST", "/action", {"os-start": None}, "start", [STOPPED], IDLE),
    "os-stop": ("POST", "/action", {"os-stop": None}, "stop", [ACTIVE, ERROR], IDLE),
    "soft reboot": ("POST", "/action", {"reboot": {"type": "SOFT"}}, "reboot", [ACTIVE], IDLE),
    "reboot": ("POST", "/action", {"reboot": {"type": "HARD"}}, "reboot", [*IMAGED, ERROR], REBOOTED),
    "pause": ("POST", "/action", {"pause": None}, "pause", [ACTIVE], IDLE),
    "unpause": ("POST", "/action", {"unpause": None}, "unpause", [PAUSED], IDLE),
    "suspend": ("POST", "/action", {"suspend": None}, "suspend", [ACTIVE], IDLE),
    "resume": ("POST", "/action", {"resume": None}, "resume", [SUSPENDED], IDLE),
    "createImage": ("POST", "/action", {"createImage": {"name": "i"}}, "createImage", IMAGED, IDLE),
    "createBackup": ("POST", "/action", {"createBackup": {"name": "i", "backup_type": "b", "rotation": 1}},
                     "createBackup", IMAGED, IDLE),
    "restore": ("POST", "/action", {"restore": None}, "restore", [VmState.SOFT_DELETED], IDLE),
    "resize": ("POST", "/action", {"resize": {"flavorRef": "2"}}, "resize", [ACTIVE, STOPPED], IDLE),
    "migrate": ("POST", "/action", {"migrate": None}, "migrate", [ACTIVE, STOPPED], IDLE),
    "confirmResize": ("POST", "/action", {"confirmResize": None}, "confirmResize", [RESIZED], IDLE),
    "revertResize": ("POST", "/action", {"revertResize": None}, "revertResize", [RESIZED], IDLE),
    "rebuild": ("POST", "/action", {"rebuild": {"imageRef": IMAGE}}, "rebuild", [ACTIVE, STOPPED, ERROR], IDLE),
    "rescue": ("POST", "/action", {"rescue": None}, "rescue", [ACTIVE, STOPPED, ERROR], IDLE),
    "unrescue": ("POST", "/action", {"unrescue": None}, "unrescue", [RESCUED], IDLE),
    "shelve": ("POST", "/action", {"shelve": None}, "shelve", IMAGED, IDLE),
    "shelveOffload": ("POST", "/action", {"shelveOffload": None}, "shelveOffload", [SHELVED], IDLE),
    "unshelve": ("POST", "/action", {"unshelve": None}, "unshelve", [SHELVED, OFFLOADED], IDLE),
    "changePassword": ("POST", "/action", {"changePassword": {"adminPass": "x"}}, "changePassword", [ACTIVE], IDLE),
    "trigger_crash_dump": ("POST", "/action", {"trigger_crash_dump": None}, "trigger_crash_dump",
                           [ACTIVE, PAUSED, RESCUED, RESIZED, ERROR], IDLE),
    "os-getVNCConsole": ("POST", "/action", {"os-getVNCConsole": {"type": "novnc"}}, "get_vnc_console", ANY,
                         BUSY.difference(UNSEEN)),
    "os-getConsoleOutput": ("POST", "/action", {"os-getConsoleOutput": {}}, "", ANY, BUSY),
    "lock": ("POST", "/action", {"lock": None}, "", ANY, BUSY),
    "unlock": ("POST", "/action", {"unlock": None}, "", ANY, BUSY),
    "addSecurityGroup": ("POST", "/action", {"addSecurityGroup": {"name": "default"}}, "", ANY, BUSY),
    "removeSecurityGroup": ("POST", "/action", {"removeSecurityGroup": {"name": "default"}}, "", ANY, BUSY),
    "addFloatingIp": ("POST", "/action", {"addFloatingIp": {"address": "203.0.113.1"}}, "", ANY, BUSY),
    "removeFloatingIp": ("POST", "/action", {"removeFloatingIp": {"address": "203.0.113.1"}}, "", ANY, BUSY),
    "addFixedIp": ("POST", "/action", {"addFixedIp": {"networkId": "n"}}, "", ANY, BUSY),
    "removeFixedIp": ("POST", "/action", {"removeFixedIp": {"address": "203.0.113.1"}}, "", ANY, BUSY),
    "attach_interface": ("POST", "/os-interface", {}, "attach_interface", [ACTIVE, PAUSED, STOPPED], IDLE),
    "detach_interface": ("DELETE", "/os-interface/p", None, "detach_interface", [ACTIVE, PAUSED, STOPPED], IDLE),
    "set metadata": ("POST", "/metadata", METADATA, "update metadata", IMAGED, BUSY),
    "replace metadata": ("PUT", "/metadata", METADATA, "update metadata", IMAGED, BUSY),
    "set an item": ("PUT", "/metadata/a", {"meta": {"a": "c"}}, "update metadata", IMAGED, BUSY),
    "delete an item": ("DELETE", "/metadata/a", None, "delete metadata", IMAGED, BUSY),
    "set tags": ("PUT", "/tags", {"tags": ["a"]}, "update tags", IMAGED, BUSY),
    "set a tag": ("PUT", "/tags/a", None, "update tag", IMAGED, BUSY),
    "delete a tag": ("DELETE", "/tags/a", None, "delete tag", IMAGED, BUSY),
    "delete tags": ("DELETE", "/tags", None, "delete tags", IMAGED, BUSY),
    "update": ("PUT", "", {"server": {"name": "new"}}, "", ANY, BUSY),
}  # fmt: skip
HOSTLESS = {"os-start", "os-stop", "trigger_crash_dump", "os-getVNCConsole", "os-getConsoleOutput"}
"""What asks for the host before it looks at the states."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("states")
    database = Database(f"sqlite:///{folder}/top.db")
    with database.write() as connection:
        top_schema.metadata.create_all(connection)
    made = World(database, folder, instances=1000, cores=1000, ram=1 << 20)
    made.create()
    yield made
    made.close()
    database.close()


def test_every_action_is_in_the_table() -> None:
    other = {"os-getSPICEConsole", "os-getSerialConsole", "injectNetworkInfo", "os-resetState"}
    assert actions.by_name.keys() - other <= CALLS.keys()
    assert OPERATIONS.keys() <= CALLS.keys()


class Server:
    """One in whatever state it is put into, made anew when it is gone."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.id = ""

    def be(self, vm_state: VmState, task_state: TaskState | None) -> None:
        world = self._world
        if not self.id or self.id not in world.cell_of(self.id).servers:
            self.id = world.create(metadata={"a": "b"})
        cell = world.cell_of(self.id)
        known = cell.servers[self.id]
        host = None if vm_state == VmState.SHELVED_OFFLOADED else f"{cell.name}-1"
        states = {"vm_state": vm_state, "task_state": task_state, "deleted": False, "locked": False, "host": host}
        states |= {"power_state": PowerState.RUNNING, "spec": replace(known.spec, metadata={"a": "b"}, tags=("a",))}
        take_in(world, cell.change(self.id, **states))

    def ask(self, name: str) -> Any:
        method, path, body = CALLS[name][:3]
        version = "2.26" if "/tags" in path else "2.17" if name == "trigger_crash_dump" else None
        return self._world.call(method, f"/servers/{self.id}{path}", body, token="admin", version=version)


def check(server: Server, name: str, vm_state: VmState, task_state: TaskState | None) -> None:
    """Ask, and look at the answer."""
    _, _, _, word, vm_states, task_states = CALLS[name]
    if name in ("delete", "forceDelete"):
        server.id = ""
    server.be(vm_state, task_state)
    answer = server.ask(name)
    if vm_state == OFFLOADED and name in HOSTLESS:
        expected = f"Instance {server.id} is not ready"
    elif vm_state not in vm_states:
        expected = f"Cannot '{word}' instance {server.id} while it is in vm_state {vm_state}"
    elif task_state is not None and task_state not in task_states:
        expected = f"Cannot '{word}' instance {server.id} while it is in task_state {task_state}"
    else:
        assert answer.status_code < 300 or "Cannot '" not in answer.text, (name, vm_state, task_state, answer.text)
        return
    assert answer.status_code == 409, (name, vm_state, task_state, answer.text)
    assert answer.get_json()["conflictingRequest"]["message"] == expected


@pytest.mark.parametrize("name", CALLS)
def test_it_is_allowed_in_nova_s_states_alone(world: World, name: str) -> None:
    """In each vm state of a server at rest, and in task states of one whose vm state would do; then in both."""
    server = Server(world)
    allowed, busy = CALLS[name][4:]
    fit = next(state for state in (ACTIVE, *STATES) if state in allowed)
    for vm_state in STATES:
        check(server, name, vm_state, None)
    for task_state in [*[one for one in TaskState if one in busy][:1], *[one for one in TaskState if one not in busy]][
        :3
    ]:
        check(server, name, fit, task_state)
    for vm_state in [state for state in STATES if state not in allowed][:1]:
        check(server, name, vm_state, TaskState.POWERING_OFF)


BEGUN = {
    name: spec_of(OPERATIONS[next(iter(body))].operation, (next(iter(body.values())) or {}).get("type"))
    for name, (_, path, body, *_) in CALLS.items()
    if path == "/action" and next(iter(body)) in OPERATIONS
}


@pytest.mark.parametrize("name", BEGUN)
def test_each_pair_of_states_is_nova_s(name: str) -> None:
    """As the conductor asks it, which begins the operation."""
    spec, (_, _, _, word, allowed, busy) = BEGUN[name], CALLS[name]
    bare = ServerRecord(spec=make_spec("s"), version=1, generation=1, vm_state=ACTIVE, host="h")
    for vm_state in STATES:
        for task_state in (None, *TaskState):
            told = ""
            if vm_state not in allowed:
                told = f"Cannot '{word}' instance s while it is in vm_state {vm_state}"
            elif task_state is not None and task_state not in busy:
                told = f"Cannot '{word}' instance s while it is in task_state {task_state}"
            assert spec.refusal(replace(bare, vm_state=vm_state, task_state=task_state)) == told


NOBODY = "70a599e0-31e7-49b7-b260-868f441e862b"
WRONG: dict[str, dict[str, Any]] = {
    "resize": {"flavorRef": "none such"},
    "rebuild": {"imageRef": NOBODY},
    "rescue": {"rescue_image_ref": NOBODY},
    "migrate": {"host": "none-such"},
    "unshelve": {"availability_zone": "none such"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_is_told_before_what_else_is_wrong(world: World, name: str) -> None:
    server = Server(world)
    word, allowed = CALLS[name][3:5]
    for vm_state in [state for state in STATES if state not in allowed]:
        server.be(vm_state, None)
        asked = {name: WRONG[name]}
        answer = world.post(f"/servers/{server.id}/action", asked, token="admin", version="2.87")
        told = f"Cannot '{word}' instance {server.id} while it is in vm_state {vm_state}"
        assert (answer.status_code, told in answer.text) == (409, True), (vm_state, answer.text)
