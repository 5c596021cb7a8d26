"""Ports of servers that exist: made or lent one by one, bound with the others, released alone."""

from __future__ import annotations

import pytest

from cellcloud import errors
from cellcloud.model.network import Port, RequestedNetwork
from tests.contract.test_clients import SERVER, Clients, clients

__all__ = ["clients"]
ONE = SERVER.format(1)


def add(clients: Clients, port_id: str | None = None) -> Port:
    network_id = None if port_id else clients.default()[0].network_id
    asked = RequestedNetwork(network_id=network_id, port_id=port_id)
    return clients.networks.add_port(ONE, clients.demo, asked, zone="nova")


def bind(clients: Clients, host: str, placement: int = 0) -> tuple[Port, ...]:
    return clients.networks.ensure_ports(
        server_id=ONE,
        project_id=clients.demo,
        host=host,
        zone="nova",
        hostname="vm",
        requested=clients.default(),
        anew=False,
        placement=placement,
    )


def test_ports_that_are_added_are_bound_with_the_others(clients: Clients) -> None:
    (first,) = clients.ensure(1, clients.default())
    lent = clients.own_port()
    more = [add(clients), add(clients, port_id=lent)]
    assert [(port.owned, port.host_id) for port in more] == [(True, ""), (False, "")]
    assert {port.device_id for port in more} == {ONE}
    assert len(more[0].security_groups) == 1, "its project's default group"
    states = clients.networks.list_states(ONE)
    assert states == {first.id: "ACTIVE", **{port.id: "DOWN" for port in more}}
    for host in ("h1", "h2"):
        found = bind(clients, host)
        assert found[0].id == first.id
        assert {port.id for port in found} == {first.id, *(port.id for port in more)}
        assert {port.host_id for port in found} == {host}
    assert set(clients.networks.list_states(ONE).values()) == {"ACTIVE"}


def test_one_port_is_released_alone(clients: Clients) -> None:
    (first,) = clients.ensure(1, clients.default())
    lent, made = clients.own_port(), add(clients)
    add(clients, port_id=lent)
    for port_id in (made.id, lent):
        for _ in range(2):
            clients.networks.release_port(ONE, port_id)
    clients.networks.release_port(SERVER.format(2), first.id)
    assert [port.id for port in clients.networks.list_ports(ONE)] == [first.id]
    add(clients, port_id=lent)  # it is free again
    bind(clients, "h1", placement=3)
    clients.networks.release_port(ONE, first.id, placement=2)
    assert len(clients.networks.list_ports(ONE)) == 2, "a later placement has it"
    clients.networks.delete_ports(ONE, placement=3)
    assert clients.networks.list_ports(ONE) == ()


def test_what_cannot_be_added(clients: Clients) -> None:
    (first,) = clients.ensure(1, clients.default())
    taken = first.fixed_ips[0].ip_address
    unknown = SERVER.format(9)
    for kind, wanted in (
        (errors.Conflict, RequestedNetwork(port_id=first.id)),
        (errors.NotFound, RequestedNetwork(port_id=unknown)),
        (errors.NotFound, RequestedNetwork(port_id=clients.own_port("admin"))),
        (errors.NotFound, RequestedNetwork(network_id=unknown)),
        (errors.Conflict, RequestedNetwork(network_id=first.network_id, fixed_ip=taken)),
    ):
        with pytest.raises(kind):
            clients.networks.add_port(ONE, clients.demo, wanted, zone="nova")
    assert len(clients.networks.list_states(ONE)) == 1


def test_a_port_is_given_other_addresses(clients: Clients) -> None:
    (first,) = clients.ensure(1, clients.default())
    (held,) = first.fixed_ips
    clients.networks.set_addresses(first, [(held.subnet_id, held.ip_address), (held.subnet_id, None)])
    (now,) = clients.networks.list_ports(ONE)
    assert len(now.fixed_ips) == 2
    other = next(ip for ip in now.fixed_ips if ip.ip_address != held.ip_address)
    clients.networks.set_addresses(now, [(other.subnet_id, other.ip_address)])
    assert clients.networks.list_ports(ONE)[0].fixed_ips == (other,)
