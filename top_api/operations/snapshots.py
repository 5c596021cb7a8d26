"""Images of a server: the record in the image service first, so that who asked can look at it, then the operation.

The record is taken back where the cell refuses the operation. Where that is not known the operation may be under way,
and the image may soon be all that is left of the server's disk: the cell alone decides what becomes of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from cellcloud import errors
from cellcloud.clients.image import OWNER_TOO
from cellcloud.context import RequestContext
from cellcloud.model import codec, image_properties
from cellcloud.model.image import ATTRIBUTES, MAPPING, Image
from cellcloud.model.operations import Operation, spec_of
from cellcloud.model.run import RunArguments
from cellcloud.model.server import ServerRecord
from cellcloud.model.virtual_hardware import machine_of
from cellcloud.server_states import PowerState
from top_api import quota_limits
from top_api.operations.server_in_cell import begin, check_may_begin, check_unlocked, tell_cell
from top_api.services import ApiServices

ON_VOLUMES = "os_compute_api:servers:create_image:allow_volume_backed"
NOT_INHERITED = ("cache_in_nova", "bittorrent", "img_signature", "os_glance", "base_image_ref")  # or begins so


def create_image(
    services: ApiServices, context: RequestContext, record: ServerRecord, name: str, metadata: Mapping[str, str]
) -> str:
    """Begin to make an image of a server; its id. One on volumes is an image of their snapshots. Raises Conflict,
    QuotaExceeded, Forbidden, Invalid, Unreachable."""
    image = _image(context, record, name, metadata, {"image_type": metadata.get("image_type", "snapshot")})
    if record.spec.is_volume_backed:
        services.enforcer.check(context, ON_VOLUMES, _target(record))
        image = replace(image, disk_format="raw", min_disk=0, properties=_without_disks(image.properties))
    return _begin(services, context, record, Operation.CREATE_IMAGE, image)


def _target(record: ServerRecord) -> dict[str, str]:
    return {"project_id": record.spec.project_id, "user_id": record.spec.user_id}


def _without_disks(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the properties without those that say which disks servers have: whoever asks does not say these."""
    return {name: value for name, value in properties.items() if name not in (MAPPING, "bdm_v2", "root_device_name")}


def create_backup(
    services: ApiServices,
    context: RequestContext,
    record: ServerRecord,
    name: str,
    metadata: Mapping[str, str],
    *,
    backup_type: str,
    rotation: int,
) -> str:
    """As ``create_image``, and of the server's images of that ``backup_type`` only ``rotation`` are left then."""
    if record.spec.is_volume_backed:
        raise errors.Invalid("Backup is not supported for volume-backed instances.")
    properties = {"image_type": "backup", "backup_type": backup_type}
    image = _image(context, record, name, metadata, properties)
    return _begin(services, context, record, Operation.CREATE_BACKUP, image, rotation=rotation)


def shelve(services: ApiServices, context: RequestContext, record: ServerRecord) -> None:
    """Begin to put a server away as an image; one on a volume is taken off its host at once. Raises Conflict,
    QuotaExceeded, Unreachable."""
    check_unlocked(context, record)
    if record.spec.is_volume_backed:  # its volumes have all that it is
        begin(services, context, record, spec_of(Operation.SHELVE), {})
        return
    image = _image(context, record, f"{record.spec.name}-shelved"[:255], {}, {"image_type": "snapshot"})
    _begin(services, context, record, Operation.SHELVE, image)
    earlier = record.spec.shelved_image
    if earlier is not None:  # its state was reset since, and its disk is on its host
        with suppress(errors.CellcloudError):
            services.images.discard_image(earlier.id)


def check_metadata(
    services: ApiServices, context: RequestContext, metadata: Mapping[str, str], *, bounded: bool
) -> None:
    """Refuse names that are no property's (Invalid), and too many, where they are ``bounded`` (QuotaExceeded)."""
    taken = sorted(metadata.keys() & ATTRIBUTES)
    if taken:
        raise errors.Invalid(f"Image metadata key '{taken[0]}' is an attribute of every image.")
    most = most_metadata(services, context)
    if bounded and 0 <= most < len(metadata):
        raise errors.QuotaExceeded("Image metadata limit exceeded")


def most_metadata(services: ApiServices, context: RequestContext) -> int:
    """Return how many properties an image of the caller's project may have; -1: no limit."""
    with services.database.read() as connection:
        return quota_limits.limits_of(connection, context.project_id, services.config.quota)["metadata_items"]


def _image(
    context: RequestContext,
    record: ServerRecord,
    name: str,
    metadata: Mapping[str, str],
    properties: Mapping[str, str],
) -> Image:
    """Return what is to be made: the server's image's properties, what it is an image of, and what the caller adds."""
    spec = record.spec
    inherited = {key: value for key, value in spec.image.properties.items() if not key.startswith(NOT_INHERITED)}
    own = {
        "base_image_ref": spec.image.id,
        "owner_id": spec.project_id,
        "image_location": "snapshot",
        "image_state": "available",
    }
    mine = context.project_id == spec.project_id
    kept = {"instance_uuid": spec.id, "user_id": context.user_id, **properties}
    return Image(
        id=str(uuid.uuid4()),
        name=name,
        owner=context.project_id,
        visibility="private" if mine else "shared",
        disk_format="qcow2",
        container_format="bare",
        min_ram=spec.image.min_ram,
        min_disk=max(spec.image.min_disk, spec.flavor.root_gb),
        properties={**inherited, **own, **metadata, **kept} | ({} if mine else {OWNER_TOO: spec.project_id}),
    )


def _check_quiesce(record: ServerRecord, operation: Operation) -> None:
    """Refuse the image of a running guest that is to be at rest for it, and has nobody who could see to that: no agent,
    or volumes, whose service takes their snapshots by itself."""
    machine = machine_of(record.spec.flavor, image_properties.read(record.spec.image.properties))
    running = record.power_state == PowerState.RUNNING and operation != Operation.SHELVE  # which stops it first
    has_nobody = record.spec.is_volume_backed or not machine.guest_agent
    if running and machine.needs_quiesce and has_nobody:
        raise errors.Conflict(f"Quiescing is not supported in instance {record.spec.id}")


def _begin(
    services: ApiServices,
    context: RequestContext,
    record: ServerRecord,
    operation: Operation,
    image: Image,
    *,
    rotation: int = 0,
) -> str:
    spec = spec_of(operation)
    check_may_begin(record, spec)
    _check_quiesce(record, operation)
    arguments = codec.to_plain(RunArguments(image=image, rotation=rotation))
    if record.cell and services.cells.is_unreachable(record.cell):
        raise errors.Unreachable(f"Cell {record.cell} does not answer; it is tried again shortly.")
    try:
        services.images.ensure_image(image)
    except errors.TooLarge as error:
        raise errors.QuotaExceeded(error.message, detail=error.detail) from error
    try:
        tell_cell(
            services,
            context,
            record,
            operation,
            lambda conductor, patient: conductor.begin_operation(patient, record.id, operation, arguments),
        )
    except errors.FixRequest:
        with suppress(errors.CellcloudError):
            services.images.discard_image(image.id)
        raise
    return image.id
