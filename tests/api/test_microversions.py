"""The advertised maximum is true: docs/microversions.md says what each microversion brings, and this asks for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellcloud.db.engine import Database
from cellcloud.model.volume import AttachedVolume
from tests.api.world import DEMO, IMAGE, NETWORK, World
from top_api.microversion import LAST
from top_api.operations.server_in_cell import save_answer
from top_api.request_pipeline import Actions
from top_api.routes import RESOURCES

TABLE = Path(__file__).parents[2] / "docs" / "microversions.md"
ROWS = {int(row[1]): row[2] for row in re.finditer(r"(?m)^\| 2\.(\d+) \|.*\| ([^|]+) \|$", TABLE.read_text())}
SERVER = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}
FAST = {
    "boot_index": 0, "uuid": IMAGE, "source_type": "image", "destination_type": "volume", "volume_type": "fast",
    "volume_size": 1,
}  # fmt: skip
RESCUE = "00000000-0000-0000-0000-000000000042"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9vA6XWFRrTIkNMKqI0TQHTPwfYA7RbvcaBVMdDOhwm k"
Probe = Callable[[World, str], Any]  # what is seen at a microversion


def _field(path: str, name: str, *, token: str = "member") -> Probe:
    """Whether what is at ``path`` ({id}: a server's) has the field."""

    def see(world: World, version: str) -> Any:
        shown = _first(world.get(path.format(id=_server(world)), token=token, version=version).get_json())
        return name in shown

    return see


def _first(body: Any) -> Any:
    """The first thing in an answer."""
    while isinstance(body, dict) and len(body) <= 2 and isinstance(next(iter(body.values())), dict | list):
        body = next(iter(body.values()))
        body = body[0] if isinstance(body, list) else body
    return body


def _server(world: World) -> str:
    """A server of the member's, the same in each world."""
    listed = world.get("/servers").get_json()["servers"]
    return str(listed[0]["id"]) if listed else world.create()


def _create(**changes: Any) -> Probe:
    """The status of creating such a server."""
    token = "admin" if "host" in changes else "member"

    def see(world: World, version: str) -> Any:
        networks = {"networks": "auto"} if int(version[2:]) >= 37 else {}
        body = {"server": {**SERVER, **networks, **changes}}
        return world.post("/servers", body, token=token, version=version).status_code

    return see


def _status(method: str, path: str, body: Any = None, *, token: str = "member") -> Probe:
    def see(world: World, version: str) -> Any:
        return world.call(method, path.format(id=_server(world)), body, token=token, version=version).status_code

    return see


def _any(path: str, *, token: str = "member") -> Probe:
    """Whether a list has something."""

    def see(world: World, version: str) -> Any:
        _server(world)
        return next(iter(world.get(path, token=token, version=version).get_json().values())) != []

    return see


def _cached_images(world: World, version: str) -> Any:
    made = world.post("/os-aggregates", {"aggregate": {"name": f"a{version}"}}, token="admin").get_json()
    path, body = f"/os-aggregates/{made['aggregate']['id']}/images", {"cache": [{"id": IMAGE}]}
    return world.post(path, body, token="admin", version=version).status_code


def _image_id(world: World, version: str) -> Any:
    """Whether an image of a server has its id in the answer's body."""
    body = {"createImage": {"name": "image"}}
    answer = world.post(f"/servers/{_server(world)}/action", body, version=version)
    return answer.status_code == 202 and "image_id" in (answer.get_json(silent=True) or {})


def _headers(world: World, version: str) -> Any:
    answer = world.get("/servers", version=version)
    return (
        answer.headers["OpenStack-API-Version"] == f"compute {version}" and "X-OpenStack-Request-ID" in answer.headers
    )


def _anywhere(world: World, version: str) -> Any:
    return world.get("/servers", version=version).status_code == 200


def _type_of(path: str, *keys: str | int) -> Probe:
    def see(world: World, version: str) -> Any:
        found = world.get(path, token="admin", version=version).get_json()
        for key in keys:
            found = found[key]
        return type(found)

    return see


def _of_a_deleted_server(world: World, version: str) -> Any:
    server_id = world.create()
    world.call("DELETE", f"/servers/{server_id}")
    world.settle()
    return world.get(f"/servers/{server_id}/os-instance-actions", version=version).status_code


def _pages(path: str, make: Callable[[World], object] = lambda world: None) -> Probe:
    def see(world: World, version: str) -> Any:
        make(world)
        return len(next(iter(world.get(path, token="admin", version=version).get_json().values())))

    return see


def _attached(world: World, version: str, **values: Any) -> Any:
    """The status of attaching such a volume, with what else is asked."""
    server_id = world.create()
    shelved = values.pop("shelved", False)
    asked = {name: values.pop(name) for name in ("tag", "delete_on_termination") if name in values}
    if shelved:
        cell = world.cell_of(server_id)
        save_answer(world.database, cell.change(server_id, vm_state="shelved"), cell.name)
    body = {"volumeAttachment": {"volumeId": world.volumes.add(project_id=DEMO, **values).id, **asked}}
    return world.post(f"/servers/{server_id}/os-volume_attachments", body, version=version).status_code


def _attaching(**values: Any) -> Probe:
    return lambda world, version: _attached(world, version, **values)


def _attachment(name: str) -> Probe:
    """Whether a volume of a server has the field."""

    def see(world: World, version: str) -> Any:
        server_id, volume_id = world.create(), world.volumes.add(project_id=DEMO).id
        path = f"/servers/{server_id}/os-volume_attachments"
        world.post(path, {"volumeAttachment": {"volumeId": volume_id}})
        return name in world.get(path, version=version).get_json()["volumeAttachments"][0]

    return see


def _kept_volume(world: World, version: str) -> Any:
    """The status of saying that a volume goes with its server."""
    server_id, volume_id = world.create(), world.volumes.add(project_id=DEMO).id
    path = f"/servers/{server_id}/os-volume_attachments"
    world.post(path, {"volumeAttachment": {"volumeId": volume_id}})
    body = {"volumeAttachment": {"volumeId": volume_id, "delete_on_termination": True}}
    return world.call("PUT", f"{path}/{volume_id}", body, version=version).status_code


def _to_a_volume(action: dict[str, Any]) -> Probe:
    """The status of an action on a server that is on a volume."""

    def see(world: World, version: str) -> Any:
        image = replace(world.images.images[IMAGE], id=RESCUE, properties={"hw_rescue_bus": "virtio"})
        world.images.images[RESCUE] = image
        body = {
            **SERVER,
            "imageRef": "",
            "block_device_mapping_v2": [{**FAST, "volume_type": None}],
            "networks": "auto",
        }
        made = world.post("/servers", {"server": body}, version="2.100").get_json()["server"]["id"]
        world.settle()
        volume = world.volumes.add(project_id=DEMO, status="in-use", image={"image_id": "another"})
        root = AttachedVolume(id=volume.id, volume_id=volume.id, device="/dev/vda", boot_index=0)
        cell = world.cell_of(made)
        save_answer(world.database, cell.change(made, volumes=(root,)), cell.name)
        return world.post(f"/servers/{made}/action", action, version=version).status_code

    return see


def _tagged(world: World, version: str) -> Any:
    """The statuses of attaching a volume and a port with tags."""
    body = {"interfaceAttachment": {"net_id": NETWORK, "tag": "t"}}
    port = world.post(f"/servers/{_server(world)}/os-interface", body, version=version)
    return {_attached(world, version, tag="t"), port.status_code}


def _two_keys(world: World) -> None:
    for name in "ab":
        world.post("/os-keypairs", {"keypair": {"name": name}}, token="admin")


def _public_flavor(world: World, version: str) -> Any:
    body = {"addTenantAccess": {"tenant": "p"}}
    return world.post("/flavors/1/action", body, token="admin", version=version).status_code


def _aggregate(world: World, version: str) -> Any:
    body = {"aggregate": {"name": f"a{version}", "availability_zone": None}}
    return "uuid" in world.post("/os-aggregates", body, token="admin", version=version).get_json()["aggregate"]


def _group(world: World, version: str, **given: Any) -> Any:
    body = {"server_group": {"name": "g", **given}}
    return world.post("/os-server-groups", body, version=version)


def _policies(world: World, version: str) -> Any:
    return _group(world, version, policies=["soft-affinity"]).status_code


def _policy(world: World, version: str) -> Any:
    return _group(world, version, policy="anti-affinity", rules={"max_server_per_host": 2}).status_code


def _project(world: World, version: str) -> Any:
    return "project_id" in _group(world, version, policies=["affinity"]).get_json()["server_group"]


def _event(name: str, token: str = "member") -> Probe:
    def see(world: World, version: str) -> Any:
        path = f"/servers/{_server(world)}/os-instance-actions"
        request_id = world.get(path).get_json()["instanceActions"][0]["request_id"]
        shown = world.get(f"{path}/{request_id}", token=token, version=version).get_json()["instanceAction"]
        return name in (shown if name == "events" else shown["events"][0])

    return see


def _external_event(name: str) -> Probe:
    """The status of telling of something outside."""

    def see(world: World, version: str) -> Any:
        body = {"events": [{"name": name, "server_uuid": _server(world), "tag": "POWER_ON"}]}
        return world.post("/os-server-external-events", body, token="service", version=version).status_code

    return see


def _away(world: World, version: str) -> Any:
    world.get("/os-services", token="admin")
    world.east.away = True
    found = world.get("/os-services?host=east-1", token="admin", version=version).get_json()["services"]
    return found[0]["status"]


# Microversion -> what is seen at it, and what just below; the same twice: there at every microversion.
SERVED: dict[int, tuple[Probe, Any, Any]] = {
    2: (lambda world, version: world.post("/os-keypairs", {"keypair": {"name": f"k {version[2:]}", "public_key": KEY}},
        version=version).status_code, 200, 201),
    3: (_field("/servers/{id}", "OS-EXT-SRV-ATTR:reservation_id", token="admin"), False, True),
    5: (_any("/servers?ip6=nowhere"), True, False),
    6: (_status("POST", "/servers/{id}/remote-consoles", {"remote_console": {"protocol": "vnc", "type": "novnc"}}),
        404, 200),
    7: (_public_flavor, 200, 409),
    9: (_field("/servers/{id}", "locked"), False, True),
    10: (_status("POST", "/os-keypairs", {"keypair": {"name": "k", "user_id": "u", "public_key": KEY}}, token="admin"),
         400, 201),
    11: (_field("/os-services", "forced_down", token="admin"), False, True),
    13: (_project, False, True),
    15: (_policies, 400, 200),
    16: (_field("/servers/{id}", "host_status", token="admin"), False, True),
    17: (_status("POST", "/servers/{id}/action", {"trigger_crash_dump": None}), 404, 202),
    18: (_anywhere, True, True),
    19: (_field("/servers/{id}", "description"), False, True),
    21: (_of_a_deleted_server, 404, 200),
    22: (_status("POST", "/servers/{id}/migrations/1/action", {"force_complete": None}, token="admin"), 404, 409),
    23: (_status("GET", "/servers/{id}/migrations", token="admin"), 404, 200),
    24: (_status("DELETE", "/servers/{id}/migrations/1", token="admin"), 404, 409),
    26: (_status("GET", "/servers/{id}/tags"), 404, 200),
    27: (_headers, True, True),
    28: (_type_of("/os-hypervisors/detail", "hypervisors", 0, "cpu_info"), str, dict),
    31: (_status("GET", "/os-console-auth-tokens/" + "t" * 43, token="admin"), 400, 200),
    32: (_create(networks=[{"uuid": NETWORK, "tag": "nic"}]), 400, 202),
    33: (_pages("/os-hypervisors?limit=1"), 2, 1),
    35: (_pages("/os-keypairs?limit=1", _two_keys), 2, 1),
    36: (lambda world, version: "maxTotalFloatingIps" in world.get("/limits", version=version).get_json()["limits"][
        "absolute"], True, False),
    37: (_status("POST", "/servers", {"server": SERVER}), 202, 400),
    38: (_status("GET", "/servers?status=nonsense"), 200, 400),
    39: (lambda world, version: "maxImageMeta" in world.get("/limits", version=version).get_json()["limits"][
        "absolute"], True, False),
    40: (_pages("/os-simple-tenant-usage?limit=0", _server), 1, 0),
    41: (_aggregate, False, True),
    42: (_create(networks=[{"uuid": NETWORK, "tag": "nic"}]), 400, 202),
    43: (_status("GET", "/os-hosts", token="admin"), 200, 404),
    44: (_status("POST", "/servers/{id}/action", {"addFixedIp": {"networkId": NETWORK}}), 202, 404),
    45: (_image_id, False, True),
    46: (_headers, True, True),
    47: (lambda world, version: set(world.get(f"/servers/{_server(world)}", version=version).get_json()["server"][
        "flavor"]) >= {"original_name", "vcpus"}, False, True),
    48: (_field("/servers/{id}/diagnostics", "num_cpus", token="admin"), False, True),
    50: (_field("/os-quota-class-sets/default", "server_groups", token="admin"), False, True),
    51: (_event("events"), False, True),
    52: (_create(tags=["t"]), 400, 202),
    53: (_type_of("/os-services", "services", 0, "id"), int, str),
    54: (_status("POST", "/servers/{id}/action", {"rebuild": {"imageRef": IMAGE, "key_name": None}}), 400, 202),
    55: (_field("/flavors/1", "description"), False, True),
    56: (_status("POST", "/servers/{id}/action", {"migrate": {"host": "no such host"}}, token="admin"), 202, 400),
    57: (lambda world, version: "maxPersonality" in world.get("/limits", version=version).get_json()["limits"][
        "absolute"], True, False),
    58: (_field("/servers/{id}/os-instance-actions", "updated_at"), False, True),
    59: (_status("GET", "/os-migrations?nonsense=1", token="admin"), 200, 400),
    61: (_field("/flavors/1", "extra_specs"), False, True),
    62: (_event("hostId"), False, True),
    63: (_field("/servers/{id}", "trusted_image_certificates"), False, True),
    64: (_policy, 400, 200),
    65: (_status("DELETE", "/servers/{id}/migrations/1", token="admin"), 409, 409),
    66: (_any("/servers?changes-before=2020-01-01T00:00:00Z"), True, False),
    69: (_away, "enabled", "UNKNOWN"),
    71: (_field("/servers/{id}", "server_groups"), False, True),
    20: (_attaching(shelved=True), 409, 200),
    67: (_create(imageRef="", block_device_mapping_v2=[FAST]), 400, 202),
    87: (_to_a_volume({"rescue": {"rescue_image_ref": RESCUE}}), 400, 200),
    49: (_tagged, {400}, {200}),
    60: (_attaching(multiattach=True), 400, 200),
    70: (_attachment("tag"), False, True),
    79: (_attaching(delete_on_termination=True), 400, 200),
    85: (_kept_volume, 400, 202),
    89: (_attachment("attachment_id"), False, True),
    73: (_field("/servers/{id}", "locked_reason"), False, True),
    74: (_create(host="east-1"), 400, 202),
    75: (_status("GET", "/servers?nonsense=1"), 200, 400),
    76: (_external_event("power-update"), 400, 200),
    77: (_status("POST", "/servers/{id}/action", {"unshelve": {}}), 409, 400),
    78: (_status("GET", "/servers/{id}/topology"), 404, 200),
    80: (_status("GET", "/os-migrations?user_id=u", token="admin"), 400, 200),
    81: (_cached_images, 404, 202),
    82: (_external_event("accelerator-request-bound"), 400, 207),
    83: (_any("/servers?key_name=nobodys"), True, False),
    84: (_event("details", "admin"), False, True),
    86: (_status("POST", "/flavors/2/os-extra_specs", {"extra_specs": {"hw:cpu_policy": "nonsense"}}, token="admin"),
         200, 400),
    88: (_field("/os-hypervisors/detail", "uptime", token="admin"), False, True),
    90: (_field("/servers/{id}", "OS-EXT-SRV-ATTR:hostname"), False, True),
    91: (_status("POST", "/servers/{id}/action", {"unshelve": {"availability_zone": None}}), 400, 409),
    92: (_status("POST", "/os-keypairs", {"keypair": {"name": "k"}}), 201, 400),
    93: (_to_a_volume({"rebuild": {"imageRef": IMAGE}}), 400, 202),
    94: (_create(hostname="vm.example.org"), 400, 202),
    96: (_field("/servers/{id}", "pinned_availability_zone"), False, True),
    98: (lambda world, version: "properties" in world.get(f"/servers/{_server(world)}", version=version).get_json()[
        "server"]["image"], False, True),
    100: (_field("/servers/{id}", "scheduler_hints"), False, True),
    101: (_attaching(), 200, 202),
}  # fmt: skip
REFUSED: dict[int, Probe] = {
    8: _status("POST", "/servers/{id}/remote-consoles", {"remote_console": {"protocol": "mks", "type": "webmks"}}),
    99: _status(
        "POST", "/servers/{id}/remote-consoles", {"remote_console": {"protocol": "spice", "type": "spice-direct"}}
    ),
}  # fmt: skip
ALONE = {45, 69}  # wants an idle server; takes a cell away
ELSEWHERE = {72}  # ports of Neutron's: tests/unit/test_neutron_ports.py


def test_the_table_says_something_of_every_microversion_up_to_the_maximum() -> None:
    assert list(ROWS) == list(range(2, LAST.minor + 1))


@pytest.fixture(scope="module")
def shared(top_template: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all that leaves it usable."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "top.db").write_bytes(top_template)
    database = Database(f"sqlite:///{folder / 'top.db'}")
    made = World(database, folder)
    yield made
    made.close()
    database.close()


@pytest.mark.parametrize("minor", [minor for minor, here in ROWS.items() if here == "served"])
def test_what_is_served_is_there_from_its_microversion_on(request: pytest.FixtureRequest, minor: int) -> None:
    world = request.getfixturevalue("world" if minor in ALONE else "shared")
    probe, below, at = SERVED[minor]
    assert (probe(world, f"2.{minor - 1}"), probe(world, f"2.{minor}")) == (below, at)


def test_nothing_is_probed_that_the_table_does_not_promise() -> None:
    assert SERVED.keys() == {minor for minor, here in ROWS.items() if here == "served"}
    assert REFUSED.keys() | ELSEWHERE == {minor for minor, here in ROWS.items() if here.startswith("refused")}


@pytest.mark.parametrize("minor", REFUSED)
def test_what_is_refused_is_refused(shared: World, minor: int) -> None:
    assert REFUSED[minor](shared, f"2.{minor}") == 400


def _served() -> tuple[set[str], set[str]]:
    """(methods with paths, actions), with every word in braces as {id}."""
    routes: set[str] = set()
    actions: set[str] = set()
    for resource in RESOURCES:
        for route in resource.routes:
            if resource.name != "gone":
                routes.add(f"{route.method} {re.sub('<[^>]*>', '{id}', route.path)}")
            if isinstance(route.rule, Actions):
                actions |= route.rule.by_name.keys()
    return routes, actions


def test_what_the_table_says_is_not_served_is_not() -> None:
    routes, actions = _served()
    for minor, here in ROWS.items():
        if here.startswith("not served"):
            named = re.findall("`([^`]+)`", here)
            assert named, minor
            assert not set(named) & (routes | actions), f"2.{minor} is served: say so, and ask for it here"


def test_what_the_table_says_is_gone_is(shared: World) -> None:
    for here in ROWS.values():
        if here.startswith("gone"):
            method, path = re.findall("`([A-Z]+) ([^`]+)`", here)[0]
            assert shared.call(method, path.replace("{id}", "x")).status_code == 410
