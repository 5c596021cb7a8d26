"""Volume v3 over the embedded volume service: discovery, and volumes as Cinder shows them."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.db import volume_types
from cellcloud.db import volumes as db
from cellcloud.embedded.volume import volumes as operations
from cellcloud.embedded.volume.volumes import VolumeRequest
from cellcloud.model.block_storage import BlockVolume
from top_api.embedded_api import volume_list_filters as lists
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_calls import (
    flag,
    is_true,
    look_up_volume,
    service_of,
    stripped,
    viewer_of,
    volume_of,
)
from top_api.embedded_api.volume_schemas import CREATE, UPDATE
from top_api.embedded_api.volume_views import reach, summary, type_names, volume_view
from top_api.microversion import OF_VOLUMES
from top_api.request_pipeline import Call, Resource

volumes = Resource("volume", API)
_UPDATED = "2026-11-01T00:00:00Z"


@volumes.route("GET", "", None, status=300)
@volumes.route("GET", "/", None, status=300)
def list_versions(call: Call) -> dict[str, Any]:
    return _versions(call)


@volumes.route("GET", "/v3", None)
@volumes.route("GET", "/v3/", None)
def show_version(call: Call) -> dict[str, Any]:
    return _versions(call)


def _versions(call: Call) -> dict[str, Any]:
    kinds = [{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}]
    links = [{"rel": "self", "href": f"{call.base_url}/volume/v3/"}]
    version = {
        "id": "v3.0",
        "status": "CURRENT",
        "version": str(OF_VOLUMES.last),
        "min_version": str(OF_VOLUMES.first),
        "updated": _UPDATED,
        "links": links,
        "media-types": kinds,
    }
    return {"versions": [version]}


# ---- lists -------------------------------------------------------------------------------------------------------
@volumes.route("GET", "/v3/volumes", "volume:get_all")
def list_volumes(call: Call) -> dict[str, Any]:
    return _list(call, detailed=False)


@volumes.route("GET", "/v3/volumes/detail", "volume:get_all")
def list_volumes_in_detail(call: Call) -> dict[str, Any]:
    return _list(call, detailed=True)


def _list(call: Call, *, detailed: bool) -> dict[str, Any]:
    service, project_id = service_of(call), lists.project_of(call)
    names = type_names(call) if detailed else {}
    attachments: dict[str, Any] = {}

    def read(page: Any) -> list[BlockVolume]:
        found, theirs = operations.list_volumes(service, project_id, page)
        attachments.update(theirs)
        return found

    def view(volume: BlockVolume) -> dict[str, Any]:
        return volume_view(call, volume, attachments[volume.id], names) if detailed else summary(call, volume)

    def count(page: Any) -> int:
        with service.database.read() as c:
            return db.count_volumes(c, project_id=project_id, page=page)[0]

    path = ("volumes", "detail") if detailed else ("volumes",)
    return lists.listed(call, lists.VOLUMES, read, view, path=path, count=count)


@volumes.route("GET", "/v3/volumes/summary", "volume:get_all", since=(3, 12))
def summarize_volumes(call: Call) -> dict[str, Any]:
    project_id = lists.project_of(call)
    page, _ = lists.VOLUMES.page(call)
    with service_of(call).database.read() as c:
        number, size = db.count_volumes(c, project_id=project_id, page=page)
        metadata = db.list_metadata(c, project_id=project_id) if call.version >= (3, 36) else []
    found: dict[str, Any] = {"total_count": number, "total_size": size}
    if call.version >= (3, 36):
        distinct: dict[str, list[str]] = {}
        for each in metadata:
            for key, value in each.items():
                if value not in distinct.setdefault(key, []):
                    distinct[key].append(value)
        found["metadata"] = distinct
    return {"volume-summary": found}


# ---- one volume --------------------------------------------------------------------------------------------------
@volumes.route("POST", "/v3/volumes", "volume:create", status=202, body=CREATE)
def create_volume(call: Call) -> dict[str, Any]:
    wanted = call.body["volume"]
    _refuse_absent(wanted)
    image_id = wanted.get("imageRef") or wanted.get("image_id") or None
    if image_id is not None:
        call.check("volume:create_from_image")
        image_id = str(image_id).rpartition("/")[2]
    _check_type(call, wanted.get("volume_type"))
    new = VolumeRequest(
        size=None if wanted.get("size") is None else int(wanted["size"]),
        name=stripped(wanted, "name", "display_name"),
        description=stripped(wanted, "description", "display_description"),
        volume_type=wanted.get("volume_type") or None,
        availability_zone=wanted.get("availability_zone") or None,
        snapshot_id=wanted.get("snapshot_id"),
        source_volid=wanted.get("source_volid"),
        image_id=image_id,
        metadata=wanted.get("metadata") or {},
        cell=_cell(call.body.get("OS-SCH-HNT:scheduler_hints") or {}),
    )
    if new.size == 0:
        raise errors.Invalid("Invalid input received: 'size' must be an integer and greater than 0, got 0.")
    made = operations.create_volume(service_of(call), viewer_of(call), new)
    return {"volume": volume_view(call, made, (), type_names(call), extended=False)}


def _cell(hints: dict[str, Any]) -> str:
    """Return the cell that a new volume must be in. Raises Invalid for other hints, which nothing here would obey."""
    unknown = hints.keys() - {"cell"}
    if unknown or not isinstance(hints.get("cell", ""), str):
        raise errors.Invalid(f"Here are no such scheduler hints: {', '.join(sorted(unknown))[:200]}.")
    return str(hints.get("cell", ""))


def _check_type(call: Call, wanted: str | None) -> None:
    """Check that the caller may have volumes of a type that are for several servers. Raises Forbidden."""
    with service_of(call).database.read() as c:
        found = volume_types.find_type(c, wanted, project_id=viewer_of(call).only) if wanted else None
    if found is not None and found.multiattach:
        call.check("volume:multiattach")


def _refuse_absent(wanted: dict[str, Any]) -> None:
    """Refuse what is not offered here. Raises Invalid."""
    for name in ("consistencygroup_id", "group_id", "backup_id"):
        if wanted.get(name) is not None:
            raise errors.Invalid(f"Invalid input received: Here are no groups and no backups: leave out {name}.")
    if "multiattach" in wanted and is_true(wanted["multiattach"], "multiattach"):
        raise errors.Invalid(
            "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types."
        )


@volumes.route("GET", "/v3/volumes/<volume_id>", "volume:get", lookup=look_up_volume)
def show_volume(call: Call, volume_id: str) -> dict[str, Any]:
    return {"volume": shown(call, volume_of(call)) | reach(call, volume_of(call))}


@volumes.route("PUT", "/v3/volumes/<volume_id>", "volume:update", body=UPDATE, lookup=look_up_volume)
def update_volume(call: Call, volume_id: str) -> dict[str, Any]:
    wanted = call.body["volume"]
    changes: dict[str, Any] = {}
    for field, old in (("name", "display_name"), ("description", "display_description")):
        if field in wanted or old in wanted:
            changes[field] = stripped(wanted, field, old)
    if "metadata" in wanted:
        changes["metadata"] = dict(wanted["metadata"])
    made = operations.change(service_of(call), viewer_of(call), volume_id, lambda c, volume: changes)
    return {"volume": shown(call, made, extended=False)}


@volumes.route("DELETE", "/v3/volumes/<volume_id>", "volume:delete", status=202, lookup=look_up_volume)
def delete_volume(call: Call, volume_id: str) -> None:
    force = call.version >= (3, 23) and flag(call, "force")
    if force:
        call.check("volume:force_delete")
    operations.delete_volume(service_of(call), viewer_of(call), volume_id, cascade=flag(call, "cascade"), force=force)


@volumes.route(
    "GET", "/v3/volumes/<volume_id>/encryption", "volume_extension:volume_encryption_metadata", lookup=look_up_volume
)
def show_encryption(call: Call, volume_id: str) -> dict[str, Any]:
    return {"encryption_key_id": None}


def shown(call: Call, volume: BlockVolume, *, extended: bool = True) -> dict[str, Any]:
    """Return one volume with who has it."""
    attachments = operations.attachments_of(service_of(call), volume.id)
    return volume_view(call, volume, attachments, type_names(call), extended=extended)
