"""What of the formats of other hypervisors passes the image gate: VMDK and VHD images of one file that stand alone, to
be converted before a guest uses them, and ISO 9660."""

from __future__ import annotations

import struct

from oslo_utils.imageutils import format_inspector

from cellcloud import errors

VMDK, VHD, ISO = "vmdk", "vhd", "iso"
_VMDK_HEAD = struct.Struct("<4sIIQQQQ")  # magic, version, flags, sectors, grain, descriptor's sector and sectors
_VMDK_MAGIC = b"KDMV"
_SECTOR = 512
_DESCRIPTOR_BYTES = 20 * _SECTOR
_EXTENTS = ("rw ", "rdonly ", "noaccess ")
_VHD_FOOTER = struct.Struct(
    ">8sIIQIIIIQQII"
)  # cookie, ..., dynamic header's offset, ..., original size, current size, geometry, type of disk
_VHD_MAGIC = b"conectix"
_VHD_DYNAMIC = b"cxsparse"
_FIXED, _DYNAMIC = 2, 3


def check_vmdk(head: bytes) -> int:
    """Return the virtual size. QEMU opens whatever a descriptor names: only one that names nothing but its own file
    passes. Raises Invalid."""
    inspector = format_inspector.VMDKInspector()
    try:
        inspector.eat_chunk(head)
        inspector.check_descriptor()
    except (format_inspector.SafetyViolation, format_inspector.ImageFormatError, ValueError) as error:
        raise errors.Invalid("The image is not safe: its VMDK descriptor is of no kind that is accepted.") from error
    magic, _version, _flags, sectors, *_ = _VMDK_HEAD.unpack_from(head)
    text = (inspector.desc_text or "").split("\n")
    lines = [line.strip() for line in text]
    extents = [line for line in lines if line.startswith(_EXTENTS)]
    if magic != _VMDK_MAGIC or not sectors or len(extents) != 1 or " sparse " not in extents[0]:
        raise errors.Invalid("The image is not safe: it is not one VMDK file by itself.")
    # QEMU looks for it as far as a descriptor may reach, wherever this one ends by its header.
    if b"parentfilenamehint" in head[_SECTOR : _SECTOR + _DESCRIPTOR_BYTES].lower():
        raise errors.Invalid("The image names a backing file; it must stand alone.")
    return int(sectors) * 512


def check_vhd(head: bytes, footer: bytes) -> int:
    """Return the virtual size. Raises Invalid for a disk that is the difference to another."""
    dynamic = head.startswith(_VHD_MAGIC)
    first = head if dynamic else footer
    if len(first) < _VHD_FOOTER.size or not first.startswith(_VHD_MAGIC):
        raise errors.Invalid("The image is not a sound VHD: its footer is wrong.")
    values = _VHD_FOOTER.unpack_from(first)
    size, kind, header = values[9], values[11], values[3]
    if dynamic and not head.startswith(_VHD_DYNAMIC, header):
        raise errors.Invalid("The image is not a sound VHD: its header is wrong.")
    if kind != (_DYNAMIC if dynamic else _FIXED):
        raise errors.Invalid("The image is a VHD of a kind that is not accepted: it must stand alone.")
    return int(size)
