"""What placed servers use of a host's NUMA cells and PCI devices: added and taken away.

Source of the rules: Nova's numa_usage_from_instance_numa and PciDeviceStats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cellcloud import errors
from cellcloud.model.numa import GuestCell, GuestNuma, MemoryPages, NumaCell, Placed, Topology
from cellcloud.model.pci import PciPool

KIB = 1024


def consume(topology: Topology, placed: Placed) -> Topology:
    """Return the topology with a placed server on it. Raises ClaimLost when its CPUs or devices are no longer free."""
    cells = topology.cells
    if cells and placed.guest is not None:
        cells = consume_cells(cells, placed.guest)
    return replace(topology, cells=cells, pools=consume_devices(topology.pools, placed.devices))


def release(topology: Topology, placed: Placed) -> Topology:
    """Return the topology without a placed server: the inverse of ``consume``."""
    cells = topology.cells
    if cells and placed.guest is not None:
        cells = release_cells(cells, placed.guest)
    return replace(topology, cells=cells, pools=release_devices(topology.pools, placed.devices))


def consume_cells(cells: tuple[NumaCell, ...], guest: GuestNuma) -> tuple[NumaCell, ...]:
    """Return the host's cells with a placed guest's use added. Raises ClaimLost when a CPU or a page is no longer
    free."""
    placed = {cell.id: cell for cell in guest.cells}
    return tuple(_use(cell, placed[cell.id]) if cell.id in placed else cell for cell in cells)


def release_cells(cells: tuple[NumaCell, ...], guest: GuestNuma) -> tuple[NumaCell, ...]:
    """Return the host's cells with a placed guest's use taken away again; what is not in use any more is left alone."""
    placed = {cell.id: cell for cell in guest.cells}
    return tuple(_free(cell, placed[cell.id]) if cell.id in placed else cell for cell in cells)


def consume_devices(pools: tuple[PciPool, ...], devices: Sequence[PciPool]) -> tuple[PciPool, ...]:
    """Return the pools without ``devices``. Raises ClaimLost when they are no longer free."""
    left = list(pools)
    for taken in devices:
        missing = taken.count
        for at, pool in enumerate(left):
            if pool.same_kind(taken) and pool.count > 0 and missing:
                number = min(missing, pool.count)
                left[at] = replace(pool, count=pool.count - number)
                missing -= number
        if missing:
            raise errors.ClaimLost("The PCI devices are no longer free.", detail=f"{missing} of {taken}")
    return tuple(left)


def release_devices(pools: tuple[PciPool, ...], devices: Sequence[PciPool]) -> tuple[PciPool, ...]:
    """Return the pools with ``devices`` back in those of their kind; in a new one where the host has none any more."""
    left = list(pools)
    for taken in devices:
        at = next((at for at, pool in enumerate(left) if pool.same_kind(taken)), None)
        if at is None:
            left.append(taken)
        else:
            left[at] = replace(left[at], count=left[at].count + taken.count)
    return tuple(left)


def free_cpus(host: NumaCell) -> set[int]:
    """Return the CPUs of a cell that may be pinned to and are not."""
    return set(host.pcpuset).difference(host.pinned_cpus)


def _pinned_by(host: NumaCell, guest: GuestCell) -> set[int]:
    """Return the host CPUs a placed guest's cell has to itself: with the isolate policy, its cores' other threads
    too."""
    if not guest.pinned:
        return set()
    cpus = {cpu for _, cpu in guest.cpu_pinning}.union(guest.cpuset_reserved)
    if guest.cpu_thread_policy == "isolate":
        cpus.update(*(core for core in host.siblings if not cpus.isdisjoint(core)))
    return cpus


def _use(host: NumaCell, guest: GuestCell) -> NumaCell:
    cpus, free = _pinned_by(host, guest), free_cpus(host)
    if not cpus <= free:
        raise errors.ClaimLost("The CPUs are no longer free.", detail=f"NUMA cell {host.id}: {sorted(cpus - free)}")
    after = replace(
        host,
        cpu_usage=host.cpu_usage + len(guest.cpuset),
        memory_usage=host.memory_usage + guest.memory,
        pinned_cpus=tuple(sorted(cpus.union(host.pinned_cpus))),
        mempages=_count_pages(host, guest, 1),
    )
    for pages in after.mempages:
        if pages.size_kb == guest.pagesize and pages.used > pages.total - pages.reserved:
            raise errors.ClaimLost("The memory pages are no longer free.", detail=f"NUMA cell {host.id}: {pages}")
    return after


def _free(host: NumaCell, guest: GuestCell) -> NumaCell:
    return replace(
        host,
        cpu_usage=max(0, host.cpu_usage - len(guest.cpuset)),
        memory_usage=max(0, host.memory_usage - guest.memory),
        pinned_cpus=tuple(sorted(set(host.pinned_cpus) - _pinned_by(host, guest))),
        mempages=_count_pages(host, guest, -1),
    )


def _count_pages(host: NumaCell, guest: GuestCell, sign: int) -> tuple[MemoryPages, ...]:
    """Pages with a guest's memory counted as used, whole pages only: those it has, or the smallest."""
    size = guest.pagesize or min((pages.size_kb for pages in host.mempages), default=0)
    return tuple(
        replace(pages, used=max(0, pages.used + sign * (guest.memory * KIB // size)))
        if pages.size_kb == size
        else pages
        for pages in host.mempages
    )
