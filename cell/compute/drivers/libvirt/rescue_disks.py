"""The disk that a guest is rescued from: an overlay over an image, in the guest's directory until it is rescued no
more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cell.compute.drivers.libvirt.disks import Disk, ensure_overlay, image_format_of
from cell.compute.drivers.libvirt.records import GuestRescue
from cellcloud.model.image import Image

PREFIX = "rescue-"


def rescue_disk(directory: Path, rescue: GuestRescue) -> Disk:
    """Return the disk of a rescue."""
    path = directory / f"{PREFIX}{rescue.generation}"
    return Disk(
        path=path,
        format="qcow2",
        base=directory / f"{path.name}-base",
        base_format=image_format_of(rescue.image),
    )


def ensure_rescue_disk(directory: Path, rescue: GuestRescue, own: Image, fetch: Callable[[Image], Path]) -> None:
    """Make the disk, unless it is there. The guest's ``own`` image need not be in the image service any more. Raises
    GuestFailed and whatever ``fetch`` does."""
    disk = rescue_disk(directory, rescue)
    if disk.path.exists():
        return
    kept = directory / "base"
    ensure_overlay(disk, kept if rescue.image.id == own.id and kept.exists() else fetch(rescue.image))


def drop_rescue_disks(directory: Path, keep: GuestRescue | None = None) -> None:
    """Remove the disks of all rescues but one."""
    kept = rescue_disk(directory, keep) if keep else None
    for path in directory.glob(f"{PREFIX}*"):
        if kept is None or path not in (kept.path, kept.base):
            path.unlink(missing_ok=True)
