"""What happens to servers: create in its variants, update, actions, delete, and cells that are away."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cellcloud.db import idempotency, intents, quotas, server_index
from cellcloud.db.engine import Database
from cellcloud.model.intent import IntentKind, IntentState
from cellcloud.model.operations import TABLE, Operation, OperationSpec
from cellcloud.model.server import IN_SPEC, ServerRecord
from cellcloud.server_states import PowerState, TaskState, VmState, status_of
from tests.api.world import DEMO, IMAGE, NETWORK, World
from top_api.operations.server_in_cell import save_answer
from top_api.operations.update import SETTABLE
from top_api.schemas.servers import UPDATE

BODY: dict[str, Any] = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGSXS8dJ/0bBcHAGQbbMXNbHMrFbOfVTQrqf5hPCN+kk me@here"


def used(world: World, project_id: str = DEMO) -> dict[str, int]:
    with world.database.read() as connection:
        return quotas.list_usages(connection, project_id)


def status(world: World, server_id: str) -> str:
    return str(world.get(f"/servers/{server_id}").get_json()["server"]["status"])


# ---- create ----------------------------------------------------------------------------------------------------------
def test_what_openstackclient_sends(world: World) -> None:
    world.post("/os-keypairs", {"keypair": {"name": "k", "public_key": PUBLIC_KEY}})
    server = {
        **BODY,
        "flavorRef": "http://localhost/flavors/1",
        "min_count": 1,
        "max_count": 1,
        "networks": [{"uuid": NETWORK}],
        "key_name": "k",
        "user_data": "IyEvYmluL3NoCg==",
        "block_device_mapping_v2": [
            {"uuid": IMAGE, "boot_index": 0, "source_type": "image", "destination_type": "local",
             "delete_on_termination": True}
        ],
    }  # fmt: skip
    body = {"server": server, "OS-SCH-HNT:scheduler_hints": {"different_host": []}}
    answer = world.post("/servers", body, version="2.96")
    assert answer.status_code == 202, answer.get_data(as_text=True)
    world.settle()
    server_id = answer.get_json()["server"]["id"]
    spec = world.cell_of(server_id).servers[server_id].spec
    assert spec.keypair is not None
    assert spec.keypair.public_key == PUBLIC_KEY
    assert (spec.user_data, spec.scheduler_hints) == ("IyEvYmluL3NoCg==", {"different_host": []})
    assert spec.request_id == answer.headers["x-openstack-request-id"]


def test_many_servers_in_one_request(world: World) -> None:
    world.holding = True
    server = {**BODY, "min_count": 100, "max_count": 100, "return_reservation_id": True}
    answer = world.post("/servers", {"server": server})
    reservation = answer.get_json()["reservation_id"]
    listed = world.get(f"/servers?reservation_id={reservation}&sort_key=display_name").get_json()["servers"]
    assert {one["name"] for one in listed} == {f"vm-{number}" for number in range(1, 101)}
    assert used(world) == {"instances": 100, "cores": 100, "ram": 51200}


def test_what_servers_of_one_request_share_and_what_not(world: World) -> None:
    group = world.post("/os-server-groups", {"server_group": {"name": "g", "policies": ["affinity"]}}).get_json()
    group_id = group["server_group"]["id"]
    server = {**BODY, "name": "My vm", "min_count": "2", "max_count": 3, "tags": ["a", "b"], "networks": "auto",
              "metadata": {"k": "v"}, "config_drive": "True"}  # fmt: skip
    body = {"server": server, "OS-SCH-HNT:scheduler_hints": {"group": group_id}}
    answer = world.post("/servers", body, version="2.90")
    assert answer.status_code == 202, answer.text
    world.settle()
    ordered = "/servers/detail?all_tenants=1&sort_key=launch_index&sort_dir=asc"
    found = world.get(ordered, version="2.100", token="admin").get_json()["servers"]
    assert [one["name"] for one in found] == ["My vm-1", "My vm-2", "My vm-3"]
    assert [one["OS-EXT-SRV-ATTR:hostname"] for one in found] == ["my-vm-1", "my-vm-2", "my-vm-3"]
    assert [one["OS-EXT-SRV-ATTR:launch_index"] for one in found] == [0, 1, 2]
    assert answer.get_json()["server"]["id"] == found[0]["id"]
    assert len({one["OS-EXT-SRV-ATTR:reservation_id"] for one in found}) == 1
    for one in found:
        assert (one["tags"], one["metadata"], one["config_drive"]) == (["a", "b"], {"k": "v"}, "True")
        assert one["scheduler_hints"] == {"group": group_id}
        assert one["description"] is None


@pytest.mark.parametrize(
    ("version", "given", "message"),
    [
        ("2.90", {"hostname": "vm", "max_count": 2}, "one server only"),
        ("2.90", {"hostname": "vm", "min_count": 2}, "one server only"),
        ("2.63", {"trusted_image_certificates": ["c"]}, "Trusted image certificates are not offered."),
        ("2.1", {"config_drive": "perhaps"}, "config_drive"),
        ("2.51", {"tags": ["a"]}, "tags"),
        ("2.52", {"tags": ["a,b"]}, "does not match"),
        ("2.89", {"hostname": "h"}, "hostname"),
        ("2.1", {"min_count": 2, "max_count": 1}, "min_count must be <= max_count"),
        ("2.1", {"return_reservation_id": "perhaps"}, "return_reservation_id"),
    ],
)
def test_what_a_request_for_servers_may_not_say(
    world: World, version: str, given: dict[str, Any], message: str
) -> None:
    networks = {"networks": "auto"} if int(version[2:]) >= 37 else {}
    answer = world.post("/servers", {"server": {**BODY, **networks, **given}}, version=version)
    assert answer.status_code == 400
    assert message in answer.text


@pytest.mark.parametrize(("version", "description"), [("2.18", "vm"), ("2.19", None)])
def test_a_name_is_a_description_where_none_can_be_given(world: World, version: str, description: str | None) -> None:
    server_id = world.post("/servers", {"server": BODY}, version=version).get_json()["server"]["id"]
    assert world.get(f"/servers/{server_id}", version="2.19").get_json()["server"]["description"] == description


def test_a_waiting_server_is_shown_as_building(world: World) -> None:
    world.holding = True
    server_id = world.create()
    shown = world.get(f"/servers/{server_id}").get_json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:task_state"], shown["hostId"]) == ("BUILD", "scheduling", "")
    assert shown["addresses"] == {}
    refused = world.post(f"/servers/{server_id}/action", {"os-stop": None})
    assert refused.status_code == 409
    assert refused.get_json()["conflictingRequest"]["message"] == f"Instance {server_id} is not ready"
    refused = world.post(f"/servers/{server_id}/action", {"pause": None})
    assert refused.get_json()["conflictingRequest"]["message"] == (
        f"Cannot 'pause' instance {server_id} while it is in vm_state building"
    )


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("vm", "vm"), ("My Server.1", "my-server-1"), ("a_b", "a-b"), ("--x--", "x"), ("ÄÖ", None),
        ("a" * 200, "a" * 63),
        ("x;rm -rf", "xrm--rf"),
    ],
)  # fmt: skip
def test_host_names_are_made_of_names(world: World, name: str, hostname: str | None) -> None:
    server_id = world.create(name)
    shown = world.get(f"/servers/{server_id}", version="2.90").get_json()["server"]["OS-EXT-SRV-ATTR:hostname"]
    assert shown == (hostname or f"Server-{server_id}")


def test_forced_hosts_are_for_administrators(world: World) -> None:
    server = {**BODY, "availability_zone": "zone-east:east-1"}
    assert world.post("/servers", {"server": server}).status_code == 403
    answer = world.post("/servers", {"server": server}, token="admin")
    assert answer.status_code == 202
    world.settle()
    assert world.east.servers[answer.get_json()["server"]["id"]].spec.host == "east-1"


def test_too_many_metadata_items_are_a_matter_of_quota(world: World) -> None:
    metadata = {f"k{number}": "v" for number in range(129)}
    assert world.post("/servers", {"server": {**BODY, "metadata": metadata}}).status_code == 403


# ---- quota -----------------------------------------------------------------------------------------------------------
def test_quota_is_reserved_refused_and_given_back(top_database: Database, tmp_path: Path) -> None:
    world = World(top_database, tmp_path, instances=2)
    first = world.create()
    world.create()
    answer = world.post("/servers", {"server": BODY})
    assert answer.status_code == 403
    assert answer.get_json()["forbidden"]["message"] == (
        "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances"
    )
    assert used(world)["instances"] == 2
    world.call("DELETE", f"/servers/{first}")
    world.settle()
    assert used(world) == {"instances": 1, "cores": 1, "ram": 512}
    world.create()
    world.close()


def test_as_many_as_fit_between_the_least_and_the_most(top_database: Database, tmp_path: Path) -> None:
    world = World(top_database, tmp_path, cores=3)
    assert world.post("/servers", {"server": {**BODY, "min_count": 4, "max_count": 9}}).status_code == 403
    assert used(world) == {"instances": 0, "cores": 0, "ram": 0}
    assert world.post("/servers", {"server": {**BODY, "min_count": 2, "max_count": 9}}).status_code == 202
    assert used(world)["cores"] == 3
    world.close()


def test_as_many_as_there_are_ports_for(top_database: Database, tmp_path: Path) -> None:
    world = World(top_database, tmp_path)
    world.networks.free_ports = 5
    both = {**BODY, "networks": [{"uuid": NETWORK}, {"uuid": NETWORK}]}
    answer = world.post("/servers", {"server": {**both, "min_count": 3, "max_count": 9}})
    assert (answer.status_code, answer.get_json()["forbidden"]["message"]) == (403, "Maximum number of ports exceeded")
    assert world.post("/servers", {"server": {**both, "min_count": 2, "max_count": 9}}).status_code == 202
    assert used(world)["instances"] == 2
    world.networks.free_ports = 0
    assert world.post("/servers", {"server": BODY}).status_code == 403
    world.close()


def test_a_storm_of_creates_gets_exactly_what_the_quota_has(top_database: Database, tmp_path: Path) -> None:
    world = World(top_database, tmp_path, instances=5)
    world.holding = True
    codes: list[int] = []

    def ask() -> None:
        codes.append(world.app.test_client().post("/v2.1/servers", json={"server": BODY}, headers=token).status_code)

    token = {"X-Auth-Token": "member"}
    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [202] * 5 + [403] * 15
    assert used(world)["instances"] == 5
    world.close()


# ---- a client's own key ----------------------------------------------------------------------------------------------
def test_a_repeated_create_returns_the_same_server(world: World) -> None:
    key = {"Idempotency-Key": "3f2c"}
    first = world.post("/servers", {"server": BODY}, headers=key)
    world.settle()
    again = world.post("/servers", {"server": BODY}, headers=key)
    assert (again.status_code, again.get_json()) == (202, first.get_json())
    assert len(world.get("/servers").get_json()["servers"]) == 1
    world.call("DELETE", f"/servers/{first.get_json()['server']['id']}")
    world.settle()
    assert world.post("/servers", {"server": BODY}, headers=key).get_json() == first.get_json()
    other = world.post("/servers", {"server": {**BODY, "name": "other"}}, headers=key)
    assert other.status_code == 409
    assert world.post("/servers", {"server": BODY}, headers=key, token="other").get_json() != first.get_json()


def test_the_password_of_a_repeated_create_is_stored_nowhere(world: World) -> None:
    key = {"Idempotency-Key": "3f2c"}
    password = world.post("/servers", {"server": BODY}, headers=key).get_json()["server"]["adminPass"]
    with world.database.read() as connection:
        kept = idempotency.find_answer(connection, DEMO, "3f2c")
    assert kept is not None
    assert password not in str(kept)


def test_a_race_under_one_key_makes_one_server(world: World) -> None:
    found: list[Any] = []
    headers = {"X-Auth-Token": "member", "Idempotency-Key": "race"}

    def ask() -> None:
        found.append(world.app.test_client().post("/v2.1/servers", json={"server": BODY}, headers=headers))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in found} == {202}
    assert len({answer.get_json()["server"]["id"] for answer in found}) == 1
    assert used(world)["instances"] == 1


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "\u00fc"])
def test_keys_that_are_none(world: World, key: str) -> None:
    answer = world.post("/servers", {"server": BODY}, headers={"Idempotency-Key": key})
    assert answer.status_code == 400


# ---- delete ----------------------------------------------------------------------------------------------------------
def test_deleting_before_a_cell_has_it_cancels_the_create(world: World) -> None:
    world.holding = True
    server_id = world.create()
    assert world.call("DELETE", f"/servers/{server_id}").status_code == 204
    assert world.get(f"/servers/{server_id}").status_code == 404
    assert used(world)["instances"] == 0
    with world.database.read() as connection:
        intent = intents.find_intent(connection, server_id, IntentKind.CREATE)
    assert intent is not None
    assert intent.state == IntentState.CANCELLED
    assert world.call("DELETE", f"/servers/{server_id}").status_code == 404


def test_a_delete_while_the_cell_is_away_is_accepted_and_done_later(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    cell.away = True
    assert world.call("DELETE", f"/servers/{server_id}").status_code == 204
    assert world.call("DELETE", f"/servers/{server_id}").status_code == 204
    world.settle()
    shown = world.get(f"/servers/{server_id}").get_json()["server"]
    assert shown["OS-EXT-STS:task_state"] == TaskState.DELETING
    with world.database.read() as connection:
        intent = intents.find_intent(connection, server_id, IntentKind.DELETE)
    assert intent is not None
    world.heal(cell)
    world.dispatcher.deliver([intent.id])
    world.settle()
    assert world.get(f"/servers/{server_id}").status_code == 404
    assert used(world)["instances"] == 0


# ---- actions ---------------------------------------------------------------------------------------------------------
ACTIONS = {f"{spec.operation} {spec.variant}".strip(): spec for spec in TABLE if spec.action}


BODIES: dict[str, Any] = {
    "createImage": {"name": "image"},
    "rebuild": {"imageRef": IMAGE},
    "createBackup": {"name": "backup", "backup_type": "daily", "rotation": 1},
    "resize": {"flavorRef": "2"},
}
"""Of actions that must be told something."""
ANSWERED = {"rebuild", "rescue"}  # with what the server is going to be, or its password


DOERS = {Operation.MIGRATE: "manager", Operation.SHELVE_OFFLOAD: "admin"}
"""Who may do what members may not."""


def act(world: World, server_id: str, spec: OperationSpec, *, token: str = "") -> Any:
    """The answer to the action, its variant in small letters, of somebody who may do it."""
    body = {spec.action: BODIES.get(spec.action, {"type": spec.variant.lower()} if spec.variant else None)}
    token = token or DOERS.get(spec.operation, "member")
    return world.post(f"/servers/{server_id}/action", body, token=token)


def take_in(world: World, record: ServerRecord) -> None:
    """What a cell says of a server, into the index."""
    save_answer(world.database, record, world.cell_of(record.id).name)


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_does_what_the_table_says(world: World, name: str) -> None:
    spec, server_id = ACTIONS[name], world.create()
    cell = world.cell_of(server_id)
    cell.slow = True
    for state in (state for state in VmState if state != VmState.DELETED):
        take_in(world, cell.change(server_id, vm_state=state, power_state=PowerState.NOSTATE))
        answer = act(world, server_id, spec)
        if state not in spec.starts_from:
            assert answer.status_code == 409
            message = f"Cannot '{spec.operation}' instance {server_id} while it is in vm_state {state}"
            assert answer.get_json()["conflictingRequest"]["message"] == message
            assert status(world, server_id) == status_of(state, None)
            continue
        accepted = 204 if spec.operation is Operation.CONFIRM_RESIZE else 200 if spec.action == "rescue" else 202
        assert (answer.status_code, answer.get_data() == b"") == (accepted, spec.action not in ANSWERED)
        server = world.get(f"/servers/{server_id}").get_json()["server"]
        assert server["OS-EXT-STS:task_state"] == spec.task_state
        assert server["status"] == status_of(state, spec.task_state)
        take_in(world, cell.end_operation(server_id, spec))
        server = world.get(f"/servers/{server_id}").get_json()["server"]
        rests, power = spec.vm_state or state, PowerState.NOSTATE if spec.power_state is None else spec.power_state
        assert server["status"] == status_of(rests, None)
        assert server["OS-EXT-STS:task_state"] is None
        assert (server["OS-EXT-STS:vm_state"], server["OS-EXT-STS:power_state"]) == (rests, power)
    listed = world.get(f"/servers?status={status_of(VmState(cell.servers[server_id].vm_state), None)}").get_json()[
        "servers"
    ]
    assert [one["id"] for one in listed] == [server_id]
    action = world.get(f"/servers/{server_id}/os-instance-actions").get_json()["instanceActions"][0]
    assert action["action"] == spec.operation
    found = world.get(f"/servers/{server_id}/os-instance-actions/{action['request_id']}", token="admin").get_json()
    assert [event["event"] for event in found["instanceAction"]["events"]] == [spec.event]


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_for_those_whom_its_rule_names(top_database: Database, tmp_path: Path, name: str) -> None:
    spec = ACTIONS[name]
    world = World(top_database, tmp_path, policy=f'"os_compute_api:{spec.policy}": "rule:context_is_admin"')
    server_id = world.create()
    take_in(world, world.cell_of(server_id).change(server_id, vm_state=min(spec.starts_from)))
    assert act(world, server_id, spec, token="other").status_code == 404
    assert act(world, server_id, spec, token="member").status_code == 403
    assert act(world, server_id, spec, token="admin").status_code in (200, 202, 204)
    world.close()


def test_consoles(world: World) -> None:
    server_id = world.create()
    output = world.post(f"/servers/{server_id}/action", {"os-getConsoleOutput": {"length": 2}})
    assert output.get_json() == {"output": "line 3\nline 4"}
    nothing = world.post(f"/servers/{server_id}/action", {"os-getConsoleOutput": {"length": 0}})
    assert nothing.get_json() == {"output": ""}
    assert world.post(f"/servers/{server_id}/action", {"os-getConsoleOutput": {}}).get_json()["output"].count("\n") == 4
    body = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    console = world.post(f"/servers/{server_id}/remote-consoles", body, version="2.99").get_json()["remote_console"]
    assert (console["protocol"], console["type"]) == ("vnc", "novnc")
    assert console["url"].startswith("http://")
    body = {"remote_console": {"protocol": "spice", "type": "spice-html5"}}
    assert world.post(f"/servers/{server_id}/remote-consoles", body, version="2.6").status_code == 400


def test_a_locked_server_moves_for_administrators_only(world: World) -> None:
    server_id = world.create()
    act = f"/servers/{server_id}/action"
    assert world.post(act, {"lock": None}).status_code == 202
    assert world.get(f"/servers/{server_id}", version="2.9").get_json()["server"]["locked"] is True
    for method, path, body in (
        ("POST", "/action", {"os-stop": None}),
        ("POST", "/action", {"reboot": {"type": "HARD"}}),
        ("DELETE", "", None),
        ("POST", "/metadata", {"metadata": {"a": "b"}}),
    ):
        answer = world.call(method, f"/servers/{server_id}{path}", body)
        assert answer.status_code == 409
        assert answer.get_json()["conflictingRequest"]["message"] == f"Instance {server_id} is locked"
    assert world.post(act, {"os-stop": None}, token="admin").status_code == 202
    assert world.post(act, {"unlock": None}).status_code == 202
    assert world.post(act, {"os-start": None}).status_code == 202


def test_update(world: World) -> None:
    server_id = world.create()
    changes = {"name": "new", "description": "d", "accessIPv4": "10.0.0.1"}
    answer = world.call("PUT", f"/servers/{server_id}", {"server": changes}, version="2.19")
    assert answer.status_code == 200
    shown = world.get(f"/servers/{server_id}", version="2.19").get_json()["server"]
    assert {key: shown[key] for key in changes} == changes
    assert world.get("/servers?name=new").get_json()["servers"][0]["id"] == server_id
    assert world.call("PUT", f"/servers/{server_id}", {"server": {"description": "x"}}).status_code == 400
    assert world.call("PUT", f"/servers/{server_id}", {"server": {}}).status_code == 200


def test_every_value_that_an_update_takes_is_set(world: World) -> None:
    given = {
        "name": "new", "description": "d", "hostname": "h", "accessIPv4": "10.0.0.1", "accessIPv6": "2001:db8::1",
        "OS-DCF:diskConfig": "AUTO",
    }  # fmt: skip
    (_, newest) = list(UPDATE)[-1]
    assert given.keys() == newest["properties"]["server"]["properties"].keys()
    server_id = world.create()
    assert world.call("PUT", f"/servers/{server_id}", {"server": given}, version="2.94").status_code == 200
    shown = world.get(f"/servers/{server_id}", version="2.94", token="admin").get_json()["server"]
    shown["hostname"] = shown["OS-EXT-SRV-ATTR:hostname"]
    assert {name: shown[name] for name in given} == given
    assert set(SETTABLE.values()) <= IN_SPEC  # in the real cell, too


@pytest.mark.parametrize("given", ["0000:0000:0000:0000:0000:babe:220.12.22.2", "::BABE:DC0C:1602"])
def test_an_address_is_shown_as_it_is_written_shortest(world: World, given: str) -> None:
    """As Nova shows it, and as clients compare it."""
    server_id = world.create(accessIPv6=given)
    shown = world.get(f"/servers/{server_id}").get_json()["server"]["accessIPv6"]
    changed = world.call("PUT", f"/servers/{world.create()}", {"server": {"accessIPv6": given}})
    assert shown == changed.get_json()["server"]["accessIPv6"] == "::babe:dc0c:1602"


def test_metadata_routes(world: World) -> None:
    server_id = world.create(metadata={"a": "1"})
    path = f"/servers/{server_id}/metadata"
    assert world.post(path, {"metadata": {"b": "2"}}).get_json() == {"metadata": {"a": "1", "b": "2"}}
    assert world.get(path).get_json() == {"metadata": {"a": "1", "b": "2"}}
    assert world.get(f"{path}/a").get_json() == {"meta": {"a": "1"}}
    assert world.get(f"{path}/c").status_code == 404
    assert world.call("PUT", f"{path}/a", {"meta": {"a": "9"}}).get_json() == {"meta": {"a": "9"}}
    assert world.call("PUT", f"{path}/a", {"meta": {"b": "9"}}).status_code == 400
    assert world.call("DELETE", f"{path}/a").status_code == 204
    assert world.call("DELETE", f"{path}/a").status_code == 404
    assert world.call("PUT", path, {"metadata": {"z": "0"}}).get_json() == {"metadata": {"z": "0"}}
    assert world.post(path, {"metadata": {"k": 1}}).status_code == 400
    assert world.post(path, {"metadata": {f"k{n}": "v" for n in range(129)}}).status_code == 403


@pytest.mark.parametrize("tag", ["a\n", "\n", "a\nb", "a\r", "a\x00b", "a\x7f", "a\x1b[2J"])
def test_a_tag_with_a_line_end_is_refused_before_anything_is_stored(world: World, tag: str) -> None:
    server_id = world.create()
    path = f"/servers/{server_id}/tags"
    assert world.call("PUT", f"{path}/{quote(tag)}", version="2.26").status_code in (400, 404)
    assert world.call("PUT", path, {"tags": ["good", tag]}, version="2.26").status_code == 400
    assert world.get(path, version="2.26").get_json() == {"tags": []}
    server = {"name": "s", "flavorRef": "1", "imageRef": IMAGE, "networks": "auto", "tags": [tag]}
    assert world.post("/servers", {"server": server}, version="2.52").status_code == 400


def test_tags_routes(world: World) -> None:
    path = f"/servers/{world.create()}/tags"
    assert world.get(path).status_code == 404
    more = {"version": "2.26"}
    assert world.call("PUT", path, {"tags": ["a", "b"]}, **more).get_json() == {"tags": ["a", "b"]}
    assert world.call("PUT", f"{path}/c", **more).status_code == 201
    assert world.call("PUT", f"{path}/c", **more).status_code == 204
    assert world.get(f"{path}/c", **more).status_code == 204
    assert world.call("DELETE", f"{path}/a", **more).status_code == 204
    assert world.call("DELETE", f"{path}/a", **more).status_code == 404
    assert world.get(path, **more).get_json() == {"tags": ["b", "c"]}
    assert world.call("DELETE", path, **more).status_code == 204


def test_addresses(world: World) -> None:
    path = f"/servers/{world.create()}/ips"
    entry = world.get(path).get_json()["addresses"]["private"][0]
    assert set(entry) == {"version", "addr"}
    assert world.get(f"{path}/private").get_json() == {"private": [entry]}
    assert world.get(f"{path}/public").status_code == 404


# ---- actions seen afterwards -----------------------------------------------------------------------------------------
def test_instance_actions_by_microversion(world: World) -> None:
    answer = world.post("/servers", {"server": BODY})
    world.settle()
    server_id, request_id = answer.get_json()["server"]["id"], answer.headers["x-openstack-request-id"]
    path = f"/servers/{server_id}/os-instance-actions"
    plain = world.get(f"{path}/{request_id}").get_json()["instanceAction"]
    assert set(plain) == {"action", "instance_uuid", "request_id", "user_id", "project_id", "start_time", "message"}
    newer = world.get(f"{path}/{request_id}", version="2.84").get_json()["instanceAction"]
    assert newer["updated_at"]
    assert set(newer["events"][0]) == {"event", "start_time", "finish_time", "result", "hostId"}
    operators = world.get(f"{path}/{request_id}", version="2.84", token="admin").get_json()["instanceAction"]
    assert set(operators["events"][0]) - set(newer["events"][0]) == {"host", "traceback", "details"}
    assert world.get(f"{path}/req-unknown").status_code == 404
    page = world.get(f"{path}?limit=1", version="2.58").get_json()
    assert len(page["instanceActions"]) == 1
    world.call("DELETE", f"/servers/{server_id}")
    world.settle()
    assert world.get(path).status_code == 404
    actions = world.get(path, version="2.21").get_json()["instanceActions"]
    assert [action["action"] for action in actions] == ["delete", "create"]


# ---- cells that are away ---------------------------------------------------------------------------------------------
def test_a_cell_that_is_away_still_shows_and_refuses_at_once(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    cell.away = True
    refused = world.post(f"/servers/{server_id}/action", {"os-stop": None})
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert refused.get_json()["serviceUnavailable"]["message"] == f"Cell {cell.name} did not answer in time."
    asked = cell.calls
    assert world.post(f"/servers/{server_id}/action", {"os-stop": None}).status_code == 503
    assert cell.calls == asked
    assert status(world, server_id) == "ACTIVE"
    shown = world.get(f"/servers/{server_id}", version="2.16", token="admin").get_json()["server"]
    assert shown["host_status"] == "UNKNOWN"
    assert len(world.get("/servers/detail").get_json()["servers"]) == 1


def test_creates_go_to_the_cell_that_answers(world: World) -> None:
    world.east.away = True
    ids = [world.create() for _ in range(6)]
    assert set(ids) <= set(world.west.servers)
    assert {status(world, server_id) for server_id in ids} == {"ACTIVE"}


def test_creates_are_spread(world: World) -> None:
    for _ in range(20):
        world.create(wait=False)
    world.settle()
    assert min(len(world.east.servers), len(world.west.servers)) > 0


def test_an_older_copy_never_replaces_a_newer_one(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    old = replace(cell.servers[server_id], cell=cell.name)
    world.post(f"/servers/{server_id}/action", {"os-stop": None})
    with world.database.write() as connection:
        assert server_index.upsert(connection, [old]) == 0
        assert server_index.upsert(connection, [replace(old, version=99, cell="elsewhere")]) == 0
    assert status(world, server_id) == "SHUTOFF"
