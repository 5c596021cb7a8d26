"""Routers on real nodes: between networks, to the outside, and floating IPs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cellcloud.model.network import Port
from cellcloud.model.network_plan import GroupRule, RouterLeg, RouterPlan
from tests.libvirt_metadata import MetadataStandIn, serve_metadata
from tests.libvirt_node import LibvirtNode, wait_until
from tests.network_host import Host
from tests.network_span import ALL, Span, spanning, two_nodes

ROUTER = "99999999-0000-4000-8000-000000000000"
OUTER, FLOATING = "203.0.113.10", "203.0.113.20"
OUTSIDE = "203.0.113.1"
TWO = {"cidr": "10.30.0.0/24", "gateway": "10.30.0.1"}
WHO = """
import socket
server = socket.create_server(("203.0.113.1", 80)); print("ready", flush=True)
while True:
    one, (address, _) = server.accept()
    one.recv(10); one.sendall(address.encode()); one.close()
"""
CALL = """
import socket, sys
try:
    one = socket.create_connection((sys.argv[1], 80), float(sys.argv[2]))
    one.settimeout(float(sys.argv[2])); one.sendall(b"x" + sys.argv[3].encode()); print(one.recv(100).decode())
except OSError:
    print("nobody")
"""
HOLD = """
import socket, sys
one = socket.create_connection((sys.argv[1], 80), 20)
print("connected", flush=True)
for line in sys.stdin:
    one.settimeout(float(line))
    try:
        one.sendall(b"x."); print("heard" if one.recv(100) else "ended", flush=True)
    except OSError:
        print("silent", flush=True)
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[LibvirtNode]]:
    with two_nodes() as found:
        for node in found:  # both are on a network that leads out, with somebody there
            node.run("ip", "link", "add", "br-ex", "type", "bridge")
            node.run("ip", "link", "set", "br-ex", "up")
            node.run("ip", "netns", "add", "outside")
            node.run("ip", "link", "add", "outer", "type", "veth", "peer", "name", "eth0", "netns", "outside")
            node.run("ip", "link", "set", "outer", "master", "br-ex", "up")
            node.run("ip", "-n", "outside", "address", "add", f"{OUTSIDE}/24", "dev", "eth0")
            node.run("ip", "-n", "outside", "link", "set", "eth0", "up")
            node.run("ip", "-n", "outside", "link", "set", "lo", "up")
        yield found


@pytest.fixture
def span(nodes: list[LibvirtNode]) -> Iterator[Span]:
    with spanning(nodes, ignored={"outside"}) as found:
        for host in found.hosts:
            host.options = replace(host.options, external_bridge="br-ex")
            host.wiring = host.connect()
        yield found


def make_router(span: Span, host: int, *networks: Port, **changes: object) -> RouterPlan:
    legs = tuple(
        RouterLeg(
            port_id=f"7{number:07d}-0000-4000-8000-000000000000",
            network_id=port.network_id,
            mac_address=f"fa:16:3e:77:00:{number:02x}",
            addresses=(f"{port.fixed_ips[0].gateway_ip}/24",),
        )
        for number, port in enumerate(networks)
    )
    external = RouterLeg(
        port_id="80000000-0000-4000-8000-000000000000",
        network_id="eeeeeeee-0000-4000-8000-000000000000",
        mac_address="fa:16:3e:88:00:01",
        addresses=(f"{OUTER}/24",),
    )
    router = RouterPlan(
        id=ROUTER, version=1, host=span.hosts[host].options.host, legs=legs, external=external, gateway=OUTSIDE
    )
    return replace(router, **changes)  # type: ignore[arg-type]


def route(span: Span, router: RouterPlan | None) -> None:
    span.routers = [router] if router else []
    span.tell()


def call(host: Host, address: str, seconds: float = 20.0, *, word: str = "") -> str:
    """From outside."""
    argv = ["ip", "netns", "exec", "outside", "python3", "-c", CALL, address, str(seconds), word]
    return host.node.run(*argv).strip()


def test_a_router_joins_networks_and_leads_out(span: Span) -> None:
    """Its guests are on two hosts; nobody outside sees their addresses or begins anything."""
    first, second = span.add(1, 0), span.add(2, 1, network=2, **TWO)
    serving = span.serve(second, 1, "10.30.0.12", "second")
    try:
        assert span.say(first, 0, "10.30.0.12", 1.0) == "nobody"
        route(span, make_router(span, 0, first, second))
        assert span.say(first, 0, "10.30.0.12") == "second 100001"
    finally:
        span.end(serving)
    argv = ["ip", "netns", "exec", "outside", "python3", "-c", WHO]
    with subprocess.Popen(span.hosts[0].node.node.wrap(argv), stdout=subprocess.PIPE, text=True) as who:
        try:
            assert who.stdout
            assert who.stdout.readline() == "ready\n"
            for host, port in ((0, first), (1, second)):
                assert span.hosts[host].inside(port, "python3", "-c", CALL, OUTSIDE, "20", "").strip() == OUTER
        finally:
            span.hosts[0].node.kill("server.accept()")
    span.hosts[0].node.run("ip", "-n", "outside", "route", "replace", "10.0.0.0/8", "via", OUTER)
    serving = span.serve(first, 0, "10.20.0.11", "first")
    try:
        assert call(span.hosts[0], "10.20.0.11", 1.0) == "nobody"
    finally:
        span.hosts[0].node.run("ip", "-n", "outside", "route", "delete", "10.0.0.0/8")
        span.end(serving)


