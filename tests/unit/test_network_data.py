"""``network_data.json``: addresses that DHCP gives are left to it, the others are spelt out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellcloud.model.metadata import network_data
from cellcloud.model.network import FixedIp, Port
from tests.libvirt_node import make_port

ANYWHERE = "0.0.0.0"  # noqa: S104 -- a route's destination
WAY_OUT = [{"network": ANYWHERE, "netmask": ANYWHERE, "gateway": "10.20.0.1"}]
DNS = [{"type": "dns", "address": "10.20.0.53"}]
STATIC = {"ip_address": "10.20.0.11", "netmask": "255.255.255.0"}
SIX = FixedIp(
    ip_address="fd00::5", subnet_id="s6", cidr="fd00::/64", gateway_ip="fd00::1", dns_nameservers=(), enable_dhcp=False
)


def port_with(**changes: object) -> Port:
    port = make_port(1)
    fixed = replace(port.fixed_ips[0], dns_nameservers=("10.20.0.53",), **changes)  # type: ignore[arg-type]
    return replace(port, fixed_ips=(fixed,))


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (port_with(), {"type": "ipv4_dhcp"}),
        (port_with(enable_dhcp=False), {"type": "ipv4", **STATIC, "routes": WAY_OUT, "services": DNS}),
        (
            port_with(enable_dhcp=False, gateway_ip=None),
            {"type": "ipv4", **STATIC, "routes": [], "services": DNS},
        ),
        (
            replace(make_port(1), fixed_ips=(SIX,)),
            {
                "type": "ipv6",
                "ip_address": "fd00::5",
                "netmask": "ffff:ffff:ffff:ffff::",
                "routes": [{"network": "::", "netmask": "::", "gateway": "fd00::1"}],
                "services": [],
            },
        ),
    ],
)
def test_how_a_guest_gets_its_address(port: Port, expected: dict[str, object]) -> None:
    (shown,) = network_data([port])["networks"]
    assert shown == {"id": "network0", "link": f"tap{port.id[:11]}", "network_id": port.network_id, **expected}


def test_a_port_of_both_kinds_shows_both() -> None:
    leased, static = make_port(1), port_with(enable_dhcp=False)
    both = replace(leased, fixed_ips=(*leased.fixed_ips, *static.fixed_ips))
    document = network_data([both])
    assert [(entry["id"], entry["type"]) for entry in document["networks"]] == [
        ("network0", "ipv4_dhcp"),
        ("network1", "ipv4"),
    ]
    assert document["services"] == DNS
