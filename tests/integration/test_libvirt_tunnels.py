"""Networks that span two nodes, with namespaces for guests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cell.compute.drivers.libvirt.network_device_names import bridge_name, tunnel_name
from tests.libvirt_node import LibvirtNode, wait_until
from tests.network_host import guest_of
from tests.network_span import SAY, Span, spanning, two_nodes


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[LibvirtNode]]:
    with two_nodes() as found:
        yield found


@pytest.fixture
def span(nodes: list[LibvirtNode]) -> Iterator[Span]:
    with spanning(nodes) as found:
        yield found


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
