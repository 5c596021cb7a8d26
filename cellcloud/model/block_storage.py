"""Volumes as the block storage service knows them, and what crosses queues about them. Sizes are in GiB."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

MULTIATTACH = "multiattach"  # the extra spec of types whose volumes several servers may have
BACKEND_NAME = "cellcloud"
GIB = 1 << 30
IN_USE, AVAILABLE, ERROR = "in-use", "available", "error"


class TaskKind(StrEnum):
    """What a cell's volume service is asked to do with a volume."""

    CREATE = "create"
    DELETE = "delete"
    EXTEND = "extend"
    SNAPSHOT = "snapshot"
    DELETE_SNAPSHOT = "delete_snapshot"
    REVERT = "revert"
    UPLOAD = "upload"
    DISCONNECT = "disconnect"
    REIMAGE = "reimage"


class VolumeTaskState(StrEnum):
    """How far a task is; ``WORKING``: ask again."""

    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeTask:
    """One accepted request of one volume. ``id``: of what it is about, the volume or the snapshot or the attachment;
    with ``generation``, which grows with each change of the volume, it names the task for ever.

    ``size``: that the volume shall have. ``source_volume_id``, ``snapshot_id``, ``image_id``: what its content comes
    from, or goes to.
    """

    id: str
    kind: TaskKind
    volume_id: str
    generation: int
    size: int = 0
    snapshot_id: str = ""
    source_volume_id: str = ""
    image_id: str = ""
    image_format: str = ""
    image_size: int = 0
    attachment_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """``message``: for the user, why it failed. ``size``: bytes, where the kind tells some."""

    id: str
    generation: int
    state: VolumeTaskState
    message: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """Where a volume shall be used: the host, its address, and the boot of the machine that it is on."""

    host: str
    ip: str = ""
    boot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeConnection:
    """How a volume's content is had over NBD, under the export's secret name: at a UNIX socket of the machine, or at
    an address over TLS with these credentials (PEM; ca, certificate, key)."""

    volume_id: str
    attachment_id: str
    generation: int
    export: str
    access_mode: str = "rw"
    socket: str = ""
    host: str = ""
    port: int = 0
    tls_hostname: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeHost:
    """A volume service of a cell. ``total_gb`` and ``free_gb``: of the disk that the volumes lie on."""

    host: str
    zone: str
    total_gb: int
    free_gb: int
    cell: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldVolume:
    """What a volume service keeps of a volume: files, the generation of the last change, and who is connected."""

    id: str
    generation: int
    size: int = 0
    snapshots: tuple[str, ...] = ()
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockVolume:
    """``type_id`` names its volume type. ``generation``: grows with each change that its cell is asked for.
    ``movable``: nobody was ever let use what it holds, nor said where it shall be."""

    id: str
    project_id: str
    user_id: str
    size: int
    status: str
    previous_status: str = ""
    name: str | None = None
    description: str | None = None
    type_id: str = ""
    availability_zone: str = ""
    cell: str = ""
    host: str = ""
    bootable: bool = False
    multiattach: bool = False
    readonly: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    image_metadata: Mapping[str, str] | None = None
    snapshot_id: str | None = None
    source_volid: str | None = None
    image_id: str | None = None
    generation: int = 1
    consumes_quota: bool = True
    movable: bool = False
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSnapshot:
    """The content of a volume as it was at one moment. ``size``: the volume's then. ``progress``: that somebody told of
    it, such as "45%"."""

    id: str
    volume_id: str
    project_id: str
    user_id: str
    size: int
    status: str
    name: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    type_id: str = ""
    progress: str = ""
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """``status``: reserved | attaching | attached. ``server_id`` None: of a host, or not known yet."""

    id: str
    volume_id: str
    project_id: str
    status: str
    server_id: str | None = None
    mode: str = "rw"
    mountpoint: str | None = None
    host: str | None = None
    connector: Mapping[str, object] = field(default_factory=dict)
    connection_info: Mapping[str, object] = field(default_factory=dict)
    attached_at: dt.datetime | None = None
    created_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeType:
    """``projects`` see it where it is not public."""

    id: str
    name: str
    description: str | None = None
    is_public: bool = True
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None

    @property
    def multiattach(self) -> bool:
        return self.extra_specs.get(MULTIATTACH, "") == "<is> True"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A volume on offer to whoever knows the key."""

    id: str
    volume_id: str
    name: str | None
    source_project_id: str
    destination_project_id: str | None = None
    accepted: bool = False
    no_snapshots: bool = False
    created_at: dt.datetime | None = None
