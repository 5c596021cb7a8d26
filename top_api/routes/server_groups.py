"""/os-server-groups: servers of a project that stay together, or apart."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import server_groups as table
from cellcloud.db.engine import Connection, transact
from cellcloud.model.server_group import ANTI_AFFINITY, ServerGroup
from top_api import quota_limits
from top_api.answers import server_groups as answers
from top_api.paging import limit_of
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import server_groups as schemas
from top_api.views import server_groups as views

server_groups = Resource("os-server-groups")
ONE = "/os-server-groups/<group_id>"
_MOST_OFFSET = 1 << 31


def _look_up(call: Call, arguments: Mapping[str, str]) -> None:
    """Find the group of a path. Raises NotFound, the same for foreign and unknown ids."""
    with call.services.database.read() as connection:
        group = table.get(connection, arguments["group_id"][:64], call.project_filter)
    call.found = group
    call.target = {"project_id": group.project_id, "user_id": group.user_id}


@server_groups.route(
    "GET", "/os-server-groups", "os_compute_api:os-server-groups:index", query=schemas.LIST, answer=answers.LIST
)
def list_groups(call: Call) -> dict[str, Any]:
    project_id: str | None = call.context.project_id
    if call.param("all_projects") is not None and call.context.is_admin:
        call.check("os_compute_api:os-server-groups:index:all_projects")
        project_id = None
    offset = min(int(call.param("offset") or 0), _MOST_OFFSET)
    with call.services.database.read() as connection:
        found = table.list_page(connection, project_id, limit=_limit(call), offset=offset)
        members = table.list_members(connection, [group.id for group in found])
    return {"server_groups": [views.show(group, members[group.id], call.version) for group in found]}


def _limit(call: Call) -> int:
    """Return how many a page has; 0 is as good as nothing said."""
    return limit_of(call) or call.services.config.top.max_limit


@server_groups.route(
    "POST", "/os-server-groups", "os_compute_api:os-server-groups:create", body=schemas.CREATE, answer=answers.ONE
)
def create(call: Call) -> dict[str, Any]:
    given, who, quota = call.body["server_group"], call.context, call.services.config.quota
    policy = given["policy"] if "policy" in given else given["policies"][0]
    rules = given.get("rules") or {}
    if rules and policy != ANTI_AFFINITY:
        raise errors.Invalid("Only anti-affinity policy supports rules.")
    most = rules.get("max_server_per_host")
    group = ServerGroup(
        id=str(uuid.uuid4()),
        name=given["name"].strip(),
        project_id=who.project_id,
        user_id=who.user_id,
        policy=policy,
        max_server_per_host=None if most is None else int(most),
    )

    def store(connection: Connection) -> None:
        of_project = quota_limits.limits_of(connection, who.project_id, quota)
        of_user = quota_limits.limits_of_user(connection, who.project_id, who.user_id, quota)
        table.create(connection, group, most=of_project[table.QUOTA], most_of_user=of_user[table.QUOTA])

    transact(call.services.database, store)
    return {"server_group": views.show(group, (), call.version)}


@server_groups.route("GET", ONE, "os_compute_api:os-server-groups:show", lookup=_look_up, answer=answers.ONE)
def show(call: Call, group_id: str) -> dict[str, Any]:
    group: ServerGroup = call.found
    with call.services.database.read() as connection:
        members = table.list_members(connection, [group.id])[group.id]
    return {"server_group": views.show(group, members, call.version)}


@server_groups.route(
    "DELETE", ONE, "os_compute_api:os-server-groups:delete", status=204, lookup=_look_up, answer=NOTHING
)
def delete(call: Call, group_id: str) -> None:
    transact(call.services.database, lambda connection: table.delete(connection, call.found.id))
