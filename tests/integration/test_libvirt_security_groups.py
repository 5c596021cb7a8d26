"""Security groups and anti-spoofing on a real node, with namespaces for guests that talk to each other."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from cellcloud.model.network import FixedIp, Port
from cellcloud.model.network_plan import (
    GroupPlan,
    GroupRule,
    NetworkPlan,
    PlanChanges,
    PlannedPort,
    PlannedSubnet,
    key_of,
)
from tests.libvirt_node import LibvirtNode, make_port, wait_until
from tests.network_host import Host, guest_of

WEB, PEERS = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
SERVE = textwrap.dedent("""
    import socket, sys, threading
    def answer(one):
        try:
            while data := one.recv(64):
                one.send(data)
        except OSError:
            pass
    def listen(server):
        while True:
            threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
    def echo(server):
        while True:
            server.sendto(*server.recvfrom(64))
    for number in map(int, sys.argv[1].split(",")):
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for kind, serve in ((socket.SOCK_STREAM, listen), (socket.SOCK_DGRAM, echo)):
                server = socket.socket(family, kind)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                server.bind((any_address, number))
                if kind == socket.SOCK_STREAM:
                    server.listen()
                threading.Thread(target=serve, args=(server,), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()
""")
ASK = textwrap.dedent("""
    import os, queue, socket, sys, threading, time
    answered = queue.Queue()
    def ask(place):
        kind, address, number = place.split(",")
        one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                            socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        one.settimeout(20.0)
        try:
            one.connect((address, int(number)))
            one.send(b"x")
            if one.recv(10) == b"x":
                answered.put(place)
        except OSError:
            pass
    places, wanted = (set(text.split()) for text in sys.argv[1:])
    for place in places:
        threading.Thread(target=ask, args=(place,), daemon=True).start()
    found, deadline = set(), time.monotonic() + 20.0
    while not wanted <= found and time.monotonic() < deadline:
        try:
            found.add(answered.get(timeout=1.0))
        except queue.Empty:
            pass
    time.sleep(0.7)
    while not answered.empty():
        found.add(answered.get())
    print(*sorted(found), flush=True)
    os._exit(0)
""")
TALK = textwrap.dedent("""
    import socket, sys
    one = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
    for line in sys.stdin:
        one.settimeout(float(line))
        try:
            one.send(b"x")
            print("answered" if one.recv(10)[:1] == b"x" else "ended", flush=True)
        except OSError:
            print("silent", flush=True)
""")
PING = textwrap.dedent("""
    import socket, struct, sys
    one = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    one.settimeout(1.0)
    body = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    total = sum(struct.unpack("!4H", body))
    one.sendto(struct.pack("!BBHHH", 8, 0, ~((total & 0xffff) + (total >> 16)) & 0xffff, 7, 1), (sys.argv[1], 0))
    try:
        print(*(one.recvfrom(100)[1][0],))
    except TimeoutError:
        pass
""")


@dataclass
class Tenant:
    """Ports on one network, planned and plugged."""

    host: Host
    version: int = 0
    ports: dict[str, tuple[Port, PlannedPort]] = field(default_factory=dict)
    groups: dict[str, GroupPlan] = field(default_factory=dict)

    def add(self, number: int, *, network: int = 1, **planned: object) -> Port:
        """A port with both kinds of addresses."""
        port = make_port(number, network=network)
        six = FixedIp(ip_address=f"fd00:20::{number + 10:x}", subnet_id="six", cidr="fd00:20::/64")
        port = replace(port, fixed_ips=(*port.fixed_ips, six))
        plan = PlannedPort(
            id=port.id,
            mac_address=port.mac_address,
            addresses=tuple((fixed.subnet_id, fixed.ip_address) for fixed in port.fixed_ips),
            **planned,  # type: ignore[arg-type]
        )
        self.ports[port.id] = port, plan
        self.tell()
        self.host.plug(port)
        return port

    def change(self, port: Port, **changes: object) -> None:
        self.ports[port.id] = port, replace(self.ports[port.id][1], **changes)  # type: ignore[arg-type]
        self.tell()

    def group(self, group_id: str, *rules: GroupRule, members: Sequence[str] = ()) -> None:
        self.version += 1
        group = GroupPlan(id=group_id, version=self.version, rules=rules, members=tuple(members))
        self.host.plan(PlanChanges(groups=(group,)))

    def tell(self) -> None:
        self.version += 1
        plans: dict[str, NetworkPlan] = {}
        for port, planned in self.ports.values():
            subnets = tuple(PlannedSubnet(id=f.subnet_id, cidr=f.cidr, gateway_ip=f.gateway_ip) for f in port.fixed_ips)
            known = plans.setdefault(
                port.network_id, NetworkPlan(id=port.network_id, version=self.version, subnets=subnets)
            )
            plans[port.network_id] = replace(known, ports=(*known.ports, planned))
        self.host.plan(PlanChanges(networks=tuple(plans.values())))

    @contextmanager
    def serve(self, port: Port, numbers: str = "80,81") -> Iterator[None]:
        """Echo on TCP and UDP in a guest."""
        argv = self.host.node.node.wrap(["ip", "netns", "exec", guest_of(port), "python3", "-c", SERVE, numbers])
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as serving:
            try:
                assert serving.stdout
                assert serving.stdout.readline() == "ready\n"
                yield
            finally:
                for pid in self.host.node.find_pids("threading.Event().wait()"):
                    self.host.node.run("kill", "-KILL", str(pid), check=False)
                serving.wait(10)

    def asks(self, port: Port, places: Sequence[str], answered: Sequence[str] = ()) -> bool:
        """Whether of the places (kind,address,number) just those answer the guest."""
        found = self.host.inside(port, "python3", "-c", ASK, " ".join(places), " ".join(answered)).split()
        assert found == sorted(answered)
        return True

    def ping(self, port: Port, address: str) -> bool:
        return self.host.inside(port, "python3", "-c", PING, address).split() == [address]


EGRESS = (GroupRule(ingress=False), GroupRule(ingress=False, ipv6=True))


def allow(number: int | None = None, protocol: int | None = 6, **more: object) -> GroupRule:
    return GroupRule(ingress=True, protocol=protocol, first=number, last=number, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def node() -> Iterator[LibvirtNode]:
    node = LibvirtNode()
    yield node
    node.close()


@pytest.fixture
def tenant(node: LibvirtNode) -> Iterator[Tenant]:
    tenant = Tenant(Host(node))
    yield tenant
    tenant.host.unplug_all()
    assert {what: things for what, things in node.held().items() if things} == {}


def test_nothing_begins_but_what_a_rule_lets_in(tenant: Tenant) -> None:
    tenant.group(WEB, *EGRESS)
    server, client = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(WEB,))
    four, six = "10.20.0.11", "fd00:20::b"
    every = [f"{kind},{address},{number}" for kind in ("tcp", "udp") for address in (four, six) for number in (80, 81)]
    with tenant.serve(server):
        assert tenant.asks(client, every, [])
        assert not tenant.ping(client, four)

        tenant.group(WEB, *EGRESS, allow(80))
        assert tenant.asks(client, every, [f"tcp,{four},80"])

        tenant.group(WEB, *EGRESS, allow(81, ipv6=True), allow(80, protocol=17), allow(8, protocol=1))
        assert tenant.asks(client, every, [f"tcp,{six},81", f"udp,{four},80"])
        assert not tenant.ping(client, four)  # type 8, code 8
        tenant.group(WEB, *EGRESS, GroupRule(ingress=True, protocol=1, first=8))
        assert tenant.ping(client, four)
        tenant.group(WEB, *EGRESS, GroupRule(ingress=True, protocol=1, first=8, last=0), allow(None, protocol=None))
        assert tenant.ping(client, four)
        assert tenant.asks(client, every, [place for place in every if four in place])

        # ranges of ports and of remotes, and what a client may not send
        tenant.group(
            WEB,
            *EGRESS,
            GroupRule(ingress=True, protocol=6, first=70, last=80, remote="10.20.0.12/31"),
            GroupRule(ingress=True, protocol=6, first=81, last=90, remote="10.20.0.0/30"),
        )
        assert tenant.asks(client, every, [f"tcp,{four},80"])
        tenant.group(WEB, allow(80))
        assert tenant.asks(client, every, [])
        tenant.group(WEB, allow(80), GroupRule(ingress=False, protocol=6, first=80, last=80, remote="10.20.0.11"))
        assert tenant.asks(client, every, [f"tcp,{four},80"])


def test_a_rule_that_goes_takes_its_connections_with_it(tenant: Tenant) -> None:
    """Whichever end speaks next; and others go on."""
    tenant.group(WEB, *EGRESS, allow(80), allow(81))
    server, client = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(WEB,))

    def talk(number: str) -> subprocess.Popen[str]:
        argv = ["ip", "netns", "exec", guest_of(client), "python3", "-c", TALK, "10.20.0.11", number]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(tenant.host.node.node.wrap(argv), text=True, **pipes)  # type: ignore[call-overload, no-any-return]

    def say(talker: subprocess.Popen[str], seconds: float) -> str:
        assert talker.stdin
        assert talker.stdout
        talker.stdin.write(f"{seconds}\n")
        talker.stdin.flush()
        return talker.stdout.readline().strip()

    with tenant.serve(server):
        cut, kept = talk("80"), talk("81")
        try:
            assert [say(cut, 10), say(kept, 10)] == ["answered", "answered"]
            tenant.group(WEB, *EGRESS, allow(81))
            assert say(kept, 10) == "answered"
            assert say(cut, 1) == "silent"
            tenant.group(WEB, *EGRESS, allow(81), allow(80))
            assert say(cut, 30) == "answered"  # what was lost meanwhile is sent again
        finally:
            for talker in (cut, kept):
                talker.communicate()


def test_members_of_a_group_are_let_in_wherever_they_are(tenant: Tenant) -> None:
    by_group = GroupRule(ingress=True, protocol=6, remote_group=PEERS)
    tenant.group(WEB, *EGRESS, by_group)
    tenant.group(PEERS, *EGRESS)
    server, client = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(PEERS,))
    with tenant.serve(server):
        assert tenant.asks(client, ["tcp,10.20.0.11,80"], [])
        tenant.group(PEERS, *EGRESS, members=["10.20.0.12", "fd00:20::c"])
        assert tenant.asks(client, ["tcp,10.20.0.11,80", "tcp,fd00:20::b,80"], ["tcp,10.20.0.11,80"])
        tenant.group(PEERS, *EGRESS, members=["10.20.0.99"])
        assert tenant.asks(client, ["tcp,10.20.0.11,80"], [])
        tenant.group(PEERS, *EGRESS, members=["10.20.0.12/30"])
        assert tenant.asks(client, ["tcp,10.20.0.11,80"], ["tcp,10.20.0.11,80"])


def test_networks_with_the_same_addresses_keep_their_connections_apart(tenant: Tenant) -> None:
    tenant.group(WEB, *EGRESS, allow(80))
    tenant.group(PEERS, *EGRESS)
    open_server, client = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(WEB,))
    tenant.add(1, network=2, groups=(PEERS,))
    other_client = tenant.add(2, network=2, groups=(PEERS,))
    with tenant.serve(open_server):
        for _ in range(2):
            assert tenant.asks(client, ["tcp,10.20.0.11,80"], ["tcp,10.20.0.11,80"])
            assert tenant.asks(other_client, ["tcp,10.20.0.11,80"], [])


def test_ports_that_no_plan_has_are_closed_once_there_are_plans(tenant: Tenant) -> None:
    tenant.group(WEB, *EGRESS, allow(80))
    server = tenant.add(1, groups=(WEB,))
    unplanned = replace(make_port(2), fixed_ips=make_port(2).fixed_ips)
    tenant.host.plug(unplanned)
    with tenant.serve(server):
        assert tenant.asks(unplanned, ["tcp,10.20.0.11,80"], [])
        tenant.change(server, groups=())
        tenant.add(3, groups=(WEB,))
        assert tenant.asks(tenant.ports[make_port(3).id][0], ["tcp,10.20.0.11,80"], [])


@pytest.mark.parametrize("port_security", [True, False])
def test_nothing_passes_a_port_that_is_administratively_down(tenant: Tenant, port_security: bool) -> None:
    tenant.group(WEB, *EGRESS, allow(80))
    server, client = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(WEB,))
    with tenant.serve(server):
        for port in (server, client):
            tenant.change(port, port_security=port_security)
            for up in (True, False, True):
                tenant.change(port, admin_state_up=up)
                assert tenant.asks(client, ["tcp,10.20.0.11,80"], ["tcp,10.20.0.11,80"] if up else [])


def test_a_guest_speaks_from_its_own_addresses_and_its_pairs(tenant: Tenant) -> None:
    tenant.group(WEB, *EGRESS, allow(80), allow(80, ipv6=True))
    server, client = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(WEB,))
    for address in ("10.20.0.50/24", "10.20.0.200/24", "fd00:20::50/64"):
        flag = ["nodad"] if ":" in address else []
        tenant.host.inside(client, "ip", "address", "add", address, "dev", "eth0", *flag)

    def reaches(source: str) -> bool:
        to = "fd00:20::b" if ":" in source else "10.20.0.11"
        code = (
            "import socket,sys; s=socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else 2); s.settimeout(1.5);"
            "s.bind((sys.argv[1],0)); s.connect((sys.argv[2],80)); print('yes')"
        )
        tenant.host.inside(client, "ip", "neigh", "flush", "all")
        return tenant.host.inside(client, "python3", "-c", code, source, to, check=False).strip() == "yes"

    with tenant.serve(server):
        assert [reaches(one) for one in ("10.20.0.12", "10.20.0.50", "fd00:20::50")] == [True, False, False]
        tenant.change(client, pairs=(("", "10.20.0.50/32"), ("", "10.20.0.192/26"), ("", "fd00:20::/64")))
        assert [reaches(one) for one in ("10.20.0.12", "10.20.0.50", "10.20.0.200")] == [True, True, True]
        assert reaches("fd00:20::50")
        tenant.host.inside(client, "ip", "link", "set", "eth0", "address", "fa:16:3e:99:99:99")
        assert not reaches("10.20.0.12")
        tenant.change(client, pairs=(("fa:16:3e:99:99:99", "10.20.0.12/32"),))
        assert [reaches(one) for one in ("10.20.0.12", "10.20.0.50")] == [True, False]
        tenant.change(client, pairs=(), port_security=False)
        assert reaches("10.20.0.50")
        tenant.change(client, port_security=True)
        assert not reaches("10.20.0.50")


def test_a_guest_gets_no_frame_that_is_for_another(tenant: Tenant) -> None:
    """Also not one to an address that the bridge does not know, which goes to every port."""
    tenant.group(WEB, *EGRESS, allow(None, protocol=None))
    sender, listener = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(WEB,))
    sniff = (
        "import socket,sys; s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3)); s.bind(('eth0',0));"
        "print('ready',flush=True); seen=set()\n"
        "while b'the last' not in (data:=s.recv(2000)): seen.add(b'secret' in data)\n"
        "print(True in seen, flush=True)"
    )
    argv = tenant.host.node.node.wrap(["ip", "netns", "exec", guest_of(listener), "python3", "-c", sniff])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as sniffing:
        assert sniffing.stdout
        assert sniffing.stdout.readline() == "ready\n"
        tenant.host.inside(sender, "ip", "link", "set", "eth0", "promisc", "on")
        for address, mac in (("10.20.0.77", "fa:16:3e:77:77:77"), ("10.20.0.12", listener.mac_address)):
            tenant.host.inside(sender, "ip", "neigh", "replace", address, "lladdr", mac, "dev", "eth0")
        send = (
            "import socket; s=socket.socket(2,2);"
            "s.sendto(b'secret',('10.20.0.77',9)); s.sendto(b'the last',('10.20.0.12',9))"
        )
        tenant.host.inside(sender, "python3", "-c", send)
        assert sniffing.stdout.readline() == "False\n"


def test_a_guest_announces_no_router_and_no_neighbour(tenant: Tenant) -> None:
    tenant.group(WEB, *EGRESS, allow(None, protocol=None, ipv6=True))
    liar, victim = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(WEB,))
    announce = textwrap.dedent("""
        import socket, struct, sys
        mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
        wire = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        wire.bind((sys.argv[2], 0, 0, socket.if_nametoindex("eth0")) if sys.argv[2][:4] == "fe80" else (sys.argv[2], 0))
        claim = socket.inet_pton(socket.AF_INET6, sys.argv[1])
        router = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\\x01\\x01" + mac
        neighbour = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + claim + b"\\x02\\x01" + mac
        for body in (router, neighbour):
            wire.sendto(body, (sys.argv[3], 0, 0, socket.if_nametoindex("eth0")))
    """)
    local = "fe80::f816:3eff:fe00:101"
    tenant.host.inside(
        victim,
        "ip",
        "-6",
        "neigh",
        "replace",
        "fd00:20::77",
        "lladdr",
        "fa:16:3e:00:00:77",
        "dev",
        "eth0",
        "nud",
        "stale",
    )
    wait_until(lambda: "tentative" not in tenant.host.inside(liar, "ip", "-6", "address", "show", "dev", "eth0"))
    for claimed in ("fd00:20::77", "fd00:20::b"):
        tenant.host.inside(liar, "python3", "-c", announce, claimed, local, "fd00:20::c")
    assert "fa:16:3e:00:00:77" in tenant.host.inside(victim, "ip", "-6", "neigh", "show", "fd00:20::77")
    assert "default" not in tenant.host.inside(victim, "ip", "-6", "route")


def test_five_hundred_rules_and_a_change_of_one_are_one_transaction(tenant: Tenant) -> None:
    """Rules that differ in one thing only become sets; a change of members touches nothing else."""
    rules = [allow(number) for number in range(1000, 1500, 2)]
    rules += [GroupRule(ingress=True, protocol=6, first=22, last=22, remote=f"10.9.{n}.0/24") for n in range(0, 256, 2)]
    rules += [
        GroupRule(ingress=True, protocol=17, first=n, last=n + 1, remote=f"10.8.{n % 250}.0/24") for n in range(122)
    ]
    tenant.group(PEERS, *EGRESS)
    tenant.group(WEB, *EGRESS, *rules, GroupRule(ingress=True, protocol=6, first=80, last=80, remote_group=PEERS))
    server, client = tenant.add(1, groups=(WEB,)), tenant.add(2, groups=(WEB,))
    listed = tenant.host.node.run("nft", "list", "chain", "inet", "cellcloud", f"takes-{WEB}")
    assert listed.count("accept") < 130
    handles = tenant.host.node.run("nft", "-a", "list", "chain", "inet", "cellcloud", f"takes-{WEB}")
    with tenant.serve(server):
        assert tenant.asks(client, ["tcp,10.20.0.11,80"], [])
        members = [f"10.20.{high}.{low}" for high in range(4) for low in range(1, 251)]
        tenant.group(PEERS, *EGRESS, members=members)
        assert tenant.asks(client, ["tcp,10.20.0.11,80"], ["tcp,10.20.0.11,80"])
    assert tenant.host.node.run("nft", "-a", "list", "chain", "inet", "cellcloud", f"takes-{WEB}") == handles


def test_what_plans_no_longer_have_goes(tenant: Tenant) -> None:
    tenant.group(WEB, *EGRESS)
    tenant.group(PEERS, *EGRESS)
    port = tenant.add(1, groups=(WEB, PEERS))
    tenant.change(port, groups=(WEB,))
    tenant.host.plan(PlanChanges(removed=(key_of("group", PEERS),)))
    assert PEERS not in tenant.host.node.run("nft", "list", "table", "inet", "cellcloud")
    tenant.host.node.run("nft", "flush", "ruleset")
    tenant.host.wiring.ensure_daemons()
    assert WEB in tenant.host.node.run("nft", "list", "table", "inet", "cellcloud")
