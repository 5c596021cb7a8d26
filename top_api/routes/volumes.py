"""/os-volumes and /os-snapshots: the volume service as clients of before 2.36 ask Nova for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellcloud import errors
from cellcloud.db import server_index
from cellcloud.model.volume import NewVolume, Volume
from top_api.answers import volumes as answers
from top_api.operations.volume_attachments import get_volume, service_of
from top_api.paging import limit_of
from top_api.request_pipeline import Answer, Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import volumes as schemas
from top_api.schemas.types import is_true
from top_api.views import volumes as views

volumes = Resource("os-volumes")
_RULE = "os_compute_api:os-volumes"
_LAST = (2, 35)
_VOLUMES, _VOLUME = "/os-volumes", "/os-volumes/<volume_id>"
_SNAPSHOTS, _SNAPSHOT = "/os-snapshots", "/os-snapshots/<snapshot_id>"


# ---- volumes ---------------------------------------------------------------------------------------------------------
@volumes.route("GET", _VOLUMES, f"{_RULE}:list", until=_LAST, query=schemas.LIST, answer=answers.VOLUMES)
def list_volumes(call: Call) -> dict[str, Any]:
    return _list_volumes(call)


@volumes.route("GET", f"{_VOLUMES}/detail", f"{_RULE}:detail", until=_LAST, query=schemas.LIST, answer=answers.VOLUMES)
def list_volumes_in_detail(call: Call) -> dict[str, Any]:
    return _list_volumes(call)


def _list_volumes(call: Call) -> dict[str, Any]:
    first, limit = _page(call)
    found = service_of(call.services).list_volumes(call.context.project_id, offset=first, limit=limit) if limit else []
    return {"volumes": [views.volume(one, devices) for one, devices in _with_devices(call, found)]}


@volumes.route("GET", _VOLUME, f"{_RULE}:show", until=_LAST, answer=answers.VOLUME)
def show(call: Call, volume_id: str) -> dict[str, Any]:
    ((one, devices),) = _with_devices(call, [get_volume(call.services, call.context, volume_id)])
    return {"volume": views.volume(one, devices)}


@volumes.route("POST", _VOLUMES, f"{_RULE}:create", until=_LAST, body=schemas.CREATE, answer=answers.VOLUME)
def create(call: Call) -> Answer:
    wanted, service = call.body["volume"], service_of(call.services)
    snapshot_id = wanted.get("snapshot_id") or ""
    if snapshot_id:
        service.get_snapshot(snapshot_id, project_id=call.context.project_id, is_admin=call.context.is_admin)
    if not int(wanted["size"]):
        raise errors.Invalid("Invalid input received: 'size' must be an integer and greater than 0, got 0.")
    try:
        made = service.ensure_volume(
            NewVolume(
                mark="",
                project_id=call.context.project_id,
                user_id=call.context.user_id,
                size_gb=int(wanted["size"]),
                name=wanted.get("display_name") or "",
                description=wanted.get("display_description") or "",
                volume_type=wanted.get("volume_type") or "",
                availability_zone=wanted.get("availability_zone") or "",
                snapshot_id=snapshot_id,
                metadata=_metadata(wanted.get("metadata") or {}),
            )
        )
    except errors.NotFound as error:
        raise errors.Invalid(error.message) from error
    return Answer(body={"volume": views.volume(made, {})}, headers={"Location": call.url("os-volumes", made.id)})


def _metadata(given: dict[str, Any]) -> dict[str, str]:
    """Return a new volume's metadata. Raises Invalid for what the volume service does not take."""
    wrong = next((key for key, value in given.items() if not (isinstance(value, str) and len(value) < 256)), None)
    wrong = wrong if wrong is not None else next((key for key in given if not 0 < len(key) < 256), None)
    if wrong is not None:
        raise errors.Invalid(f"Invalid input received: metadata '{wrong[:64]}' is no text of up to 255 characters.")
    return dict(given)


@volumes.route("DELETE", _VOLUME, f"{_RULE}:delete", until=_LAST, status=202, answer=NOTHING)
def delete(call: Call, volume_id: str) -> None:
    volume = get_volume(call.services, call.context, volume_id)
    try:
        service_of(call.services).delete_volume(volume.id)
    except errors.Conflict as error:
        raise errors.Invalid(error.message) from error


# ---- snapshots -------------------------------------------------------------------------------------------------------
@volumes.route("GET", _SNAPSHOTS, f"{_RULE}:snapshots:list", until=_LAST, query=schemas.LIST, answer=answers.SNAPSHOTS)
def list_snapshots(call: Call) -> dict[str, Any]:
    return _list_snapshots(call)


@volumes.route(
    "GET",
    f"{_SNAPSHOTS}/detail",
    f"{_RULE}:snapshots:detail",
    until=_LAST,
    query=schemas.LIST,
    answer=answers.SNAPSHOTS,
)
def list_snapshots_in_detail(call: Call) -> dict[str, Any]:
    return _list_snapshots(call)


def _list_snapshots(call: Call) -> dict[str, Any]:
    first, limit = _page(call)
    service = service_of(call.services)
    found = service.list_snapshots(call.context.project_id, offset=first, limit=limit) if limit else []
    return {"snapshots": [views.snapshot(one) for one in found]}


@volumes.route("GET", _SNAPSHOT, f"{_RULE}:snapshots:show", until=_LAST, answer=answers.SNAPSHOT)
def show_snapshot(call: Call, snapshot_id: str) -> dict[str, Any]:
    who = call.context
    found = service_of(call.services).get_snapshot(snapshot_id, project_id=who.project_id, is_admin=who.is_admin)
    return {"snapshot": views.snapshot(found)}


@volumes.route(
    "POST",
    _SNAPSHOTS,
    f"{_RULE}:snapshots:create",
    until=_LAST,
    body=schemas.CREATE_SNAPSHOT,
    answer=answers.SNAPSHOT,
)
def create_snapshot(call: Call) -> dict[str, Any]:
    wanted = call.body["snapshot"]
    volume = get_volume(call.services, call.context, wanted["volume_id"])
    made = service_of(call.services).ensure_snapshot(
        volume.id,
        mark="",
        name=wanted.get("display_name") or "",
        description=wanted.get("display_description") or "",
        force=is_true(wanted.get("force", False)),
    )
    return {"snapshot": views.snapshot(made)}


@volumes.route("DELETE", _SNAPSHOT, f"{_RULE}:snapshots:delete", until=_LAST, status=202, answer=NOTHING)
def delete_snapshot(call: Call, snapshot_id: str) -> None:
    who, service = call.context, service_of(call.services)
    found = service.get_snapshot(snapshot_id, project_id=who.project_id, is_admin=who.is_admin)
    service.delete_snapshot(found.id)


# ---- what the routes have in common ----------------------------------------------------------------------------------
def _page(call: Call) -> tuple[int, int]:
    """Return where a page begins and how long it is."""
    return min(int(call.param("offset") or 0), 1 << 62), limit_of(call)


def _with_devices(call: Call, found: Sequence[Volume]) -> list[tuple[Volume, dict[str, str]]]:
    """Return each volume with what it is called in the server that has it, where that is one of this cloud."""
    ids = sorted({one.attached_to[0] for one in found if one.attached_to})
    with call.services.database.read() as connection:
        held = server_index.list_volumes_of(connection, ids)
    devices = {(server_id, one.volume_id): one.device for server_id, theirs in held.items() for one in theirs}
    return [(one, {known: devices.get((known, one.id), "") for known in one.attached_to}) for one in found]
