"""A guest's disks: an overlay over its image, and blank ones."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cell.compute.qemu_img import CONVERTED, FORMATS, TARGET, start_convert
from cell.compute.qemu_img import run as _qemu_img
from cellcloud import errors
from cellcloud.model.image import Image
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume_names import EPHEMERAL, blank_disks

GIB = 1 << 30
ROOT_IS_VOLUME = "The guest's root disk is a volume."
_NEXT = "next-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk of a guest. ``base`` and ``base_format``: the image it was made from."""

    path: Path
    format: str
    base: Path | None = None
    base_format: str = ""

    def seen_from(self, inside: Callable[[Path], Path]) -> Disk:
        """Return the same disk by the paths that QEMU knows it by."""
        return replace(self, path=inside(self.path), base=inside(self.base) if self.base else None)


def ensure_disks(directory: Path, spec: ServerSpec, image: Path | None) -> None:
    """Make what is missing of the guest's disks in ``directory``; what is there is adopted.

    The image is linked into the directory, so the cache may drop its own name of it; None: its root disk is a volume.
    Raises GuestFailed when the image does not fit the flavor.
    """
    if image is not None and not (root := root_disk(directory, spec)).path.exists():
        base = _link(image, directory / "base")
        _qemu_img_create(root, _root_size(base, spec))
    for disk, size in zip(list_blanks(directory, spec), _blank_sizes(spec), strict=True):
        if not disk.path.exists():
            _qemu_img_create(disk, size)


def name_disks(directory: Path, spec: ServerSpec) -> dict[str, Disk]:
    """Return the guest's disks by what they are: root, ephemeral, swap."""
    names = [*([] if spec.is_volume_backed else ["root"]), *(name for name, _ in blank_disks(spec))]
    return dict(zip(names, list_disks(directory, spec), strict=True))


def grow_disks(directory: Path, spec: ServerSpec, image: Path | None) -> None:
    """Let disks that were copied into the directory fit the flavor: what is smaller grows, blank ones that are missing
    are made. ``image``: what the root disk was made from, unless that lies in the directory too. Raises GuestFailed
    when there is no root disk."""
    grown = list(zip(list_blanks(directory, spec), _blank_sizes(spec), strict=True))
    if not spec.is_volume_backed:
        if image is not None and not (directory / "base").exists():
            _link(image, directory / "base")
        root = root_disk(directory, spec)
        if not root.path.exists():
            raise errors.GuestFailed("The guest's root disk was not copied.")
        grown.insert(0, (root, _root_size(directory / "base", spec)))
    for disk, size in grown:
        if not disk.path.exists():
            _qemu_img_create(disk, size)
        elif _virtual_size(disk.path, disk.format) < size:
            _qemu_img("resize", "-f", disk.format, ["-q", str(disk.path), str(size)])


def prepare_root(directory: Path, spec: ServerSpec, image: Path, generation: int) -> None:
    """Make a root disk of another image, and the link to that, beside the present ones; what an earlier generation
    left is dropped. Raises GuestFailed when the image does not fit the flavor."""
    base, disk = _next_base(directory, generation), _next_disk(directory, generation)
    if base.exists() and disk.exists():
        return
    drop_prepared(directory)
    try:
        _link(image, base)
        fresh = disk.with_suffix(".new")
        size, form = _root_size(base, spec), image_format_of(spec.image)
        # its header names the link as that is called once both are in their places
        _qemu_img("create", "-f", "qcow2", ["-q", "-u", "-b", "base", "-F", form, str(fresh), str(size)])
    except errors.CellcloudError:
        drop_prepared(directory)
        raise
    fresh.chmod(0o600)
    fresh.replace(disk)


def swap_root(directory: Path, generation: int) -> None:
    """Let the prepared disk be the guest's root; the old one is gone then. To be done again where it was broken off."""
    _next_base(directory, generation).replace(directory / "base")
    _next_disk(directory, generation).replace(directory / "disk")


def drop_prepared(directory: Path) -> None:
    """Remove what was prepared and not used."""
    for path in directory.glob(f"{_NEXT}*"):
        path.unlink(missing_ok=True)


