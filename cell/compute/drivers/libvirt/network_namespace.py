"""One guest network on one host: a bridge of its own, which leads into a namespace of its own.

The host has no address on the bridge and no route to it, so whatever range a network has it reaches nothing of the
host's, and other networks may have the same. Gateways, DHCP server and the way to the metadata service are in the
namespace.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cell.compute.drivers.libvirt.anti_spoofing import NETWORK_RULESET
from cell.compute.drivers.libvirt.dhcp import addresses_of, list_announced, own_address
from cell.compute.drivers.libvirt.gratuitous_arp import announce
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.network_device_names import (
    BRIDGE_PREFIX,
    GUEST_SIDE,
    LINK_PREFIX,
    NAMESPACE_PREFIX,
    TUNNEL_PREFIX,
    bridge_mac,
    bridge_name,
    gateway_mac,
    link_name,
    namespace_name,
    tunnel_name,
)
from cellcloud.model.network import Port
from cellcloud.model.network_plan import NetworkPlan
from cellcloud.model.openstack_metadata import METADATA_ADDRESS

PREFIXES = (BRIDGE_PREFIX, LINK_PREFIX, TUNNEL_PREFIX)
LAST_ZONE = 65535
CLOSE = """\
for setting in ipv4/ip_forward=0 ipv6/conf/all/forwarding=0 ipv6/conf/default/accept_ra=0 \\
    ipv6/conf/default/accept_dad=0 \\
    "ipv6/conf/all/disable_ipv6=$0" "ipv6/conf/default/disable_ipv6=$0"; do
    file=/proc/sys/net/${setting%=*}
    [ ! -e "$file" ] || echo "${setting#*=}" >"$file"
