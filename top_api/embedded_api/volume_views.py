"""What the volume API shows, at each microversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellcloud.clients.cinder import REACH
from cellcloud.db import volume_types
from cellcloud.embedded.volume.relocation import is_reached_everywhere
from cellcloud.model.block_storage import Attachment, BlockVolume
from top_api.embedded_api.volume_calls import full_host, links, service_of, stamp
from top_api.request_pipeline import Call

ATTRIBUTES = {
    "os-vol-host-attr:host": "volume_extension:volume_host_attribute",
    "os-vol-tenant-attr:tenant_id": "volume_extension:volume_tenant_attribute",
    "os-vol-mig-status-attr:migstat": "volume_extension:volume_mig_status_attribute",
}


def type_names(call: Call) -> Mapping[str, str]:
    """Id -> name of every volume type."""
    with service_of(call).database.read() as c:
        return volume_types.names_of(c)


def summary(call: Call, volume: BlockVolume) -> dict[str, Any]:
    """Return what a list without details shows of a volume."""
    return {"id": volume.id, "name": volume.name, "links": links(call, "volumes", volume.id)}


def volume_view(
    call: Call,
    volume: BlockVolume,
    attachments: Sequence[Attachment],
    names: Mapping[str, str],
    *,
    extended: bool = True,
) -> dict[str, Any]:
    """Return a volume with its details. ``names``: of types, by id. ``extended``: as it is looked at; what
    is written is answered with less."""
    shown = {
        "id": volume.id,
        "status": volume.status,
        "size": volume.size,
        "availability_zone": volume.availability_zone,
        "created_at": stamp(volume.created_at),
        "updated_at": stamp(volume.updated_at),
        "name": volume.name,
        "description": volume.description,
        "volume_type": names.get(volume.type_id),
        "snapshot_id": volume.snapshot_id,
        "source_volid": volume.source_volid,
        "metadata": shown_metadata(volume),
        "links": links(call, "volumes", volume.id),
        "user_id": volume.user_id,
        "bootable": str(volume.bootable).lower(),
        "encrypted": False,
        "replication_status": None,
        "consistencygroup_id": None,
        "multiattach": volume.multiattach,
        "attachments": [_attached(call, each) for each in attachments if each.status == "attached"],
    }
    if not extended:
        return shown | _later(call, volume)
    call.target = {"project_id": volume.project_id, "user_id": volume.user_id}
    values = {
        "os-vol-host-attr:host": full_host(volume.host, volume.cell),
        "os-vol-tenant-attr:tenant_id": volume.project_id,
        "os-vol-mig-status-attr:migstat": None,
    }
    shown |= {name: value for name, value in values.items() if call.allows(ATTRIBUTES[name])}
    if call.allows(ATTRIBUTES["os-vol-mig-status-attr:migstat"]):
        shown["os-vol-mig-status-attr:name_id"] = None
    if volume.image_metadata:
        shown["volume_image_metadata"] = dict(volume.image_metadata)
    return shown | _later(call, volume)


def reach(call: Call, volume: BlockVolume) -> dict[str, Any]:
    """Return what services are told besides, and nobody else: ``cell``, the only one whose hosts reach a volume, "" for
    any; ``follows``, whether it goes with its first server instead."""
    if "service" not in call.context.roles:
        return {}
    with service_of(call).database.read() as c:
        everywhere = is_reached_everywhere(c)
    return {REACH: {"cell": "" if everywhere else volume.cell, "follows": volume.movable and not everywhere}}


def _later(call: Call, volume: BlockVolume) -> dict[str, Any]:
    """Return what later microversions show besides."""
    found: dict[str, Any] = {}
    admin = call.context.is_admin
    if admin:
        found["migration_status"] = None
    if call.version >= (3, 13):
        found["group_id"] = None
    if call.version >= (3, 21) and admin:
        found["provider_id"] = None
    if call.version >= (3, 48):
        found |= {"shared_targets": False, "service_uuid": None}
    if call.version >= (3, 61) and admin:
        found["cluster_name"] = None
    if call.version >= (3, 63):
        found["volume_type_id"] = volume.type_id
    if call.version >= (3, 65):
        found["consumes_quota"] = True
    return found


def shown_metadata(volume: BlockVolume) -> dict[str, str]:
    """Return a volume's metadata, with what is said of its being written."""
    return {**volume.metadata, **({"readonly": "True"} if volume.readonly else {})}


def _attached(call: Call, attachment: Attachment) -> dict[str, Any]:
    privileged = call.context.is_admin or "service" in call.context.roles
    return {
        "id": attachment.volume_id,
        "attachment_id": attachment.id,
        "volume_id": attachment.volume_id,
        "server_id": attachment.server_id,
        "host_name": attachment.host if privileged else None,
        "device": attachment.mountpoint,
        "attached_at": stamp(attachment.attached_at),
    }


def attachment_summary(attachment: Attachment) -> dict[str, Any]:
    """Return what a list without details shows of an attachment."""
    return {
        "id": attachment.id,
        "status": attachment.status,
        "instance": attachment.server_id,
        "volume_id": attachment.volume_id,
    }


def attachment_view(attachment: Attachment) -> dict[str, Any]:
    """Return an attachment with its details."""
    info: dict[str, Any] = dict(attachment.connection_info)
    data = info.get("data", {})
    flat = {**data, "driver_volume_type": info["driver_volume_type"], "attachment_id": attachment.id} if info else {}
    return {
        **attachment_summary(attachment),
        "attached_at": stamp(attachment.attached_at) or "",
        "detached_at": "",
        "attach_mode": attachment.mode,
        "connection_info": {**flat, **({"data": data} if info else {})},
    }
