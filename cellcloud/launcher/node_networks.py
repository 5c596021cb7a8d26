"""How nodes are connected: bridges in the machine's own network, and pairs of devices that lead from them into nodes.

A cell's nodes share a management bridge. The nodes of all cells share two more: one that carries guests' networks from
host to host, where the machine itself has no address, and the external one, where floating IPs are reached.
"""

from __future__ import annotations

import ipaddress
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cellcloud import errors

INNER_BRIDGE = "br-ex"  # in a node: where routers are that lead outside
VXLAN_PORT = 4789

NODE_FIREWALL = """\
table inet node
delete table inet node
table inet node {{
    chain input {{
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state established,related accept
        iifname "eth0" ip protocol icmp accept
        iifname "eth0" ip saddr {gateway} tcp dport {{ {ports} }} accept
        iifname "eth0" ip saddr {hosts} tcp dport {moves} accept
        iifname "{device}" ip saddr {tunnels} udp dport {vxlan} accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname "ccb-*" oifname "ccb-*" accept
    }}
}}
"""
# Guests come as far as the machine's own end of their external network, and get answers; nothing else is let in.
MACHINE_FIREWALL = """\
table inet {bridge}
delete table inet {bridge}
table inet {bridge} {{
    chain input {{
        type filter hook input priority -10; policy accept;
        iifname "{bridge}" jump from_outside
    }}
    chain forward {{
        type filter hook forward priority -10; policy accept;
        iifname "{bridge}" oifname "{bridge}" accept
        iifname "{bridge}" ct state established,related accept
        iifname "{bridge}" drop
    }}
    chain from_outside {{
        ct state established,related accept
        ip daddr {gateway} icmp type echo-request accept
        drop
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A pair of devices: ``link`` on the machine, on its ``bridge``, and ``device`` in the node. That has an
    ``address`` with its prefix's length, or is on a bridge of the node's own (``INNER_BRIDGE``)."""

    link: str
    bridge: str
    device: str
    address: str = ""


def ensure_wire(wire: Wire, pid: int) -> None:
    """Connect a node, by its first process, unless that wire is there. Raises Misconfigured."""
    if Path("/sys/class/net", wire.link).exists():
        return
    _ensure_bridge(wire.bridge)
    inside = [f"address add {wire.address} dev {wire.device}"]
    if not wire.address:
        inside = [
            f"link add {INNER_BRIDGE} type bridge stp_state 0 mcast_snooping 0",
            f"link set {INNER_BRIDGE} addrgenmode none up",
            f"link set {wire.device} master {INNER_BRIDGE}",
        ]
    run_tool(["ip", "link", "add", wire.link, "type", "veth", "peer", "name", wire.device, "netns", str(pid)])
    run_tool(["ip", "link", "set", wire.link, "addrgenmode", "none", "master", wire.bridge, "up"])
    lines = "".join(f"{line}\n" for line in [*inside, f"link set {wire.device} up"])
    run_tool(["nsenter", f"--target={pid}", "--all", "--", "ip", "-batch", "-"], text=lines)


def remove_wire(wire: Wire) -> None:
    """Take a wire away, if it is there."""
    if Path("/sys/class/net", wire.link).exists():
        run_tool(["ip", "link", "delete", wire.link], check=False)


def ensure_management(bridge: str, address: str) -> None:
    """Make a cell's bridge, with the cell's own address. Raises Misconfigured where another device of the machine is
    in that network."""
    refuse_taken(ipaddress.ip_interface(address).network, bridge)
    _ensure_bridge(bridge)
    run_tool(["ip", "address", "replace", address, "dev", bridge])


def open_external(bridge: str, address: str) -> None:
    """Give the machine its address on the external bridge, behind rules that let guests in no further. Raises
    Misconfigured where another device of the machine is in that network."""
    interface = ipaddress.ip_interface(address)
    refuse_taken(interface.network, bridge)
    _ensure_bridge(bridge)
    run_tool(["nft", "-f", "-"], text=MACHINE_FIREWALL.format(bridge=bridge, gateway=interface.ip))
    others = [one.address for one in psutil.net_if_addrs().get(bridge, ()) if one.family == socket.AF_INET]
    if others and others != [str(interface.ip)]:
        run_tool(["ip", "address", "flush", "dev", bridge])
    run_tool(["ip", "address", "replace", str(interface), "dev", bridge])


def find_taken(network: ipaddress.IPv4Network | ipaddress.IPv6Network, bridge: str) -> tuple[str, str]:
    """Return another device of the machine than the bridge, with its address, that is in a network; empty words for
    none: of two routes to it, that of the older device wins, and the bridge would be out of reach."""
    for device, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if device == bridge or address.family != socket.AF_INET:
                continue
            if network.overlaps(ipaddress.ip_network(f"{address.address}/{address.netmask or 32}", strict=False)):
                return device, address.address
    return "", ""


def refuse_taken(network: ipaddress.IPv4Network | ipaddress.IPv6Network, bridge: str) -> None:
    """Raise Misconfigured where another device of the machine is in the network."""
    device, address = find_taken(network, bridge)
    if device:
        raise errors.Misconfigured(
            f"The network {network} of {bridge} is in use: {device} has {address}. "
            "Choose another (--management), or, if the cloud it belonged to has ended, "
            f"run: ip link delete {device}"
        )


def remove_idle_bridge(bridge: str) -> None:
    """Take a bridge away that no node is on, with its rules."""
    ports = Path("/sys/class/net", bridge, "brif")
    if bridge and ports.is_dir() and not any(ports.iterdir()):
        run_tool(["ip", "link", "delete", bridge], check=False)
        run_tool(["nft", "delete", "table", "inet", bridge], check=False)


def _ensure_bridge(bridge: str) -> None:
    if not Path("/sys/class/net", bridge).exists():
        run_tool(["ip", "link", "add", bridge, "type", "bridge"])
        run_tool(["ip", "link", "set", bridge, "addrgenmode", "none"])
    run_tool(["ip", "link", "set", bridge, "up"])


def run_tool(argv: Sequence[str], *, text: str = "", check: bool = True) -> str:
    """Run a tool to its end; raises Misconfigured with what it said when it fails and ``check`` is set."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, cwd="/", check=False, timeout=60)
    if check and done.returncode != 0:
        raise errors.Misconfigured(f"{argv[0]} failed.", detail=f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
