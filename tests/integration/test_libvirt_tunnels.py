"""Networks that span two nodes, with namespaces for guests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from cell.compute.drivers.libvirt.network_device_names import bridge_name, tunnel_name
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.network_plan import GroupPlan, GroupRule, NetworkPlan, PlanChanges, PlannedPort, PlannedSubnet
from tests.libvirt_node import LibvirtNode, make_port, wait_until
from tests.network_host import Host, guest_of

GROUP = "11111111-0000-4000-8000-000000000000"
ALL = tuple(GroupRule(ingress=ingress, ipv6=ipv6) for ingress in (True, False) for ipv6 in (False, True))
ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], 80)); server.listen(); print("ready", flush=True)
while True:
    one, _ = server.accept()
    total = 0
    while data := one.recv(65536):
        total += len(data)
        if data.endswith(b"."):
            one.sendall(sys.argv[2].encode() + b" %d" % total)
            break
    one.close()
"""
SAY = """
import socket, sys
try:
    one = socket.create_connection((sys.argv[1], 80), float(sys.argv[2]))
    one.settimeout(20)
    one.sendall(b"x" * 100000 + b".")
    print(one.recv(100).decode())
except OSError:
    print("nobody")
"""


@dataclass
class Span:
    """Two hosts, and the ports of all networks on them."""

    hosts: list[Host]
    version: int = 0
    placed: list[tuple[Port, int]] = field(default_factory=list)

    def add(self, number: int, host: int, *, network: int = 1) -> Port:
        port = make_port(number, network=network)
        six = FixedIp(ip_address=f"fd00:20::{number + 10:x}", subnet_id="six", cidr="fd00:20::/64")
        port = replace(port, fixed_ips=(*port.fixed_ips, six))
        self.placed.append((port, host))
        self.tell()
        self.hosts[host].plug(port)
        return port

    def tell(self) -> None:
        self.version += 1
        plans: dict[str, NetworkPlan] = {}
        endpoints = {host.options.host: host.node.node.ip for host in self.hosts}
        for port, place in self.placed:
            planned = PlannedPort(
                id=port.id,
                mac_address=port.mac_address,
                addresses=tuple((fixed.subnet_id, fixed.ip_address) for fixed in port.fixed_ips),
                host=self.hosts[place].options.host,
                groups=(GROUP,),
            )
            subnets = tuple(PlannedSubnet(id=f.subnet_id, cidr=f.cidr, gateway_ip=f.gateway_ip) for f in port.fixed_ips)
            empty = NetworkPlan(
                id=port.network_id,
                version=self.version,
                vni=4000 + int(port.network_id[:8]),
                subnets=subnets,
                endpoints=endpoints,
            )
            known = plans.setdefault(port.network_id, empty)
            plans[port.network_id] = replace(known, ports=(*known.ports, planned))
        group = GroupPlan(id=GROUP, version=self.version, rules=ALL)
        for host in self.hosts:
            host.plan(PlanChanges(networks=tuple(plans.values()), groups=(group,)))

    def serve(self, port: Port, host: int, address: str, name: str) -> subprocess.Popen[str]:
        argv = ["ip", "netns", "exec", guest_of(port), "python3", "-c", ECHO, address, name]
        serving = subprocess.Popen(self.hosts[host].node.node.wrap(argv), stdout=subprocess.PIPE, text=True)
        assert serving.stdout
        assert serving.stdout.readline() == "ready\n"
        return serving

    def say(self, port: Port, host: int, address: str, seconds: float = 20.0) -> str:
        return self.hosts[host].inside(port, "python3", "-c", SAY, address, str(seconds)).strip()

    def end(self, *serving: subprocess.Popen[str]) -> None:
        for host in self.hosts:
            host.node.kill("server.listen()")
        for one in serving:
            one.communicate()


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[LibvirtNode]]:
    first = LibvirtNode()
    second = LibvirtNode(beside=first)
    yield [first, second]
    second.close()
    first.close()


@pytest.fixture
def span(nodes: list[LibvirtNode]) -> Iterator[Span]:
    span = Span([Host(node) for node in nodes])
    yield span
    for host in span.hosts:
        host.unplug_all()
        assert {what: things for what, things in host.node.held().items() if things} == {}


