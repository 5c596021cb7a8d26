"""Actions on volumes: POST /volumes/ID/action."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.embedded.volume import reservations, volumes
from cellcloud.model.block_storage import BlockVolume
from cellcloud.model.image import Image
from top_api.embedded_api import volume_schemas as schemas
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_calls import is_true, look_up_volume, service_of, stamp, viewer_of, volume_of
from top_api.embedded_api.volume_views import type_names
from top_api.request_pipeline import Actions, Call, Resource

volume_actions = Resource("volume_actions", API)
actions = Actions(look_up_volume, api=API)


@volume_actions.route("POST", "/v3/volumes/<volume_id>/action", actions, status=202)
def act(call: Call, volume_id: str) -> Any:
    return actions.perform(call, volume_id=volume_id)


# ---- content -----------------------------------------------------------------------------------------------------
@actions.action("os-extend", "volume:extend", body=schemas.EXTEND)
def extend(call: Call, volume_id: str) -> None:
    """From 3.42 on also a volume in use."""
    attached = call.version >= (3, 42)
    if attached and volume_of(call).status == "in-use":
        call.check("volume:extend_attached_volume")
    size = int(call.body["os-extend"]["new_size"])
    volumes.extend_volume(service_of(call), viewer_of(call), volume_id, size, attached=attached)


@actions.action("revert", "volume:revert_to_snapshot", since=(3, 40), body=schemas.REVERT)
def revert(call: Call, volume_id: str) -> None:
    snapshot_id = call.body["revert"]["snapshot_id"]
    volumes.revert_volume(service_of(call), viewer_of(call), volume_id, snapshot_id)


@actions.action("os-reimage", "volume:reimage", since=(3, 68), body=schemas.REIMAGE)
def reimage(call: Call, volume_id: str) -> None:
    wanted = call.body["os-reimage"]
    reserved = is_true(wanted.get("reimage_reserved", False), "reimage_reserved")
    if reserved:
        call.check("volume:reimage_reserved")
    volumes.reimage_volume(service_of(call), viewer_of(call), volume_id, wanted["image_id"], reserved=reserved)


@actions.action(
    "os-volume_upload_image", "volume_extension:volume_actions:upload_image", status=202, body=schemas.UPLOAD
)
def upload(call: Call, volume_id: str) -> dict[str, Any]:
    wanted = call.body["os-volume_upload_image"]
    visibility = wanted.get("visibility", "private")
    if visibility == "public":
        call.check("volume_extension:volume_actions:upload_public")
    if is_true(wanted.get("force", False), "force") and volume_of(call).status == "in-use":
        raise errors.Invalid("Force upload to image is disabled, Force option will be ignored.")
    image = Image(
        id="",
        name=wanted["image_name"],
        disk_format=wanted.get("disk_format") or "raw",
        container_format=wanted.get("container_format") or "bare",
        visibility=visibility,
        protected=is_true(wanted.get("protected", False), "protected"),
    )
    volume, made = volumes.upload_volume(service_of(call), viewer_of(call), volume_id, image)
    return {"os-volume_upload_image": _uploading(call, volume, made)}


def _uploading(call: Call, volume: BlockVolume, image: Image) -> dict[str, Any]:
    with_type = {"id": volume.type_id, "name": type_names(call).get(volume.type_id)}
    shown: dict[str, Any] = {
        "id": volume.id,
        "updated_at": stamp(volume.updated_at),
        "status": volume.status,
        "display_description": volume.description,
        "size": volume.size,
        "volume_type": with_type,
        "image_id": image.id,
        "container_format": image.container_format,
        "disk_format": image.disk_format,
        "image_name": image.name,
    }
    return shown | ({"visibility": image.visibility, "protected": image.protected} if call.version >= (3, 1) else {})


@actions.action("os-set_bootable", "volume:update", status=200, body=schemas.SET_BOOTABLE)
def set_bootable(call: Call, volume_id: str) -> None:
    bootable = is_true(call.body["os-set_bootable"]["bootable"], "bootable")
    volumes.change(service_of(call), viewer_of(call), volume_id, lambda c, volume: {"bootable": bootable})


@actions.action("os-update_readonly_flag", "volume:update_readonly_flag", body=schemas.READONLY)
def set_readonly(call: Call, volume_id: str) -> None:
    readonly = is_true(call.body["os-update_readonly_flag"]["readonly"], "readonly")

    def work(c: Any, volume: BlockVolume) -> dict[str, Any]:
        volumes.require_status(volume, "available")
        return {"readonly": readonly, "metadata": {**volume.metadata, "readonly": str(readonly)}}

    volumes.change(service_of(call), viewer_of(call), volume_id, work)


@actions.action("os-retype", "volume:retype", body=schemas.RETYPE)
def retype(call: Call, volume_id: str) -> None:
    """All types lie on the same backend, so that nothing has to move."""
    volumes.retype_volume(service_of(call), viewer_of(call), volume_id, call.body["os-retype"]["new_type"])


# ---- of before there were attachments ------------------------------------------------------------------------------
@actions.action("os-reserve", "volume_extension:volume_actions:reserve", body=schemas.BARE["os-reserve"])
def reserve(call: Call, volume_id: str) -> None:
    reservations.reserve(service_of(call), viewer_of(call), volume_id)


@actions.action("os-unreserve", "volume_extension:volume_actions:unreserve", body=schemas.BARE["os-unreserve"])
def unreserve(call: Call, volume_id: str) -> None:
    reservations.unreserve(service_of(call), viewer_of(call), volume_id)


@actions.action(
    "os-begin_detaching",
    "volume_extension:volume_actions:begin_detaching",
    body=schemas.BARE["os-begin_detaching"],
)
def begin_detaching(call: Call, volume_id: str) -> None:
    reservations.begin_detaching(service_of(call), viewer_of(call), volume_id)


@actions.action(
    "os-roll_detaching", "volume_extension:volume_actions:roll_detaching", body=schemas.BARE["os-roll_detaching"]
)
def roll_detaching(call: Call, volume_id: str) -> None:
    reservations.roll_detaching(service_of(call), viewer_of(call), volume_id)


@actions.action("os-attach", "volume_extension:volume_actions:attach", body=schemas.ATTACH)
def attach(call: Call, volume_id: str) -> None:
    wanted = call.body["os-attach"]
    if wanted.get("instance_uuid") and wanted.get("host_name"):
        raise errors.Invalid("Invalid request to attach volume to an instance and a host simultaneously")
    reservations.attach(
        service_of(call),
        viewer_of(call),
        volume_id,
        server_id=wanted.get("instance_uuid"),
        host=wanted.get("host_name"),
        mountpoint=wanted["mountpoint"],
        mode=wanted.get("mode"),
    )


@actions.action("os-detach", "volume_extension:volume_actions:detach", body=schemas.DETACH)
def detach(call: Call, volume_id: str) -> None:
    attachment_id = (call.body["os-detach"] or {}).get("attachment_id")
    reservations.detach(service_of(call), viewer_of(call), volume_id, attachment_id)


@actions.action(
    "os-initialize_connection",
    "volume_extension:volume_actions:initialize_connection",
    status=200,
    body=schemas.INITIALIZE,
)
def initialize_connection(call: Call, volume_id: str) -> dict[str, Any]:
    connector = call.body["os-initialize_connection"]["connector"]
    info = reservations.initialize_connection(service_of(call), viewer_of(call), volume_id, connector)
    return {"connection_info": info}


@actions.action(
    "os-terminate_connection", "volume_extension:volume_actions:terminate_connection", body=schemas.TERMINATE
)
def terminate_connection(call: Call, volume_id: str) -> None:
    connector = call.body["os-terminate_connection"]["connector"]
    reservations.terminate_connection(service_of(call), viewer_of(call), volume_id, connector)


# ---- of administrators ---------------------------------------------------------------------------------------------
@actions.action("os-reset_status", "volume_extension:volume_admin_actions:reset_status", body=schemas.RESET)
def reset_status(call: Call, volume_id: str) -> None:
    wanted = call.body["os-reset_status"]
    if wanted.get("migration_status") not in (None, "none"):
        raise errors.Invalid("No volume migrates here: leave migration_status out.")
    volumes.reset_status(service_of(call), volume_id, wanted)


@actions.action(
    "os-force_delete",
    "volume_extension:volume_admin_actions:force_delete",
    body=schemas.BARE["os-force_delete"],
)
def force_delete(call: Call, volume_id: str) -> None:
    volumes.delete_volume(service_of(call), viewer_of(call), volume_id, force=True)


@actions.action("os-force_detach", "volume_extension:volume_admin_actions:force_detach", body=schemas.FORCE_DETACH)
def force_detach(call: Call, volume_id: str) -> None:
    attachment_id = call.body["os-force_detach"].get("attachment_id")
    reservations.detach(service_of(call), viewer_of(call), volume_id, attachment_id)


@actions.action(
    "os-migrate_volume",
    "volume_extension:volume_admin_actions:migrate_volume",
    body=schemas.REFUSED["os-migrate_volume"],
)
def migrate(call: Call, volume_id: str) -> None:
    raise errors.Invalid("Volumes are not moved from one volume service to another here.")
