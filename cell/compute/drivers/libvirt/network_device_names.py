"""What a guest's network devices are called on its host."""

from __future__ import annotations

import hashlib
import ipaddress

TAP_PREFIX = "cct-"
BRIDGE_PREFIX = "ccb-"
LINK_PREFIX = "ccv-"
TUNNEL_PREFIX = "ccx-"
ROUTER_PREFIX = "ccr-"
LEG_PREFIX = "leg-"
ROUTER_NAMESPACE_PREFIX = "cellrouter."
NAMESPACE_PREFIX = "cellcloud."
GUEST_SIDE = "guests"  # a network's only device in its namespace
ID_LETTERS = 11  # a name has at most 15 letters; the prefixes keep clear of what others make


def tap_name(port_id: str) -> str:
    """Return the host's end of a port."""
    return TAP_PREFIX + port_id[:ID_LETTERS]


def bridge_name(network_id: str) -> str:
    """Return the bridge of a network."""
    return BRIDGE_PREFIX + network_id[:ID_LETTERS]


def link_name(network_id: str) -> str:
    """Return the bridge's end of the way into the network's namespace."""
    return LINK_PREFIX + network_id[:ID_LETTERS]


def namespace_name(network_id: str) -> str:
    """Return the namespace where the network's gateways are."""
    return NAMESPACE_PREFIX + network_id


def gateway_mac(network_id: str) -> str:
    """Return the gateways' own address: always the same, so that guests' ARP entries stay right."""
    return _made_mac(f"gateway {network_id}")


def bridge_mac(network_id: str) -> str:
    """Return the bridge's own address: with one that changed with its ports it would forget its neighbours."""
    return _made_mac(f"bridge {network_id}")


def _made_mac(seed: str) -> str:
    digest = hashlib.sha256(seed.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def tunnel_name(network_id: str) -> str:
    """Return the device that leads to the network on other hosts."""
    return TUNNEL_PREFIX + network_id[:ID_LETTERS]


def leg_name(port_id: str) -> str:
    """Return the bridge's end of a router's interface."""
    return ROUTER_PREFIX + port_id[:ID_LETTERS]


def inner_leg_name(port_id: str) -> str:
    """Return the router's end of its interface."""
    return LEG_PREFIX + port_id[:ID_LETTERS]


def router_namespace_name(router_id: str) -> str:
    """Return the namespace that is the router."""
    return ROUTER_NAMESPACE_PREFIX + router_id


def link_local(mac: str) -> str:
    """Return the address that an IPv6 guest makes of its MAC."""
    first, *rest = (int(part, 16) for part in mac.split(":"))
    digits = bytes([first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + digits))
