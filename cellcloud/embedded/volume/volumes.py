"""Volumes: accepted here, carried out by their cell's volume service. Each change is one transaction with its task."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cellcloud import errors
from cellcloud.db import (
    pagination_snapshots,
    volume_attachments,
    volume_hosts,
    volume_quotas,
    volume_snapshots,
    volume_types,
)
from cellcloud.db import volumes as db
from cellcloud.db.engine import Connection, transact
from cellcloud.db.listing import Page
from cellcloud.embedded.volume.service import DEFAULT_ZONE, VolumeService, VolumeViewer, default_type, get_type
from cellcloud.model.block_storage import GIB, Attachment, BlockVolume, TaskKind, VolumeTask, VolumeType
from cellcloud.model.image import Image

MOST_GIB = 1 << 20  # of one volume
DELETABLE = frozenset({"available", "error", "error_restoring", "error_extending", "error_managing", "error_deleting"})
_NOT_COPIED = frozenset({"instance_owner"})
_IN_WORK = "Volume status must be {}, but current status is: {}."


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """What a user asks for. ``size`` None: that of the source; ``cell``: the only one that it may be in."""

    size: int | None = None
    name: str | None = None
    description: str | None = None
    volume_type: str | None = None
    availability_zone: str | None = None
    snapshot_id: str | None = None
    source_volid: str | None = None
    image_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    cell: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What a new volume is made from. ``place``: where its content is: cell, host, zone."""

    size: int = 0
    type_id: str = ""
    place: tuple[str, str, str] | None = None
    bootable: bool = False
    image_metadata: Mapping[str, str] | None = None
    image: Image | None = None
    volume_id: str = ""


# ---- looking -----------------------------------------------------------------------------------------------------
def get_volume(service: VolumeService, viewer: VolumeViewer, volume_id: str) -> BlockVolume:
    """Return a volume. Raises NotFound for another project's."""
    with service.database.read() as c:
        return db.get_volume(c, volume_id, project_id=viewer.only)


def list_volumes(
    service: VolumeService, project_id: str | None, page: Page
) -> tuple[list[BlockVolume], dict[str, list[Attachment]]]:
    """Return volumes of a project, None: of all, and their attachments. Raises NotFound for an unknown marker."""

    def read(c: Connection) -> tuple[list[BlockVolume], dict[str, list[Attachment]]]:
        found = db.list_volumes(c, project_id=project_id, page=page)
        return found, volume_attachments.list_of(c, [volume.id for volume in found])

    return pagination_snapshots.listed(service.database, page.walk, read)


def attachments_of(service: VolumeService, volume_id: str) -> list[Attachment]:
    """Return who has a volume."""
    with service.database.read() as c:
        return volume_attachments.list_of(c, [volume_id])[volume_id]


# ---- creating ----------------------------------------------------------------------------------------------------
def create_volume(
    service: VolumeService, viewer: VolumeViewer, wanted: VolumeRequest, *, volume_id: str = ""
) -> BlockVolume:
    """Accept a new volume. Raises Invalid, NotFound for what it is made from, QuotaExceeded. ``volume_id``: the one it
    shall have; one that is there already is answered as it is."""
    image = _image(service, viewer, wanted)

    def work(c: Connection) -> BlockVolume:
        known = db.find_volume(c, volume_id) if volume_id else None
        return known or _insert(service, c, viewer, wanted, image, volume_id or str(uuid.uuid4()))

    return transact(service.database, work)


def _insert(
    service: VolumeService,
    c: Connection,
    viewer: VolumeViewer,
    wanted: VolumeRequest,
    image: Image | None,
    volume_id: str,
) -> BlockVolume:
    source = _source(c, viewer, wanted, image)
    kind = _type(c, viewer, wanted, source)
    size = _size(wanted, source)
    zone = _zone(c, wanted, source)
    volume = BlockVolume(
        id=volume_id,
        project_id=viewer.project_id,
        user_id=viewer.user_id,
        size=size,
        status="creating",
        name=wanted.name,
        description=wanted.description,
        type_id=kind.id,
        availability_zone=zone or DEFAULT_ZONE,
        cell=source.place[0] if source.place else wanted.cell,
        host=source.place[1] if source.place else "",
        bootable=source.bootable,
        multiattach=kind.multiattach,
        metadata=dict(wanted.metadata),
        image_metadata=source.image_metadata,
        snapshot_id=wanted.snapshot_id,
        source_volid=wanted.source_volid,
        image_id=wanted.image_id,
        movable=source.place is None and not wanted.cell and wanted.availability_zone is None,
    )
    limits = service.limits_of(c)
    most = volume_quotas.list_limits(c, volume.project_id, limits)["per_volume_gigabytes"][0]
    check_largest(size, most)
    counted = volume_quotas.amounts(kind.name, volumes=1, gigabytes=size)
    volume_quotas.reserve(c, volume.project_id, counted, limits)
    db.insert_volume(c, volume)
    task = replace(task_of_creation(volume, image), source_volume_id=source.volume_id)
    db.put_task(c, task, volume.cell if volume.host else "", volume.host)
    return db.get_volume(c, volume.id)


