"""/os-security-groups and /os-security-group-rules up to 2.35, and the groups of a server."""

from __future__ import annotations

import uuid
from typing import Any

from cellcloud import errors
from cellcloud.clients.security_groups import SecurityGroupClient
from cellcloud.model.security_group import SecurityGroup
from top_api.answers import security_groups as answers
from top_api.operations.security_groups import as_nova_refuses, change_groups, read_rule
from top_api.operations.server_in_cell import look_up_server
from top_api.paging import limit_of
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.routes.server_actions import actions
from top_api.schemas import security_groups as schemas
from top_api.views import security_groups as views

security_groups = Resource("os-security-groups")
LAST_PROXY = (2, 35)
_RULE = "os_compute_api:os-security-groups"
_ALL, _ONE, _RULES = "/os-security-groups", "/os-security-groups/<security_group_id>", "/os-security-group-rules"


def _client(call: Call) -> SecurityGroupClient:
    return call.services.networks.security_group_client


def _in_order(groups: tuple[SecurityGroup, ...]) -> list[SecurityGroup]:
    return sorted(groups, key=lambda group: (group.project_id, group.name))


def _shown(call: Call, group: SecurityGroup) -> dict[str, Any]:
    needed = {rule.remote_group_id for rule in group.rules} - {None, group.id}
    known = _client(call).list_groups(group.project_id) if needed else (group,)
    return views.show(group, views.by_id(known))


def _check_id(what: str, given: str) -> str:
    try:
        return str(uuid.UUID(given))
    except ValueError:
        raise errors.Invalid(f"{what} id should be uuid") from None


@security_groups.route("GET", _ALL, f"{_RULE}:get", until=LAST_PROXY, query=schemas.LIST, answer=answers.LIST)
def list_groups(call: Call) -> dict[str, Any]:
    everybody = call.context.is_admin and "all_tenants" in call.query
    groups = _client(call).list_groups(None if everybody else call.context.project_id)
    known, ordered = views.by_id(groups), _in_order(groups)
    first = min(int(call.param("offset") or 0), len(ordered))
    return {"security_groups": [views.show(group, known) for group in ordered[first : first + limit_of(call)]]}


@security_groups.route("POST", _ALL, f"{_RULE}:create", until=LAST_PROXY, body=schemas.GROUP, answer=answers.ONE)
def create_group(call: Call) -> dict[str, Any]:
    wanted = call.body["security_group"]
    with as_nova_refuses():
        made = _client(call).create_group(call.context.project_id, wanted["name"], wanted["description"])
    return {"security_group": _shown(call, made)}


@security_groups.route("GET", _ONE, f"{_RULE}:show", until=LAST_PROXY, answer=answers.ONE)
def show_group(call: Call, security_group_id: str) -> dict[str, Any]:
    found = _client(call).get_group(call.context.project_id, _check_id("Security group", security_group_id))
    return {"security_group": _shown(call, found)}


@security_groups.route("PUT", _ONE, f"{_RULE}:update", until=LAST_PROXY, body=schemas.GROUP, answer=answers.ONE)
def update_group(call: Call, security_group_id: str) -> dict[str, Any]:
    wanted = call.body["security_group"]
    which = _check_id("Security group", security_group_id)
    with as_nova_refuses():
        changed = _client(call).update_group(call.context.project_id, which, wanted["name"], wanted["description"])
    return {"security_group": _shown(call, changed)}


@security_groups.route("DELETE", _ONE, f"{_RULE}:delete", status=202, until=LAST_PROXY, answer=NOTHING)
def delete_group(call: Call, security_group_id: str) -> None:
    with as_nova_refuses():
        _client(call).delete_group(call.context.project_id, _check_id("Security group", security_group_id))


@security_groups.route("POST", _RULES, f"{_RULE}:rule:create", until=LAST_PROXY, body=schemas.RULE, answer=answers.RULE)
def create_rule(call: Call) -> dict[str, Any]:
    project_id, wanted = call.context.project_id, call.body["security_group_rule"]
    with as_nova_refuses():
        rule = read_rule(wanted)
        made = _client(call).create_rule(project_id, rule)
    remote = made.remote_group_id
    known = (_client(call).get_group(project_id, remote),) if remote is not None else ()
    return {"security_group_rule": views.show_rule(made, views.by_id(known))}


@security_groups.route(
    "DELETE", f"{_RULES}/<rule_id>", f"{_RULE}:rule:delete", status=202, until=LAST_PROXY, answer=NOTHING
)
def delete_rule(call: Call, rule_id: str) -> None:
    _client(call).delete_rule(call.context.project_id, _check_id("Security group rule", rule_id))


@security_groups.route(
    "GET", "/servers/<server_id>/os-security-groups", f"{_RULE}:list", lookup=look_up_server, answer=answers.LIST
)
def list_groups_of_server(call: Call, server_id: str) -> dict[str, Any]:
    groups = _client(call).list_groups_of_server(server_id)
    mine = views.by_id(groups)
    needed = {rule.remote_group_id for group in groups for rule in group.rules} - {None, *mine}
    known = views.by_id(_client(call).list_groups(call.server.spec.project_id)) if needed else {}
    return {"security_groups": [views.show(group, {**known, **mine}) for group in _in_order(groups)]}


@actions.action("addSecurityGroup", f"{_RULE}:add", body=schemas.ADD, answer=NOTHING)
def add_group(call: Call, server_id: str) -> None:
    name = _named(call.body["addSecurityGroup"])
    change_groups(call.services, call.context, call.server, add=name)


@actions.action("removeSecurityGroup", f"{_RULE}:remove", body=schemas.REMOVE, answer=NOTHING)
def remove_group(call: Call, server_id: str) -> None:
    name = _named(call.body["removeSecurityGroup"])
    change_groups(call.services, call.context, call.server, remove=name)


def _named(given: dict[str, str]) -> str:
    if not given["name"].strip():
        raise errors.Invalid("Security group name cannot be empty")
    return given["name"]
