"""The one gate every image passes: what the bytes really are, told before any other tool opens them.

An image comes through only under its own format's name, and only when it stands alone: no backing file, no external
data file, no feature this reader does not know. What a format looks like, and what of a qcow2 is not
safe, oslo.utils says, which Glance and Nova ask as well; what it does not look at stands here, on top. Reads a
megabyte, runs no program.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from oslo_utils.imageutils import format_inspector

from cellcloud import errors
from cellcloud.image_gate_foreign import ISO, VHD, VMDK, check_vhd, check_vmdk

logging.getLogger(format_inspector.__name__).setLevel(logging.CRITICAL)  # it complains of what an image is not

ACCEPTED = ("raw", "qcow2", VMDK, VHD, ISO)
BOOTABLE = ("raw", "qcow2", VMDK, VHD)
"""What a guest's disk can be made of; hosts make a qcow2 of the latter two."""
MOST_VIRTUAL = 1 << 50  # bytes of a guest's disk: thin, it takes none, and no host's file system takes more
HEAD_BYTES = 1 << 20  # as far as the descriptor of a VMDK may reach
HEADER_BYTES = 64 << 10  # of a qcow2: longer ones are refused
FOOTER_BYTES = 512

# (format, offset, magic): what else readers of disk images look for. Each is looked for, whatever was found before.
_SIGNATURES: tuple[tuple[str, int, bytes], ...] = (
    ("qcow2", 0, b"QFI\xfb"),  # of headers too short for the inspector
    ("vmdk", 0, b"COWD"),
    ("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("bochs", 0, b"Bochs Virtual HD Image"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format"),
    ("iso", 0x8001, b"CD001"),
    ("iso", 0x8801, b"CD001"),
    ("iso", 0x9001, b"CD001"),
    ("gpt", 512, b"EFI PART"),
    ("gpt", 4096, b"EFI PART"),
    ("mbr", 510, b"\x55\xaa"),
)
_FOOTERS: tuple[tuple[str, bytes], ...] = (("vhd", b"conectix"), ("dmg", b"koly"))
# What a plain disk may hold: partition tables, and an ISO that is also a disk (has a boot sector).
_DISK = frozenset({"gpt", "mbr"})
_HYBRID = _DISK | {"iso"}

