"""Volumes as files: each in a directory of its own, with a record of what has become of it and its snapshots beside it.

Content is raw and sparse. What is made has another name until it is whole; what is deleted leaves its last generation
behind, so that an older message that comes late makes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from cellcloud import clock, errors
from cellcloud.model.block_storage import GIB

RECORD, DATA, SNAPSHOTS = "volume.json", "data.raw", "snapshots"
GONE_SECONDS = 7 * 86400.0  # that a message may be late at most
_PIECE = 64 << 20  # bytes that the kernel copies at once
_NEW = ".new"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConnection:
    """A host that a volume is exported to."""

    host: str
    mode: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecord:
    """``generation``: of the last change of content or connections. ``connections``: by attachment. ``export``: its
    secret name, empty while nobody is connected. ``port`` 0: at a UNIX socket."""

    id: str
    generation: int
    size: int
    connections: Mapping[str, ExportConnection] = field(default_factory=dict)
    export: str = ""
    port: int = 0

    @property
    def writable(self) -> bool:
        return any(connection.mode == "rw" for connection in self.connections.values())

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(connection.host for connection in self.connections.values())


class VolumeFiles:
    """The directory of a volume service. The caller sees to it that one thread at a time changes a volume."""

    def __init__(self, directory: Path) -> None:
        self._volumes = directory / "volumes"
        self._gone = directory / "gone"
        for each in (self._volumes, self._gone):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    # ---- records ---------------------------------------------------------------------------------------------------
    def find(self, volume_id: str) -> VolumeRecord | None:
        """Return what is known of a volume that is here."""
        with suppress(FileNotFoundError):
            return msgspec.json.decode((self._place(volume_id) / RECORD).read_bytes(), type=VolumeRecord)
        return None

    def get(self, volume_id: str) -> VolumeRecord:
        """Return what is known of a volume. Raises NotFound."""
        record = self.find(volume_id)
        if record is None:
            raise errors.NotFound(f"Volume {volume_id} is not here.")
        return record

    def list_records(self) -> Iterator[VolumeRecord]:
        """Every volume that is here, by id."""
        for path in sorted(self._volumes.glob(f"*/{RECORD}")):
            record = self.find(path.parent.name)
            if record is not None:
                yield record

    def write(self, record: VolumeRecord) -> None:
        """Keep a record, durably."""
        write_durably(self._place(record.id) / RECORD, msgspec.json.encode(record))

    def list_snapshots(self, volume_id: str) -> list[str]:
        """Return the volume's snapshots that are whole."""
        found = (self._place(volume_id) / SNAPSHOTS).glob("*.raw")
        return sorted(path.stem for path in found)

    # ---- content ---------------------------------------------------------------------------------------------------
    def data(self, volume_id: str) -> Path:
        """Return where a volume's content is."""
        return self._place(volume_id) / DATA

    def snapshot(self, volume_id: str, snapshot_id: str) -> Path:
        """Return where a snapshot's content is."""
        return self._place(volume_id) / SNAPSHOTS / f"{_checked(snapshot_id)}.raw"

    def begin(self, volume_id: str) -> Path:
        """Return where a new volume's content is to be written; what an earlier attempt left there is gone."""
        place = self._place(volume_id)
        (place / SNAPSHOTS).mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = place / (DATA + _NEW)
        fresh.unlink(missing_ok=True)
        return fresh

    def finish(self, fresh: Path, record: VolumeRecord) -> None:
        """Let what was written be the content of the volume, at its size."""
        resize(fresh, record.size)
        fresh.replace(self.data(record.id))
        sync_directory(fresh.parent)
        self.write(record)

    def is_gone(self, item_id: str, generation: int) -> bool:
        """Return whether a volume or snapshot was deleted at that generation or a later one."""
        with suppress(FileNotFoundError):
            return int((self._gone / _checked(item_id)).read_text()) >= generation
        return False

    def delete_volume(self, volume_id: str, generation: int) -> None:
        """Delete a volume with its snapshots. Absent is success."""
        self._bury(volume_id, generation)
        place = self._place(volume_id)
        (place / RECORD).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(place)

    def delete_snapshot(self, volume_id: str, snapshot_id: str, generation: int) -> None:
        """Delete a snapshot. Absent is success."""
        self._bury(snapshot_id, generation)
        self.snapshot(volume_id, snapshot_id).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Forget what was deleted long ago, and remove what attempts that were killed have left."""
        oldest = clock.now().timestamp() - GONE_SECONDS
        for path in self._gone.iterdir():
            with suppress(FileNotFoundError):  # another attempt's, and gone by now
                if path.stat().st_mtime < oldest:
                    path.unlink()
        for path in self._volumes.iterdir():
            with suppress(FileNotFoundError):
                if not (path / RECORD).exists() and path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)

    def room(self) -> tuple[int, int]:
        """Return the bytes of the disk, and those that are free."""
        found = shutil.disk_usage(self._volumes)
        return found.total, found.free

    def _bury(self, item_id: str, generation: int) -> None:
        write_durably(self._gone / _checked(item_id), str(generation).encode())

    def _place(self, volume_id: str) -> Path:
        return self._volumes / _checked(volume_id)


def _checked(item_id: str) -> str:
    """Return a name that leads nowhere else. Raises Invalid."""
    try:
        return str(uuid.UUID(item_id))
    except ValueError:
        raise errors.Invalid("That is no id of a volume.") from None


def with_connection(record: VolumeRecord, attachment_id: str, connection: ExportConnection) -> VolumeRecord:
    """Return the record with a host more, or anew."""
    return replace(record, connections={**record.connections, attachment_id: connection})


def resize(path: Path, size: int) -> None:
    """Let a file have ``size`` GiB. Raises HostRefused for content that does not fit."""
    with path.open("ab") as file:
        if os.fstat(file.fileno()).st_size > size * GIB:
            raise errors.HostRefused(f"The content is larger than {size} GiB.")
        file.truncate(size * GIB)
        os.fsync(file.fileno())


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes, durably; where the file system can, the two share their blocks."""
    with source.open("rb") as given, target.open("wb") as file:
        end = os.fstat(given.fileno()).st_size
        file.truncate(end)
        for start, until in _extents(given.fileno(), end):
            _copy_range(given.fileno(), file.fileno(), start, until)
        os.fsync(file.fileno())


def _extents(descriptor: int, end: int) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset < end:
        try:
            offset = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            return
        until = os.lseek(descriptor, offset, os.SEEK_HOLE)
        yield offset, until
        offset = until


def _copy_range(source: int, target: int, start: int, until: int) -> None:
    while start < until:
        copied = os.copy_file_range(source, target, min(_PIECE, until - start), start, start)
        if copied == 0:
            raise errors.HostRefused("A volume's file ended early.")
        start += copied


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file only its owner can read, whole and on the disk."""
    fresh = path.with_name(path.name + _NEW)
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names of a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, str]:
    """Return a small file's object; empty where there is none."""
    with suppress(FileNotFoundError, ValueError):
        found: dict[str, str] = json.loads(path.read_text())
        return found
    return {}
