"""What a guest may send, and what its network's namespace takes from it.

On the host one ruleset holds for all guests and is replaced as a whole: a guest speaks from its own addresses only, and
nothing passes between its bridge and the host's own network stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cell.compute.drivers.libvirt.network_device_names import LINK_PREFIX, TAP_PREFIX
from cellcloud.model.openstack_metadata import METADATA_ADDRESS

TABLE = "cellcloud"
RULESET = """\
table bridge {table}
delete table bridge {table}
table bridge {table} {{
    set macs {{
        type ifname . ether_addr;{macs}
    }}
    set addresses {{
        type ifname . ipv4_addr;{addresses}
    }}
    chain from_guest {{
        iifname . ether saddr != @macs drop
        ether type arp iifname . arp saddr ether != @macs drop
        ether type arp iifname . arp saddr ip @addresses accept
        ether type arp arp operation request arp saddr ip 0.0.0.0 accept
        ether type ip udp sport 67 drop
        ether type ip iifname . ip saddr @addresses accept
        ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
        drop
    }}
    chain prerouting {{
        type filter hook prerouting priority -300; policy accept;
        iifname "{taps}*" jump from_guest
    }}
    chain to_host {{
        type filter hook input priority -300; policy accept;
        iifname "{taps}*" drop
        iifname "{links}*" drop
    }}
    chain from_host {{
        type filter hook output priority -300; policy accept;
        oifname "{taps}*" drop
        oifname "{links}*" drop
    }}
}}
"""
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
        ip daddr {METADATA_ADDRESS} tcp dport 80 accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TapRule:
    """What one tap may send."""

    tap: str
    mac_address: str
    addresses: Sequence[str]


def make_ruleset(rules: Iterable[TapRule]) -> str:
    """Return the host's whole ruleset as nft reads it; a tap that is not named may send nothing."""
    rules = list(rules)
    return RULESET.format(
        table=TABLE,
        taps=TAP_PREFIX,
        links=LINK_PREFIX,
        macs=_elements(f'"{rule.tap}" . {rule.mac_address}' for rule in rules),
        addresses=_elements(f'"{rule.tap}" . {address}' for rule in rules for address in rule.addresses),
    )


def _elements(items: Iterable[str]) -> str:
    joined = ", ".join(items)
    return f" elements = {{ {joined} }};" if joined else ""
