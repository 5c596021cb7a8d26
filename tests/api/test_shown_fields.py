"""Each field that an answer declares is really shown: every list and every thing, just below each microversion at
which its answer changes and at it. That no other field is shown is checked of every answer of these tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from cellcloud.db.engine import Database
from cellcloud.embedded.routers import WantedGateway
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.image import Image
from cellcloud.model.network import Network, Subnet
from cellcloud.model.numa import GuestCell, GuestNuma, Placed
from cellcloud.model.router import FloatingIp, VirtualRouter
from cellcloud.model.security_group import SecurityGroupRule
from cellcloud.model.server import ServerFault
from cellcloud.server_states import VmState
from tests.api.declared_answers import ROUTES
from tests.api.test_migrations import AT, make_migration
from tests.api.test_server_operations import take_in
from tests.api.world import DEMO, TOKEN, World, port_of
from top_api.microversion import Microversion
from top_api.request_pipeline import Route
from top_api.response_schema import NEVER, NOTHING, Fields, body_at, inner_parts

SHOWN = {
    endpoint: route
    for endpoint, route in ROUTES.items()
    if route.method == "GET" and route.answer not in (None, NEVER, NOTHING)
}
_ONE, _USED = "?limit=1", "?limit=1&detailed=1&start=2026-01-01T00:00:00"
QUERIES: dict[str, tuple[str, ...]] = {
    "/servers": (_ONE,),
    "/servers/detail": (_ONE, "?all_tenants=1"),
    "/servers/<server_id>/os-instance-actions": (_ONE,),
    "/flavors": (_ONE,),
    "/flavors/detail": (_ONE,),
    "/images": (_ONE,),
    "/images/detail": (_ONE, ""),
    "/os-keypairs": (_ONE,),
    "/os-migrations": (_ONE,),
    "/os-hypervisors": (_ONE, "?limit=1&with_servers=true"),
    "/os-hypervisors/detail": (_ONE, "?limit=1&with_servers=true"),
    "/os-hypervisors/<identifier>": ("", "?with_servers=true"),
    "/os-simple-tenant-usage": (_USED,),
    "/os-simple-tenant-usage/<project_id>": (_USED.replace("&detailed=1", ""),),
}
NEVER_SHOWN: dict[str, str] = {}


def _steps(route: Route) -> list[Microversion]:
    """The first and the last microversion of the route, and those around each change of its answer."""
    assert route.answer is not None
    minors = {route.since[1], route.until[1]}
    for part in inner_parts(route.answer):
        if isinstance(part, Fields):
            for fields in part.fields.values():
                minors |= {minor for field in fields for minor in (field.since, field.until + 1)}
        minors |= set(getattr(part, "changes", ()))
    around = minors | {minor - 1 for minor in minors}
    return [Microversion(2, minor) for minor in sorted(around) if route.since[1] <= minor <= route.until[1]]


def _declared(schema: Any, path: str = "") -> Iterator[str]:
    """Each field, as the names on the way to it; what is in lists and maps as if it were one."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _declared(inner, f"{path}.{name}")
    inside = (schema.get("items"), schema.get("additionalProperties"), *schema.get("prefixItems", ()))
    for inner in (*inside, *schema.get("anyOf", ())):
        if isinstance(inner, dict):
            yield from _declared(inner, path)


def _seen(schema: Any, value: Any, path: str = "") -> Iterator[str]:
    """The fields of ``_declared`` that an answer has."""
    for inner in schema.get("anyOf", ()):
        yield from _seen(inner, value, path)
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        for number, each in enumerate(value):
            yield from _seen(first[number] if number < len(first) else schema["items"], each, path)
    if isinstance(value, dict):
        for name, each in value.items():
            known = schema.get("properties", {}).get(name)
            if known is not None:
                yield f"{path}.{name}"
                yield from _seen(known, each, f"{path}.{name}")
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from _seen(schema["additionalProperties"], each, path)


