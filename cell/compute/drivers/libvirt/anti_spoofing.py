"""What a guest may send and get, and what its network's namespace takes from it.

On the host two tables hold for all guests: in that of bridges a guest speaks from its own addresses only, gets what is
meant for it, and nothing passes between its bridge and the host's own network stack; in that of connections its
security groups decide. The one marks each packet with the number of its port for the other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cell.compute.drivers.libvirt.network_device_names import (
    BRIDGE_PREFIX,
    LINK_PREFIX,
    TAP_PREFIX,
    TUNNEL_PREFIX,
    link_local,
)
from cell.compute.drivers.libvirt.nft_tables import Elements, Table
from cell.compute.drivers.libvirt.security_groups import combination, make_chains
from cellcloud.model.network_plan import GroupPlan
from cellcloud.model.openstack_metadata import METADATA_ADDRESS

TABLE = "cellcloud"
NETWORK_RULESET = f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    chain input {{
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state established,related accept
        ip protocol icmp accept
        udp sport 68 udp dport 67 accept
        icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, echo-request }} accept
        udp sport 546 udp dport 547 accept
        ip daddr {METADATA_ADDRESS} tcp dport 80 accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
    }}
}}
"""
FROM_GUEST = (
    "iifname @open goto from_open;",
    "iifname . ether saddr != @macs drop;",
    "ether type arp goto arp_from_guest;",
    "ether type ip goto ip_from_guest;",
    "ether type ip6 goto ip6_from_guest;",
    "drop;",
)
ARP_FROM_GUEST = (
    "iifname . arp saddr ether != @macs drop;",
    "iifname . arp saddr ether . arp saddr ip @addresses accept;",
    "arp operation request arp saddr ip 0.0.0.0 accept;",
    "iifname vmap @arp_ranges;",
    "drop;",
)
IP_FROM_GUEST = (
    "udp sport 67 drop;",
    "iifname . ether saddr . ip saddr @addresses accept;",
    "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept;",
    "iifname vmap @ranges;",
    "drop;",
)
IP6_FROM_GUEST = (
    "icmpv6 type { nd-router-advert, nd-redirect } drop;",
    "udp sport 547 drop;",
    "icmpv6 type nd-neighbor-advert iifname vmap @advertised;",
    "icmpv6 type nd-neighbor-advert drop;",
    "iifname . ether saddr . ip6 saddr @addresses6 accept;",
    "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld-listener-report, mld2-listener-report }"
    " accept;",
    "iifname vmap @ranges6;",
    "drop;",
)
# A port without port security may be whoever it likes, but to the metadata service.
FROM_OPEN = (
    f"ip daddr {METADATA_ADDRESS} iifname . ether saddr . ip saddr != @addresses drop;",
    "accept;",
)
TO_GUEST = (
    "oifname @open return;",
    "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 oifname . ether daddr != @macs drop;",
    "udp dport 67 drop;",
    "udp dport 547 drop;",
)
# Each host serves its own guests: gateways, DHCP and metadata of a network are on all hosts that have it.
TUNNELS = (
    f'iifname "{TUNNEL_PREFIX}*" oifname "{LINK_PREFIX}*" drop;',
    f'iifname "{LINK_PREFIX}*" oifname "{TUNNEL_PREFIX}*" drop;',
    f'oifname "{TUNNEL_PREFIX}*" udp dport {{ 67, 68, 546, 547 }} drop;',
    f'oifname "{TUNNEL_PREFIX}*" ip daddr {METADATA_ADDRESS} drop;',
    f'oifname "{TUNNEL_PREFIX}*" arp daddr ip {METADATA_ADDRESS} drop;',
    f'iifname "{TUNNEL_PREFIX}*" udp sport {{ 67, 547 }} drop;',
    f'iifname "{TUNNEL_PREFIX}*" icmpv6 type nd-redirect drop;',
    f'iifname "{TUNNEL_PREFIX}*" ether saddr != @routers icmpv6 type nd-router-advert drop;',
)
BASIC = "icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 143 } accept;"  # how neighbours and routers are found
# What the network's namespace begins: it forwards nothing, so that is DHCP's, or an administrator's at the host.
HOST_MARK, FROM_HOST = 0x80000000, 1
ARRIVING = (
    "type filter hook prerouting priority -150; policy accept;",
    f'iifname != "{BRIDGE_PREFIX}*" accept;',
    f"meta mark {HOST_MARK} ct state new ct mark set {FROM_HOST};",
    f"meta mark {HOST_MARK} accept;",
    f"ct mark {FROM_HOST} accept;",
    "meta mark 0 accept;",
    BASIC,
    "udp sport 68 udp dport 67 accept;",
    "udp sport 546 udp dport 547 accept;",
    f"ip daddr {METADATA_ADDRESS} tcp dport 80 accept;",
    "ct state related accept;",
    "ct state invalid drop;",
    "ct direction original meta mark vmap @sends;",
    "ct direction reply meta mark vmap @takes;",
    "drop;",
)
LEAVING = (
    "type filter hook forward priority 0; policy accept;",
    f'iifname != "{BRIDGE_PREFIX}*" accept;',
    f"ct mark {FROM_HOST} accept;",
    "meta mark 0 accept;",
    BASIC,
    "udp sport 67 udp dport 68 accept;",
    "udp sport 547 udp dport 546 accept;",
    f"ip saddr {METADATA_ADDRESS} tcp sport 80 ct direction reply accept;",
    "ct state related accept;",
    "ct state invalid drop;",
    "ct direction original meta mark vmap @takes;",
    "ct direction reply meta mark vmap @sends;",
    "drop;",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TapRule:
    """What one tap may send. ``number``: of the port on this host, not 0. ``pairs``: (MAC, address or range) that it
    may use beside. ``groups``: None for a port that is not filtered; ``secure`` False for one that may also use any
    address; ``up`` False for one that nothing passes."""

    tap: str
    number: int
    mac_address: str
    addresses: Sequence[str]
    pairs: Sequence[tuple[str, str]] = ()
    groups: Sequence[str] | None = None
    secure: bool = True
    up: bool = True


def make_tables(
    rules: Iterable[TapRule],
    groups: Mapping[str, GroupPlan],
    zones: Mapping[str, int],
    routers: Collection[str] = (),
) -> tuple[Table, Table]:
    """Return the host's tables of bridges and of connections; a tap that is not named may send nothing.

    ``zones``: bridge -> where its connections are kept apart from those of others with the same addresses.
    ``routers``: MACs that may announce a router from another host.
    """
    rules = list(rules)
    return _make_bridge_table(rules, routers), _make_connection_table(rules, groups, zones)


def _make_bridge_table(rules: Sequence[TapRule], routers: Collection[str]) -> Table:
    found = _Addresses()
    for rule in rules:
        found.add(rule)
    filtered = {f'"{rule.tap}" : {rule.number}' for rule in rules if rule.secure and rule.groups is not None}
    sets = {
        "routers": Elements(kind="type ether_addr", elements=frozenset(routers)),
        "macs": Elements(kind="type ifname . ether_addr", elements=frozenset(found.macs)),
        "addresses": Elements(kind="type ifname . ether_addr . ipv4_addr", elements=frozenset(found.single[4])),
        "addresses6": Elements(kind="type ifname . ether_addr . ipv6_addr", elements=frozenset(found.single[6])),
        "open": Elements(kind="type ifname", elements=frozenset(f'"{rule.tap}"' for rule in rules if not rule.secure)),
        "down": Elements(kind="type ifname", elements=frozenset(f'"{rule.tap}"' for rule in rules if not rule.up)),
        "numbers": Elements(kind="type ifname : mark", elements=frozenset(filtered), is_map=True),
    }
    for name, word in (("ranges", "ip"), ("ranges6", "ip6"), ("arp_ranges", "arp"), ("advertised", "nd")):
        elements = frozenset(f'"{tap}" : goto {word}-{tap}' for tap, made in found.chains if made == word)
        sets[name] = Elements(kind="type ifname : verdict", elements=elements, is_map=True)
    ours = "meta mark set 0;"
    chains: dict[str, Sequence[str]] = {
        "from_guest": FROM_GUEST,
        "arp_from_guest": ARP_FROM_GUEST,
        "ip_from_guest": IP_FROM_GUEST,
        "ip6_from_guest": IP6_FROM_GUEST,
        "from_open": FROM_OPEN,
        "to_guest": TO_GUEST,
        **{f"{word}-{tap}": (*lines, "drop;") for (tap, word), lines in found.chains.items()},
        "prerouting": (
            "type filter hook prerouting priority -300; policy accept;",
            "iifname @down drop;",
            ours,
            "meta mark set iifname map @numbers;",
            f'iifname "{LINK_PREFIX}*" meta mark set {HOST_MARK};',
            f'iifname "{TAP_PREFIX}*" jump from_guest;',
        ),
        "forward": (
            "type filter hook forward priority -200; policy accept;",
            "oifname @down drop;",
            ours,
            "meta mark set oifname map @numbers;",
            f'oifname "{TAP_PREFIX}*" jump to_guest;',
            *TUNNELS,
        ),
        "to_host": (
            "type filter hook input priority -300; policy accept;",
            *(f'iifname "{prefix}*" drop;' for prefix in (TAP_PREFIX, LINK_PREFIX, TUNNEL_PREFIX)),
        ),
        "from_host": (
            "type filter hook output priority -300; policy accept;",
            *(f'oifname "{prefix}*" drop;' for prefix in (TAP_PREFIX, LINK_PREFIX, TUNNEL_PREFIX)),
        ),
    }
    return Table(name=f"bridge {TABLE}", sets=sets, chains=chains)


class _Addresses:
    """Collects what taps may use: single addresses in sets, ranges in a chain of the tap's own."""

    def __init__(self) -> None:
        self.macs: set[str] = set()
        self.single: dict[int, set[str]] = {4: set(), 6: set()}
        self.chains: dict[tuple[str, str], list[str]] = {}

    def add(self, rule: TapRule) -> None:
        own = [(rule.mac_address, address) for address in rule.addresses]
        for mac, cidr in (*own, *((mac or rule.mac_address, cidr) for mac, cidr in rule.pairs)):
            self._add(rule.tap, mac, ipaddress.ip_network(cidr, strict=False))
        self.macs.add(f'"{rule.tap}" . {rule.mac_address}')
        if any(address.version == 6 for address in map(ipaddress.ip_address, rule.addresses)):
            self._add(rule.tap, rule.mac_address, ipaddress.ip_network(link_local(rule.mac_address)))

    def _add(self, tap: str, mac: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        self.macs.add(f'"{tap}" . {mac}')
        if network.num_addresses == 1:
            self.single[network.version].add(f'"{tap}" . {mac} . {network.network_address}')
        elif network.version == 4:
            self._lines(tap, "ip").append(f"ether saddr {mac} ip saddr {network} accept;")
            self._lines(tap, "arp").append(f"arp saddr ether {mac} arp saddr ip {network} accept;")
        else:
            self._lines(tap, "ip6").append(f"ether saddr {mac} ip6 saddr {network} accept;")
        if network.version == 6:
            begin = f"@th,64,{network.prefixlen} 0x{int(network.network_address) >> (128 - network.prefixlen):x}"
            self._lines(tap, "nd").append(f"ether saddr {mac} {begin if network.prefixlen else ''} accept;")

    def _lines(self, tap: str, word: str) -> list[str]:
        return self.chains.setdefault((tap, word), [])


def _make_connection_table(
    rules: Sequence[TapRule], groups: Mapping[str, GroupPlan], zones: Mapping[str, int]
) -> Table:
    filtered = [rule for rule in rules if rule.secure and rule.groups is not None]
    combinations = {combination(rule.groups or ()): tuple(rule.groups or ()) for rule in filtered}
    group_chains, sets = make_chains(combinations.values(), groups)
    for word in ("sends", "takes"):
        elements = frozenset(f"{rule.number} : goto {word}-{combination(rule.groups or ())}" for rule in filtered)
        sets[word] = Elements(kind="type mark : verdict", elements=elements, is_map=True)
    zone_of = frozenset(f'"{bridge}" : {zone}' for bridge, zone in zones.items())
    sets["zones"] = Elements(kind="typeof iifname : ct zone", elements=zone_of, is_map=True)
    chains: dict[str, Sequence[str]] = {
        **group_chains,
        "apart": ("type filter hook prerouting priority -300; policy accept;", "ct zone set iifname map @zones;"),
        "arriving": ARRIVING,
        "leaving": LEAVING,
    }
    return Table(name=f"inet {TABLE}", sets=sets, chains=chains)
