"""Whether a host's report can be true. One that cannot keeps the host out of choosing, and harms no other."""

from __future__ import annotations

import math
from operator import attrgetter

from cellcloud.model.host import HostState
from cellcloud.model.numa import Topology
from cellcloud.model.occupancy import find_defect

MOST = 1 << 42
"""Of anything a host can have: times a ratio, or in MiB for GiB, it is still exact as a float64."""
RATIOS = ("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio")
AMOUNTS = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "local_gb", "local_gb_used", "hypervisor_version")
BALANCES = ("free_ram_mb", "free_disk_gb", "disk_available_least")
_AMOUNTS_OF = attrgetter(*AMOUNTS, *BALANCES)
COUNTS = ("num_instances", "io_workload", "failed_builds")


def fault_of(state: HostState) -> str | None:
    """What is wrong with the report, in plain words; None when nothing is."""
    if not state.host or len(state.host) > 255:
        return "has no proper name"
    for name in RATIOS:
        ratio = getattr(state, name)
        if not isinstance(ratio, int | float) or not math.isfinite(ratio) or not 0 < ratio <= 1000:
            return f"{name} is {ratio!r}, which is not between 0 and 1000"
    return _fault_of_amounts(state) or _fault_of_details(state)


def _fault_of_amounts(state: HostState) -> str | None:
    told = (amount for amount in _AMOUNTS_OF(state) if amount is not None)
    every = (state.servers, *told, *state.capacity.values(), *state.used.values())
    if all(type(amount) is int and 0 <= amount <= MOST for amount in every):
        return None  # as nearly all are
    if not _whole(state.servers, least=0):
        return f"has {state.servers!r} servers, which cannot be"
    for name in (*AMOUNTS, *BALANCES):
        amount = getattr(state, name)
        if amount is not None and not _whole(amount, least=0 if name in AMOUNTS else -MOST):
            return f"{name} is {amount!r}, which cannot be"
    for what, amounts in (("capacity", state.capacity), ("use", state.used)):
        for name, amount in amounts.items():
            if not _whole(amount, least=0):
                return f"its {what} of {name} is {amount!r}, which cannot be"
    return None


def _fault_of_details(state: HostState) -> str | None:
    for name in COUNTS:
        text = (state.stats or {}).get(name)
        if text is not None and count_of(text) is None:
            return f"stats say {name} is {text[:100]!r}, which is no number"
    for metric in state.metrics:
        if not isinstance(metric.value, int | float) or not math.isfinite(metric.value):
            return f"metric {metric.name} is {metric.value!r}, which is no number"
    return find_defect(Topology(cells=state.numa, pools=state.pci_pools))


def count_of(text: str) -> int | None:
    """A count that is reported as text; None when it is none."""
    try:
        count = int(text)
    except ValueError:
        return None
    return count if abs(count) <= MOST else None


def _whole(amount: object, *, least: int) -> bool:
    return isinstance(amount, int) and not isinstance(amount, bool) and least <= amount <= MOST