def task_of_creation(volume: BlockVolume, image: Image | None) -> VolumeTask:
    """Return the task that makes a volume, blank or of an image or a snapshot, at its generation."""
    return VolumeTask(
        id=volume.id,
        kind=TaskKind.CREATE,
        volume_id=volume.id,
        generation=volume.generation,
        size=volume.size,
        snapshot_id=volume.snapshot_id or "",
        image_id=volume.image_id or "",
        image_format=image.disk_format if image else "",
        image_size=image.size or 0 if image else 0,
    )


def check_largest(size: int, most: int) -> None:
    """Check a volume's size against the limit of each single one. Raises QuotaExceeded."""
    if most != volume_quotas.UNLIMITED and size > most:
        raise errors.QuotaExceeded(
            f"VolumeSizeExceedsLimit: Requested volume size {size}G is larger than maximum allowed limit {most}G."
        )


def _image(service: VolumeService, viewer: VolumeViewer, wanted: VolumeRequest) -> Image | None:
    if wanted.image_id is None:
        return None
    try:
        image = service.images.get_image(wanted.image_id, project_id=viewer.project_id, is_admin=viewer.is_admin)
    except errors.NotFound:
        raise errors.Invalid("Invalid image identifier or unable to access requested image.") from None
    if image.status != "active":
        raise errors.Invalid(f"Invalid input received: Image {image.id} is not active.")
    if image.disk_format not in ("raw", "qcow2"):
        raise errors.Invalid(f"Image {image.id} is of format {image.disk_format}, which no volume is made from here.")
    return image