done
exec nft -f -
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """What the namespace has: addresses with their prefixes, routes to subnets whose gateway it is not, and the MTU.
    ``routed``: gateways that are a router's, with its MAC."""

    addresses: frozenset[str]
    subnets: frozenset[str]
    mtu: int
    routed: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, ports: Sequence[Port], plan: NetworkPlan | None = None) -> Addressing:
        """Serve these ports; without a plan there is at least one. A gateway that a router has is left to it."""
        routed = plan.routed_gateways if plan else {}
        served = [fixed for port in ports for fixed in addresses_of(port)]
        gateways = {
            f"{fixed.gateway_ip}/{ipaddress.ip_network(fixed.cidr).prefixlen}"
            for fixed in served
            if fixed.gateway_ip and fixed.gateway_ip not in routed
        }
        six = {own_address(subnet, plan) for _, subnet in list_announced(ports, plan)} if plan else set()
        return cls(
            addresses=frozenset(gateways | six | {f"{METADATA_ADDRESS}/32"}),
            subnets=frozenset(fixed.cidr for fixed in served if not fixed.gateway_ip or fixed.gateway_ip in routed),
            routed=frozenset(routed.items()),
            mtu=max([port.mtu for port in ports] + ([plan.mtu] if plan else [])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Devices, with their indexes, and namespaces of guest networks that a host has now."""

    devices: Mapping[str, int]
    namespaces: Collection[str]

    @classmethod
    def on(cls, host: Namespace) -> Present:
        """Look."""
        shown = json.loads(host.run(["ip", "-json", "link", "show"]) or "[]")
        indexes = {str(link.get("ifname", "")): int(link.get("ifindex", 0)) for link in shown}
        return cls(
            devices={name: index for name, index in indexes.items() if name.startswith(PREFIXES)},
            namespaces=host.list_networks(NAMESPACE_PREFIX),
        )

    def number_bridges(self, wanted: Collection[str]) -> dict[str, int]:
        """Return a number of 16 bits for each of the bridges that there are: the same for as long as it is there."""
        found: dict[str, int] = {}
        for name in sorted(set(wanted) & self.devices.keys(), key=lambda name: self.devices[name]):
            number = self.devices[name] % LAST_ZONE + 1
            while number in found.values():
                number = number % LAST_ZONE + 1
            found[name] = number
        return found

    def is_whole(self, network_id: str) -> bool:
        """Return whether all that belongs to the network is there."""
        return (
            bridge_name(network_id) in self.devices
            and link_name(network_id) in self.devices
            and namespace_name(network_id) in self.namespaces
        )


def ensure_network(host: Namespace, network_id: str, wanted: Addressing, present: Present) -> None:
    """Make what is missing of a network's bridge and namespace, and give it its addresses. Raises HostRefused."""
    bridge, link, name = bridge_name(network_id), link_name(network_id), namespace_name(network_id)
    inside = host.enter(name)
    leads_in = link in present.devices and name in present.namespaces
    if name not in present.namespaces:
        host.run(["sh", "-c", 'rm -f "/run/netns/$0"; exec ip netns add "$0"', name])
    six = any(":" in address for address in wanted.addresses)
    inside.run(["sh", "-c", CLOSE, "0" if six else "1"], text=NETWORK_RULESET)
    batch = []
    if link in present.devices and not leads_in:
        batch.append(f"link delete {link}")
    if bridge not in present.devices:
        batch.append(f"link add {bridge} type bridge stp_state 0 mcast_snooping 0")
    if not leads_in:
        peer = f"peer name {GUEST_SIDE} address {gateway_mac(network_id)} netns {name}"
        batch.append(f"link add {link} type veth {peer}")
    batch += [
        f"address flush dev {bridge}",
        f"link set {link} mtu {wanted.mtu} master {bridge} up",
        f"link set {bridge} addrgenmode none address {bridge_mac(network_id)}",
        f"link set {bridge} type bridge nf_call_iptables 1 nf_call_ip6tables 1",
        f"link set {bridge} up",
    ]
    host.run(["ip", "-batch", "-"], text="".join(f"{line}\n" for line in batch))
    lines = ["link set lo up", f"link set {GUEST_SIDE} mtu {wanted.mtu} up", *_readdress(inside, wanted)]
    inside.run(["ip", "-batch", "-"], text="".join(f"{line}\n" for line in lines))
    if leads_in:  # guests may know another one as their gateway
        own = {address.partition("/")[0]: gateway_mac(network_id) for address in wanted.addresses}
        announce(inside, GUEST_SIDE, {**own, **dict(wanted.routed)})
    host.publish(name, network_id)


def remove_networks(host: Namespace, kept: Collection[str], present: Present) -> None:
    """Remove the bridges and namespaces of all networks but these; what cannot be removed now is tried next time."""
    devices = {make(network_id) for network_id in kept for make in (bridge_name, link_name, tunnel_name)}
    namespaces = {namespace_name(network_id) for network_id in kept}
    idle = sorted(set(present.namespaces) - namespaces)
    batch = [f"link delete {name}" for name in sorted(set(present.devices) - devices, reverse=True)]
    batch += [f"netns delete {name}" for name in idle]
    if batch:
        host.run(["ip", "-force", "-batch", "-"], text="".join(f"{line}\n" for line in batch), check=False)
    for name in idle:
        host.conceal(name.removeprefix(NAMESPACE_PREFIX))


def _readdress(inside: Namespace, wanted: Addressing) -> list[str]:
    shown = json.loads(inside.run(["ip", "-json", "address", "show", "dev", GUEST_SIDE]) or "[]")
    entries = [entry for link in shown for entry in link.get("addr_info", ()) if entry.get("scope") != "link"]
    has = {f"{entry['local']}/{entry['prefixlen']}" for entry in entries}
    return [
        *(f"address delete {address} dev {GUEST_SIDE}" for address in sorted(has - wanted.addresses)),
        *(
            f"address add {address} dev {GUEST_SIDE}{' nodad' if ':' in address else ''}"
            for address in sorted(wanted.addresses - has)
        ),
        *(f"route replace {cidr} dev {GUEST_SIDE} scope link" for cidr in sorted(wanted.subnets)),
    ]
