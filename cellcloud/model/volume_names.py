"""What a guest calls its disks: its volumes keep their names, its local disks have the first that are left."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cellcloud.model.server import ServerSpec
from cellcloud.model.virtual_hardware import LETTERS, disk_names
from cellcloud.model.volume import Volumes


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
    local = count_local(spec) + bool(spec.config_drive)
    return {one.name for one in volumes} | {name for name, _ in zip(left, range(local), strict=False)}


def count_local(spec: ServerSpec) -> int:
    """Return how many disks of a server lie on its host."""
    flavor = spec.flavor
    return 1 + bool(flavor.ephemeral_gb) + bool(flavor.swap_mb)