def renew_blanks(directory: Path, spec: ServerSpec, *, keep_ephemeral: bool) -> None:
    """Make the guest's blank disks anew, but for an ephemeral one that is to be kept."""
    blanks = zip(blank_disks(spec), list_blanks(directory, spec), _blank_sizes(spec), strict=True)
    for (name, _), disk, size in blanks:
        if not (keep_ephemeral and name.startswith(EPHEMERAL)) or not disk.path.exists():
            _qemu_img_create(disk, size)


def _next_base(directory: Path, generation: int) -> Path:
    return directory / f"{_NEXT}{generation}-base"


def _next_disk(directory: Path, generation: int) -> Path:
    return directory / f"{_NEXT}{generation}-disk"


def ensure_overlay(disk: Disk, image: Path) -> None:
    """Make a disk over an image, as large as that is."""
    if disk.base is not None:
        base = _link(image, disk.base)
        _qemu_img_create(disk, _virtual_size(base, disk.base_format))


def list_disks(directory: Path, spec: ServerSpec) -> list[Disk]:
    """Return the guest's disks in the order it sees them. Raises GuestFailed for an image format that is not served."""
    root = [] if spec.is_volume_backed else [root_disk(directory, spec)]
    return [*root, *list_blanks(directory, spec)]


def has_disks(directory: Path, spec: ServerSpec) -> bool:
    return all(disk.path.exists() for disk in list_disks(directory, spec))


def root_disk(directory: Path, spec: ServerSpec) -> Disk:
    """Return the root disk of a guest that has one on its host. Raises GuestFailed where it is a volume, or made from
    an image of a format that is not served."""
    if spec.is_volume_backed:
        raise errors.GuestFailed(ROOT_IS_VOLUME)
    return Disk(
        path=directory / "disk", format="qcow2", base=directory / "base", base_format=image_format_of(spec.image)
    )


def list_blanks(directory: Path, spec: ServerSpec) -> list[Disk]:
    """Return the guest's blank disks in the order it sees them."""
    letters = zip("bcdefghijklmnopqrstuvwxyz", blank_disks(spec), strict=False)
    return [Disk(path=directory / f"disk-{letter}", format="qcow2") for letter, _ in letters]


def make_blank(path: Path, like: Disk) -> None:
    """Make an empty qcow2 as large as another disk."""
    size = _virtual_size(like.path, like.format)
    _qemu_img("create", "-f", "qcow2", ["-q", str(path), str(size)])
    path.chmod(0o600)


def start_copy(disk: Disk, target: Path) -> subprocess.Popen[bytes]:
    """Begin to write a disk that nobody writes, with all that it stands on, into a qcow2. Raises HostRefused."""
    return start_convert(disk.path, disk.format, target)


def image_format_of(image: Image) -> str:
    """Return the format in which QEMU opens the image's file, which is converted where the image is of another.
    Raises GuestFailed for one that is not served."""
    if image.disk_format in CONVERTED:
        return TARGET
    if image.disk_format not in FORMATS:
        raise errors.GuestFailed(f"Images of format {image.disk_format} cannot be started here.")
    return image.disk_format


def _blank_sizes(spec: ServerSpec) -> list[int]:
    return [size << 20 for _, size in blank_disks(spec)]


def _root_size(base: Path, spec: ServerSpec) -> int:
    """Bytes of the root disk: the flavor's, or the image's where the flavor names none."""
    needed = _virtual_size(base, image_format_of(spec.image))
    if spec.flavor.root_gb == 0:
        return needed
    size = spec.flavor.root_gb * GIB
    if needed > size:
        raise errors.GuestFailed("The image is larger than the flavor's disk.")
    return size


def _link(image: Path, target: Path) -> Path:
    target.unlink(missing_ok=True)
    try:
        os.link(image, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        fresh = target.with_suffix(".new")
        shutil.copyfile(image, fresh)
        fresh.replace(target)
    target.chmod(0o444)
    return target


def _virtual_size(path: Path, image_format: str) -> int:
    shown = json.loads(_qemu_img("info", "-f", image_format, ["-U", "--output=json", str(path)]))
    return int(shown["virtual-size"])


def _qemu_img_create(disk: Disk, size: int) -> None:
    fresh = disk.path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    backing = ["-b", disk.base.name, "-F", disk.base_format] if disk.base else []
    _qemu_img("create", "-f", disk.format, ["-q", *backing, str(fresh), str(size)])
    fresh.chmod(0o600)
    fresh.replace(disk.path)
