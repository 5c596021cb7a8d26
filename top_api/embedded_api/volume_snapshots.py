"""Snapshots of volumes, and their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import volume_snapshots as db
from cellcloud.embedded.volume import snapshots as operations
from cellcloud.model.block_storage import BlockSnapshot
from top_api.embedded_api import volume_list_filters as lists
from top_api.embedded_api import volume_schemas as schemas
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_calls import (
    check_id,
    find_volume,
    is_true,
    service_of,
    stamp,
    stripped,
    viewer_of,
)
from top_api.request_pipeline import Actions, Call, Resource

snapshots = Resource("volume_snapshots", API)
_ATTRIBUTES = "volume_extension:extended_snapshot_attributes"
_IN_USE = (3, 66)


def look_up(call: Call, words: Mapping[str, str]) -> None:
    """Find the snapshot that a path names. Raises NotFound for another project's."""
    snapshot_id = words["snapshot_id"]
    check_id(snapshot_id, f"Snapshot {snapshot_id[:64]} could not be found.")
    call.found = operations.get_snapshot(service_of(call), viewer_of(call), snapshot_id)
    call.target = {"project_id": call.found.project_id, "user_id": call.found.user_id}


actions = Actions(look_up, api=API)


@snapshots.route("GET", "/v3/snapshots", "volume:get_all_snapshots")
def list_snapshots(call: Call) -> dict[str, Any]:
    return _list(call, ("snapshots",))


@snapshots.route("GET", "/v3/snapshots/detail", "volume:get_all_snapshots")
def list_snapshots_in_detail(call: Call) -> dict[str, Any]:
    return _list(call, ("snapshots", "detail"))


def _list(call: Call, path: tuple[str, ...]) -> dict[str, Any]:
    service, project_id = service_of(call), lists.project_of(call)

    def count(page: Any) -> int:
        with service.database.read() as c:
            return db.count_snapshots(c, project_id=project_id, page=page)

    def view(snapshot: BlockSnapshot) -> dict[str, Any]:
        return _view(call, snapshot, detailed=len(path) > 1)

    return lists.listed(
        call,
        lists.SNAPSHOTS,
        lambda page: operations.list_snapshots(service, project_id, page),
        view,
        path=path,
        count=count,
    )


@snapshots.route("POST", "/v3/snapshots", "volume:create_snapshot", status=202, body=schemas.SNAPSHOT)
def create_snapshot(call: Call) -> dict[str, Any]:
    wanted = call.body["snapshot"]
    if wanted["volume_id"] is None:
        raise errors.NotFound("Volume None could not be found.")
    volume = find_volume(call, wanted["volume_id"])
    force = is_true(wanted.get("force", False), "force")
    if call.version >= _IN_USE:
        if "force" in wanted and not force:
            raise errors.Invalid(
                "Since microversion 3.66 the 'force' flag is invalid for this request; snapshots of volumes in use are "
                "always taken."
            )
        force = True
    made = operations.create_snapshot(
        service_of(call),
        viewer_of(call),
        volume.id,
        name=stripped(wanted, "name", "display_name"),
        description=stripped(wanted, "description"),
        metadata=wanted.get("metadata") or {},
        force=force,
    )
    return {"snapshot": _view(call, made, extended=False)}


@snapshots.route("GET", "/v3/snapshots/<snapshot_id>", "volume:get_snapshot", lookup=look_up)
def show_snapshot(call: Call, snapshot_id: str) -> dict[str, Any]:
    return {"snapshot": _view(call, call.found)}


@snapshots.route(
    "PUT", "/v3/snapshots/<snapshot_id>", "volume:update_snapshot", body=schemas.SNAPSHOT_UPDATE, lookup=look_up
)
def update_snapshot(call: Call, snapshot_id: str) -> dict[str, Any]:
    wanted = call.body["snapshot"]
    changes = {
        field: stripped(wanted, field, old)
        for field, old in (("name", "display_name"), ("description", "display_description"))
        if field in wanted or old in wanted
    }
    return {"snapshot": _view(call, _change(call, snapshot_id, changes), detailed=False)}


@snapshots.route("DELETE", "/v3/snapshots/<snapshot_id>", "volume:delete_snapshot", status=202, lookup=look_up)
def delete_snapshot(call: Call, snapshot_id: str) -> None:
    operations.delete_snapshot(service_of(call), viewer_of(call), snapshot_id)


# ---- actions -----------------------------------------------------------------------------------------------------
@snapshots.route("POST", "/v3/snapshots/<snapshot_id>/action", actions, status=202)
def act(call: Call, snapshot_id: str) -> Any:
    return actions.perform(call, snapshot_id=snapshot_id)


@actions.action("os-reset_status", "volume_extension:snapshot_admin_actions:reset_status", body=schemas.SNAPSHOT_RESET)
def reset_status(call: Call, snapshot_id: str) -> None:
    _change(call, snapshot_id, {"status": call.body["os-reset_status"]["status"]})


@actions.action(
    "os-force_delete",
    "volume_extension:snapshot_admin_actions:force_delete",
    body=schemas.BARE["os-force_delete"],
)
def force_delete(call: Call, snapshot_id: str) -> None:
    operations.delete_snapshot(service_of(call), viewer_of(call), snapshot_id, force=True)


_NEXT = {"creating": ("creating", "available", "error"), "deleting": ("deleting", "error_deleting")}


@actions.action(
    "os-update_snapshot_status",
    "snapshot_extension:snapshot_actions:update_snapshot_status",
    body=schemas.SNAPSHOT_STATUS,
)
def update_status(call: Call, snapshot_id: str) -> None:
    given = call.body["os-update_snapshot_status"]
    wanted, now = given["status"], call.found.status
    if now not in _NEXT:
        raise errors.Invalid(f"Snapshot status {now} not allowed for update_snapshot_status")
    if wanted not in _NEXT[now]:
        raise errors.Invalid(f"Provided snapshot status {wanted} not allowed for snapshot with status {now}.")
    told = {"progress": given["progress"]} if given.get("progress") else {}
    _change(call, snapshot_id, {"status": wanted, **told})


def _change(call: Call, snapshot_id: str, changes: Mapping[str, Any]) -> BlockSnapshot:
    return operations.change(service_of(call), viewer_of(call), snapshot_id, lambda c, snapshot: changes)


def _view(call: Call, snapshot: BlockSnapshot, *, detailed: bool = True, extended: bool = True) -> dict[str, Any]:
    """Return a snapshot. ``extended``: as it is looked at; what is made is answered with less."""
    shown: dict[str, Any] = {
        "id": snapshot.id,
        "created_at": stamp(snapshot.created_at),
        "updated_at": stamp(snapshot.updated_at),
        "name": snapshot.name,
        "description": snapshot.description,
        "volume_id": snapshot.volume_id,
        "status": snapshot.status,
        "size": snapshot.size,
        "metadata": dict(snapshot.metadata),
    }
    if not detailed:
        return shown
    call.target = {"project_id": snapshot.project_id, "user_id": snapshot.user_id}
    if extended and call.allows(_ATTRIBUTES):
        progress = "100%" if snapshot.status == "available" else snapshot.progress or "0%"
        shown |= {
            "os-extended-snapshot-attributes:project_id": snapshot.project_id,
            "os-extended-snapshot-attributes:progress": progress,
        }
    if call.version >= (3, 14):
        shown["group_snapshot_id"] = None
    if call.version >= (3, 41):
        shown["user_id"] = snapshot.user_id
    if call.version >= (3, 65):
        shown["consumes_quota"] = True
    return shown
