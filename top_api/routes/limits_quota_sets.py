"""/limits and /os-quota-sets: what a project may have, and has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import quotas, server_groups, user_quotas
from cellcloud.db.engine import Connection, transact
from cellcloud.safe_regex import Pattern
from top_api import quota_limits
from top_api.answers import limits_quota_sets as answers
from top_api.operations import projects
from top_api.request_pipeline import Call, Pair, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import limits_quota_sets as schemas
from top_api.schemas.types import is_true

limits = Resource("limits")
_GROUPS = ("server_groups", "server_group_members")
_COUNTED = ("instances", "cores", "ram")
_PROJECT_ID = Pattern("[0-9A-Za-z_-]+", most=255)


def _of_project(call: Call, arguments: Mapping[str, str]) -> None:
    """Ask the rule about the project of the path. Raises Invalid for what cannot be one's id."""
    project_id = arguments["project_id"]
    if not _PROJECT_ID.matches(project_id):
        raise errors.Invalid(f"Project ID {project_id[:64]} is not a valid project.")
    call.target = {"project_id": project_id}


@limits.route("GET", "/limits", "os_compute_api:limits", query=schemas.LIMITS, answer=answers.LIMITS)
def show(call: Call) -> dict[str, Any]:
    project_id = call.param("tenant_id")
    if project_id is None:
        project_id = call.context.project_id
    else:  # one's own as well, as in Nova
        call.check("os_compute_api:limits:other_project")
    most, used = _limits_and_usages(call, project_id)
    shown: dict[str, Any] = {
        "maxTotalInstances": most["instances"],
        "maxTotalCores": most["cores"],
        "maxTotalRAMSize": most["ram"],
        "maxTotalKeypairs": most["key_pairs"],
        "maxServerMeta": most["metadata_items"],
        "maxServerGroups": most["server_groups"],
        "maxServerGroupMembers": most["server_group_members"],
        "totalInstancesUsed": used["instances"],
        "totalCoresUsed": used["cores"],
        "totalRAMUsed": used["ram"],
        "totalServerGroupsUsed": used["server_groups"],
    }
    if call.version < (2, 36):
        shown |= {"maxTotalFloatingIps": -1, "maxSecurityGroups": -1, "maxSecurityGroupRules": -1}
        shown |= {"totalFloatingIpsUsed": 0, "totalSecurityGroupsUsed": 0}
    if call.version < (2, 39):
        shown["maxImageMeta"] = most["metadata_items"]
    if call.version < (2, 57):
        shown |= {"maxPersonality": 0, "maxPersonalitySize": 0}
    return {"limits": {"rate": [], "absolute": shown}}


@limits.route(
    "GET",
    "/os-quota-sets/<project_id>",
    "os_compute_api:os-quota-sets:show",
    query=schemas.QUOTA_SET,
    lookup=_of_project,
    answer=answers.QUOTA_SET,
)
def show_quota_set(call: Call, project_id: str) -> dict[str, Any]:
    projects.check(call, project_id)
    return {"quota_set": {"id": project_id, **_quota_set(call, _limits_and_usages(call, project_id, _user(call))[0])}}


@limits.route(
    "GET",
    "/os-quota-sets/<project_id>/detail",
    "os_compute_api:os-quota-sets:detail",
    query=schemas.QUOTA_SET,
    lookup=_of_project,
    answer=answers.DETAIL,
)
def show_quota_set_in_detail(call: Call, project_id: str) -> dict[str, Any]:
    projects.check(call, project_id)
    most, used = _limits_and_usages(call, project_id, _user(call))
    shown = {
        name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0}
        for name, limit in _quota_set(call, most).items()
    }
    return {"quota_set": {"id": project_id, **shown}}


@limits.route(
    "GET", "/os-quota-sets/<project_id>/defaults", "os_compute_api:os-quota-sets:defaults", answer=answers.QUOTA_SET
)
def show_defaults(call: Call, project_id: str) -> dict[str, Any]:
    projects.check(call, project_id)
    return {"quota_set": {"id": project_id, **_quota_set(call, _limits_and_usages(call, quotas.CLASS)[0])}}


@limits.route(
    "PUT",
    "/os-quota-sets/<project_id>",
    "os_compute_api:os-quota-sets:update",
    query=schemas.QUOTA_SET,
    body=schemas.UPDATE_QUOTA_SET,
    lookup=_of_project,
    answer=answers.UPDATED,
)
def update_quota_set(call: Call, project_id: str) -> dict[str, Any]:
    projects.check(call, project_id)
    given = call.body["quota_set"]
    wanted, user_id = quota_limits.settable(given), _user(call)

    def store(connection: Connection) -> None:
        quotas.lock(connection, project_id)
        if not is_true(given.get("force")):
            _check_range(connection, call, project_id, user_id, wanted)
        if user_id is None:
            quotas.set_limits(connection, project_id, wanted)
        else:
            user_quotas.set_limits(connection, project_id, user_id, wanted)

    transact(call.services.database, store)
    return {"quota_set": _quota_set(call, _limits_and_usages(call, project_id, user_id)[0])}


