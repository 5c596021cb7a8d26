"""/limits and /os-quota-sets: what a project may have, and has."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.db import quotas
from cellcloud.db.engine import transact
from cellcloud.patterns import Pattern
from top_api import quota
from top_api.routing import Call, Pair, Resource
from top_api.schemas import limits as schemas
from top_api.schemas.types import is_true

limits = Resource("limits")
_GROUPS = ("server_groups", "server_group_members")
_COUNTED = ("instances", "cores", "ram")
_PROJECT_ID = Pattern("[0-9A-Za-z_-]+", most=255)


@limits.route("GET", "/limits", "os_compute_api:limits", query=schemas.LIMITS)
def show(call: Call) -> dict[str, Any]:
    project_id = call.param("tenant_id") or call.context.project_id
    if project_id != call.context.project_id:
        call.check("os_compute_api:limits:other_project")
    most, used = _books(call, project_id)
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
        "totalServerGroupsUsed": 0,
    }
    if call.version < (2, 36):
        shown |= {"maxTotalFloatingIps": -1, "maxSecurityGroups": -1, "maxSecurityGroupRules": -1}
        shown |= {"totalFloatingIpsUsed": 0, "totalSecurityGroupsUsed": 0}
    if call.version < (2, 39):
        shown["maxImageMeta"] = most["metadata_items"]
    if call.version < (2, 57):
        shown |= {"maxPersonality": 0, "maxPersonalitySize": 0}
    return {"limits": {"rate": [], "absolute": shown}}


@limits.route("GET", "/os-quota-sets/<project_id>", "os_compute_api:os-quota-sets:show", query=schemas.QUOTA_SET)
def show_quota_set(call: Call, project_id: str) -> dict[str, Any]:
    _check_project(call, project_id)
    return {"quota_set": {"id": project_id, **_quota_set(call, _books(call, project_id)[0])}}


@limits.route("GET", "/os-quota-sets/<project_id>/detail", "os_compute_api:os-quota-sets:show", query=schemas.QUOTA_SET)
def show_quota_set_in_detail(call: Call, project_id: str) -> dict[str, Any]:
    _check_project(call, project_id)
    most, used = _books(call, project_id)
    shown = {
        name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0}
        for name, limit in _quota_set(call, most).items()
    }
    return {"quota_set": {"id": project_id, **shown}}


@limits.route("GET", "/os-quota-sets/<project_id>/defaults", "os_compute_api:os-quota-sets:defaults")
def show_defaults(call: Call, project_id: str) -> dict[str, Any]:
    return {"quota_set": {"id": project_id, **_quota_set(call, _books(call, quotas.CLASS)[0])}}


@limits.route(
    "PUT",
    "/os-quota-sets/<project_id>",
    "os_compute_api:os-quota-sets:update",
    query=schemas.QUOTA_SET,
    body=schemas.UPDATE_QUOTA_SET,
)
def update_quota_set(call: Call, project_id: str) -> dict[str, Any]:
    _check_target(call, project_id)
    given = call.body["quota_set"]
    wanted = quota.settable(given)
    _, used = _books(call, project_id)
    for name, limit in wanted.items():
        if not is_true(given.get("force")) and limit != quotas.UNLIMITED and limit < used.get(name, 0):
            raise errors.Invalid(
                f"Quota limit {limit} for {name} must be greater than or equal to already used {used[name]}."
            )
    transact(call.parts.database, lambda connection: quotas.set_limits(connection, project_id, wanted))
    return {"quota_set": _quota_set(call, _books(call, project_id)[0])}


@limits.route(
    "DELETE",
    "/os-quota-sets/<project_id>",
    "os_compute_api:os-quota-sets:update",
    status=202,
    query=schemas.QUOTA_SET,
)
def delete_quota_set(call: Call, project_id: str) -> None:
    _check_target(call, project_id)
    transact(call.parts.database, lambda connection: quotas.delete_limits(connection, project_id))


@limits.route("GET", "/os-quota-class-sets/<name>", "os_compute_api:os-quota-class-sets:show")
def show_class(call: Call, name: str) -> dict[str, Any]:
    return {"quota_class_set": {"id": name, **_class_set(call)}}


@limits.route(
    "PUT",
    "/os-quota-class-sets/<name>",
    "os_compute_api:os-quota-class-sets:update",
    body=schemas.UPDATE_CLASS_SET,
)
def update_class(call: Call, name: str) -> dict[str, Any]:
    if name != "default":
        raise errors.Invalid("Every project is of the class default: limits of another would count for nobody.")
    wanted = quota.settable(call.body["quota_class_set"])
    transact(call.parts.database, lambda connection: quotas.set_limits(connection, quotas.CLASS, wanted))
    return {"quota_class_set": _class_set(call)}


def _class_set(call: Call) -> dict[str, int]:
    """A class shows limits of networks up to 2.49, and those of server groups from then on."""
    shown = _quota_set(call, _books(call, quotas.CLASS)[0], without_network=(2, 50))
    return shown if call.version >= (2, 50) else {name: shown[name] for name in shown if name not in _GROUPS}


def _check_id(project_id: str) -> None:
    if not _PROJECT_ID.matches(project_id):
        raise errors.Invalid(f"Project ID {project_id[:64]} is not a valid project.")


def _check_target(call: Call, project_id: str) -> None:
    _check_id(project_id)
    if call.param("user_id") is not None:
        raise errors.Invalid("Limits are of projects here: a user has none of their own.")


def _check_project(call: Call, project_id: str) -> None:
    _check_id(project_id)
    if project_id != call.context.project_id and not call.context.is_admin:
        raise errors.Forbidden("Policy doesn't allow os_compute_api:os-quota-sets:show to be performed.")


def _books(call: Call, project_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """(limits, usages) of a project."""
    with call.parts.database.read() as connection:
        most = quota.limits_of(connection, project_id[:255], call.parts.config.quota)
        return most, quotas.list_usages(connection, project_id[:255])


def _quota_set(call: Call, most: dict[str, int], *, without_network: Pair = (2, 36)) -> dict[str, int]:
    shown = {name: most[name] for name in (*_COUNTED, "key_pairs", "metadata_items", *_GROUPS)}
    if call.version < without_network:
        shown |= {name: most[name] for name in quota.NETWORK if name != "networks"}
    if call.version < (2, 57):
        shown |= {name: most[name] for name in quota.INJECTED}
    return shown
