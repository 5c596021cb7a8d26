"""What a guest may send: only from its own address. One ruleset for the whole host, replaced as a whole.

Each packet also gets its port's mark, by which the metadata proxy knows who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cell.compute.drivers.libvirt.names import TAP_PREFIX

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
    map marks {{
        type ifname : mark;{marks}
    }}
    chain from_guest {{
        iifname . ether saddr != @macs drop
        ether type arp iifname . arp saddr ip @addresses accept
        ether type arp arp operation request arp saddr ip 0.0.0.0 accept
        ether type ip udp sport 67 drop
        ether type ip iifname . ip saddr @addresses meta mark set iifname map @marks accept
        ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
        drop
    }}
    chain prerouting {{
        type filter hook prerouting priority -300; policy accept;
        iifname "{taps}*" jump from_guest
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TapRule:
    """What one tap may send."""

    tap: str
    mac_address: str
    addresses: Sequence[str]
    mark: int


def make_ruleset(rules: Iterable[TapRule]) -> str:
    """The whole ruleset as nft reads it; a tap that is not named may send nothing."""
    rules = list(rules)
    return RULESET.format(
        table=TABLE,
        taps=TAP_PREFIX,
        macs=_elements(f'"{rule.tap}" . {rule.mac_address}' for rule in rules),
        addresses=_elements(f'"{rule.tap}" . {address}' for rule in rules for address in rule.addresses),
        marks=_elements(f'"{rule.tap}" : {rule.mark}' for rule in rules),
    )


def _elements(items: Iterable[str]) -> str:
    joined = ", ".join(items)
    return f" elements = {{ {joined} }};" if joined else ""