def _source(c: Connection, viewer: VolumeViewer, wanted: VolumeRequest, image: Image | None) -> _Source:
    if sum(each is not None for each in (wanted.snapshot_id, wanted.source_volid, wanted.image_id)) > 1:
        raise errors.Invalid(
            "May specify only one of 'snapshot_id', 'source_volid', or 'imageRef' to create a volume from."
        )
    if wanted.snapshot_id is not None:
        snapshot = volume_snapshots.get_snapshot(c, wanted.snapshot_id, project_id=viewer.only)
        _require(snapshot.status, {"available"}, "Originating snapshot status must be one of 'available' values")
        return _within(replace(_copied(db.get_volume(c, snapshot.volume_id)), size=snapshot.size), wanted)
    if wanted.source_volid is not None:
        volume = db.get_volume(c, wanted.source_volid, project_id=viewer.only, lock=True)
        words = "Originating volume status must be one of 'available, in-use' values"
        _require(volume.status, {"available", "in-use"}, words)
        db.pin_volume(c, volume)  # it is read there
        return _within(_copied(volume), wanted)
    if image is not None:
        bytes_needed = max(image.virtual_size or 0, image.size or 0)
        needed = max(-(-bytes_needed // GIB), image.min_disk)
        return _Source(size=needed, bootable=True, image_metadata=_image_metadata(image), image=image)
    return _Source()


def _within(source: _Source, wanted: VolumeRequest) -> _Source:
    """Check that the source is in the cell that the volume shall be in. Raises Invalid."""
    if wanted.cell and source.place is not None and source.place[0] != wanted.cell:
        raise errors.Invalid(f"Invalid input received: The source is in cell {source.place[0]}, not in {wanted.cell}.")
    return source


def _copied(volume: BlockVolume) -> _Source:
    return _Source(
        size=volume.size,
        type_id=volume.type_id,
        place=(volume.cell, volume.host, volume.availability_zone),
        bootable=volume.bootable,
        image_metadata=volume.image_metadata,
        volume_id=volume.id,
    )


def _require(status: str, wanted: Collection[str], words: str) -> None:
    if status not in wanted:
        raise errors.Invalid(f"Invalid input received: {words}")


def _image_metadata(image: Image) -> dict[str, str]:
    """Return what a volume keeps of its image."""
    known = {
        "image_id": image.id,
        "image_name": image.name,
        "container_format": image.container_format,
        "disk_format": image.disk_format,
        "min_disk": str(image.min_disk),
        "min_ram": str(image.min_ram),
        "size": str(image.size or 0),
        "checksum": image.checksum or "",
    }
    return {**{k: v for k, v in image.properties.items() if k not in _NOT_COPIED}, **known}


def _type(c: Connection, viewer: VolumeViewer, wanted: VolumeRequest, source: _Source) -> VolumeType:
    if wanted.volume_type:
        return get_type(c, wanted.volume_type, viewer.only)
    named = (source.image.properties.get("cinder_img_volume_type") if source.image else "") or source.type_id
    return get_type(c, named, None) if named else default_type(c, viewer.project_id)


def _size(wanted: VolumeRequest, source: _Source) -> int:
    given = wanted.snapshot_id or wanted.source_volid
    if wanted.size is None and not given:
        raise errors.Invalid("Invalid input received: 'size' must be an integer and greater than 0, got None.")
    size = source.size if wanted.size is None else wanted.size
    if size < source.size:
        if wanted.image_id:
            raise errors.Invalid(
                f"Invalid input received: Size of specified image {source.size}GB is larger than volume size {size}GB."
            )
        what = "snapshot" if wanted.snapshot_id else "original volume"
        raise errors.Invalid(
            f"Invalid input received: Volume size '{size}'GB cannot be smaller than the {what} size {source.size}GB. "
            f"They must be >= {what} size."
        )
    return size


def _zone(c: Connection, wanted: VolumeRequest, source: _Source) -> str:
    if source.place is not None:
        if wanted.availability_zone not in (None, source.place[2]):
            raise errors.Invalid(
                f"Invalid input received: Invalid availability zone {wanted.availability_zone}: the source is in "
                f"{source.place[2]}."
            )
        return source.place[2]
    zone = wanted.availability_zone
    if zone is not None and zone not in {known.host.zone for known in volume_hosts.list_hosts(c)}:
        raise errors.Invalid(f"Availability zone '{zone}' is invalid.")
    return zone or ""


# ---- changing ----------------------------------------------------------------------------------------------------
def change(
    service: VolumeService,
    viewer: VolumeViewer,
    volume_id: str,
    work: Callable[[Connection, BlockVolume], Mapping[str, Any]],
) -> BlockVolume:
    """Write what ``work`` returns of a volume whose row is locked; it may be asked again. Raises NotFound."""

    def locked(c: Connection) -> BlockVolume:
        volume = db.get_volume(c, volume_id, project_id=viewer.only, lock=True)
        changes = work(c, volume)
        if changes:
            db.update_volume(c, volume.id, changes)
        return db.get_volume(c, volume.id)

    return transact(service.database, locked)


def begin(c: Connection, volume: BlockVolume, kind: TaskKind, *, task_id: str = "", **arguments: Any) -> int:
    """Have the volume's cell do something; returns the generation of the change."""
    generation = db.next_generation(c, volume.id)
    task = VolumeTask(id=task_id or volume.id, kind=kind, volume_id=volume.id, generation=generation, **arguments)
    db.put_task(c, task, volume.cell if volume.host else "", volume.host)
    return generation


def require_status(volume: BlockVolume, *wanted: str) -> None:
    """Check a volume's status. Raises Invalid in Cinder's words."""
    if volume.status not in wanted:
        raise errors.Invalid("Invalid volume: " + _IN_WORK.format(" or ".join(wanted), volume.status))


def delete_volume(
    service: VolumeService, viewer: VolumeViewer, volume_id: str, *, cascade: bool = False, force: bool = False
) -> None:
    """Accept that a volume goes, with ``cascade`` its snapshots too, with ``force`` whatever its status is. Raises
    NotFound; Invalid while it is in use or has snapshots."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        if volume.status == "deleting" and not force:
            return {}
        snapshots = volume_snapshots.list_of_volume(c, volume.id)
        attached = volume_attachments.list_of(c, [volume.id])[volume.id]
        busy = [one for one in snapshots if one.status not in ("available", "error", "error_deleting")]
        if not force and (volume.status not in DELETABLE or attached):
            raise _undeletable(volume)
        if (snapshots and not (cascade or force)) or (busy and not force):
            raise _undeletable(volume)
        _forget_attachments(c, attached)
        for snapshot in snapshots:
            volume_snapshots.update_snapshot(c, snapshot.id, {"status": "deleting"})
        db.drop_tasks(c, volume)
        begin(c, volume, TaskKind.DELETE)
        return {"status": "deleting", "previous_status": volume.status}

    change(service, viewer, volume_id, work)


def _undeletable(volume: BlockVolume) -> errors.Invalid:
    return errors.Invalid(
        "Invalid volume: Volume status must be available or error or error_restoring or error_extending or "
        "error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, "
        f"or be disassociated from snapshots after volume transfer. It is {volume.status}."
    )


def _forget_attachments(c: Connection, attached: Sequence[Attachment]) -> None:
    for attachment in attached:
        volume_attachments.delete_attachment(c, attachment.id)


def extend_volume(service: VolumeService, viewer: VolumeViewer, volume_id: str, size: int, *, attached: bool) -> None:
    """Accept that a volume grows. ``attached``: also one in use. Raises NotFound, Invalid, QuotaExceeded."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, *(("available", "in-use") if attached else ("available",)))
        if size <= volume.size:
            raise errors.Invalid(
                "Invalid input received: New size for extend must be greater than current size. "
                f"(current: {volume.size}, extended: {size})."
            )
        limits = service.limits_of(c)
        check_largest(size, volume_quotas.list_limits(c, volume.project_id, limits)["per_volume_gigabytes"][0])
        kind = get_type(c, volume.type_id, None)
        grown = volume_quotas.amounts(kind.name, gigabytes=size - volume.size)
        volume_quotas.reserve(c, volume.project_id, grown, limits)
        begin(c, volume, TaskKind.EXTEND, size=size)
        return {"status": "extending", "previous_status": volume.status}

    change(service, viewer, volume_id, work)


def revert_volume(service: VolumeService, viewer: VolumeViewer, volume_id: str, snapshot_id: str) -> None:
    """Accept that a volume becomes what it was at its newest snapshot. Raises NotFound, Invalid."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        snapshots = volume_snapshots.list_of_volume(c, volume.id)
        wanted = volume_snapshots.get_snapshot(c, snapshot_id, project_id=viewer.only)
        if wanted.volume_id != volume.id or not snapshots or snapshots[0].id != wanted.id:
            raise errors.Invalid(
                f"Volume can't be reverted to a snapshot that is not its latest: {snapshot_id} of volume {volume.id}."
            )
        if wanted.size != volume.size:
            raise errors.Invalid(
                f"Can't revert volume {volume.id} to its latest snapshot {wanted.id}. The volume size must be equal to "
                "the snapshot size."
            )
        require_status(volume, "available")
        _require(wanted.status, {"available"}, f"The snapshot's status must be available, not {wanted.status}.")
        volume_snapshots.update_snapshot(c, wanted.id, {"status": "restoring"})
        begin(c, volume, TaskKind.REVERT, snapshot_id=wanted.id, size=volume.size)
        return {"status": "reverting", "previous_status": volume.status}

    change(service, viewer, volume_id, work)


def upload_volume(
    service: VolumeService, viewer: VolumeViewer, volume_id: str, image: Image
) -> tuple[BlockVolume, Image]:
    """Accept that a volume becomes the content of a new image. Raises NotFound, Invalid, TooLarge, Forbidden."""
    before = get_volume(service, viewer, volume_id)
    require_status(before, "available")
    if image.disk_format not in ("raw", "qcow2"):
        raise errors.Invalid(f"Images of format {image.disk_format} are not made here: raw and qcow2 are.")
    kept = before.image_metadata or {}
    properties = {k: v for k, v in kept.items() if k not in _OF_IMAGES_THEMSELVES}
    made = service.images.ensure_image(
        replace(image, id=str(uuid.uuid4()), owner=viewer.project_id, properties=properties, min_disk=before.size)
    )

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, "available")
        begin(c, volume, TaskKind.UPLOAD, image_id=made.id, image_format=image.disk_format, size=volume.size)
        return {"status": "uploading", "previous_status": volume.status}

    try:
        return change(service, viewer, volume_id, work), made
    except errors.CellcloudError:
        service.images.discard_image(made.id)
        raise


def reimage_volume(
    service: VolumeService, viewer: VolumeViewer, volume_id: str, image_id: str, *, reserved: bool
) -> None:
    """Accept that an image takes the place of a volume's content. ``reserved``: also of one that is kept for a server.
    Raises NotFound, Invalid."""
    image = _image(service, viewer, VolumeRequest(image_id=image_id))
    if image is None:
        raise errors.Invalid("Name an image.")

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, "available", "error", *(("reserved",) if reserved else ()))
        needed = max(-(-max(image.virtual_size or 0, image.size or 0) // GIB), image.min_disk)
        if needed > volume.size:
            raise errors.Invalid(
                f"Invalid input received: Size of specified image {needed}GB is larger than volume size "
                f"{volume.size}GB."
            )
        begin(
            c,
            volume,
            TaskKind.REIMAGE,
            image_id=image.id,
            image_format=image.disk_format,
            image_size=image.size or 0,
            size=volume.size,
        )
        known = {"image_metadata": _image_metadata(image), "bootable": True, "image_id": image.id}
        return {"status": "downloading", "previous_status": volume.status, **known}

    change(service, viewer, volume_id, work)


def retype_volume(service: VolumeService, viewer: VolumeViewer, volume_id: str, type_name: str) -> None:
    """Give a volume another type. Raises NotFound, Invalid, QuotaExceeded."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, "available", "in-use")
        kind = volume_types.find_type(c, type_name, project_id=viewer.only)
        if kind is None:
            raise errors.NotFound(f"Volume type {type_name[:64]} could not be found.")
        if kind.id == volume.type_id:
            raise errors.Invalid(f"Invalid input received: New volume_type same as original: {kind.name}.")
        if kind.multiattach != volume.multiattach and volume.status != "available":
            raise errors.Invalid("Invalid volume: A volume in use stays for one server, or for several.")
        before = get_type(c, volume.type_id, None).name
        counted = {"volumes": 1, "gigabytes": volume.size}
        moved = {volume_quotas.of_type(name, kind.name): amount for name, amount in counted.items()}
        volume_quotas.reserve(c, volume.project_id, moved, service.limits_of(c))
        freed = {volume_quotas.of_type(name, before): amount for name, amount in counted.items()}
        volume_quotas.release(c, volume.project_id, freed)
        return {"type_id": kind.id, "multiattach": kind.multiattach}

    change(service, viewer, volume_id, work)


_OF_IMAGES_THEMSELVES = frozenset(
    {"image_id", "image_name", "container_format", "disk_format", "min_disk", "min_ram", "size", "checksum"}
)


def reset_status(service: VolumeService, volume_id: str, changes: Mapping[str, Any]) -> None:
    """Write what an administrator says a volume's status is. ``attach_status`` detached: nobody has it any more."""
    admin = VolumeViewer(project_id="", is_admin=True)

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        if changes.get("attach_status") == "detached":
            for attachment in volume_attachments.list_of(c, [volume.id])[volume.id]:
                volume_attachments.delete_attachment(c, attachment.id)
                if attachment.host is not None:
                    begin(c, volume, TaskKind.DISCONNECT, task_id=attachment.id, attachment_id=attachment.id)
        return {"status": changes["status"]} if changes.get("status") else {}

    change(service, admin, volume_id, work)


def release_volume(service: VolumeService, c: Connection, volume: BlockVolume) -> None:
    """Forget a volume that is nowhere any more, with its snapshots, and count it no longer."""
    name = get_type(c, volume.type_id, None).name
    for snapshot in volume_snapshots.list_of_volume(c, volume.id):
        if volume_snapshots.delete_snapshot(c, snapshot.id):
            freed = volume_quotas.amounts(name, snapshots=1, gigabytes=snapshot.size)
            volume_quotas.release(c, snapshot.project_id, freed)
    for attachment in volume_attachments.list_of(c, [volume.id])[volume.id]:
        volume_attachments.delete_attachment(c, attachment.id)
    if db.delete_volume(c, volume.id):
        freed = volume_quotas.amounts(name, volumes=1, gigabytes=volume.size)
        volume_quotas.release(c, volume.project_id, freed)
