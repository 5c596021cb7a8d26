"""A qcow2 without data: what a guest that is made up has on its disk."""

from __future__ import annotations

import struct

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_L2_ENTRIES = _CLUSTER // 8


def blank_qcow2(size: int) -> bytes:
    """Return a whole image of ``size`` bytes, all of them zero. Source: QEMU's qcow2 specification, version 2."""
    entries = -(-size // (_CLUSTER * _L2_ENTRIES))
    l1_clusters = -(-entries * 8 // _CLUSTER)
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, _CLUSTER_BITS, size, 0, entries, 3 * _CLUSTER, _CLUSTER, 1, 0, 0
    )
    refcount_table = struct.pack(">Q", 2 * _CLUSTER)
    refcounts = struct.pack(">H", 1) * (3 + l1_clusters)
    parts = (header, refcount_table, refcounts, b"\0" * (l1_clusters * _CLUSTER))
    return b"".join(part.ljust(_CLUSTER, b"\0") for part in parts)