def _check_range(
    connection: Connection, call: Call, project_id: str, user_id: str | None, wanted: Mapping[str, int]
) -> None:
    """Check wanted limits: a project's is at least what is used and what its users have been given of it, a user's at
    least what they use and at most what is left of the project's. Raises Invalid."""
    given = user_quotas.list_given(connection, project_id)
    if user_id is None:
        groups = {server_groups.QUOTA: server_groups.count(connection, project_id)}
        used, most, own = {**quotas.list_usages(connection, project_id), **groups}, {}, {}
        least = {name: max(used.get(name, 0), given.get(name, 0)) for name in wanted}
    else:
        groups = {server_groups.QUOTA: server_groups.count(connection, project_id, user_id)}
        least = {**user_quotas.list_usages(connection, project_id, user_id), **groups}
        most = quota_limits.limits_of(connection, project_id, call.services.config.quota)
        own = user_quotas.list_limits(connection, project_id, user_id)
    for name, limit in wanted.items():
        if limit != quotas.UNLIMITED and limit < least.get(name, 0):
            raise errors.Invalid(
                f"Quota limit {limit} for {name} must be greater than or equal to already used and reserved "
                f"{least[name]}."
            )
        bound = most.get(name, quotas.UNLIMITED)
        if bound == quotas.UNLIMITED:
            continue
        room = max(0, bound - given.get(name, 0) + max(0, own.get(name, 0)))
        if limit == quotas.UNLIMITED or limit > room:
            raise errors.Invalid(f"Quota limit {limit} for {name} must be less than or equal to {room}.")


@limits.route(
    "DELETE",
    "/os-quota-sets/<project_id>",
    "os_compute_api:os-quota-sets:delete",
    status=202,
    lookup=_of_project,
    query=schemas.QUOTA_SET,
    answer=NOTHING,
)
def delete_quota_set(call: Call, project_id: str) -> None:
    user_id = _user(call)

    def forget(connection: Connection) -> None:
        quotas.lock(connection, project_id)
        if user_id is None:
            quotas.delete_limits(connection, project_id)
        user_quotas.delete_limits(connection, project_id, user_id)

    transact(call.services.database, forget)


@limits.route("GET", "/os-quota-class-sets/<name>", "os_compute_api:os-quota-class-sets:show", answer=answers.CLASS_SET)
def show_class(call: Call, name: str) -> dict[str, Any]:
    return {"quota_class_set": {"id": name, **_class_set(call)}}


@limits.route(
    "PUT",
    "/os-quota-class-sets/<name>",
    "os_compute_api:os-quota-class-sets:update",
    body=schemas.UPDATE_CLASS_SET,
    answer=answers.UPDATED_CLASS_SET,
)
def update_class(call: Call, name: str) -> dict[str, Any]:
    if name != "default":
        raise errors.Invalid("Every project is of the class default: limits of another would count for nobody.")
    wanted = quota_limits.settable(call.body["quota_class_set"])
    transact(call.services.database, lambda connection: quotas.set_limits(connection, quotas.CLASS, wanted))
    return {"quota_class_set": _class_set(call)}


def _class_set(call: Call) -> dict[str, int]:
    """Return a class shows limits of networks up to 2.49, and those of server groups from then on."""
    shown = _quota_set(call, _limits_and_usages(call, quotas.CLASS)[0], without_network=(2, 50))
    return shown if call.version >= (2, 50) else {name: shown[name] for name in shown if name not in _GROUPS}


def _user(call: Call) -> str | None:
    """Return the user within the project that is meant, if one is."""
    return call.param("user_id") or None


def _limits_and_usages(
    call: Call, project_id: str, user_id: str | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """(limits, usages) of a project, or of a user within it."""
    project_id = project_id[:255]
    with call.services.database.read() as connection:
        if user_id is None:
            most = quota_limits.limits_of(connection, project_id, call.services.config.quota)
            used = quotas.list_usages(connection, project_id)
            return most, {**used, server_groups.QUOTA: server_groups.count(connection, project_id)}
        most = quota_limits.limits_of_user(connection, project_id, user_id, call.services.config.quota)
        used = user_quotas.list_usages(connection, project_id, user_id)
        return most, {**used, server_groups.QUOTA: server_groups.count(connection, project_id, user_id)}


def _quota_set(call: Call, most: dict[str, int], *, without_network: Pair = (2, 36)) -> dict[str, int]:
    shown = {name: most[name] for name in (*_COUNTED, "key_pairs", "metadata_items", *_GROUPS)}
    if call.version < without_network:
        shown |= {name: most[name] for name in quota_limits.NETWORK}
    if call.version < (2, 57):
        shown |= {name: most[name] for name in quota_limits.INJECTED}
    return shown