def test_a_floating_ip_reaches_its_guest_and_moves(span: Span) -> None:
    """Rules hold for it; who held a connection through it loses that with the address."""
    first, second = span.add(1, 0), span.add(2, 1, network=2, **TWO)
    serving = [span.serve(first, 0, "10.20.0.11", "first"), span.serve(second, 1, "10.30.0.12", "second")]
    router = make_router(span, 0, first, second)
    outside = span.hosts[0]
    argv = outside.node.node.wrap(["ip", "netns", "exec", "outside", "python3", "-c", HOLD, FLOATING])
    try:
        route(span, router)
        assert call(outside, FLOATING, 1.0) == "nobody"
        route(span, replace(router, floating=((FLOATING, "10.20.0.11"),)))
        assert call(outside, FLOATING, word=".") == "first 2"
        held = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert held.stdin
            assert held.stdout
            assert held.stdout.readline() == "connected\n"
            span.rules = (*ALL[2:], GroupRule(ingress=True, protocol=6, first=22, last=22))
            span.tell()
            assert call(outside, FLOATING, 1.0, word=".") == "nobody"
            span.rules = (*ALL[2:], GroupRule(ingress=True, protocol=6, first=80, last=80, remote=f"{OUTSIDE}/32"))
            span.tell()
            assert call(outside, FLOATING, word=".") == "first 2"
            route(span, replace(router, floating=((FLOATING, "10.30.0.12"),)))
            assert call(outside, FLOATING, word=".") == "second 2"
            route(span, replace(router, floating=()))
            assert call(outside, FLOATING, 1.0, word=".") == "nobody"
            held.stdin.write("1\n")
            held.stdin.flush()
            assert held.stdout.readline() in ("silent\n", "ended\n")
        finally:
            held.kill()
            held.communicate()
    finally:
        span.end(*serving)


def test_a_guest_reaches_a_neighbour_by_its_floating_ip(span: Span) -> None:
    first, second = span.add(1, 0), span.add(2, 1)
    serving = span.serve(second, 1, "10.20.0.12", "second")
    try:
        route(span, make_router(span, 0, first, floating=((FLOATING, "10.20.0.12"), ("203.0.113.21", "10.20.0.11"))))
        assert span.say(first, 0, FLOATING) == "second 100001"
    finally:
        span.end(serving)


def test_a_router_goes_to_another_host(span: Span) -> None:
    """Guests stay where they are and keep their gateway's MAC; the first host keeps nothing of it."""
    first, second = span.add(1, 0), span.add(2, 1, network=2, **TWO)
    serving = [span.serve(first, 0, "10.20.0.11", "first"), span.serve(second, 1, "10.30.0.12", "second")]
    floating = ((FLOATING, "10.20.0.11"),)
    try:
        for host in (0, 1, 0):
            route(span, make_router(span, host, first, second, floating=floating))
            assert span.say(first, 0, "10.30.0.12") == "second 100001"
            assert call(span.hosts[host], FLOATING, word=".") == "first 2"
            assert "cellrouter." not in span.hosts[1 - host].node.run("ls", "/run/netns")
            assert "ccr-" not in span.hosts[1 - host].node.run("ip", "-br", "link")
        route(span, make_router(span, 0, first, second, enabled=False))
        assert span.say(first, 0, "10.30.0.12", 1.0) == "nobody"
    finally:
        span.end(*serving)


def test_metadata_is_on_routed_networks_too(span: Span) -> None:
    with serve_metadata(span.hosts[0].node) as service:
        _ask_metadata(span, service)


def _ask_metadata(span: Span, service: MetadataStandIn) -> None:
    port = span.add(1, 0)
    service.servers[span.hosts[0].records[-1].server_id] = (span.hosts[0].records[-1].spec, [port])
    route(span, make_router(span, 0, port))
    span.hosts[0].inside(port, "ip", "route", "replace", "169.254.169.254", "dev", "eth0")  # as its DHCP server says
    wait_until(lambda: span.hosts[0].fetch(port) is not None)
    options = (span.hosts[0].options.work_dir / "networks" / port.network_id / "options").read_text()
    assert "classless-static-route,169.254.169.254/32,0.0.0.0,0.0.0.0/0,10.20.0.1" in options
    assert "option:router,10.20.0.1" in options


def test_what_is_lost_of_a_router_is_made_again(span: Span) -> None:
    first, second = span.add(1, 0), span.add(2, 0, network=2, **TWO)
    serving = span.serve(second, 0, "10.30.0.12", "second")
    router = make_router(span, 0, first, second)
    try:
        route(span, router)
        for loss in (
            ["ip", "netns", "delete", f"cellrouter.{ROUTER}"],
            ["ip", "link", "delete", f"ccr-{router.legs[0].port_id[:11]}"],
            ["ip", "netns", "exec", f"cellrouter.{ROUTER}", "nft", "flush", "ruleset"],
        ):
            span.hosts[0].node.run(*loss)
            span.hosts[0].wiring = span.hosts[0].connect()
            span.hosts[0].wiring.apply()
            assert span.say(first, 0, "10.30.0.12") == "second 100001"
    finally:
        span.end(serving)
