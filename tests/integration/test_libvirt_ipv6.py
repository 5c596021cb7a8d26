"""IPv6 by hosts: what guests learn of their subnets, and whom they do not believe."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cell.compute.drivers.libvirt.network_device_names import link_local
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.network_plan import (
    GroupPlan,
    GroupRule,
    NetworkPlan,
    PlanChanges,
    PlannedPort,
    PlannedSubnet,
    RouterLeg,
    RouterPlan,
)
from tests.libvirt_node import LibvirtNode, make_port, wait_until
from tests.network_host import Host, guest_of

GROUP = "11111111-0000-4000-8000-000000000000"
ROUTER, LEG = "99999999-0000-4000-8000-000000000000", "70000000-0000-4000-8000-000000000000"
PREFIX = "fd00:66::"
RESOLVER = "fd00:53::53"
# Asks as a client of DHCPv6 does (RFC 8415), and says which address it is offered.
SOLICIT = """
import os, socket, struct, sys
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
def option(number, body): return struct.pack("!HH", number, len(body)) + body
body = option(1, struct.pack("!HH", 3, 1) + mac) + option(3, struct.pack("!III", 1, 0, 0)) + option(8, bytes(2))
client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
client.bind(("::", 546)); client.settimeout(1)
for _ in range(30):
    client.sendto(b"\\x01abc" + body, ("ff02::1:2", 547, 0, socket.if_nametoindex("eth0")))
    try:
        told = client.recv(2000)
    except OSError:
        continue
    at = told.find(struct.pack("!HH", 5, 24))
    print(socket.inet_ntop(socket.AF_INET6, told[at + 4 : at + 20]) if at > 0 else "none")
    break
"""
REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 20)
except ConnectionRefusedError:
    print("reached")
"""
# Says that it is a router, for a prefix of its own, as nobody but one may.
ANNOUNCE = """
import socket, struct
wire = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 9000, 9000, 0, socket.inet_pton(socket.AF_INET6, "fd00:bad::"))
said = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
wire.sendto(said, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
"""


@pytest.fixture(scope="module")
def node() -> Iterator[LibvirtNode]:
    found = LibvirtNode()
    yield found
    found.close()


@pytest.fixture
def host(node: LibvirtNode) -> Iterator[Host]:
    host = Host(node)
    yield host
    host.unplug_all()
    assert {what: things for what, things in node.held().items() if things} == {}


def plan(host: Host, ports: list[Port], mode: str, *, routed: bool = False) -> None:
    fixed = ports[0].fixed_ips[0]
    subnets = (
        PlannedSubnet(id=fixed.subnet_id, cidr=fixed.cidr, gateway_ip=fixed.gateway_ip),
        PlannedSubnet(
            id="six", cidr=f"{PREFIX}/64", gateway_ip=f"{PREFIX}1", ipv6_mode=mode, dns_nameservers=(RESOLVER,)
        ),
    )
    planned = tuple(
        PlannedPort(
            id=port.id,
            mac_address=port.mac_address,
            addresses=tuple((one.subnet_id, one.ip_address) for one in port.fixed_ips),
            host=host.options.host,
            groups=(GROUP,),
        )
        for port in ports
    )
    version = 1 + max((one.version for one in host.plans.networks.values()), default=0)
    leg = RouterLeg(
        port_id=LEG, network_id=ports[0].network_id, mac_address="fa:16:3e:77:00:01", addresses=(f"{PREFIX}1/64",)
    )
    routers: tuple[RouterPlan, ...] = ()
    if routed:
        routers = (RouterPlan(id=ROUTER, version=version, host=host.options.host, legs=(leg,)),)
        own = PlannedPort(
            id=LEG, mac_address=leg.mac_address, addresses=(("six", f"{PREFIX}1"),), host=host.options.host
        )
        planned = (*planned, own)
    network = NetworkPlan(id=ports[0].network_id, version=version, subnets=subnets, ports=planned)
    rules = tuple(GroupRule(ingress=ingress, ipv6=True) for ingress in (True, False))
    group = GroupPlan(id=GROUP, version=version, rules=rules)
    host.plan(PlanChanges(networks=(network,), groups=(group,), routers=routers))


def with_six(port: Port, address: str) -> Port:
    six = FixedIp(ip_address=address, subnet_id="six", cidr=f"{PREFIX}/64", gateway_ip=f"{PREFIX}1")
    return replace(port, fixed_ips=(*port.fixed_ips, six))


