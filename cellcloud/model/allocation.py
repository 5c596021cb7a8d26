"""Allocations: what a claim takes of a host."""

from __future__ import annotations

from dataclasses import dataclass, field

from cellcloud.model.numa import Placed

MIB_IN_GIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a claim takes of a host and brings to it. ``resources``: resource class -> amount, none of them 0.

    ``memory_mb``, ``disk_mb`` and ``vcpus`` are what it takes of the figures that weighers read; None: what follows
    from ``resources``. ``building``: it counts as an operation under way.
    """

    resources: dict[str, int] = field(default_factory=dict)
    image_props: dict[str, str] = field(default_factory=dict)
    placed: Placed | None = None
    memory_mb: int | None = None
    disk_mb: int | None = None
    vcpus: int | None = None
    building: bool = True

    @property
    def figures(self) -> tuple[int, int, int]:
        """Memory and disk in MiB, and virtual CPUs, as weighers count them."""
        follows = figures_of(self.resources)
        given = (self.memory_mb, self.disk_mb, self.vcpus)
        memory_mb, disk_mb, vcpus = (due if one is None else one for one, due in zip(given, follows, strict=True))
        return memory_mb, disk_mb, vcpus


def figures_of(resources: dict[str, int]) -> tuple[int, int, int]:
    """Memory and disk in MiB, and virtual CPUs, that amounts of resource classes stand for."""
    cpus = resources.get("VCPU", 0) + resources.get("PCPU", 0)
    return resources.get("MEMORY_MB", 0), resources.get("DISK_GB", 0) * MIB_IN_GIB, cpus
