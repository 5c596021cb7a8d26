"""Security groups as Nova shows them: what is let in, and by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cellcloud.model.security_group import INGRESS, IPV6, SecurityGroup, SecurityGroupRule

Groups = Mapping[str, SecurityGroup]
_EVERY_PORT = (1, 65535)
_NO_PORTS = (-1, -1)


def show(group: SecurityGroup, known: Groups) -> dict[str, Any]:
    """Show a group. ``known``: those that its rules may name; a rule about another is not shown."""
    rules = (show_rule(rule, known) for rule in group.rules if rule.direction == INGRESS)
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "tenant_id": group.project_id,
        "rules": [rule for rule in rules if rule is not None],
    }


def show_rule(rule: SecurityGroupRule, known: Groups) -> dict[str, Any] | None:
    """Show a rule; None where the group that it lets in is not known."""
    low, high = rule.port_range_min, rule.port_range_max
    if rule.protocol is not None and low is None and high is None:
        low, high = _EVERY_PORT if rule.protocol in ("tcp", "udp") else _NO_PORTS
    shown: dict[str, Any] = {
        "id": rule.id,
        "parent_group_id": rule.security_group_id,
        "ip_protocol": rule.protocol,
        "from_port": low,
        "to_port": high,
        "group": {},
        "ip_range": {},
    }
    if rule.remote_group_id is None:
        everywhere = "::/0" if rule.ethertype == IPV6 else "0.0.0.0/0"
        return shown | {"ip_range": {"cidr": rule.remote_ip_prefix or everywhere}}
    if rule.remote_group_id not in known:
        return None
    remote = known[rule.remote_group_id]
    return shown | {"group": {"name": remote.name, "tenant_id": remote.project_id}}


def by_id(groups: Iterable[SecurityGroup]) -> Groups:
    """Id -> group."""
    return {group.id: group for group in groups}
