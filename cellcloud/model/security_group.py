"""Security groups: what traffic the ports in them take and send."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

DEFAULT = "default"
INGRESS, EGRESS = "ingress", "egress"
IPV4, IPV6 = "IPv4", "IPv6"


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
    def digest(self) -> str:
        """What makes it another rule than its group's others."""
        ports = (self.port_range_min, self.port_range_max)
        remote = (self.remote_group_id, self.remote_ip_prefix)
        whole = [self.direction, self.ethertype, self.protocol, *ports, *remote]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroup:
    """``is_default``: the project's one for ports that name none. ``version``: grows with each change of its rules or
    of the ports in it."""

    id: str
    name: str = ""
    project_id: str = ""
    description: str = ""
    stateful: bool = True
    is_default: bool = False
    rules: tuple[SecurityGroupRule, ...] = ()
    tags: tuple[str, ...] = ()
    revision: int = 1
    version: int = 1
    created_at: str = ""
    updated_at: str = ""
