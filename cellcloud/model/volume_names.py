"""A guest's disks: which of them lie on its host, and what it calls them. Its volumes keep their names, its local disks
have the first that are left."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cellcloud.model.server import ServerSpec
from cellcloud.model.virtual_hardware import LETTERS, disk_names
from cellcloud.model.volume import DeviceSource, Volumes

EPHEMERAL, SWAP = "ephemeral", "swap"


def bus_of(spec: ServerSpec) -> str:
    """Return the bus of a server's disks that say nothing else."""
    bus = spec.image.properties.get("hw_disk_bus") or "virtio"
    return bus if bus in LETTERS else "virtio"


def names_left(bus: str, volumes: Volumes) -> Iterator[str]:
    """Yield the names on a bus that no volume has."""
    taken = {one.name for one in volumes}
    return (name for name in disk_names(bus) if name not in taken)


def names_taken(spec: ServerSpec, volumes: Volumes) -> Collection[str]:
    """Return the names of all disks that a server has: volumes, local disks, a config drive."""
    left = names_left(bus_of(spec), volumes)
    local = (not spec.is_volume_backed) + len(blank_disks(spec)) + bool(spec.config_drive)
    return {one.name for one in volumes} | {name for name, _ in zip(left, range(local), strict=False)}


def blank_disks(spec: ServerSpec) -> list[tuple[str, int]]:
    """Return the names and sizes in MiB of a server's blank local disks, in the order in which it sees them: those it
    was asked for with, and of the kinds that it was not, the flavor's."""
    asked = [one for one in spec.block_devices if one.source == DeviceSource.BLANK and not one.is_volume]
    ephemeral = [one.size_mb for one in asked if not one.is_swap] or [spec.flavor.ephemeral_gb << 10]
    swap = [one.size_mb for one in asked if one.is_swap] or [spec.flavor.swap_mb]
    named = [(f"{EPHEMERAL}{number or ''}", size) for number, size in enumerate(ephemeral)]
    return [(name, size) for name, size in (*named, *((SWAP, size) for size in swap)) if size]