def test_guests_of_one_network_talk_wherever_they_are(span: Span) -> None:
    """Those of another network with the same addresses and MACs hear nothing of it."""
    near, far = span.add(1, 0), span.add(2, 1)
    other_near, other_far = span.add(1, 0, network=2), span.add(2, 1, network=2)
    serving = [
        span.serve(far, 1, "10.20.0.12", "far"),
        span.serve(far, 1, "fd00:20::c", "far6"),
        span.serve(other_far, 1, "10.20.0.12", "other"),
    ]
    try:
        assert span.say(near, 0, "10.20.0.12") == "far 100001"
        assert span.say(near, 0, "fd00:20::c") == "far6 100001"
        assert span.say(other_near, 0, "10.20.0.12") == "other 100001"
    finally:
        span.end(*serving)


def test_neighbours_are_told_on_the_spot(span: Span) -> None:
    """No question goes to another host for an address that is planned there."""
    near, far = span.add(1, 0), span.add(2, 1)
    count = "/sys/class/net/eth0/statistics/rx_packets"
    for address in ("10.20.0.12", "fd00:20::c"):
        flag = ["-6"] if ":" in address else []
        span.hosts[1].inside(far, "ip", "link", "set", "eth0", "down")
        span.hosts[0].inside(near, "ip", *flag, "neigh", "flush", "dev", "eth0")
        span.hosts[0].inside(near, "python3", "-c", SAY, address, "0.2")
        seen = json.loads(span.hosts[0].inside(near, "ip", "-json", *flag, "neigh", "show", address))
        assert [one.get("lladdr") for one in seen] == [far.mac_address]
    assert span.hosts[1].inside(far, "cat", count)


def test_a_port_that_moves_is_found_at_its_new_host(span: Span) -> None:
    near, moving = span.add(1, 0), span.add(2, 1)
    serving = span.serve(moving, 1, "10.20.0.12", "before")
    try:
        assert span.say(near, 0, "10.20.0.12") == "before 100001"
    finally:
        span.end(serving)
    span.hosts[1].node.run("ip", "netns", "delete", guest_of(moving))
    record = span.hosts[1].records.pop()
    assert record.ports == (moving,)
    span.placed = [(near, 0), (moving, 0)]
    span.hosts[0].plug(moving)
    span.tell()
    wait_until(lambda: tunnel_name(near.network_id) not in span.hosts[0].node.run("ip", "-br", "link"))
    serving = span.serve(moving, 0, "10.20.0.12", "after")
    try:
        assert span.say(near, 0, "10.20.0.12") == "after 100001"
    finally:
        span.end(serving)
    assert bridge_name(near.network_id) not in span.hosts[1].node.run("ip", "-br", "link")


def test_gateways_and_metadata_of_a_network_are_each_host_s_own(span: Span) -> None:
    """Both hosts have the same address and MAC for them; neither is heard on the other."""
    near, far = span.add(1, 0), span.add(2, 1)
    for host, port in ((0, near), (1, far)):
        span.hosts[host].inside(port, "ip", "neigh", "flush", "dev", "eth0")
        assert span.hosts[host].reach(port, "10.20.0.1:9") == []  # it answers nothing but is found
        seen = json.loads(span.hosts[host].inside(port, "ip", "-json", "neigh", "show", "10.20.0.1"))
        assert seen[0].get("lladdr", "").startswith("02:")
    span.hosts[1].node.run("ip", "link", "set", f"ccv-{far.network_id[:11]}", "down")
    span.hosts[1].inside(far, "ip", "neigh", "flush", "dev", "eth0")
    assert span.hosts[1].reach(far, "10.20.0.1:9") == []
    seen = json.loads(span.hosts[1].inside(far, "ip", "-json", "neigh", "show", "10.20.0.1"))
    assert [one.get("lladdr") for one in seen] in ([], [None])


def test_guests_reach_no_endpoint_and_speak_no_tunnel(span: Span) -> None:
    near, _ = span.add(1, 0), span.add(2, 1)
    for host in span.hosts:
        assert span.hosts[0].reach(near, *(f"{host.node.node.ip}:{number}" for number in (4789, 22))) == []


def test_what_is_lost_of_a_tunnel_is_made_again(span: Span) -> None:
    near, far = span.add(1, 0), span.add(2, 1)
    serving = span.serve(far, 1, "10.20.0.12", "far")
    try:
        for loss in (
            ["ip", "link", "delete", tunnel_name(near.network_id)],
            ["ip", "link", "set", tunnel_name(near.network_id), "nomaster"],
        ):
            span.hosts[0].node.run(*loss)
            span.hosts[0].wiring = span.hosts[0].connect()  # as when its service starts again
            span.hosts[0].wiring.apply()
            assert span.say(near, 0, "10.20.0.12") == "far 100001"
    finally:
        span.end(serving)
