"""Volumes: as their service describes them, and as a server has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from cellcloud.model.virtual_hardware import LETTERS, disk_names

Connection = dict[str, Any]
"""How a host reaches a volume, as Cinder says it: ``driver_volume_type`` and ``data``."""
READ_WRITE, READ_ONLY = "rw", "ro"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume of the service's. ``attached_to``: servers, by their ids. ``image``: what the one that it was made from
    says. ``cell``: the only one whose hosts reach it; "" for any. ``follows``: it is moved to the
    cell of the first server that it is attached to."""

    id: str
    status: str
    size_gb: int
    project_id: str = ""
    name: str = ""
    description: str = ""
    availability_zone: str = ""
    created_at: str = ""
    volume_type: str = ""
    snapshot_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    multiattach: bool = False
    bootable: bool = False
    encrypted: bool = False
    migration_status: str | None = None
    attached_to: tuple[str, ...] = ()
    image: dict[str, str] = field(default_factory=dict)
    cell: str = ""
    follows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshot:
    """A snapshot of a volume."""

    id: str
    volume_id: str
    status: str
    size_gb: int
    project_id: str = ""
    name: str = ""
    description: str = ""
    created_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVolume:
    """A volume to be made, from one source or blank. ``mark``: by which one that was made is known again; "" by
    none."""

    mark: str
    project_id: str
    user_id: str
    size_gb: int
    name: str = ""
    volume_type: str = ""
    availability_zone: str = ""
    image_id: str = ""
    snapshot_id: str = ""
    source_volume_id: str = ""
    cell: str = ""
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


class DeviceSource(StrEnum):
    """What a server's disk is made from."""

    IMAGE = "image"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    BLANK = "blank"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """A disk that a server was asked for with. ``is_volume``: or one of its host's. ``source_id``: of the image, volume
    or snapshot. ``size_mb`` is that of a local one, ``size_gb`` that of a volume, 0 where its source says it."""

    source: DeviceSource
    is_volume: bool
    source_id: str = ""
    boot_index: int | None = None
    size_gb: int = 0
    size_mb: int = 0
    is_swap: bool = False
    delete_on_termination: bool = False
    volume_type: str = ""
    disk_bus: str = ""
    device_type: str = "disk"
    tag: str | None = None


class AttachmentState(StrEnum):
    """What a server has of a volume."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
    EXTENDING = "extending"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedVolume:
    """A volume as one of a server's disks. ``id``: of the server's device, in Nova the block device mapping.

    ``device``: its name in the guest, "/dev/vdb". ``boot_index``: 0 for the root disk. ``state``: what is attached is
    the server's at rest; any other is under way, or waits for its turn, asked for by ``user_id`` in ``request_id``.
    ``connection``: by which the server's host reaches it; it is told to hosts only.
    """

    id: str
    volume_id: str
    attachment_id: str = ""
    device: str = ""
    bus: str = "virtio"
    device_type: str = "disk"
    boot_index: int | None = None
    tag: str | None = None
    delete_on_termination: bool = False
    multiattach: bool = False
    size_gb: int = 0
    state: AttachmentState = AttachmentState.ATTACHED
    request_id: str = ""
    user_id: str = ""
    connection: Connection = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in the guest without the directory."""
        return self.device.rpartition("/")[2]

    @property
    def is_root(self) -> bool:
        """Whether the server boots from it."""
        return self.boot_index == 0

    @property
    def is_pending(self) -> bool:
        """Whether something is being done to it, or waits to be."""
        return self.state != AttachmentState.ATTACHED


Volumes = tuple[AttachedVolume, ...]


def find(volumes: Volumes, volume_id: str) -> AttachedVolume | None:
    """Return the server's device of that volume."""
    return next((one for one in volumes if one.volume_id == volume_id), None)


def with_changed(volumes: Volumes, changed: AttachedVolume) -> Volumes:
    """Return the volumes with that one in its place, or behind the others."""
    if all(one.id != changed.id for one in volumes):
        return (*volumes, changed)
    return tuple(changed if one.id == changed.id else one for one in volumes)


def without(volumes: Volumes, device_id: str) -> Volumes:
    """Return the volumes but that device."""
    return tuple(one for one in volumes if one.id != device_id)


def volumes_after(now: Volumes, made: Volumes, own: str) -> Volumes:
    """Return the volumes as a record has them ``now`` with what a run has made of them: of the device ``own``, or
    of all where that is "". Whether a volume goes with its server may be said at any time."""
    mine = {one.id: one for one in made if own in ("", one.id)}
    gone = frozenset({own} - mine.keys()) if own else frozenset(one.id for one in now if one.id not in mine)
    kept = (
        replace(mine[one.id], delete_on_termination=one.delete_on_termination) if one.id in mine else one
        for one in now
        if one.id not in gone
    )
    known = {one.id for one in now}
    return (*kept, *(one for one in mine.values() if one.id not in known))


def free_device(bus: str, taken: Iterable[str]) -> str | None:
    """Return the first name on a bus that is not taken, as "/dev/vdb"; None where there is none left."""
    names = frozenset(taken)
    return next((f"/dev/{name}" for name in disk_names(bus if bus in LETTERS else "virtio") if name not in names), None)


def without_connections(volumes: Volumes) -> Volumes:
    """Return the volumes without what only their host is to know."""
    return tuple(replace(one, connection={}) if one.connection else one for one in volumes)
