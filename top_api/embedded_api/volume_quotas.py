"""Quotas and limits of the volume API: of projects, of the default class, and what is used of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import volume_quotas as db
from cellcloud.db.engine import Connection, transact
from top_api.authorization import Target
from top_api.embedded_api import volume_schemas as schemas
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_calls import flag, service_of
from top_api.request_pipeline import Call, Resource

volume_quotas = Resource("volume_quotas", API)
_NOT_RESOURCES = frozenset({"tenant_id", "id", "force"})
_USED = {
    "totalVolumesUsed": "volumes",
    "totalGigabytesUsed": "gigabytes",
    "totalSnapshotsUsed": "snapshots",
    "totalBackupsUsed": "backups",
    "totalBackupGigabytesUsed": "backup_gigabytes",
}
_LIMITS = {
    "maxTotalVolumes": "volumes",
    "maxTotalVolumeGigabytes": "gigabytes",
    "maxTotalSnapshots": "snapshots",
    "maxTotalBackups": "backups",
    "maxTotalBackupGigabytes": "backup_gigabytes",
}


def _of_project(words: Mapping[str, str]) -> Target:
    return {"project_id": words["project_id"]}


@volume_quotas.route("GET", "/v3/os-quota-sets/<project_id>", "volume_extension:quotas:show", target=_of_project)
def show_quotas(call: Call, project_id: str) -> dict[str, Any]:
    usage = flag(call, "usage")
    found = _limits(call, project_id)
    shown: dict[str, Any] = {
        name: {"limit": limit, "in_use": used, "reserved": 0} if usage else limit
        for name, (limit, used) in found.items()
    }
    return {"quota_set": {**shown, "id": project_id}}


@volume_quotas.route(
    "GET", "/v3/os-quota-sets/<project_id>/defaults", "volume_extension:quotas:show", target=_of_project
)
def show_default_quotas(call: Call, project_id: str) -> dict[str, Any]:
    with service_of(call).database.read() as c:
        return {"quota_set": {**_class_limits(call, c, db.DEFAULT_CLASS), "id": project_id}}


@volume_quotas.route(
    "PUT",
    "/v3/os-quota-sets/<project_id>",
    "volume_extension:quotas:update",
    target=_of_project,
    body=schemas.QUOTA_SET,
)
def update_quotas(call: Call, project_id: str) -> dict[str, Any]:
    wanted = {name: value for name, value in call.body["quota_set"].items() if name not in _NOT_RESOURCES}

    def work(c: Connection) -> None:
        known = db.list_limits(c, project_id, service_of(call).limits_of(c))
        limits = _checked(wanted, known)
        for name, limit in limits.items():
            used = known[name][1]
            if 0 <= limit < used and name != "per_volume_gigabytes":
                raise errors.Invalid(
                    f"Quota {name} limit must be equal or greater than existing resources. Current usage is {used} and "
                    f"the requested limit is {limit}."
                )
        db.set_limits(c, project_id, limits)

    transact(service_of(call).database, work)
    return {"quota_set": {name: limit for name, (limit, _) in _limits(call, project_id).items()}}


@volume_quotas.route("DELETE", "/v3/os-quota-sets/<project_id>", "volume_extension:quotas:delete", target=_of_project)
def reset_quotas(call: Call, project_id: str) -> None:
    transact(service_of(call).database, lambda c: db.reset_limits(c, project_id))


@volume_quotas.route("GET", "/v3/os-quota-class-sets/<name>", "volume_extension:quota_classes:get")
def show_class(call: Call, name: str) -> dict[str, Any]:
    with service_of(call).database.read() as c:
        return {"quota_class_set": {**_class_limits(call, c, name), "id": name}}


@volume_quotas.route(
    "PUT",
    "/v3/os-quota-class-sets/<name>",
    "volume_extension:quota_classes:update",
    body=schemas.QUOTA_CLASS_SET,
)
def update_class(call: Call, name: str) -> dict[str, Any]:
    wanted = {key: value for key, value in call.body["quota_class_set"].items() if key not in _NOT_RESOURCES}
    if name != db.DEFAULT_CLASS:
        raise errors.Invalid(f"Projects are in the class {db.DEFAULT_CLASS} here: another one's limits bind nobody.")

    def work(c: Connection) -> dict[str, int]:
        known = {key: (limit, 0) for key, limit in service_of(call).limits_of(c).items()}
        db.set_class_limits(c, name, _checked(wanted, known))
        return _class_limits(call, c, name)

    return {"quota_class_set": transact(service_of(call).database, work)}


@volume_quotas.route("GET", "/v3/limits", "cellcloud:volume_limits")
def show_limits(call: Call) -> dict[str, Any]:
    project_id = call.context.project_id
    if call.version >= (3, 39) and call.context.is_admin:
        project_id = call.param("project_id") or call.param("tenant_id") or project_id
    found = _limits(call, project_id)
    absolute = {shown: found[name][0] for shown, name in _LIMITS.items()}
    if call.allows("limits_extension:used_limits"):
        absolute |= {shown: found[name][1] for shown, name in _USED.items()}
    return {"limits": {"rate": [], "absolute": absolute}}


def _limits(call: Call, project_id: str) -> dict[str, tuple[int, int]]:
    service = service_of(call)
    with service.database.read() as c:
        return db.list_limits(c, project_id, service.limits_of(c))


def _class_limits(call: Call, c: Connection, name: str) -> dict[str, int]:
    return {**service_of(call).limits_of(c), **db.list_class(c, name)}


def _checked(wanted: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, int]:
    """Return limits as numbers. Raises Invalid for what is no resource or no number."""
    bad = sorted(name[:64] for name in wanted if name not in known)
    if bad:
        raise errors.Invalid(f"Bad key(s) in quota set: {', '.join(bad)[:300]}")
    return {name: int(value) for name, value in wanted.items()}
