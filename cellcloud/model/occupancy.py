"""What placed servers use of a host's NUMA cells and PCI devices: added, taken away, and whether a report can be true.

Source of the rules: Nova's numa_usage_from_instance_numa and PciDeviceStats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cellcloud import errors
from cellcloud.model.numa import GuestCell, GuestNuma, MemoryPages, NumaCell, Placed, Topology
from cellcloud.model.pci import PciPool

KIB = 1024
MOST_CELLS = 64
MOST_CPUS = 1 << 16
MOST = 1 << 50
MOST_RATIO = 1e6


def consume(topology: Topology, placed: Placed) -> Topology:
    """The topology with a placed server on it. Raises ClaimLost when its CPUs or devices are no longer free."""
    cells = topology.cells
    if cells and placed.guest is not None:
        cells = consume_cells(cells, placed.guest)
    return replace(topology, cells=cells, pools=consume_devices(topology.pools, placed.devices))


def release(topology: Topology, placed: Placed) -> Topology:
    """The topology without a placed server: the inverse of ``consume``."""
    cells = topology.cells
    if cells and placed.guest is not None:
        cells = release_cells(cells, placed.guest)
    return replace(topology, cells=cells, pools=release_devices(topology.pools, placed.devices))


def find_defect(topology: Topology) -> str | None:
    """Why what a host reports cannot be true, for its quarantine; None when nothing is wrong with it."""
    if not all(0 <= ratio <= MOST_RATIO for ratio in (topology.cpu_ratio, topology.memory_ratio)):
        return "reports an allocation ratio that is no ratio"
    return _find_defect_of_cells(topology.cells or ()) or _find_defect_of_pools(topology.pools)


def consume_cells(cells: tuple[NumaCell, ...], guest: GuestNuma) -> tuple[NumaCell, ...]:
    """The host's cells with a placed guest's use added. Raises ClaimLost when a CPU or a page is no longer free."""
    placed = {cell.id: cell for cell in guest.cells}
    return tuple(_use(cell, placed[cell.id]) if cell.id in placed else cell for cell in cells)


def release_cells(cells: tuple[NumaCell, ...], guest: GuestNuma) -> tuple[NumaCell, ...]:
    """The host's cells with a placed guest's use taken away again; what is not in use any more is left alone."""
    placed = {cell.id: cell for cell in guest.cells}
    return tuple(_free(cell, placed[cell.id]) if cell.id in placed else cell for cell in cells)


def consume_devices(pools: tuple[PciPool, ...], devices: Sequence[PciPool]) -> tuple[PciPool, ...]:
    """The pools without ``devices``. Raises ClaimLost when they are no longer free."""
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
    """The pools with ``devices`` back in those of their kind; in a new one where the host has none any more."""
    left = list(pools)
    for taken in devices:
        at = next((at for at, pool in enumerate(left) if pool.same_kind(taken)), None)
        if at is None:
            left.append(taken)
        else:
            left[at] = replace(left[at], count=left[at].count + taken.count)
    return tuple(left)


def free_cpus(host: NumaCell) -> set[int]:
    """The CPUs of a cell that may be pinned to and are not."""
    return set(host.pcpuset).difference(host.pinned_cpus)


def _find_defect_of_cells(cells: Sequence[NumaCell]) -> str | None:
    if len(cells) > MOST_CELLS:
        return f"reports {len(cells)} NUMA cells, more than {MOST_CELLS}"
    if len({cell.id for cell in cells}) < len(cells):
        return "reports two NUMA cells with one id"
    seen: set[int] = set()
    for cell in cells:
        defect = _find_cell_defect(cell)
        if defect:
            return f"NUMA cell {cell.id} {defect}"
        cpus = {*cell.cpuset, *cell.pcpuset}
        if cpus & seen:
            return f"NUMA cell {cell.id} has CPUs {sorted(cpus & seen)} of another"
        seen |= cpus
    return None


def _find_cell_defect(cell: NumaCell) -> str | None:
    amounts = [cell.id, cell.memory, cell.cpu_usage, cell.memory_usage]
    amounts += [number for pages in cell.mempages for number in (pages.total, pages.used, pages.reserved)]
    sizes = [pages.size_kb for pages in cell.mempages]
    threads = [cpu for core in cell.siblings for cpu in core]
    checks = (
        (all(0 <= amount <= MOST for amount in amounts), "reports a negative or absurd amount"),
        (all(0 < size <= MOST for size in sizes), "reports memory pages of an absurd size"),
        (len(set(sizes)) == len(sizes), "reports memory pages of one size twice"),
        (all(0 <= cpu < MOST_CPUS for cpu in (*cell.cpuset, *cell.pcpuset, *threads)), "reports an absurd CPU number"),
        (set(cell.pinned_cpus) <= set(cell.pcpuset), "reports pinned CPUs that are not for pinning"),
        (len(set(threads)) == len(threads), "reports a CPU on two cores"),
        (not threads or set(cell.pcpuset) <= set(threads), "reports dedicated CPUs on no core"),
    )
    return next((defect for holds, defect in checks if not holds), None)


def _find_defect_of_pools(pools: Sequence[PciPool]) -> str | None:
    seen: list[PciPool] = []
    for pool in pools:
        if pool.count < 0:
            return f"reports {pool.count} PCI devices {pool.vendor_id}:{pool.product_id}"
        if any(pool.same_kind(other) for other in seen):
            return f"reports PCI devices {pool.vendor_id}:{pool.product_id} of one kind twice"
        seen.append(pool)
    return None


def _pinned_by(host: NumaCell, guest: GuestCell) -> set[int]:
    """The host CPUs a placed guest's cell has to itself: with the isolate policy, its cores' other threads too."""
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
