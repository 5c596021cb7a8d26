"""Images of servers on volumes: a snapshot of each volume, and an image without bytes that says which disks its servers
have. The snapshots are their owner's, and outlive the server."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from cell.conductor.workflow import StepContext, StepServices, Wait
from cellcloud import errors
from cellcloud.clients.image import READABLE
from cellcloud.model.image import MAPPING, Image
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume import AttachedVolume, VolumeSnapshot
from cellcloud.model.volume_names import SWAP, blank_disks

LOG = logging.getLogger(__name__)
BECOMING = "creating"  # of snapshots: not usable yet


def fill(context: StepContext, services: StepServices, image: Image) -> None:
    """Take the snapshots, and let the image be whole. Raises Wait until they are; GuestFailed where one fails."""
    if services.images.get_image(image.id, project_id="", is_admin=True).status in READABLE:
        return
    held = context.record.volumes
    name = f"snapshot for {image.name}"[:255]
    taken = [services.volumes.ensure_snapshot(one.volume_id, mark=_mark(image, one), name=name) for one in held]
    failed = next((one for one in taken if one.status not in (BECOMING, "available")), None)
    if failed is not None:
        raise errors.GuestFailed(f"Snapshot {failed.id} of volume {failed.volume_id} is {failed.status}.")
    if any(one.status == BECOMING for one in taken):
        raise Wait(min(2.0 ** min(context.run.attempt, 3), services.resend_after))
    pairs = zip(held, taken, strict=True)
    disks = [*(_of_volume(one, made) for one, made in pairs), *_of_blanks(context.record.spec)]
    root = next((one.device for one in held if one.is_root), "/dev/vda")
    said = {MAPPING: json.dumps(disks), "bdm_v2": "True", "root_device_name": root}

    def describe(properties: Mapping[str, str]) -> Mapping[str, str]:
        return {**properties, **said}

    services.images.edit_properties(image.id, describe, project_id="", is_admin=True)
    services.images.fill_image(image.id, 0, ())


def discard_snapshots(context: StepContext, services: StepServices, image: Image) -> None:
    """Delete the snapshots that were taken for an image that is none."""
    for one in context.record.volumes:
        try:
            taken = services.volumes.find_snapshot(_mark(image, one), volume_id=one.volume_id)
            if taken is not None:
                services.volumes.delete_snapshot(taken.id)
        except errors.FixRequest as error:
            LOG.warning("snapshot not deleted", extra={"volume": one.volume_id, "why": error.message})


def _mark(image: Image, one: AttachedVolume) -> str:
    return f"{image.id} {one.id}"


def _of_volume(one: AttachedVolume, taken: VolumeSnapshot) -> dict[str, Any]:
    return {
        "source_type": "snapshot",
        "destination_type": "volume",
        "snapshot_id": taken.id,
        "device_name": one.device,
        "device_type": one.device_type,
        "disk_bus": one.bus,
        "boot_index": one.boot_index,
        "volume_size": taken.size_gb,
        "delete_on_termination": one.delete_on_termination,
        **dict.fromkeys(("guest_format", "image_id", "volume_id", "volume_type", "no_device"), None),
    }


def _of_blanks(spec: ServerSpec) -> list[dict[str, Any]]:
    """Return the local disks that are the server's own wish: the flavor's come by themselves."""
    asked = any(not one.is_volume for one in spec.block_devices)
    return [
        {
            "source_type": "blank",
            "destination_type": "local",
            "guest_format": "swap" if name == SWAP else None,
            "volume_size": size if name == SWAP else size >> 10,
            "boot_index": -1,
            "delete_on_termination": True,
        }
        for name, size in (blank_disks(spec) if asked else ())
    ]