@pytest.fixture(scope="module")
def full(top_template: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, str]]]:
    """A world with something of everything, and what stands for the words of paths."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "top.db").write_bytes(top_template)
    database = Database(f"sqlite:///{folder / 'top.db'}")
    world = World(database, folder)
    yield world, _filled(world)
    world.close()
    database.close()


def _floating(world: World) -> FloatingIp:
    """A floating IP of DEMO's, forwarded to its server's port."""
    networks, admin = world.networks.embedded, Viewer(project_id="", is_admin=True)
    outer = networks.create_network(admin, Network(id="", name="public", external=True)).id
    networks.create_subnet(admin, Subnet(id="", network_id=outer, cidr="203.0.113.0/24"))
    (record,) = [one for one in networks.list_port_records(admin) if one.port.device_id]
    router = networks.routers.create_router(
        admin, VirtualRouter(id="", project_id=DEMO), WantedGateway(network_id=outer)
    )
    networks.routers.add_interface(admin, router.id, subnet_id=record.port.fixed_ips[0].subnet_id)
    wanted = FloatingIp(id="", project_id=DEMO, floating_network_id=outer, port_id=record.port.id)
    return networks.floating_ips.create_floating_ip(admin, wanted)


def _filled(world: World) -> dict[str, str]:
    specs = {"hw:cpu_policy": "dedicated", "hw:mem_page_size": "2048"}
    world.post("/flavors/1/os-extra_specs", {"extra_specs": specs}, token="admin")
    hidden = {"name": "f", "id": "hidden", "ram": 1, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
    world.post("/flavors", {"flavor": hidden}, token="admin")
    world.post("/flavors/hidden/os-extra_specs", {"extra_specs": {"a": "b"}}, token="admin")
    world.post("/flavors/hidden/action", {"addTenantAccess": {"tenant": DEMO}}, token="admin")
    for token in ("member", "admin"):
        world.post("/os-keypairs", {"keypair": {"name": "k"}}, token=token)
    rules = {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 9}}
    group = world.post("/os-server-groups", {"server_group": rules}, version="2.64").get_json()["server_group"]["id"]
    aggregate = world.post("/os-aggregates", {"aggregate": {"name": "a"}}, token="admin").get_json()["aggregate"]["id"]
    for body in ({"add_host": {"host": "east-1"}}, {"set_metadata": {"metadata": {"a": "b"}}}):
        world.post(f"/os-aggregates/{aggregate}/action", body, token="admin")
    world.west.full = True
    faulty, server = world.create(), world.create(metadata={"a": "b"}, key_name="k")
    world.call("PUT", f"/servers/{server}/tags/a", version="2.26")
    volume = world.volumes.add(project_id=DEMO).id
    world.post(f"/servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume}})
    taken = {"snapshot": {"volume_id": volume, "force": True, "display_name": "s", "display_description": "d"}}
    snapshot = world.post("/os-snapshots", taken, version="2.35").get_json()["snapshot"]["id"]
    port_of(world, server)
    groups = world.networks.security_group_client
    (default,) = groups.list_groups(DEMO)
    rule = SecurityGroupRule(id="", security_group_id=default.id, protocol="tcp", port_range_min=1, port_range_max=2)
    groups.create_rule(DEMO, rule)
    floating = _floating(world)
    image = {"instance_uuid": server, "auto_disk_config": "True", "a": "b"}
    world.images.create_image(Image(id=str(UUID(int=99)), name="i", visibility="public", properties=image))
    action = world.get(f"/servers/{server}/os-instance-actions").get_json()["instanceActions"][0]["request_id"]
    cell, fault = world.cell_of(faulty), ServerFault(code=500, message="m", created=AT, details="d")
    take_in(world, cell.change(faulty, vm_state=VmState.ERROR, fault=fault))
    cell = world.cell_of(server)
    pinned = GuestCell(id=1, pcpuset=(0, 1), memory=512, cpu_policy="dedicated", cpu_pinning=((0, 6), (1, 7)))
    spec = replace(cell.servers[server].spec, placed=Placed(guest=GuestNuma(cells=(pinned,))))
    take_in(world, cell.change(server, spec=spec, migrations=(make_migration(1),)))
    return {
        "<server_id>": server,
        "<request_id>": action,
        "faulty": faulty,
        "<flavor_id>": "hidden",
        "<security_group_id>": default.id,
        "<floating_ip_id>": floating.id,
        "<network_id>": next(
            one.id for one in world.networks.floating_ip_client.list_networks(DEMO) if not one.external
        ),
        "<snapshot_id>": snapshot,
        "<group_id>": group,
        "<aggregate_id>": str(aggregate),
        "<key>": "a",
        "<network>": "private",
        "<project_id>": DEMO,
        "<name>": "k",
        "<alias>": "os-keypairs",
        "<token>": TOKEN,
        "<pattern>": "east",
        "<host>": "east-1",
        "<before>": "2026-11-01 00:00:00",
        "<tag>": "a",
        "<volume_id>": volume,
        "<port_id>": world.cell_of(server).servers[server].ports[0].id,
        "<image_id>": str(UUID(int=99)),
    }


@pytest.mark.parametrize("endpoint", SHOWN)
def test_what_is_declared_is_shown(full: tuple[World, dict[str, str]], endpoint: str) -> None:
    (world, values), route = full, SHOWN[endpoint]
    declared: set[str] = set()
    seen: set[str] = set()
    answered = False
    assert route.answer is not None
    for version in _steps(route):
        schema = body_at(route.answer, version)
        declared |= set(_declared(schema))
        for token in ("member", "admin"):
            for path in _paths(world, route, values, version):
                answer = world.get(path, token=token, version=str(version))
                assert answer.status_code in (200, 400, 403, 404), answer.text
                if answer.status_code == 200:
                    answered = True
                    seen |= set(_seen(schema, answer.get_json()))
    assert answered
    assert declared - seen - NEVER_SHOWN.keys() == set()


def _paths(world: World, route: Route, values: dict[str, str], version: Microversion) -> Iterator[str]:
    path = route.path
    if path.startswith(("/v2", "/os-hypervisors/<identifier>")):
        hosts = world.get("/os-hypervisors", token="admin", version=str(version)).get_json()["hypervisors"]
        path = path.replace("<identifier>", str(hosts[0]["id"]))
    for word, value in values.items():
        path = path.replace(word, "default" if word == "<name>" and "class" in path else value)
    yield from (f"{path}{query}" for query in QUERIES.get(route.path, ("",)))
    if "<server_id>" in route.path:
        yield path.replace(values["<server_id>"], values["faulty"])
