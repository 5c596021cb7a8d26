"""Routers on the host that has them: a namespace each, with a leg on every network and one outside.

What is translated and let through is one ruleset, replaced as a whole, that holds for connections that there are, too:
nothing comes in from outside but to an address that the router has now.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from cell.compute.drivers.libvirt.dhcp import ANNOUNCED
from cell.compute.drivers.libvirt.gratuitous_arp import announce
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.network_device_names import (
    ROUTER_NAMESPACE_PREFIX,
    bridge_name,
    inner_leg_name,
    leg_name,
    router_namespace_name,
)
from cell.compute.drivers.libvirt.router_advertisements import Announced
from cellcloud.model.network_plan import NetworkPlan, RouterLeg, RouterPlan

OUTER_MTU = 1500
OPEN = """\
for setting in ipv4/ip_forward=1 ipv4/conf/all/rp_filter=0 ipv4/conf/default/rp_filter=0 \\
    ipv6/conf/all/disable_ipv6=0 ipv6/conf/default/disable_ipv6=0 ipv6/conf/all/forwarding=1 \\
    ipv6/conf/default/accept_dad=0; do
    file=/proc/sys/net/${setting%=*}
    [ ! -e "$file" ] || echo "${setting#*=}" >"$file"
done
exec nft -f -
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """``bridge``: that the outer end is on; ``device``: the inner end."""

    outer: str
    device: str
    bridge: str
    mac_address: str
    mtu: int
    addresses: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """All that a router's namespace has. ``routes``: as ``ip route`` reads them; ``announced``: addresses outside;
    ``advertised``: (device, range, mode) of IPv6 subnets whose gateway it is."""

    legs: frozenset[Leg]
    rules: str
    routes: tuple[str, ...]
    outside: str = ""
    announced: frozenset[str] = frozenset()
    advertised: frozenset[Announced] = frozenset()

    @classmethod
    def of(cls, plan: RouterPlan, networks: Mapping[str, NetworkPlan], external_bridge: str) -> Routing:
        """Make out what the plan means here; without a bridge to external networks the router stays inside."""
        legs = {_inner_leg(leg, networks) for leg in plan.legs}
        external = plan.external if external_bridge else None
        routes = []
        outside, announced = "", frozenset[str]()
        if external is not None:
            floating = {f"{address}/32" for address, _ in plan.floating}
            outside = inner_leg_name(external.port_id)
            legs.add(
                Leg(
                    outer=leg_name(external.port_id),
                    device=outside,
                    bridge=external_bridge,
                    mac_address=external.mac_address,
                    mtu=OUTER_MTU,
                    addresses=frozenset(external.addresses) | floating,
                )
            )
            announced = frozenset(one.partition("/")[0] for one in (*external.addresses, *floating) if ":" not in one)
            if plan.gateway:
                routes.append(f"default via {plan.gateway} dev {outside} onlink")
        routes += [f"{destination} via {hop}" for destination, hop in plan.routes]
        return cls(
            legs=frozenset(legs),
            rules=_make_rules(plan, external, outside),
            routes=tuple(routes),
            outside=outside,
            announced=announced,
            advertised=frozenset(one for leg in plan.legs for one in _advertised(leg, networks.get(leg.network_id))),
        )


def _advertised(leg: RouterLeg, network: NetworkPlan | None) -> Iterator[Announced]:
    held = {address.partition("/")[0] for address in leg.addresses}
    for subnet in network.subnets if network else ():
        if subnet.ipv6_mode in ANNOUNCED and subnet.enable_dhcp and subnet.gateway_ip in held:
            yield inner_leg_name(leg.port_id), subnet.cidr, subnet.ipv6_mode


def _inner_leg(leg: RouterLeg, networks: Mapping[str, NetworkPlan]) -> Leg:
    network = networks.get(leg.network_id)
    return Leg(
        outer=leg_name(leg.port_id),
        device=inner_leg_name(leg.port_id),
        bridge=bridge_name(leg.network_id),
        mac_address=leg.mac_address,
        mtu=network.mtu if network else 1400,
        addresses=frozenset(leg.addresses),
    )


