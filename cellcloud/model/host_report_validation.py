"""Whether what is said of a host can be true, by one set of bounds: of a report when the conductor stores it, and of
the stored state when a scheduler reads it.

A host of which it cannot is put into quarantine: no server is placed on it, and no other host is concerned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import attrgetter

from cellcloud.model.host import HostReport, HostState, Metric
from cellcloud.model.numa import NumaCell, Topology
from cellcloud.model.pci import PciPool
from cellcloud.safe_regex import Pattern

LONGEST_NAME = 255
MOST = 1 << 31
"""Of anything a machine has: MiB of memory, GiB of disk, CPUs, devices."""
MOST_RATIO = 1000
MOST_CAPACITY = MOST * MOST_RATIO
"""Of anything with its allocation ratio applied; exact as a float64 even in MiB for GiB."""
MOST_CELLS = 64
MOST_CPUS = 1 << 16
RESOURCE_CLASS = Pattern(r"[A-Z0-9_]{1,64}")
_RATIOS = ("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio")
_AMOUNTS = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "local_gb", "local_gb_used", "hypervisor_version")
_BALANCES = ("free_ram_mb", "free_disk_gb", "disk_available_least")  # which may be below 0
_COUNTS = ("num_instances", "io_workload", "failed_builds")
_amounts_of = attrgetter(*_AMOUNTS, *_BALANCES)


def find_report_defect(report: HostReport) -> str | None:
    """Return what in a compute service's report cannot be true, in plain words; None when nothing is wrong."""
    return next(_report_defects(report), None)


def find_state_defect(state: HostState) -> str | None:
    """Return what in a host's stored state cannot be true, in plain words; None when nothing is wrong."""
    if not state.host or len(state.host) > LONGEST_NAME:
        return "has no proper name"
    for name in _RATIOS:
        defect = _ratio_defect(name, getattr(state, name))
        if defect:
            return defect
    return _state_amount_defect(state) or next(_state_detail_defects(state), None)


def find_topology_defect(topology: Topology) -> str | None:
    """Return what in a host's NUMA cells and PCI devices cannot be true; None when nothing is wrong."""
    return _cells_defect(topology.cells or ()) or _pools_defect(topology.pools)


def count_of(text: str) -> int | None:
    """Return a count that is reported as text; None when it is none."""
    try:
        count = int(text)
    except ValueError:
        return None
    return count if abs(count) <= MOST_CAPACITY else None


def _report_defects(report: HostReport) -> Iterator[str]:
    for name in ("cpu_ratio", "memory_ratio", "disk_ratio"):
        defect = _ratio_defect(name, getattr(report, name))
        if defect:
            yield defect
    for name, (total, reserved, _) in report.inventory.items():
        if not 0 <= total <= MOST:
            yield f"{name} is {total}, which no machine has"
        if not 0 <= reserved <= MOST:
            yield f"{reserved} reserved of {name} cannot be"
        if not RESOURCE_CLASS.matches(name):
            yield f"{name[:64]!r} is no resource class"
    yield from _metric_defects(report.facts.metrics)
    defect = find_topology_defect(Topology(cells=report.facts.numa, pools=report.facts.pci_pools))
    if defect:
        yield defect


def _ratio_defect(name: str, ratio: object) -> str | None:
    if isinstance(ratio, int | float) and math.isfinite(ratio) and 0 < ratio <= MOST_RATIO:
        return None
    return f"{name} is {ratio!r}, which is not between 0 and {MOST_RATIO}"


def _state_amount_defect(state: HostState) -> str | None:
    told = (amount for amount in _amounts_of(state) if amount is not None)
    every = (state.servers, *told, *state.capacity.values(), *state.used.values())
    if all(type(amount) is int and 0 <= amount <= MOST_CAPACITY for amount in every):
        return None  # as of nearly all hosts
    if not _is_amount(state.servers, least=0):
        return f"has {state.servers!r} servers, which cannot be"
    for name in (*_AMOUNTS, *_BALANCES):
        amount = getattr(state, name)
        if amount is not None and not _is_amount(amount, least=0 if name in _AMOUNTS else -MOST_CAPACITY):
            return f"{name} is {amount!r}, which cannot be"
    for what, amounts in (("capacity", state.capacity), ("use", state.used)):
        for name, amount in amounts.items():
            if not _is_amount(amount, least=0):
                return f"its {what} of {name} is {amount!r}, which cannot be"
    return None


def _state_detail_defects(state: HostState) -> Iterator[str]:
    for name in _COUNTS:
        text = (state.stats or {}).get(name)
        if text is not None and count_of(text) is None:
            yield f"stats say {name} is {text[:100]!r}, which is no number"
    yield from _metric_defects(state.metrics)
    defect = find_topology_defect(Topology(cells=state.numa, pools=state.pci_pools))
    if defect:
        yield defect


def _is_amount(amount: object, *, least: int) -> bool:
    return isinstance(amount, int) and not isinstance(amount, bool) and least <= amount <= MOST_CAPACITY


def _metric_defects(metrics: Sequence[Metric]) -> Iterator[str]:
    for metric in metrics:
        if not isinstance(metric.value, int | float) or not math.isfinite(metric.value):
            yield f"metric {metric.name} is {metric.value!r}, which is no number"


def _cells_defect(cells: Sequence[NumaCell]) -> str | None:
    if len(cells) > MOST_CELLS:
        return f"reports {len(cells)} NUMA cells, more than {MOST_CELLS}"
    if len({cell.id for cell in cells}) < len(cells):
        return "reports two NUMA cells with one id"
    seen: set[int] = set()
    for cell in cells:
        defect = _cell_defect(cell)
        if defect:
            return f"NUMA cell {cell.id} {defect}"
        cpus = {*cell.cpuset, *cell.pcpuset}
        if cpus & seen:
            return f"NUMA cell {cell.id} has CPUs {sorted(cpus & seen)} of another"
        seen |= cpus
    return None


def _cell_defect(cell: NumaCell) -> str | None:
    amounts = [cell.id, cell.memory, cell.cpu_usage, cell.memory_usage]
    amounts += [number for pages in cell.mempages for number in (pages.total, pages.used, pages.reserved)]
    sizes = [pages.size_kb for pages in cell.mempages]
    threads = [cpu for core in cell.siblings for cpu in core]
    checks = (
        (all(0 <= amount <= MOST_CAPACITY for amount in amounts), "reports a negative or absurd amount"),
        (all(0 < size <= MOST for size in sizes), "reports memory pages of an absurd size"),
        (len(set(sizes)) == len(sizes), "reports memory pages of one size twice"),
        (all(0 <= cpu < MOST_CPUS for cpu in (*cell.cpuset, *cell.pcpuset, *threads)), "reports an absurd CPU number"),
        (set(cell.pinned_cpus) <= set(cell.pcpuset), "reports pinned CPUs that are not for pinning"),
        (len(set(threads)) == len(threads), "reports a CPU on two cores"),
        (not threads or set(cell.pcpuset) <= set(threads), "reports dedicated CPUs on no core"),
    )
    return next((defect for holds, defect in checks if not holds), None)


def _pools_defect(pools: Sequence[PciPool]) -> str | None:
    seen: list[PciPool] = []
    for pool in pools:
        if not 0 <= pool.count <= MOST:
            return f"reports {pool.count} PCI devices {pool.vendor_id}:{pool.product_id}"
        if any(pool.same_kind(other) for other in seen):
            return f"reports PCI devices {pool.vendor_id}:{pool.product_id} of one kind twice"
        seen.append(pool)
    return None
