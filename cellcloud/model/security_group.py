"""Security groups: what traffic the ports in them take and send."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import dataclass

DEFAULT = "default"
INGRESS, EGRESS = "ingress", "egress"
IPV4, IPV6 = "IPv4", "IPv6"
EVERYWHERE = ("0.0.0.0/0", "::/0")
# IANA's numbers, by the names that Neutron knows.
PROTOCOLS = {
    "hopopt": 0, "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6-encap": 41,
    "ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ipv6-icmp": 58,
    "ipv6-nonxt": 59, "ipv6-opts": 60, "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136,
}  # fmt: skip


def unknown_group(name: str) -> str:
    """Return what is said of a security group that the project has not."""
    return f"Unable to find security_group with name or id '{name}'"


def many_groups(name: str) -> str:
    """Return what is said of a name that several security groups of the project have."""
    return f"Multiple security_group matches found for name '{name}', use an ID to be more specific."


def protocol_number(protocol: str) -> int:
    """Return the number of a protocol's name, or of a number as text."""
    return PROTOCOLS[protocol] if protocol in PROTOCOLS else int(protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroupRule:
    """What is let through, in one direction. ``protocol`` None: any; a name, or a number as text. Of ICMP the range is
    type and code, of others the destination's ports. ``remote_group_id``: the addresses of all ports in that group;
    neither that nor ``remote_ip_prefix``: everybody."""

    id: str
    security_group_id: str
    direction: str = INGRESS
    ethertype: str = IPV4
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_group_id: str | None = None
    remote_ip_prefix: str | None = None
    project_id: str = ""
    description: str = ""
    revision: int = 1
    created_at: str = ""
    updated_at: str = ""

    @property
    def normalized_cidr(self) -> str | None:
        """The prefix without bits behind it."""
        given = self.remote_ip_prefix
        return None if given is None else str(ipaddress.ip_network(given, strict=False))

    @property
    def digest(self) -> str:
        """What makes it another rule than its group's others: a protocol's name is its number, and every address is
        as if none were named."""
        protocol = None if self.protocol is None else str(protocol_number(self.protocol))
        prefix = None if self.remote_ip_prefix in EVERYWHERE else self.remote_ip_prefix
        ports = (self.port_range_min, self.port_range_max)
        whole = [self.direction, self.ethertype, protocol, *ports, self.remote_group_id, prefix]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroup:
    """``is_default``: the project's one for ports that name none. ``shared``: with whoever looks. ``version``: grows
    with each change of its rules or of the ports in it."""

    id: str
    name: str = ""
    project_id: str = ""
    description: str = ""
    stateful: bool = True
    is_default: bool = False
    shared: bool = False
    rules: tuple[SecurityGroupRule, ...] = ()
    tags: tuple[str, ...] = ()
    revision: int = 1
    version: int = 1
    created_at: str = ""
    updated_at: str = ""