def _make_rules(plan: RouterPlan, external: RouterLeg | None, outside: str) -> str:
    """Return the ruleset as nft reads it."""
    nat_in, nat_out, raw, forward = [], [], [], ["ct state established,related accept"]
    floating = sorted(plan.floating)
    if external is not None:
        own = [one.partition("/")[0] for one in external.addresses if ":" not in one]
        held = ", ".join([*own, *(address for address, _ in floating)])
        raw.append(f'iifname "{outside}" ip daddr != {{ {held} }} ct state established,related drop' if held else "")
        if held and plan.snat:
            raw.append(f'iifname "{outside}" ip daddr != {{ {held} }} drop')
        if floating:
            there = ", ".join(f"{address} : {fixed}" for address, fixed in floating)
            back = ", ".join(f"{fixed} : {address}" for address, fixed in floating)
            addresses = ", ".join(address for address, _ in floating)
            nat_in += [
                f'iifname != "{outside}" ip daddr {{ {addresses} }} meta mark set 1',
                f"dnat ip to ip daddr map {{ {there} }}",
            ]
            nat_out += [
                "meta mark 1 masquerade",
                f'oifname "{outside}" snat ip to ip saddr map {{ {back} }}',
            ]
        if plan.snat and own:
            nat_out.append(f'oifname "{outside}" meta nfproto ipv4 snat ip to {own[0]}')
        forward.append(f'iifname "{outside}" ct status dnat accept')
        if plan.snat:
            forward.append(f'iifname "{outside}" meta nfproto ipv4 drop')
    chains = {
        "before": ("type filter hook prerouting priority -150; policy accept;", [one for one in raw if one]),
        "there": ("type nat hook prerouting priority -100; policy accept;", nat_in),
        "back": ("type nat hook postrouting priority 100; policy accept;", nat_out),
        "forward": ("type filter hook forward priority 0; policy accept;", forward),
        "input": (
            "type filter hook input priority 0; policy drop;",
            [
                'iifname "lo" accept',
                "ct state established,related accept",
                "icmp type echo-request accept",
                "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept",
            ],
        ),
    }
    lines = ["table inet cellcloud", "delete table inet cellcloud", "table inet cellcloud {"]
    for name, (hook, rules) in chains.items():
        lines += [f"chain {name} {{", hook, *rules, "}"]
    return "\n".join([*lines, "}", ""])


def ensure_router(host: Namespace, router_id: str, wanted: Routing) -> None:
    """Make a router's namespace what it should be. Raises HostRefused."""
    name = router_namespace_name(router_id)
    inside = host.enter(name)
    if name not in host.list_networks(ROUTER_NAMESPACE_PREFIX):
        host.run(["sh", "-c", 'rm -f "/run/netns/$0"; exec ip netns add "$0"', name])
    inside.run(["sh", "-c", OPEN], text=wanted.rules)
    inside.run(["ip", "link", "set", "lo", "up"])
    devices = {leg.device: leg for leg in wanted.legs}
    before = _addresses(inside)
    for device in sorted(before.keys() - devices.keys()):
        inside.run(["ip", "link", "delete", device], check=False)
    for device, leg in sorted(devices.items()):
        _ensure_leg(host, inside, name, leg, before.get(device))
    inside.run(["ip", "route", "flush", "proto", "static"], check=False)
    lines = [f"route replace {route} proto static" for route in wanted.routes]
    inside.run(["ip", "-force", "-batch", "-"], text="".join(f"{line}\n" for line in lines), check=False)
    known = {one.partition("/")[0] for one in before.get(wanted.outside, ())}
    if fresh := sorted(wanted.announced - known):
        (leg,) = (leg for leg in wanted.legs if leg.device == wanted.outside)
        announce(inside, wanted.outside, dict.fromkeys(fresh, leg.mac_address))


def _ensure_leg(host: Namespace, inside: Namespace, name: str, leg: Leg, has: frozenset[str] | None) -> None:
    if has is None:
        host.run(["ip", "link", "delete", leg.outer], check=False)
        peer = ["peer", "name", leg.device, "address", leg.mac_address, "netns", name]
        host.run(["ip", "link", "add", leg.outer, "type", "veth", *peer])
    host.run(["ip", "link", "set", leg.outer, "mtu", str(leg.mtu), "master", leg.bridge, "up"])
    has = has or frozenset()
    lines = [
        f"link set {leg.device} address {leg.mac_address} mtu {leg.mtu} up",
        *(f"address delete {one} dev {leg.device}" for one in sorted(has - leg.addresses)),
        *(f"address add {one} dev {leg.device}{' nodad' if ':' in one else ''}" for one in sorted(leg.addresses - has)),
    ]
    inside.run(["ip", "-batch", "-"], text="".join(f"{line}\n" for line in lines))


def _addresses(inside: Namespace) -> dict[str, frozenset[str]]:
    """Device -> addresses with their prefixes' lengths, of the legs that there are."""
    shown = json.loads(inside.run(["ip", "-json", "address", "show"]) or "[]")
    return {
        link["ifname"]: frozenset(
            f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one.get("scope") != "link"
        )
        for link in shown
        if link["ifname"] != "lo"
    }


def remove_routers(host: Namespace, kept: Collection[str]) -> None:
    """Remove all routers but these, with their legs."""
    there = host.list_networks(ROUTER_NAMESPACE_PREFIX)
    for name in sorted(there - {router_namespace_name(router_id) for router_id in kept}):
        for device in _addresses(host.enter(name)):
            host.enter(name).run(["ip", "link", "delete", device], check=False)
        host.run(["ip", "netns", "delete", name], check=False)
