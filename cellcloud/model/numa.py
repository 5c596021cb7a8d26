"""NUMA: the cells of a host, the cells a guest asks for, and where they were put."""

from __future__ import annotations

from dataclasses import dataclass

from cellcloud.model.pci import PciPool, PciRequest

SMALL_PAGES, LARGE_PAGES, ANY_PAGES = -1, -2, -3
"""Page sizes that leave the choice to the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPages:
    """Pages of one size in a NUMA cell, in numbers of pages."""

    size_kb: int
    total: int
    used: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaCell:
    """A NUMA cell of a host. ``cpuset``: CPUs that guests share; ``pcpuset``: CPUs given to one guest each.

    ``memory`` and ``memory_usage`` in MiB. ``siblings``: the hardware threads of each core. CPU numbers ascend.
    """

    id: int
    cpuset: tuple[int, ...] = ()
    pcpuset: tuple[int, ...] = ()
    memory: int = 0
    cpu_usage: int = 0
    memory_usage: int = 0
    pinned_cpus: tuple[int, ...] = ()
    siblings: tuple[tuple[int, ...], ...] = ()
    socket: int | None = None
    mempages: tuple[MemoryPages, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCell:
    """A NUMA cell of a guest. ``cpuset`` and ``pcpuset``: its CPUs that share host CPUs, and that get their own.

    ``memory`` in MiB; ``pagesize`` in KiB, one of the three above, or None. Once placed, ``id`` is the host cell's,
    ``pagesize`` the one taken, ``cpu_pinning`` has (guest CPU, host CPU), and ``cpuset_reserved`` the host CPUs kept
    for the hypervisor's own threads.
    """

    id: int
    cpuset: tuple[int, ...] = ()
    pcpuset: tuple[int, ...] = ()
    memory: int = 0
    pagesize: int | None = None
    cpu_policy: str | None = None
    cpu_thread_policy: str | None = None
    cpu_pinning: tuple[tuple[int, int], ...] = ()
    cpuset_reserved: tuple[int, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether some of its CPUs get a host CPU of their own; memory is then never overcommitted."""
        return self.cpu_policy in ("dedicated", "mixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNuma:
    """The NUMA topology of a guest, asked for or placed. All cells have the same policies."""

    cells: tuple[GuestCell, ...]
    emulator_threads_policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """What decides whether a guest's cells and devices fit onto a host. Equal topologies give equal answers.

    ``cells`` None: the host reports no NUMA. The ratios are those of vCPUs to shared CPUs and of guests' memory to
    real memory.
    """

    cells: tuple[NumaCell, ...] | None = None
    pools: tuple[PciPool, ...] = ()
    cpu_ratio: float = 1.0
    memory_ratio: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyRequest:
    """What a server asks of a host's topology. ``devices`` in the order in which they are taken.

    ``needs_threads``: it asks for dedicated CPUs on cores with several threads. ``literal``: to be answered as Nova
    does even where it takes one cell for another and lets a guest pass that does not fit; for comparing, never for
    placing.
    """

    guest: GuestNuma | None = None
    devices: tuple[PciRequest, ...] = ()
    needs_threads: bool = False
    literal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What one server took of a host. ``devices``: pools whose ``count`` is the number taken."""

    guest: GuestNuma | None = None
    devices: tuple[PciPool, ...] = ()
