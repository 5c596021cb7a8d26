"""Floating IPs and networks in the Compute API: proxies up to 2.35, a server's floating IPs up to 2.43."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cellcloud.embedded.routers import WantedGateway
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network, RequestedNetwork, Subnet
from cellcloud.model.router import VirtualRouter
from tests.api.test_server_operations import take_in
from tests.api.world import DEMO, World

ADMIN = Viewer(project_id="", is_admin=True)
NOWHERE = "00000000-0000-4000-8000-00000000000f"


def ask(world: World, method: str, path: str, body: Any = None, version: str | None = None) -> tuple[int, Any]:
    answer = world.call(method, path, body, version=version)
    return answer.status_code, answer.get_json() if answer.data else None


def addresses_of(world: World, server_id: str) -> list[dict[str, Any]]:
    """As the server is shown, alone and in the list with others."""
    shown: dict[str, Any] = ask(world, "GET", f"/servers/{server_id}")[1]["server"]["addresses"]
    listed = ask(world, "GET", "/servers/detail")[1]["servers"]
    assert [one["addresses"] for one in listed if one["id"] == server_id] == [shown]
    found: list[dict[str, Any]] = shown["inner"]
    return found


@pytest.fixture
def routed(world: World) -> tuple[World, str, str]:
    """A server of DEMO's with a port whose network a router leads out of; the id of that network."""
    networks = world.networks.embedded
    outer = networks.create_network(ADMIN, Network(id="", name="public", project_id="admin", external=True)).id
    networks.create_subnet(ADMIN, Subnet(id="", network_id=outer, cidr="203.0.113.0/28", project_id="admin"))
    inner = networks.create_network(ADMIN, Network(id="", name="inner", project_id=DEMO)).id
    subnet = networks.create_subnet(ADMIN, Subnet(id="", network_id=inner, cidr="10.0.0.0/24", project_id=DEMO)).id
    router = networks.routers.create_router(
        ADMIN, VirtualRouter(id="", project_id=DEMO), WantedGateway(network_id=outer)
    )
    networks.routers.add_interface(ADMIN, router.id, subnet_id=subnet)
    server_id = world.create()
    ports = networks.ensure_ports(
        server_id=server_id,
        project_id=DEMO,
        host="h",
        zone="",
        hostname="",
        requested=[RequestedNetwork(network_id=inner)],
    )
    take_in(world, world.cell_of(server_id).change(server_id, ports=ports))
    return world, server_id, inner


def test_a_floating_ip_is_taken_given_to_a_server_and_given_back(routed: tuple[World, str, str]) -> None:
    world, server_id, _ = routed
    assert ask(world, "GET", "/os-floating-ip-pools") == (200, {"floating_ip_pools": [{"name": "public"}]})
    status, body = ask(world, "POST", "/os-floating-ips", {"pool": "public"})
    made = body["floating_ip"]
    assert (status, made["pool"], made["fixed_ip"], made["instance_id"]) == (200, "public", None, None)
    assert ask(world, "POST", "/os-floating-ips", {"pool": "absent"})[0] == 404
    path = f"/os-floating-ips/{made['id']}"

    def act(action: str, version: str = "2.43", **more: str) -> int:
        wanted = {action: {"address": made["ip"], **more}}
        return ask(world, "POST", f"/servers/{server_id}/action", wanted, version)[0]

    assert act("addFloatingIp", fixed_address="10.0.0.250") == 400
    assert act("addFloatingIp", address="203.0.113.99") == 404
    assert act("addFloatingIp") == 202
    shown = ask(world, "GET", path)[1]["floating_ip"]
    assert (shown["instance_id"], shown["fixed_ip"][:7]) == (server_id, "10.0.0.")
    assert ask(world, "GET", "/os-floating-ips") == (200, {"floating_ips": [shown]})
    world.create()
    fixed, floating = addresses_of(world, server_id)
    assert (fixed["OS-EXT-IPS:type"], floating["OS-EXT-IPS:type"]) == ("fixed", "floating")
    assert (floating["addr"], floating["version"]) == (made["ip"], 4)
    assert floating["OS-EXT-IPS-MAC:mac_addr"] == fixed["OS-EXT-IPS-MAC:mac_addr"]
    for at in ("ips", "ips/inner"):
        listed = ask(world, "GET", f"/servers/{server_id}/{at}")[1]
        assert made["ip"] in [one["addr"] for one in listed.get("addresses", listed)["inner"]]
    assert act("removeFloatingIp") == 202
    assert [one["OS-EXT-IPS:type"] for one in addresses_of(world, server_id)] == ["fixed"]
    assert act("removeFloatingIp") == 409
    assert ask(world, "GET", path)[1]["floating_ip"] == made
    assert {act(name, "2.44") for name in ("addFloatingIp", "removeFloatingIp")} == {404}
    assert ask(world, "DELETE", path) == (202, None)
    assert [ask(world, method, path)[0] for method in ("GET", "DELETE")] == [404, 404]


def test_a_group_that_was_named_by_its_id_is_shown_by_its_name(routed: tuple[World, str, str]) -> None:
    world, server_id, _ = routed
    group = world.networks.security_group_client.create_group(DEMO, "web", "")
    cell = world.cell_of(server_id)
    spec = replace(cell.servers[server_id].spec, security_groups=(group.id, "default", NOWHERE))
    take_in(world, cell.change(server_id, spec=spec))
    shown = ask(world, "GET", f"/servers/{server_id}")[1]["server"]["security_groups"]
    assert [one["name"] for one in shown] == ["web", "default", NOWHERE]


def test_a_server_without_addresses_takes_no_floating_ip(routed: tuple[World, str, str]) -> None:
    world, _, _ = routed
    made = ask(world, "POST", "/os-floating-ips", {})[1]["floating_ip"]
    wanted = {"addFloatingIp": {"address": made["ip"]}}
    assert ask(world, "POST", f"/servers/{world.create()}/action", wanted)[0] == 400
    for _ in range(20):  # there are 13, of which a router has one
        status, error = ask(world, "POST", "/os-floating-ips", {"pool": "public"})
    assert status == 404, error


def test_networks_as_nova_network_had_them(routed: tuple[World, str, str]) -> None:
    world, _, inner = routed
    status, body = ask(world, "GET", "/os-networks")
    assert (status, [(one["id"], one["label"], one["cidr"]) for one in body["networks"]]) == (
        200,
        [(inner, "inner", None)],
    )
    assert ask(world, "GET", f"/os-networks/{inner}")[1]["network"] == body["networks"][0]
    tenants = {"id": inner, "label": "inner", "cidr": "None"}
    assert ask(world, "GET", "/os-tenant-networks") == (200, {"networks": [tenants]})
    assert ask(world, "GET", f"/os-tenant-networks/{inner}") == (200, {"network": tenants})
    for path in (f"/os-networks/{NOWHERE}", f"/os-tenant-networks/{NOWHERE}"):
        assert ask(world, "GET", path)[0] == 404
    for path in ("/os-networks", "/os-tenant-networks", "/os-floating-ips", "/os-floating-ip-pools"):
        assert ask(world, "GET", path, version="2.36")[0] == 404