# qcow2 incompatible features: dirty, compression type, extended L2 entries. Not: corrupt (2), external data file (4).
_FEATURES = 0x01 | 0x08 | 0x10
_COMPRESSION = 0x08
_EXTENDED_L2 = 0x10
_END, _BACKING_FORMAT, _DATA_FILE, _ENCRYPTION = 0, 0xE2792ACA, 0x44415441, 0x0537BE77
_MAX_L1_BYTES = 32 << 20
_MAX_SNAPSHOTS = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What an accepted image is. ``virtual_size``: bytes of the disk that a guest sees."""

    format: str
    virtual_size: int


def inspect(source: Path | BinaryIO, declared_format: str, max_bytes: int) -> ImageFacts:
    """Return the facts of an image that may be used as ``declared_format``: of at most ``max_bytes`` in its file, for a
    disk of any size, which a flavor bounds. Raises Invalid with the reason it may not."""
    if declared_format not in ACCEPTED:
        raise errors.Invalid(f"Disk format is not accepted: only {', '.join(ACCEPTED)} are.")
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _inspect(file, declared_format, max_bytes)
    return _inspect(source, declared_format, max_bytes)


def inspect_disk(path: Path, max_bytes: int, *, base: str = "", base_format: str = "") -> ImageFacts:
    """Return the facts of a guest's own disk that somebody else has written: a qcow2 of at most ``max_bytes`` for the
    guest, over exactly the file called ``base``, beside it and of that format, or over none. Raises Invalid."""
    with path.open("rb") as file:
        size = _size(file)
        head = file.read(HEAD_BYTES)
    found = detect(head)
    if found != {"qcow2"}:
        raise errors.Invalid(f"The disk is not a qcow2 but {_named(found)}.")
    _check_safe(head, over_another=bool(base))
    backing = _Backing(name=base.encode(), format=base_format.encode()) if base else None
    return ImageFacts(format="qcow2", virtual_size=_check_qcow2(head[:HEADER_BYTES], size, max_bytes, backing))


def detect(head: bytes, footer: bytes = b"") -> frozenset[str]:
    """Every format that the first mebibyte or the last 512 bytes could be taken for. Empty: plain bytes."""
    found = _matching(head)
    found |= {name for name, offset, magic in _SIGNATURES if head.startswith(magic, offset)}
    found |= {name for name, magic in _FOOTERS if footer.startswith(magic)}
    if _is_vmdk_text(head):
        found.add("vmdk")
    return frozenset(found)


def _inspect(file: BinaryIO, declared: str, max_bytes: int) -> ImageFacts:
    size = _size(file)
    if size == 0:
        raise errors.Invalid("The image is empty.")
    if size > max_bytes:
        raise errors.Invalid(f"The image is larger than {max_bytes} bytes.")
    file.seek(0)
    head = file.read(min(HEAD_BYTES, size))
    file.seek(max(0, size - FOOTER_BYTES))
    footer = file.read(FOOTER_BYTES)
    found = detect(head, footer)
    if declared in (VMDK, VHD, ISO):
        return ImageFacts(format=declared, virtual_size=_check_foreign(declared, found, head, footer, size))
    if declared == "raw":
        if found and not (found <= _DISK or ("iso" in found and "mbr" in found and found <= _HYBRID)):
            raise errors.Invalid(f"The image was declared raw but is {_named(found)}.")
        return ImageFacts(format="raw", virtual_size=-(-size // 512) * 512)
    if found != {"qcow2"}:
        raise errors.Invalid(f"The image was declared qcow2 but is {_named(found)}.")
    virtual_size = _check_qcow2(head[:HEADER_BYTES], size, MOST_VIRTUAL)
    _check_safe(head)
    return ImageFacts(format="qcow2", virtual_size=virtual_size)


def _check_foreign(declared: str, found: frozenset[str], head: bytes, footer: bytes, size: int) -> int:
    """Return the virtual size of an image of another hypervisor, or of a CD. Raises Invalid."""
    also = _DISK if declared in (VHD, ISO) else frozenset[str]()  # a fixed VHD begins as a plain disk does
    if declared not in found or found - also != {declared}:
        raise errors.Invalid(f"The image was declared {declared} but is {_named(found)}.")
    virtual = size
    if declared == VMDK:
        virtual = check_vmdk(head)
    elif declared == VHD:
        virtual = check_vhd(head, footer)
    if not 0 < virtual <= MOST_VIRTUAL:
        raise errors.Invalid(f"The image's virtual size is not between 1 and {MOST_VIRTUAL} bytes.")
    return virtual


def _matching(head: bytes) -> set[str]:
    """Return the formats that oslo.utils takes these bytes for."""
    found = set()
    for name, kind in format_inspector.ALL_FORMATS.items():
        inspector = kind()
        with suppress(Exception):  # a format that it cannot be
            inspector.eat_chunk(head)
            inspector.finish()
        # The VMDK inspector has no answer at all (AttributeError) for a text with other bytes after it: it is none.
        if name != "raw" and getattr(inspector, "format_match", False):
            found.add(name)
    return found


def _check_safe(head: bytes, *, over_another: bool = False) -> None:
    """Refuse what oslo.utils finds not safe in a qcow2, but for features: more of them are known here. That it is
    ``over_another`` file may be allowed. Raises Invalid."""
    known = {"unknown_features", "backing_file"} if over_another else {"unknown_features"}
    inspector = format_inspector.QcowInspector()
    inspector.eat_chunk(head)
    inspector.finish()
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        unsafe = sorted(set(error.failures) - known)
        if unsafe:
            raise errors.Invalid(f"The image is not safe: {', '.join(unsafe)}.") from error
    except format_inspector.ImageFormatError as error:
        raise _broken("header") from error


def _size(file: BinaryIO) -> int:
    try:
        status = os.fstat(file.fileno())
    except OSError:  # a file in memory
        return file.seek(0, os.SEEK_END)
    if not stat.S_ISREG(status.st_mode):
        raise errors.Invalid("The image is not a plain file.")
    return status.st_size


def _named(found: frozenset[str]) -> str:
    known = sorted(found - _DISK) or sorted(found)
    return " and ".join(known) if known else "raw"


def _is_vmdk_text(head: bytes) -> bool:
    """Tell whether a VMDK descriptor is text: comments and blank lines, then ``version=``."""
    if head[:21].lower() == b"# disk descriptorfile":
        return True
    for line in head[:4096].split(b"\n", 64)[:64]:
        text = line.strip(b" \t\r")
        if text and not text.startswith(b"#"):
            return text.startswith(b"version=")
    return False


@dataclass(frozen=True, slots=True)
class _Qcow2:
    """The header's fields, in the order of the file (big endian)."""

    version: int
    backing_offset: int
    backing_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backing:
    """What a qcow2 may be over, in its header's own bytes."""

    name: bytes
    format: bytes


