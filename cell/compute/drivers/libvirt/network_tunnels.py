"""The way of one network to its other hosts: a VXLAN device on its bridge.

Nothing is learned there: where each port is stands in the plan, and so does who has which address, so that neighbours'
questions are answered on the spot.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass

from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.network_device_names import bridge_name, tunnel_name
from cellcloud.model.network_plan import NetworkPlan

VXLAN_PORT = 4789
EVERYBODY = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """``stations``: (MAC, endpoint); ``neighbours``: (address, MAC); ``peers``: endpoints that get what is for all."""

    vni: int
    mtu: int
    local: str
    stations: frozenset[tuple[str, str]] = frozenset()
    neighbours: frozenset[tuple[str, str]] = frozenset()
    peers: frozenset[str] = frozenset()

    @property
    def ways(self) -> set[tuple[str, str]]:
        """What the device is told: (MAC, endpoint), also of what is for everybody."""
        return {*self.stations, *((EVERYBODY, peer) for peer in self.peers)}

    @classmethod
    def of(cls, plan: NetworkPlan | None, host: str, local: str) -> Tunnel | None:
        """Return what a host needs of a network; None where no other host has a part of it."""
        if plan is None or not plan.vni:
            return None
        others = {one: address for one, address in plan.endpoints.items() if one != host and address != local}
        remote = [port for port in plan.ports if port.host in others]
        if not remote:
            return None
        stations, neighbours = set(), set()
        for port in remote:
            macs = {port.mac_address, *(mac for mac, _ in port.pairs if mac)}
            stations |= {(mac, others[port.host]) for mac in macs}
            held = (str(ipaddress.ip_address(address)) for _, address in port.addresses)
            neighbours |= {(address, port.mac_address) for address in held}
        return cls(
            vni=plan.vni,
            mtu=plan.mtu,
            local=local,
            stations=frozenset(stations),
            neighbours=frozenset(neighbours),
            peers=frozenset(others[port.host] for port in remote),
        )


def ensure_tunnel(host: Namespace, network_id: str, wanted: Tunnel, *, is_there: bool) -> None:
    """Make the device what it should be and tell it who is where. Raises HostRefused."""
    device, bridge = tunnel_name(network_id), bridge_name(network_id)
    batch = []
    if is_there and _shape(host, device) != (wanted.vni, wanted.local):
        batch.append(f"link delete {device}")
        is_there = False
    if not is_there:
        batch.append(
            f"link add {device} type vxlan id {wanted.vni} dstport {VXLAN_PORT} local {wanted.local} nolearning"
        )
    batch += [
        f"link set {device} mtu {wanted.mtu} master {bridge} up",
        f"link set {device} type bridge_slave learning off neigh_suppress on",
    ]
    host.run(["ip", "-batch", "-"], text="".join(f"{line}\n" for line in batch))
    if any(":" in address for address, _ in wanted.neighbours):  # it keeps no IPv6 neighbours else; it gets no address
        host.run(["sh", "-c", 'echo 0 >"/proc/sys/net/ipv6/conf/$0/disable_ipv6"', bridge])
    _tell_stations(host, device, wanted)
    _tell_neighbours(host, bridge, wanted)


def remove_tunnel(host: Namespace, network_id: str) -> None:
    """Take the device away, and what the bridge knew of other hosts."""
    host.run(["ip", "link", "delete", tunnel_name(network_id)], check=False)
    host.run(["ip", "neigh", "flush", "dev", bridge_name(network_id), "nud", "permanent"], check=False)


def _shape(host: Namespace, device: str) -> tuple[int, str]:
    (shown,) = json.loads(host.run(["ip", "-json", "-details", "link", "show", "dev", device]))
    data = shown.get("linkinfo", {}).get("info_data", {})
    return int(data.get("id", 0)), str(data.get("local", ""))


def _tell_stations(host: Namespace, device: str, wanted: Tunnel) -> None:
    """Both tables: the bridge's, of which port leads to a MAC, and the device's, of which host has it."""
    ways, behind = list_stations(host, device)
    needed = wanted.ways
    macs = {mac for mac, _ in wanted.stations}
    lines = [
        *(f"fdb del {mac} dev {device} self dst {peer}" for mac, peer in sorted(ways - needed)),
        *(f"fdb del {mac} dev {device} master" for mac in sorted(behind - macs)),
        *(
            f"fdb {'append' if mac == EVERYBODY else 'replace'} {mac} dev {device} self static dst {peer}"
            for mac, peer in sorted(needed - ways)
        ),
        *(f"fdb replace {mac} dev {device} master static" for mac in sorted(macs - behind)),
    ]
    _batch(host, ["bridge", "-batch", "-"], lines)


def _tell_neighbours(host: Namespace, bridge: str, wanted: Tunnel) -> None:
    known, needed = list_neighbours(host, bridge), wanted.neighbours
    kept = {address for address, _ in needed}
    lines = [
        *(f"neigh del {address} dev {bridge}" for address, _ in sorted(known - needed) if address not in kept),
        *(
            f"neigh replace {address} lladdr {mac} dev {bridge} nud permanent"
            for address, mac in sorted(needed - known)
        ),
    ]
    _batch(host, ["ip", "-batch", "-"], lines)


def list_stations(host: Namespace, device: str) -> tuple[set[tuple[str, str]], set[str]]:
    """Return what a device knows: (MAC, endpoint), and the MACs that its bridge has behind it."""
    shown = json.loads(host.run(["bridge", "-json", "fdb", "show", "dev", device], check=False) or "[]")
    behind = {one["mac"] for one in shown if one.get("master") and one.get("state") == "static"}
    return {(one["mac"], one["dst"]) for one in shown if "dst" in one}, behind


def list_neighbours(host: Namespace, bridge: str) -> set[tuple[str, str]]:
    """Return whom a bridge answers for: (address, MAC)."""
    argv = ["ip", "-json", "neigh", "show", "dev", bridge, "nud", "permanent"]
    shown = json.loads(host.run(argv, check=False) or "[]")
    known = ((ipaddress.ip_address(one["dst"]), one["lladdr"]) for one in shown if "lladdr" in one)
    return {(str(address), mac) for address, mac in known if not address.is_multicast}


def _batch(host: Namespace, argv: list[str], lines: Iterable[str]) -> None:
    if text := "".join(f"{line}\n" for line in lines):
        host.run(argv, text=text)
