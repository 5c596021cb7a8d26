"""A volume service in memory: the states of Cinder's volumes and attachments, and who may reach what."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cellcloud import errors
from cellcloud.clients.volume import not_found
from cellcloud.model.volume import READ_WRITE, Connection, NewVolume, Volume, VolumeSnapshot


@dataclass
class FakeAttachment:
    """``host``: the one that is let reach the volume. ``generation``: grows with each that is."""

    volume_id: str
    server_id: str
    mode: str = READ_WRITE
    host: str = ""
    generation: int = 0
    complete: bool = False


@dataclass
class FakeVolumes:
    """Implements ``VolumeClient``. ``refusal``: what is said to whoever asks for anything. ``slow``: how often a volume
    that is being made is looked at before it is there."""

    refusal: errors.CellcloudError | None = None
    volumes: dict[str, Volume] = field(default_factory=dict)
    snapshots: dict[str, VolumeSnapshot] = field(default_factory=dict)
    attachments: dict[str, FakeAttachment] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)  # what was made for servers, by its mark
    connections: dict[str, Connection] = field(default_factory=dict)  # volume -> how it is reached
    slow: int = 0
    becomes: str = "available"  # what a volume that is made is then
    unready: dict[str, int] = field(default_factory=dict)
    reimaged: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.RLock()

    def __deepcopy__(self, memo: object) -> FakeVolumes:
        names = ("volumes", "snapshots", "marks", "connections", "unready")
        copied = FakeVolumes(slow=self.slow, **{name: dict(getattr(self, name)) for name in names})
        copied.attachments = {known: replace(one) for known, one in self.attachments.items()}
        return copied

    def add(self, volume_id: str = "", **values: object) -> Volume:
        """Put a volume there that somebody has made."""
        given: dict[str, object] = {"status": "available", "size_gb": 1, "project_id": "p"} | values
        volume = Volume(id=volume_id or str(uuid.uuid4()), **given)  # type: ignore[arg-type]
        self.volumes[volume.id] = volume
        return volume

    def _check(self) -> None:
        if self.refusal:
            raise self.refusal

    def get_url(self) -> str:
        return ""

    def get_volume(self, volume_id: str, *, project_id: str = "", is_admin: bool = True) -> Volume:
        self._check()
        with self._lock:
            volume = self.volumes.get(volume_id)
            if volume is None or not (is_admin or volume.project_id == project_id):
                raise errors.NotFound(not_found(volume_id))
            if self.unready.get(volume_id, 0) > 0:
                self.unready[volume_id] -= 1
            elif volume.status == "creating":
                self.volumes[volume_id] = volume = replace(volume, status=self.becomes)
            elif volume.status == "downloading":
                self.volumes[volume_id] = replace(volume, status=self.becomes)
                if self.becomes == "available":
                    self._restate(volume_id)
                volume = self.volumes[volume_id]
            return volume

    def get_snapshot(self, snapshot_id: str, *, project_id: str = "", is_admin: bool = True) -> VolumeSnapshot:
        self._check()
        found = self.snapshots.get(snapshot_id)
        if found is None or not (is_admin or found.project_id == project_id):
            raise errors.NotFound(f"Snapshot {snapshot_id[:64]} could not be found.")
        return found

    def list_volumes(self, project_id: str, *, offset: int, limit: int) -> list[Volume]:
        self._check()
        mine = [one for one in self.volumes.values() if one.project_id == project_id]
        return mine[::-1][offset : offset + limit]

    def list_snapshots(self, project_id: str, *, offset: int, limit: int) -> list[VolumeSnapshot]:
        self._check()
        mine = [one for one in self.snapshots.values() if one.project_id == project_id]
        return mine[::-1][offset : offset + limit]

    def ensure_volume(self, wanted: NewVolume) -> Volume:
        self._check()
        with self._lock:
            mark = wanted.mark or str(uuid.uuid4())
            if mark not in self.marks:
                made = self.add(
                    status="creating",
                    size_gb=wanted.size_gb,
                    project_id=wanted.project_id,
                    name=wanted.name,
                    description=wanted.description,
                    metadata=dict(wanted.metadata),
                    volume_type=wanted.volume_type,
                    bootable=bool(wanted.image_id or wanted.snapshot_id),
                    image={"image_id": wanted.image_id} if wanted.image_id else {},
                )
                self.marks[mark], self.unready[made.id] = made.id, self.slow
            return self.get_volume(self.marks[mark])

    def find_volume(self, mark: str, *, project_id: str) -> Volume | None:
        self._check()
        return self.volumes.get(self.marks.get(mark, ""))

    def delete_volume(self, volume_id: str) -> None:
        self._check()
        with self._lock:
            if any(one.volume_id == volume_id for one in self.attachments.values()):
                raise errors.Invalid("Invalid volume: Volume status must be available or error.")
            self.volumes.pop(volume_id, None)

    def ensure_snapshot(
        self, volume_id: str, *, mark: str, name: str, description: str = "", force: bool = True
    ) -> VolumeSnapshot:
        with self._lock:
            volume = self.get_volume(volume_id)
            mark = mark or str(uuid.uuid4())
            if volume.status != "available" and not (force and volume.status == "in-use"):
                raise errors.Invalid(f"Invalid volume: Volume {volume_id} status must be available.")
            if mark not in self.marks:
                made = VolumeSnapshot(
                    id=str(uuid.uuid4()),
                    volume_id=volume_id,
                    status="available",
                    size_gb=volume.size_gb,
                    project_id=volume.project_id,
                    name=name,
                    description=description,
                )
                self.snapshots[made.id] = made
                self.marks[mark] = made.id
            return self.snapshots[self.marks[mark]]

    def find_snapshot(self, mark: str, *, volume_id: str) -> VolumeSnapshot | None:
        self._check()
        return self.snapshots.get(self.marks.get(mark, ""))

    def reimage_volume(self, volume_id: str, image_id: str) -> None:
        with self._lock:
            volume = self.get_volume(volume_id)
            if volume.status not in ("available", "error", "reserved"):
                raise errors.Invalid(f"Invalid volume: Volume {volume_id} status must be available or error.")
            said = {"image_id": image_id}
            self.volumes[volume_id] = replace(volume, status="downloading", image=said, bootable=True)
            self.unready[volume_id], self.reimaged = self.slow, self.reimaged + 1

    def delete_snapshot(self, snapshot_id: str) -> None:
        self._check()
        self.snapshots.pop(snapshot_id, None)
        self.marks = {mark: made for mark, made in self.marks.items() if made != snapshot_id}

    def create_attachment(self, volume_id: str, server_id: str, *, mode: str = READ_WRITE) -> str:
        with self._lock:
            volume = self.get_volume(volume_id)
            for known, one in self.attachments.items():
                if (one.volume_id, one.server_id, one.generation) == (volume_id, server_id, 0):
                    return known
            held = [one.server_id for one in self.attachments.values() if one.volume_id == volume_id]
            shared = volume.multiattach or (held and set(held) == {server_id})
            if volume.status != "available" and not (shared and volume.status in ("reserved", "in-use")):
                raise errors.Invalid(f"Invalid volume: Volume {volume_id} status must be available or downloading.")
            attachment_id = str(uuid.uuid4())
            self.attachments[attachment_id] = FakeAttachment(volume_id=volume_id, server_id=server_id, mode=mode)
            self._restate(volume_id)
            return attachment_id

    def update_attachment(self, attachment_id: str, connector: Mapping[str, str]) -> Connection:
        with self._lock:
            attachment = self._find(attachment_id)
            attachment.host = connector["host"]
            attachment.generation += 1
            self._restate(attachment.volume_id)
            known = self.connections.get(attachment.volume_id)
            data = {"export": f"e-{attachment_id}-{attachment.generation}", "socket": f"/run/{attachment_id}.sock"}
            return known or {"driver_volume_type": "nbd", "data": data}

    def complete_attachment(self, attachment_id: str) -> None:
        with self._lock:
            attachment = self._find(attachment_id)
            attachment.complete = True
            self._restate(attachment.volume_id)

    def delete_attachment(self, attachment_id: str) -> None:
        self._check()
        with self._lock:
            gone = self.attachments.pop(attachment_id, None)
            if gone is not None:
                self._restate(gone.volume_id)

    def list_attachments(self, server_id: str) -> Sequence[tuple[str, str]]:
        self._check()
        return [(known, one.volume_id) for known, one in self.attachments.items() if one.server_id == server_id]

    def begin_detaching(self, volume_id: str) -> None:
        with self._lock:
            volume = self.get_volume(volume_id)
            if volume.status != "in-use":
                raise errors.Invalid(
                    "Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be "
                    "'attached' to detach."
                )
            self.volumes[volume_id] = replace(volume, status="detaching")

    def roll_detaching(self, volume_id: str) -> None:
        with self._lock:
            if self.volumes[volume_id].status == "detaching":
                self._restate(volume_id)

    def _find(self, attachment_id: str) -> FakeAttachment:
        self._check()
        if attachment_id not in self.attachments:
            raise errors.NotFound(f"Volume attachment could not be found with filter: attachment_id = {attachment_id}.")
        return self.attachments[attachment_id]

    def _restate(self, volume_id: str) -> None:
        held = [one for one in self.attachments.values() if one.volume_id == volume_id]
        status = "available" if not held else "reserved"
        if any(one.generation for one in held):
            status = "attaching"
        if any(one.complete for one in held):
            status = "in-use"
        on = tuple(one.server_id for one in held if one.complete)
        self.volumes[volume_id] = replace(self.volumes[volume_id], status=status, attached_to=on)