def _check_qcow2(head: bytes, file_size: int, most_virtual: int, backing: _Backing | None = None) -> int:
    """Return the virtual size of a qcow2 that is sound and over just that file, or stands alone. Source of limits:
    QEMU's qcow2 specification."""
    if len(head) < 72:
        raise _broken("header")
    header = _Qcow2(*struct.unpack_from(">IQIIQIIQQIIQ", head, 4))
    if header.version not in (2, 3):
        raise _broken("version")
    if backing is None and (header.backing_offset or header.backing_size):
        raise errors.Invalid("The image names a backing file; it must stand alone.")
    named = head[header.backing_offset : header.backing_offset + header.backing_size]
    if backing is not None and (named != backing.name or header.version != 3):
        raise errors.Invalid("The disk names another backing file than it was made over.")
    if header.crypt_method:
        raise errors.Invalid("The image is encrypted.")
    if not 9 <= header.cluster_bits <= 21:
        raise _broken("cluster size")
    features, header_length = 0, 72
    if header.version == 3:
        features, header_length = _check_version_3(head, header)
    end = 1 << header.cluster_bits if backing is None else header.backing_offset  # as far as QEMU reads them
    _check_extensions(head, header_length, end, backing)
    _check_tables(header, features, file_size)
    if not 0 < header.size <= most_virtual:
        raise errors.Invalid(f"The image's virtual size is not between 1 and {most_virtual} bytes.")
    return header.size


def _check_version_3(head: bytes, header: _Qcow2) -> tuple[int, int]:
    if len(head) < 104:
        raise _broken("header")
    features, _compatible, _autoclear, refcount_order, length = struct.unpack_from(">QQQII", head, 72)
    if features & 0x04:
        raise errors.Invalid("The image names an external data file; it must stand alone.")
    if features & ~_FEATURES:
        raise errors.Invalid("The image needs qcow2 features that are not accepted, or is marked corrupt.")
    if length < 104 or length % 8 or length > min(len(head), 1 << header.cluster_bits) or refcount_order > 6:
        raise _broken("header")
    compression = head[104] if length > 104 else 0
    if compression > 1 or bool(compression) != bool(features & _COMPRESSION):
        raise _broken("compression type")
    if features & _EXTENDED_L2 and header.cluster_bits < 14:
        raise _broken("cluster size")
    return features, length


def _check_extensions(head: bytes, at: int, end: int, backing: _Backing | None) -> None:
    """Header extensions end with a zero type or with the first cluster; readers skip the unknown ones."""
    base_format = b""
    while at + 8 <= min(end, len(head)):
        kind, length = struct.unpack_from(">II", head, at)
        if kind == _END:
            break
        if kind == _DATA_FILE:
            raise errors.Invalid("The image names an external data file; it must stand alone.")
        if kind == _BACKING_FORMAT:
            base_format = head[at + 8 : at + 8 + length]
            if backing is None:
                raise errors.Invalid("The image names a backing file's format; it must stand alone.")
            if base_format != backing.format:
                raise errors.Invalid("The disk names another format of its backing file than it was made over.")
        if kind == _ENCRYPTION:
            raise errors.Invalid("The image is encrypted.")
        at += 8 + -(-length // 8) * 8
    else:
        if at > end or len(head) < end:
            raise _broken("header extension")
    if backing is not None and not base_format:
        raise errors.Invalid("The disk does not name the format of its backing file.")


def _check_tables(header: _Qcow2, features: int, file_size: int) -> None:
    cluster = 1 << header.cluster_bits
    entries = cluster // (16 if features & _EXTENDED_L2 else 8)
    needed = -(-header.size // (cluster * entries))
    if header.l1_size < needed or header.l1_size * 8 > _MAX_L1_BYTES:
        raise _broken("L1 table")
    for name, offset, length in (
        ("L1 table", header.l1_offset, header.l1_size * 8),
        ("refcount table", header.refcount_offset, header.refcount_clusters * cluster),
        ("snapshot table", header.snapshots_offset, header.snapshots * 40),
    ):
        if length and (offset < cluster or offset % cluster or offset + length > file_size):
            raise _broken(name)
    if not header.refcount_clusters or header.snapshots > _MAX_SNAPSHOTS:
        raise _broken("refcount or snapshot table")


def _broken(what: str) -> errors.Invalid:
    return errors.Invalid(f"The image is not a sound qcow2: its {what} is wrong.")
