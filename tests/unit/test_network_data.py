"""``network_data.json``: addresses that DHCP gives are left to it, the others are spelt out."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cellcloud.launcher.guest_image import FILES
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.openstack_metadata import network_data
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


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (port_with(), ["dhcp"]),
        (
            port_with(enable_dhcp=False),
            ["address 10.20.0.11/24", "route 0.0.0.0/0 10.20.0.1", "dns 10.20.0.53"],
        ),
        (port_with(enable_dhcp=False, gateway_ip=None), ["address 10.20.0.11/24", "dns 10.20.0.53"]),
        (
            port_with(enable_dhcp=False, gateway_ip=None, cidr="10.16.0.0/13"),
            ["address 10.20.0.11/13", "dns 10.20.0.53"],
        ),
        (replace(make_port(1), fixed_ips=(SIX,)), ["address fd00::5/64", "route ::/0 fd00::1"]),
    ],
)
def test_the_tiny_guest_reads_what_is_written(port: Port, said: list[str], tmp_path: Path) -> None:
    document = tmp_path / "network_data.json"
    for written in (json.dumps(network_data([make_port(2), port])), msgspec.json.encode(network_data([port])).decode()):
        document.write_text(written)
        awk = ["awk", "-v", f"mac={port.mac_address}", "-f", str(FILES / "network_data.awk"), str(document)]
        read = subprocess.run(awk, capture_output=True, text=True, check=True).stdout.splitlines()
        assert read == said
