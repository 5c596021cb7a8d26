"""Update: the values of a server that need no run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cellcloud.context import RequestContext
from cellcloud.model.server import ServerRecord
from cellcloud.model.tag_metadata_changes import ItemChanges
from top_api.operations.server_in_cell import CHANGED_IN, change, change_items, check_state
from top_api.schemas.types import shortest_address
from top_api.services import ApiServices

MOST_TAGS = 50  # of one server, as in Nova
SETTABLE = {
    "name": "name",
    "description": "description",
    "hostname": "hostname",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "OS-DCF:diskConfig": "disk_config",
}


def update_server(
    services: ApiServices, context: RequestContext, record: ServerRecord, given: dict[str, Any]
) -> ServerRecord:
    """``given``: the body's keys. Raises Conflict, Unreachable."""
    changes = {SETTABLE[key]: value for key, value in given.items()}
    if isinstance(changes.get("name"), str):
        changes["name"] = str(changes["name"]).strip()
    if "access_ip_v6" in changes:
        changes["access_ip_v6"] = shortest_address(changes["access_ip_v6"])
    return change(services, context, record, "update", changes) if changes else record


def lock(services: ApiServices, context: RequestContext, record: ServerRecord, reason: str | None) -> ServerRecord:
    """Lock it, for its owner or for an administrator; an owner locks no second time. Raises Conflict, Unreachable."""
    side = _side(context, record)
    if record.locked and side == "owner":
        return record
    return change(services, context, record, "lock", {"locked": True, "locked_by": side, "locked_reason": reason})


def unlock(services: ApiServices, context: RequestContext, record: ServerRecord) -> ServerRecord:
    """Unlock a server. Raises Forbidden where the other side locked it and policy does not let the caller override
    that, Conflict, Unreachable."""
    if record.locked_by not in ("", _side(context, record)):
        target = {"project_id": record.spec.project_id, "user_id": record.spec.user_id}
        services.enforcer.check(context, "os_compute_api:os-lock-server:unlock:unlock_override", target)
        context = replace(context, is_admin=True)  # so that the cell lets it pass, too
    return change(services, context, record, "unlock", {"locked": False, "locked_by": "", "locked_reason": None})


def _side(context: RequestContext, record: ServerRecord) -> str:
    return "owner" if record.spec.project_id == context.project_id else "admin"


def reset_state(services: ApiServices, context: RequestContext, record: ServerRecord, state: str) -> ServerRecord:
    """By an administrator's word, also of a locked server. Raises Conflict, Unreachable."""
    return change(services, context, record, "reset_state", {"vm_state": state})


def set_tags(services: ApiServices, context: RequestContext, record: ServerRecord, tags: list[str]) -> ServerRecord:
    """Replace the tags, of a locked server too. Raises Conflict, Unreachable."""
    check_state(record, "update tags" if tags else "delete tags", CHANGED_IN)
    return change(services, context, record, "update", {"tags": tags})


def add_tag(services: ApiServices, context: RequestContext, record: ServerRecord, tag: str) -> ServerRecord:
    """Add one, unless it is there. Raises Invalid with MOST_TAGS there, Conflict, Unreachable."""
    check_state(record, "update tag", CHANGED_IN)
    return change_items(services, context, record, "update", ItemChanges(add_tags=(tag,), most_tags=MOST_TAGS))


def delete_tag(services: ApiServices, context: RequestContext, record: ServerRecord, tag: str) -> ServerRecord:
    """Take one away. Raises NotFound, Conflict, Unreachable."""
    check_state(record, "delete tag", CHANGED_IN)
    return change_items(services, context, record, "update", ItemChanges(remove_tags=(tag,)))
