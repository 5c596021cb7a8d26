"""Volume: volumes, and what servers have of them, in the words of Cinder's attachments API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from cellcloud.model.volume import READ_WRITE, Connection, NewVolume, Volume, VolumeSnapshot

Connector = Mapping[str, str]
"""What a host says of itself to whoever exports volumes to it: ``host``, ``ip``, and more."""


def not_found(volume_id: str) -> str:
    """Return what is said of a volume that there is not, or that is another project's."""
    return f"Volume {volume_id[:64]} could not be found."


def out_of_reach(volume_id: str) -> str:
    """Return what is said of a volume that a server's host does not reach, and what to do about it."""
    return (
        f"Invalid volume: volume {volume_id} is out of reach for the server's host, and stays where it was made or "
        "used. Upload it to an image, and create a volume of that without naming a zone: it follows its first server."
    )


class VolumeClient(Protocol):
    """Safe to call from several threads. Calls are of the cloud itself, but where a project is named."""

    def get_url(self) -> str:
        """Return where clients find the service; empty: at the API's own port."""
        ...

    # ---- in the name of a project ------------------------------------------------------------------------------------
    def get_volume(self, volume_id: str, *, project_id: str = "", is_admin: bool = True) -> Volume:
        """Return a volume. Raises NotFound for one that the project may not see."""
        ...

    def get_snapshot(self, snapshot_id: str, *, project_id: str = "", is_admin: bool = True) -> VolumeSnapshot:
        """Return a snapshot. Raises NotFound for one that the project may not see."""
        ...

    def list_volumes(self, project_id: str, *, offset: int, limit: int) -> list[Volume]:
        """Return a project's volumes, the newest first: at most ``limit``, after the first ``offset``."""
        ...

    def list_snapshots(self, project_id: str, *, offset: int, limit: int) -> list[VolumeSnapshot]:
        """Return a project's snapshots, as ``list_volumes`` does."""
        ...

    # ---- made for servers --------------------------------------------------------------------------------------------
    def ensure_volume(self, wanted: NewVolume) -> Volume:
        """Make a volume, unless the one of that mark is there; it may be ready only later. Without a mark each is a new
        one. Raises NotFound for a source that there is not, Invalid, QuotaExceeded."""
        ...

    def find_volume(self, mark: str, *, project_id: str) -> Volume | None:
        """Return the volume of that mark."""
        ...

    def delete_volume(self, volume_id: str) -> None:
        """Begin to delete a volume. Absent is success. Raises Invalid, Conflict for one that is in use."""
        ...

    def ensure_snapshot(
        self, volume_id: str, *, mark: str, name: str, description: str = "", force: bool = True
    ) -> VolumeSnapshot:
        """Make a snapshot of a volume, of one in use only with ``force``, unless the one of that mark is there; it may
        be ready only later. Raises NotFound, Invalid, QuotaExceeded."""
        ...

    def find_snapshot(self, mark: str, *, volume_id: str) -> VolumeSnapshot | None:
        """Return the snapshot of that mark."""
        ...

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Begin to delete a snapshot. Absent is success."""
        ...

    def reimage_volume(self, volume_id: str, image_id: str) -> None:
        """Begin to write an image in the place of what a volume has, which is reserved at most: it is downloading then.
        Raises NotFound, Invalid."""
        ...

    # ---- attachments -------------------------------------------------------------------------------------------------
    def create_attachment(self, volume_id: str, server_id: str, *, mode: str = READ_WRITE) -> str:
        """Reserve a volume for a server; return the attachment's id. Raises NotFound; Invalid or Conflict for one that
        is not to be had; TryLater for one that is not in the server's reach yet."""
        ...

    def update_attachment(self, attachment_id: str, connector: Connector) -> Connection:
        """Let one host reach the volume, and from now on none that this attachment let before; return how. Raises
        NotFound, Invalid, Conflict."""
        ...

    def complete_attachment(self, attachment_id: str) -> None:
        """Note that the server has the volume: it is in use. Raises NotFound."""
        ...

    def delete_attachment(self, attachment_id: str) -> None:
        """Let no host reach the volume by this attachment any more, and give the volume back. Absent is success."""
        ...

    def list_attachments(self, server_id: str) -> Sequence[tuple[str, str]]:
        """Return the (attachment, volume) ids of all that a server has."""
        ...

    def begin_detaching(self, volume_id: str) -> None:
        """Note that a volume is about to be given back. Raises Invalid for one that is not in use."""
        ...

    def roll_detaching(self, volume_id: str) -> None:
        """Note that it is not, after all: it is in use again. One that is not detaching is left alone."""
        ...
