"""/os-services: heartbeats and switches of every cell's services."""

from __future__ import annotations

import uuid
from typing import Any

from cellcloud import errors
from cellcloud.model.host import ServiceRecord
from top_api.answers import services as answers
from top_api.operations import aggregates
from top_api.operations import services_and_hosts as operations
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import services as schemas
from top_api.schemas.types import is_true
from top_api.views.hypervisors import number_of
from top_api.views.times import show_microsecond

services = Resource("os-services")
_UPDATE = "os_compute_api:os-services:update"


@services.route("GET", "/os-services", "os_compute_api:os-services:list", query=schemas.LIST, answer=answers.LIST)
def list_services(call: Call) -> dict[str, Any]:
    host, binary = call.param("host"), call.param("binary")
    return {
        "services": [
            _shown(call, service, fresh=fresh)
            for service, fresh in operations.list_services(call.services, call.context)
            if host in (None, "", service.host) and binary in (None, "", service.binary)
        ]
    }


@services.route("PUT", "/os-services/<target>", _UPDATE, body=schemas.UPDATE, answer=answers.UPDATED)
def update(call: Call, target: str) -> dict[str, Any]:
    """Below 2.53 ``target`` is the verb and the body names the service; from then on it is the service's UUID."""
    if call.version >= (2, 53):
        return {"service": _shown(call, _update(call, target), fresh=True)}
    return {"service": _update_by_verb(call, target)}


@services.route("DELETE", "/os-services/<target>", "os_compute_api:os-services:delete", status=204, answer=NOTHING)
def delete(call: Call, target: str) -> None:
    """``target``: the service's UUID from 2.53, its number before."""
    by_uuid = call.version >= (2, 53)
    if not (_is_uuid(target) if by_uuid else target.isdecimal()):
        raise errors.Invalid(f"Invalid {'uuid' if by_uuid else 'integer'} {target[:64]}")
    found = [service for service, _ in operations.list_services(call.services, call.context)]
    wanted = [one for one in found if target == (one.id if by_uuid else str(number_of(one.id)))]
    if not wanted:
        raise errors.NotFound(f"Service {target[:64]} not found.")
    if len(wanted) > 1:
        raise errors.Invalid(f"Service id {target[:64]} refers to multiple services.")
    operations.remove_service(call.services, call.context, wanted[0])
    if wanted[0].binary == operations.COMPUTE:
        aggregates.forget_host(call.services, call.context, wanted[0].host, wanted[0].cell)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _update(call: Call, identifier: str) -> ServiceRecord:
    given = call.body
    service = operations.get_service(call.services, call.context, identifier)
    reason, status = given.get("disabled_reason"), given.get("status")
    if reason is not None and status != "disabled":
        raise errors.Invalid("Specifying disabled_reason requires that status is 'disabled'.")
    return operations.set_service(
        call.services,
        call.context,
        service,
        enabled=None if status is None else status == "enabled",
        disabled_reason=reason,
        forced_down=is_true(given["forced_down"]) if "forced_down" in given else None,
    )


def _update_by_verb(call: Call, verb: str) -> dict[str, Any]:
    given = call.body
    shown: dict[str, Any] = {"host": given["host"], "binary": given["binary"]}
    changes: dict[str, Any]
    if verb == "enable":
        changes, more = {"enabled": True}, {"status": "enabled"}
    elif verb == "disable":
        changes, more = {"enabled": False}, {"status": "disabled"}
    elif verb == "disable-log-reason":
        if "disabled_reason" not in given:
            raise errors.Invalid("Missing disabled reason field")
        changes = {"enabled": False, "disabled_reason": given["disabled_reason"]}
        more = {"status": "disabled", "disabled_reason": given["disabled_reason"]}
    elif verb == "force-down" and call.version >= (2, 11):
        if "forced_down" not in given:
            raise errors.Invalid("Missing forced_down field")
        changes = {"forced_down": is_true(given["forced_down"])}
        more = dict(changes)
    else:
        raise errors.NotFound("Unknown action")
    unread = given.keys() - {"host", "binary"} - changes.keys()
    if unread:
        raise errors.Invalid(f"{verb} takes no {', '.join(sorted(unread))}.")
    service = operations.find_service(call.services, call.context, given["host"], given["binary"])
    operations.set_service(call.services, call.context, service, **changes)
    return shown | more


def _shown(call: Call, service: ServiceRecord, *, fresh: bool) -> dict[str, Any]:
    if not fresh and call.version >= (2, 69):
        return {"binary": service.binary, "host": service.host, "status": "UNKNOWN"}
    updated = show_microsecond(service.last_seen)
    shown: dict[str, Any] = {
        "id": service.id if call.version >= (2, 53) else number_of(service.id),
        "binary": service.binary,
        "host": service.host,
        "zone": service.zone,
        "status": "enabled" if service.enabled else "disabled",
        "state": "up" if service.up and fresh else "down",
        "updated_at": updated,
        "disabled_reason": service.disabled_reason,
    }
    if call.version >= (2, 11):
        shown["forced_down"] = service.forced_down
    return shown
