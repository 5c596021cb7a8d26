"""Ports of servers at the API: what is answered, what is refused, and that nothing refused holds a port."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network, NewPort, Subnet
from cellcloud.server_states import VmState
from tests.api.world import DEMO, NETWORK, OTHER, World
from top_api.operations.interfaces import MOST_PORTS
from top_api.operations.server_in_cell import save_answer

ADMIN = Viewer(project_id="", is_admin=True)
UNKNOWN = str(uuid.UUID(int=77))
FIELDS = {"net_id", "port_id", "mac_addr", "port_state", "fixed_ips"}


def at(server_id: str, port_id: str = "") -> str:
    return f"/servers/{server_id}/os-interface" + (f"/{port_id}" if port_id else "")


def attach(world: World, server_id: str, version: str = "2.70", **wanted: Any) -> Any:
    return world.post(at(server_id), {"interfaceAttachment": wanted}, version=version)


def a_network(world: World, project_id: str = DEMO, cidr: str = "10.9.0.0/29") -> str:
    networks = world.networks.embedded
    network = networks.create_network(ADMIN, Network(id="", name="blue", project_id=project_id)).id
    if cidr:
        networks.create_subnet(ADMIN, Subnet(id="", network_id=network, cidr=cidr, project_id=project_id))
    return network


def a_port(world: World, network_id: str, project_id: str = DEMO, **values: Any) -> str:
    new = NewPort(network_id=network_id, project_id=project_id, **values)
    return world.networks.embedded.create_ports(ADMIN, [new])[0].port.id


def ports_of(world: World, server_id: str) -> list[str]:
    """As the network service has them."""
    return list(world.networks.embedded.list_states(server_id))


def test_attached_shown_and_detached(world: World) -> None:
    server_id, network = world.create(), a_network(world)
    lent = a_port(world, network)
    made = attach(world, server_id, net_id=network, fixed_ips=[{"ip_address": "10.9.0.5"}], tag="nic")
    assert made.status_code == 200, made.text
    first = made.get_json()["interfaceAttachment"]
    assert set(first) == FIELDS | {"tag"}
    assert (first["net_id"], first["fixed_ips"][0]["ip_address"], first["tag"]) == (network, "10.9.0.5", "nic")
    assert attach(world, server_id, port_id=lent).get_json()["interfaceAttachment"]["port_id"] == lent
    for version, fields in (("2.1", FIELDS), ("2.69", FIELDS), ("2.70", FIELDS | {"tag"})):
        listed = world.get(at(server_id), version=version).get_json()["interfaceAttachments"]
        assert [one["port_id"] for one in listed][1:] == [first["port_id"], lent]
        assert {frozenset(one) for one in listed} == {frozenset(fields)}
        assert world.get(at(server_id, lent), version=version).get_json()["interfaceAttachment"] == listed[2]
    assert "blue" in world.get(f"/servers/{server_id}").get_json()["server"]["addresses"]
    for port_id in (first["port_id"], lent):
        assert world.call("DELETE", at(server_id, port_id)).status_code == 202
        assert world.get(at(server_id, port_id)).status_code == 404
    kept = world.networks.embedded.list_port_records(ADMIN)
    assert [(one.port.id, one.port.device_id) for one in kept] == [(lent, "")], "only what was made for it is deleted"
    events = world.get(f"/servers/{server_id}/os-instance-actions").get_json()["instanceActions"]
    assert [one["action"] for one in events][:4] == ["detach_interface"] * 2 + ["attach_interface"] * 2


def test_the_one_network_is_taken_where_none_is_named(world: World) -> None:
    server_id = world.create()
    for body in ({}, {"interfaceAttachment": {}}):
        answer = world.post(at(server_id), body)
        assert answer.get_json()["interfaceAttachment"]["net_id"] == NETWORK


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "both": ({"net_id": UNKNOWN, "port_id": UNKNOWN}, 400, "Must not input both network_id and port_id"),
    "an address alone": ({"fixed_ips": [{"ip_address": "10.9.0.5"}]}, 400, "Must input network_id when request IP"),
    "two addresses": ({"net_id": UNKNOWN, "fixed_ips": [{"ip_address": "10.9.0.5"}] * 2}, 400, "too long"),
    "no network": ({"net_id": UNKNOWN}, 404, f"Network {UNKNOWN} could not be found."),
    "another's network": ({"net_id": "theirs"}, 404, "could not be found."),
    "no port": ({"port_id": UNKNOWN}, 404, f"Port id {UNKNOWN} could not be found."),
    "another's port": ({"port_id": "their port"}, 404, "could not be found."),
    "a port in use": ({"port_id": "used port"}, 409, "is still in use."),
    "a port without an address": ({"port_id": "bare port"}, 400, "requires a FixedIP in order to be used."),
    "a network without a subnet": ({"net_id": "bare"}, 400, "requires a subnet in order to boot instances on."),
    "a network that is full": ({"net_id": "full"}, 400, "No fixed IP addresses available for network: "),
    "an address in use": ({"net_id": "mine", "fixed_ips": [{"ip_address": "10.9.0.2"}]}, 409, "is already in use"),
    "another network's": ({"net_id": "mine", "fixed_ips": [{"ip_address": "10.8.0.2"}]}, 400, ""),
    "a tag before its time": ({"net_id": "mine", "tag": "t"}, 400, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_holds_nothing(world: World, name: str) -> None:
    wanted, status, text = REFUSED[name]
    mine, theirs = a_network(world), a_network(world, OTHER)
    full, bare = a_network(world, cidr="10.7.0.0/30"), a_network(world, cidr="")
    a_port(world, full)
    known = {
        "mine": mine,
        "theirs": theirs,
        "full": full,
        "bare": bare,
        "their port": a_port(world, theirs, OTHER),
        "used port": a_port(world, mine, device_id="x", addresses=((None, "10.9.0.2"),)),
        "bare port": a_port(world, mine, addresses=()),
    }
    server_id = world.create()
    asked = {key: known.get(value, value) if isinstance(value, str) else value for key, value in wanted.items()}
    answer = attach(world, server_id, "2.48" if "tag" in asked else "2.70", **asked)
    assert answer.status_code == status, answer.text
    assert text in answer.text
    assert ports_of(world, server_id) == []


def test_quotas_of_ports_hold_and_there_is_a_most(world: World) -> None:
    server_id, network = world.create(), a_network(world)
    world.networks.embedded.set_quotas(DEMO, {"port": 1})
    assert attach(world, server_id, net_id=network).status_code == 200
    answer = attach(world, server_id, net_id=network)
    assert (answer.status_code, answer.get_json()["forbidden"]["message"]) == (403, "Maximum number of ports exceeded")
    cell = world.cell_of(server_id)
    many = tuple(replace(cell.servers[server_id].ports[0], id=str(uuid.UUID(int=n))) for n in range(MOST_PORTS))
    save_answer(world.database, cell.change(server_id, ports=many), cell.name)
    assert attach(world, server_id, net_id=network).status_code == 403


@pytest.mark.parametrize(("away", "status", "held"), [(False, 409, 0), (True, 503, 1)])
def test_a_port_is_given_back_when_the_cell_refuses(world: World, away: bool, status: int, held: int) -> None:
    """One that the cell may have begun with stays: it goes with its server."""
    server_id, network = world.create(), a_network(world)
    cell = world.cell_of(server_id)
    if away:
        cell.unheard = True
    else:
        cell.change(server_id, vm_state=VmState.SUSPENDED)
    assert attach(world, server_id, net_id=network).status_code == status
    assert len(ports_of(world, server_id)) == held


def test_a_port_that_is_being_attached_or_detached(world: World) -> None:
    server_id, network = world.create(), a_network(world)
    cell = world.cell_of(server_id)
    cell.slow = True
    port_id = attach(world, server_id, net_id=network).get_json()["interfaceAttachment"]["port_id"]
    assert world.get(at(server_id, port_id)).get_json()["interfaceAttachment"]["port_state"] == "DOWN"
    record = cell.servers[server_id]
    save_answer(world.database, cell.end_port(record, record.ports[-1]), cell.name)
    assert world.get(at(server_id, port_id)).get_json()["interfaceAttachment"]["port_state"] == "ACTIVE"
    assert world.call("DELETE", at(server_id, port_id)).status_code == 202
    assert world.get(at(server_id, port_id)).status_code == 200
    assert world.call("DELETE", at(server_id, UNKNOWN)).status_code == 404


def test_addresses_more_and_less(world: World) -> None:
    server_id, network = world.create(), a_network(world)
    port_id = attach(world, server_id, net_id=network).get_json()["interfaceAttachment"]["port_id"]

    def act(name: str, **given: str) -> int:
        return world.post(f"/servers/{server_id}/action", {name: given}, version="2.43").status_code

    def held() -> list[str]:
        found = world.networks.embedded.get_port(ADMIN, port_id).port
        cell = world.cell_of(server_id)
        known = cell.servers[server_id].ports
        save_answer(world.database, cell.change(server_id, ports=(*known[:-1], found)), cell.name)
        return [ip.ip_address for ip in found.fixed_ips]

    assert len(held()) == 1
    assert act("addFixedIp", networkId=network) == 202
    first, second = held()
    assert act("addFixedIp", networkId=UNKNOWN) == 404
    assert act("removeFixedIp", address=first) == 202
    assert held() == [second]
    assert act("removeFixedIp", address="203.0.113.9") == 400
    assert [event.name for event in world.cell_of(server_id).events] == ["network-changed"] * 2
