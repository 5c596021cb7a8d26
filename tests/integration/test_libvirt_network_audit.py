"""What a host has of networks beside what it should have; and a service that dies at any moment of making them so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cell.compute.drivers.libvirt.guest_networks import Wiring
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.network_device_names import (
    bridge_name,
    inner_leg_name,
    namespace_name,
    router_namespace_name,
    tap_name,
    tunnel_name,
)
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cellcloud.model.network_plan import RouterLeg, RouterPlan
from tests.libvirt_node import LibvirtNode
from tests.network_host import Host
from tests.network_span import Span, spanning, two_nodes

ROUTER = "99999999-0000-4000-8000-000000000000"
LEG = "70000000-0000-4000-8000-000000000000"


class Killed(BaseException):
    """The service is no more."""


class DyingNamespace(Namespace):
    """Runs some tools of the host, and then its service is killed. ``left``: how many, shared by all it enters."""

    def __init__(self, options: LibvirtOptions, left: list[int], *, network: str = "") -> None:
        super().__init__(options, network=network)
        self._own, self._left = options, left

    def enter(self, network: str) -> Namespace:
        return DyingNamespace(self._own, self._left, network=network)

    def run(self, argv: Sequence[str], *, text: str = "", check: bool = True) -> str:
        self._count()
        return super().run(argv, text=text, check=check)

    def launch(self, argv: Sequence[str], log: Path) -> None:
        self._count()
        super().launch(argv, log)

    def _count(self) -> None:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise Killed


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[LibvirtNode]]:
    with two_nodes() as found:
        yield found


@pytest.fixture
def span(nodes: list[LibvirtNode]) -> Iterator[Span]:
    with spanning(nodes) as found:
        yield found


def make_router(span: Span, network_id: str) -> RouterPlan:
    leg = RouterLeg(
        port_id=LEG, network_id=network_id, mac_address="fa:16:3e:77:00:01", addresses=("10.20.0.1/24", "fd00:20::1/64")
    )
    return RouterPlan(id=ROUTER, version=1, host=span.hosts[0].options.host, legs=(leg,), snat=False)


def die_and_come_back(host: Host, step: int) -> int:
    """Kill the service after ever more tools, until it ends what it has to do; how often it died."""
    for deaths in range(10_000):
        left = [deaths * step]
        dying = DyingNamespace(host.options, left)
        wiring = Wiring(host.options, dying, lambda: list(host.records), get_plans=lambda: host.plans)
        try:
            wiring.apply()
        except Killed:
            continue
        return deaths
    raise AssertionError("it never ends")


def test_what_is_wrong_on_a_host_is_named_and_mended_by_a_restart(span: Span) -> None:
    near, far = span.add(1, 0), span.add(2, 1)
    span.routers = [make_router(span, near.network_id)]
    span.tell()
    host, (_, other) = span.hosts[0], span.hosts
    run, bridge, tunnel = host.node.run, bridge_name(near.network_id), tunnel_name(near.network_id)
    router, network, leg = router_namespace_name(ROUTER), namespace_name(near.network_id), inner_leg_name(LEG)
    assert host.wiring.list_faults() == other.wiring.list_faults() == []
    breaks: dict[str, tuple[str, ...]] = {
        f"the device {tunnel} lacks": ("ip", "link", "delete", tunnel),
        f"the device {bridge} lacks": ("ip", "link", "delete", bridge),
        f"the namespace {network} lacks": ("ip", "netns", "delete", network),
        f"the namespace {router} lacks": ("ip", "netns", "delete", router),
        f"in {router}: the device {leg} lacks": ("ip", "-n", router, "link", "delete", leg),
        "the device ccb-nobodys is there, and nobody needs it": ("ip", "link", "add", "ccb-nobodys", "type", "bridge"),
        "the namespace cellcloud.nobodys is there": ("ip", "netns", "add", "cellcloud.nobodys"),
        f"{tunnel} does not know that {far.mac_address} is at": (
            *("bridge", "fdb", "del", far.mac_address, "dev", tunnel, "self"),
        ),
        f"{tunnel} has fa:16:3e:00:00:99 at 10.9.9.9": (
            *("bridge", "fdb", "add", "fa:16:3e:00:00:99", "dev", tunnel, "self", "static", "dst", "10.9.9.9"),
        ),
        f"{bridge} does not know that 10.20.0.12 is {far.mac_address}": (
            *("ip", "neigh", "del", "10.20.0.12", "dev", bridge),
        ),
        "the chain arriving of table inet cellcloud is another one": (
            *("nft", "insert", "rule", "inet", "cellcloud", "arriving", "accept"),
        ),
        "the set macs of table bridge cellcloud is another one": ("nft", "flush", "set", "bridge", "cellcloud", "macs"),
        "the chain to_guest lacks in table bridge cellcloud": ("nft", "delete", "table", "bridge", "cellcloud"),
        "the chain forward of table inet cellcloud is another one": (
            *("ip", "netns", "exec", router, "nft", "flush", "chain", "inet", "cellcloud", "forward"),
        ),
        f"the DHCP server of network {near.network_id} does not run": ("pkill", "-KILL", "dnsmasq"),
        "the metadata proxy does not run": ("pkill", "-KILL", "-f", "metadata_proxy"),
    }
    for said, words in breaks.items():
        run(*words)
        told = host.wiring.list_faults()
        assert [one for one in told if one.startswith(said)], (said, told)
        host.wiring = host.connect()
        host.wiring.apply()
        if "delete" in words and bridge in words:  # the guest's end was on it
            run("ip", "link", "set", tap_name(near.id), "master", bridge)
        assert host.wiring.list_faults() == [], said
    run("ip", "link", "set", tap_name(near.id), "nomaster")
    assert host.wiring.list_faults() == [f"the device {tap_name(near.id)} is not on its bridge {bridge}"]
    run("ip", "link", "set", tap_name(near.id), "master", bridge)
    run("ip", "link", "add", "cct-nobodys", "type", "bridge")
    assert host.wiring.list_faults() == ["the device cct-nobodys is no guest's here: ip link delete cct-nobodys"]
    run("ip", "link", "delete", "cct-nobodys")


def test_a_service_killed_at_any_moment_leaves_nothing_and_misses_nothing(span: Span) -> None:
    """While it makes a network, a tunnel, rules and a router, and while it takes them away."""
    host = span.hosts[0]
    near, _ = span.add(1, 0), span.add(2, 1)
    host.unplug_all()
    span.add(3, 0)
    whole, records = host.plans, list(host.records)
    host.unplug_all()
    router = make_router(span, near.network_id)
    host.records, host.plans = records, replace(whole, routers={ROUTER: router})
    assert die_and_come_back(host, 3) > 5
    wiring = host.connect()
    assert wiring.list_faults() == []
    host.records, host.plans = [], replace(whole, networks={}, groups={}, routers={})
    assert die_and_come_back(host, 1) > 2
    assert host.connect().list_faults() == []
