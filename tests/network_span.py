"""Networks that span two nodes, with namespaces for guests, and routers between them."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cellcloud.model.network import FixedIp, Port
from cellcloud.model.network_plan import (
    GroupPlan,
    GroupRule,
    NetworkPlan,
    PlanChanges,
    PlannedPort,
    PlannedSubnet,
    RouterPlan,
    key_of,
)
from tests.libvirt_node import LibvirtNode, make_port
from tests.network_host import Host, guest_of

GROUP = "11111111-0000-4000-8000-000000000000"
ALL = tuple(GroupRule(ingress=ingress, ipv6=ipv6) for ingress in (True, False) for ipv6 in (False, True))
ECHO = """
import socket, sys, threading
server = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], 80)); server.listen(); print("ready", flush=True)
def answer(one):
    total = 0
    try:
        while data := one.recv(65536):
            total += len(data)
            if data.endswith(b"."):
                one.sendall(sys.argv[2].encode() + b" %d" % total)
    except OSError:
        pass
while True:
    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
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
    rules: tuple[GroupRule, ...] = ALL
    version: int = 0
    placed: list[tuple[Port, int]] = field(default_factory=list)
    routers: list[RouterPlan] = field(default_factory=list)

    def add(self, number: int, host: int, *, network: int = 1, **where: str) -> Port:
        """Plug a guest on a host, with both kinds of addresses."""
        port = make_port(number, network=network, **where)
        six = FixedIp(ip_address=f"fd00:20::{number + 10:x}", subnet_id="six", cidr="fd00:20::/64")
        port = replace(port, fixed_ips=(*port.fixed_ips, six))
        self.placed.append((port, host))
        self.tell()
        self.hosts[host].plug(port)
        return port

    def tell(self) -> None:
        """Give both hosts the plans of all that there is."""
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
        for router in self.routers:
            for leg in router.legs:
                known = plans[leg.network_id]
                held = tuple((known.subnets[0].id, address.partition("/")[0]) for address in leg.addresses)
                own = PlannedPort(id=leg.port_id, mac_address=leg.mac_address, addresses=held, host=router.host)
                plans[leg.network_id] = replace(known, ports=(*known.ports, own))
        group = GroupPlan(id=GROUP, version=self.version, rules=self.rules)
        for host in self.hosts:
            mine = tuple(replace(one, version=self.version) for one in self.routers if one.host == host.options.host)
            gone = [one for one in host.plans.routers if one not in {each.id for each in mine}]
            removed = tuple(key_of("router", one) for one in gone)
            networks = tuple(plans.values())
            host.plan(PlanChanges(networks=networks, groups=(group,), routers=mine, removed=removed))

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


@contextmanager
def two_nodes() -> Iterator[list[LibvirtNode]]:
    """Two nodes on one management network."""
    first = LibvirtNode()
    second = LibvirtNode(beside=first)
    yield [first, second]
    second.close()
    first.close()


@contextmanager
def spanning(nodes: list[LibvirtNode], ignored: Collection[str] = ()) -> Iterator[Span]:
    """Networks over both, of which nothing may be left. ``ignored``: namespaces of the test's own."""
    span = Span([Host(node) for node in nodes])
    yield span
    for host in span.hosts:
        host.unplug_all()
    for host in span.hosts:
        held = {what: [one for one in things if one not in ignored] for what, things in host.node.held().items()}
        assert {what: things for what, things in held.items() if things} == {}
