"""Security groups and their rules, as Neutron shows them."""

from __future__ import annotations

from typing import Any

from cellcloud.embedded.security_groups import EmbeddedSecurityGroups
from cellcloud.model.security_group import SecurityGroup, SecurityGroupRule
from top_api.embedded_api import network_list_filters as lists
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.embedded_api.network_schemas import SECURITY_GROUP_RULES, SECURITY_GROUP_UPDATE, SECURITY_GROUPS
from top_api.embedded_api.network_viewers import owner_of, service_viewer_of
from top_api.request_pipeline import Call, Resource

security_groups = Resource("network_security_groups", API)


def _service(call: Call) -> EmbeddedSecurityGroups:
    return call.embedded.networks.security_groups


@security_groups.route("GET", "/v2.0/security-groups", "get_security_group")
def list_groups(call: Call) -> dict[str, Any]:
    page = lists.SECURITY_GROUPS.page(call)
    return lists.listed(
        call, "security_groups", map(_group, _service(call).list_groups(service_viewer_of(call), page)), page
    )


@security_groups.route("POST", "/v2.0/security-groups", "create_security_group", status=201, body=SECURITY_GROUPS)
def create_groups(call: Call) -> dict[str, Any]:
    wanted = call.body.get("security_groups") or [call.body["security_group"]]
    new = [
        SecurityGroup(
            id="",
            name=group.get("name", ""),
            description=group.get("description", ""),
            stateful=group.get("stateful", True),
            project_id=owner_of(call, group, allowed=call.context.is_admin),
        )
        for group in wanted
    ]
    made = [_group(group) for group in _service(call).create_groups(new)]
    return {"security_groups": made} if "security_groups" in call.body else {"security_group": made[0]}


@security_groups.route("GET", "/v2.0/security-groups/<group_id>", "get_security_group")
def show_group(call: Call, group_id: str) -> dict[str, Any]:
    return {"security_group": lists.fields(call, _group(_service(call).get_group(service_viewer_of(call), group_id)))}


@security_groups.route("PUT", "/v2.0/security-groups/<group_id>", "update_security_group", body=SECURITY_GROUP_UPDATE)
def update_group(call: Call, group_id: str) -> dict[str, Any]:
    changes = call.body["security_group"]
    return {"security_group": _group(_service(call).update_group(service_viewer_of(call), group_id, changes))}


@security_groups.route("DELETE", "/v2.0/security-groups/<group_id>", "delete_security_group", status=204)
def delete_group(call: Call, group_id: str) -> None:
    _service(call).delete_group(service_viewer_of(call), group_id)


@security_groups.route("GET", "/v2.0/security-group-rules", "get_security_group_rule")
def list_rules(call: Call) -> dict[str, Any]:
    page = lists.SECURITY_GROUP_RULES.page(call)
    found = _service(call).list_rules(service_viewer_of(call), page)
    return lists.listed(call, "security_group_rules", map(_rule, found), page)


@security_groups.route(
    "POST", "/v2.0/security-group-rules", "create_security_group_rule", status=201, body=SECURITY_GROUP_RULES
)
def create_rules(call: Call) -> dict[str, Any]:
    wanted = call.body.get("security_group_rules") or [call.body["security_group_rule"]]
    made = [
        _rule(rule)
        for rule in _service(call).create_rules(service_viewer_of(call), [_new_rule(call, r) for r in wanted])
    ]
    return {"security_group_rules": made} if "security_group_rules" in call.body else {"security_group_rule": made[0]}


@security_groups.route("GET", "/v2.0/security-group-rules/<rule_id>", "get_security_group_rule")
def show_rule(call: Call, rule_id: str) -> dict[str, Any]:
    return {"security_group_rule": lists.fields(call, _rule(_service(call).get_rule(service_viewer_of(call), rule_id)))}


@security_groups.route("DELETE", "/v2.0/security-group-rules/<rule_id>", "delete_security_group_rule", status=204)
def delete_rule(call: Call, rule_id: str) -> None:
    _service(call).delete_rule(service_viewer_of(call), rule_id)


def _new_rule(call: Call, wanted: dict[str, Any]) -> SecurityGroupRule:
    owner_of(call, wanted, allowed=call.context.is_admin)
    protocol = wanted.get("protocol")
    low, high = (wanted.get(name) for name in ("port_range_min", "port_range_max"))
    return SecurityGroupRule(
        id="",
        security_group_id=wanted["security_group_id"],
        direction=wanted["direction"],
        ethertype=wanted.get("ethertype") or "IPv4",
        protocol=None if protocol is None else str(protocol),
        port_range_min=None if low is None else int(low),
        port_range_max=None if high is None else int(high),
        remote_group_id=wanted.get("remote_group_id"),
        remote_ip_prefix=wanted.get("remote_ip_prefix"),
        description=wanted.get("description") or "",
    )


# ---- answers ---------------------------------------------------------------------------------------------------------
def _group(group: SecurityGroup) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "project_id": group.project_id,
        "tenant_id": group.project_id,
        "stateful": group.stateful,
        "shared": group.shared,
        "security_group_rules": [_rule(rule) for rule in group.rules],
        "tags": list(group.tags),
        "created_at": group.created_at,
        "updated_at": group.updated_at,
        "revision_number": group.revision,
    }


def _rule(rule: SecurityGroupRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "security_group_id": rule.security_group_id,
        "project_id": rule.project_id,
        "tenant_id": rule.project_id,
        "direction": rule.direction,
        "ethertype": rule.ethertype,
        "protocol": rule.protocol,
        "port_range_min": rule.port_range_min,
        "port_range_max": rule.port_range_max,
        "remote_group_id": rule.remote_group_id,
        "remote_ip_prefix": rule.remote_ip_prefix,
        "normalized_cidr": rule.normalized_cidr,
        "description": rule.description,
        "tags": [],
        "created_at": rule.created_at,
        "updated_at": rule.updated_at,
        "revision_number": rule.revision,
    }
