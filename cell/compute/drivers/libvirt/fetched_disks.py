"""Disks of a guest that its old host has sent: how large they may be, and the gate that each passes before anything
opens it.

The old host may be in others' hands. What it sends lies apart, where no verb looks for a guest's disks, until it has
been found to be what this host would have made itself: a qcow2 over the image that the guest's record names, or over
nothing, for the guest no larger than the record says.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cell.compute.driver import ImageStore
from cell.compute.drivers.libvirt.disks import GIB, image_format_of, name_disks
from cellcloud import errors, image_gate
from cellcloud.model.image import Image
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume_names import EPHEMERAL, blank_disks

INCOMING = "incoming"  # in the guest's directory
ROOT, BASE, CONSOLE = "root", "base", "console"
MOST_CONSOLE = 16 << 20  # bytes of a console's log that goes along
MOST_OVERHEAD = 64 << 20  # bytes of a qcow2 beside twice its disk's: it grows by fragments


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFile:
    """A file that may come. ``path``: its place among the guest's disks. ``most``: bytes that it may have;
    ``most_virtual``: that it may have for the guest. ``needed``: it must come."""

    path: Path
    most: int
    most_virtual: int = 0
    needed: bool = True

    @property
    def arrival(self) -> Path:
        """Where it lies until it is found good."""
        return self.path.parent / INCOMING / self.path.name


def expect(
    directory: Path, spec: ServerSpec, image: Path | None, most_image: int, console_log: str
) -> dict[str, ExpectedFile]:
    """Return the files that are to come of a guest; none once it has them. ``image``: what its root disk was made from,
    where that is here; at most ``most_image`` bytes long."""
    disks = name_disks(directory, spec)
    sizes = {name: size << 20 for name, size in blank_disks(spec) if name.startswith(EPHEMERAL)}
    blank = {name: _expect_qcow2(disks[name].path, size, needed=False) for name, size in sizes.items()}
    if ROOT not in disks:
        return {name: file for name, file in blank.items() if not file.path.exists()}
    if disks[ROOT].path.exists():
        return {}
    root = spec.flavor.root_gb * GIB or spec.image.virtual_size or most_image
    if image is not None and not spec.flavor.root_gb:
        root = image_gate.inspect(image, image_format_of(spec.image), most_image).virtual_size
    wanted = {CONSOLE: ExpectedFile(path=directory / console_log, most=MOST_CONSOLE, needed=False)}
    wanted |= blank
    if image is None:
        known = spec.image.size if _has_own_bytes(spec.image) else 0
        most = min(known or most_image, most_image)
        wanted[BASE] = ExpectedFile(path=directory / BASE, most=most, most_virtual=root)
    wanted[ROOT] = _expect_qcow2(disks[ROOT].path, root)  # the last to have its place: then all have
    return {name: file for name, file in wanted.items() if not file.path.exists()}


def _expect_qcow2(path: Path, size: int, *, needed: bool = True) -> ExpectedFile:
    return ExpectedFile(path=path, most=2 * size + MOST_OVERHEAD, most_virtual=size, needed=needed)


def admit(spec: ServerSpec, expected: Mapping[str, ExpectedFile]) -> None:
    """Give what has come its place among the guest's disks, if all of it is good, or remove it. Raises HostRefused."""
    arrived = {name: file for name, file in expected.items() if file.arrival.exists()}
    for name, file in arrived.items():
        try:
            _check(name, file, spec, arrived)
        except errors.Invalid as error:
            shutil.rmtree(file.arrival.parent)
            detail = f"{name}: {error.message}"
            raise errors.HostRefused("A disk that the guest's old host sent is not its own.", detail=detail) from error
    for name, file in arrived.items():
        file.arrival.chmod(0o444 if name == BASE else 0o600)
        file.arrival.replace(file.path)
    for directory in {file.arrival.parent for file in expected.values()}:
        shutil.rmtree(directory, ignore_errors=True)


def _check(name: str, file: ExpectedFile, spec: ServerSpec, arrived: Mapping[str, ExpectedFile]) -> None:
    """Check that a file is one that the spec's disks have, over what has arrived. Raises Invalid."""
    image_format = image_format_of(spec.image)
    if name.startswith(EPHEMERAL):
        image_gate.inspect_disk(file.arrival, file.most_virtual)
    elif name == BASE:
        facts = image_gate.inspect(file.arrival, image_format, file.most)
        if facts.virtual_size > file.most_virtual:
            raise errors.Invalid(f"The image's virtual size is more than {file.most_virtual} bytes.")
        _check_bytes(file.arrival, spec.image)
    elif name == ROOT:
        most = file.most_virtual
        if BASE in arrived and not spec.flavor.root_gb:
            most = image_gate.inspect(arrived[BASE].arrival, image_format, most).virtual_size
        image_gate.inspect_disk(file.arrival, most, base=BASE, base_format=image_format)


def _has_own_bytes(image: Image) -> bool:
    """Return whether hosts keep an image as it is, so that its record tells of their file."""
    return image.disk_format == image_format_of(image)


def _check_bytes(path: Path, image: Image) -> None:
    """Check that the bytes are those of which the image's record tells. Raises Invalid."""
    if not image.os_hash_value or not _has_own_bytes(image):
        return
    if image.os_hash_algo not in (None, "sha512"):
        raise errors.Invalid("The image's checksum is of a kind this host does not verify.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").hexdigest()
    if digest != image.os_hash_value.lower():
        raise errors.Invalid("Its bytes do not have the image's checksum.")


def find_image(images: ImageStore, spec: ServerSpec) -> Path | None:
    """Return the image, where it can still be had."""
    try:
        return images.ensure(spec.image)
    except errors.CellcloudError:
        return None