def made_of(port: Port) -> str:
    """The address that a guest makes of its MAC in the announced prefix."""
    one, two, three, four, five, six = (int(part, 16) for part in port.mac_address.split(":"))
    return f"{PREFIX}{one ^ 2:02x}{two:02x}:{three:02x}ff:fe{four:02x}:{five:02x}{six:02x}"


def learn(host: Host, port: Port) -> None:
    """Let a guest forget what it has of IPv6 and listen to routers anew."""
    guest = guest_of(port)
    for setting in ("accept_ra=2", "addr_gen_mode=0", "accept_dad=0", "disable_ipv6=1", "disable_ipv6=0"):
        name, _, value = setting.partition("=")
        host.node.run("ip", "netns", "exec", guest, "sh", "-c", f"echo {value} >/proc/sys/net/ipv6/conf/eth0/{name}")


def addresses(host: Host, port: Port) -> set[str]:
    shown = json.loads(host.inside(port, "ip", "-json", "-6", "address", "show", "dev", "eth0"))
    return {one["local"] for link in shown for one in link["addr_info"] if one.get("scope") == "global"}


@pytest.mark.parametrize("mode", ["slaac", "dhcpv6-stateless", "dhcpv6-stateful"])
def test_guests_learn_their_subnet_and_believe_no_other(host: Host, mode: str) -> None:
    first, second = make_port(1), make_port(2)
    if mode == "dhcpv6-stateful":
        first, second = with_six(first, f"{PREFIX}b"), with_six(second, f"{PREFIX}c")
    else:
        first, second = with_six(first, made_of(first)), with_six(second, made_of(second))
    plan(host, [first, second], mode)
    for port in (first, second):
        host.plug(port)
        learn(host, port)
    if mode == "dhcpv6-stateful":
        assert host.inside(first, "python3", "-c", SOLICIT, first.mac_address).strip() == f"{PREFIX}b"
        host.inside(first, "ip", "address", "add", f"{PREFIX}b/64", "dev", "eth0", "nodad")
        host.inside(second, "ip", "address", "add", f"{PREFIX}c/64", "dev", "eth0", "nodad")
    else:
        for port in (first, second):
            own = {one.ip_address for one in with_six(make_port(0), made_of(port)).fixed_ips if ":" in one.ip_address}
            wait_until(lambda port=port, own=own: _same(addresses(host, port), own))
    assert host.inside(first, "python3", "-c", REACH, second.fixed_ips[-1].ip_address) == "reached\n"
    assert "default" not in host.inside(first, "ip", "-6", "route")

    host.inside(second, "python3", "-c", ANNOUNCE)
    assert host.inside(first, "python3", "-c", REACH, second.fixed_ips[-1].ip_address) == "reached\n"
    assert not any(one.startswith("fd00:bad") for one in addresses(host, first))
    assert "default" not in host.inside(first, "ip", "-6", "route")
    assert host.wiring.list_faults() == []


@pytest.mark.parametrize("mode", ["slaac", "dhcpv6-stateful"])
def test_a_router_announces_itself_and_nobody_else_does(host: Host, mode: str) -> None:
    """Where it is the gateway, and until it is gone."""
    port = make_port(1)
    port = with_six(port, made_of(port) if mode == "slaac" else f"{PREFIX}b")
    plan(host, [port], mode, routed=True)
    host.plug(port)
    learn(host, port)

    def way_out() -> set[str]:
        shown = json.loads(host.inside(port, "ip", "-json", "-6", "route", "show", "default"))
        return {str(one.get("gateway")) for one in shown}

    wait_until(lambda: way_out() == {link_local("fa:16:3e:77:00:01")}, 120.0)
    assert bool(addresses(host, port)) == (mode == "slaac")
    if mode == "dhcpv6-stateful":
        assert host.inside(port, "python3", "-c", SOLICIT, port.mac_address).strip() == f"{PREFIX}b"
    assert host.wiring.list_faults() == []
    host.plans = replace(host.plans, routers={})
    plan(host, [port], mode)
    assert host.wiring.list_faults() == []
    assert host.node.run("pgrep", "-f", "routers/", check=False) == ""


def _same(found: set[str], wanted: set[str]) -> bool:
    return {ipaddress.ip_address(one) for one in wanted} <= {ipaddress.ip_address(one) for one in found}
