"""The numbers of a cell's hosts in columns: what is free of each resource class, and the figures that weighers read.

What claims take is added up when the columns are read, not for each claim: an index in front of them reads them seldom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from cell.scheduler.state.array_types import Amounts, Reals
from cellcloud.model import host_report_validation
from cellcloud.model.allocation import Allocation
from cellcloud.model.host import HostState

ALLOCATIONS_KEPT = 4096
MIB_IN_GIB = 1024
LEAST_ROOM = 64  # hosts


class Figure(IntEnum):
    """Whole numbers of a host under the names of Nova's HostState. Memory and disk in MiB."""

    free_ram_mb = 0
    free_disk_mb = 1
    vcpus_used = 2
    num_instances = 3
    num_io_ops = 4
    failed_builds = 5
    vcpus_total = 6
    hypervisor_version = 7
    pci_weight = 8


@dataclass(frozen=True, slots=True)
class HostNumbers:
    """One host's numbers: ``free`` (classes,), ``figures`` (Figure,) and its ratio of virtual CPUs to real ones."""

    free: Amounts
    figures: Amounts
    cpu_ratio: float

    def less(self, other: HostNumbers) -> HostNumbers:
        """Return by how much these are more than others, which may know of more resource classes; the ratio is kept."""
        free = np.pad(self.free, (0, len(other.free) - len(self.free)))
        return HostNumbers(free - other.free, self.figures - other.figures, self.cpu_ratio)


class HostColumns:
    """``free`` is (resource classes, hosts): capacity with its ratio applied, less what is used. ``row_of``: resource
    class -> its row, in the order of ``resource_classes``."""

    def __init__(self) -> None:
        self.resource_classes: list[str] = []
        self.row_of: dict[str, int] = {}
        self._count = 0
        self._pending: dict[tuple[int, int, bool], tuple[Allocation, list[int]]] = {}  # what is still to be added up
        self._pending_size = 0
        self._amounts: dict[int, tuple[Allocation, Amounts, Amounts]] = {}  # by identity: it is kept with them
        self._stored_free = np.zeros((0, 0), dtype=np.int64)
        self._stored_figures = np.zeros((len(Figure), 0), dtype=np.int64)
        self._cpu_ratio = np.zeros(0, dtype=np.float64)

    def __len__(self) -> int:
        return self._count

    @property
    def free(self) -> Amounts:
        """What is free, (resource classes, hosts); below 0 where more is used than there is."""
        return self._free[:, : self._count]

    @property
    def cpu_ratio(self) -> Reals:
        """Virtual CPUs for each real one; 1 where the capacity has the ratio in it already."""
        return self._cpu_ratio[: self._count]

    @property
    def room(self) -> int:
        """For how many hosts there is room."""
        return len(self._cpu_ratio)

    def figure(self, figure: Figure) -> Amounts:
        """Return one figure of every host."""
        return self._figures[figure, : self._count]

    def numbers_at(self, position: int) -> HostNumbers:
        """Return a copy of one host's numbers."""
        free, figures = self._free[:, position].copy(), self._figures[:, position].copy()
        return HostNumbers(free, figures, float(self._cpu_ratio[position]))

    def used_at(self, position: int, capacity: Mapping[str, int]) -> dict[str, int]:
        """Return what is used of each resource class on a host of this capacity."""
        free = self._free[:, position].tolist()
        return {name: capacity.get(name, 0) - free[row] for name, row in self.row_of.items()}

    def append(self) -> int:
        """Add a host of which nothing is known; returns for how many more hosts there is room now."""
        more = 0
        if self._count == self.room:
            more = max(LEAST_ROOM, 2 * self._count) - self.room
            self._stored_free = np.pad(self._free, ((0, 0), (0, more)))
            self._stored_figures = np.pad(self._figures, ((0, 0), (0, more)))
            self._cpu_ratio = np.pad(self._cpu_ratio, (0, more))
        self._count += 1
        return more

    def write(self, position: int, state: HostState, *, servers: int | None = None) -> None:
        """Write what a host says of itself. ``servers``: how many it has, where what it says of that does not count."""
        for name in {*state.capacity, *state.used}:
            self._row(name)
        free, figures = self._free, self._figures
        for name, row in self.row_of.items():
            free[row, position] = _left(state, name)
        stats = state.stats or {}
        reported = _count(stats, "num_instances")
        figures[:-1, position] = (  # in the order of Figure; the last, of devices, is set apart
            _given(state.free_ram_mb, _left(state, "MEMORY_MB")),
            MIB_IN_GIB * _least(state, _left(state, "DISK_GB")),
            _given(state.vcpus_used, state.used.get("VCPU", 0) + state.used.get("PCPU", 0)),
            _given(reported, state.servers) if servers is None else servers,
            _given(_count(stats, "io_workload"), 0),
            _given(_count(stats, "failed_builds"), 0),
            _given(state.vcpus, state.capacity.get("VCPU", 0) + state.capacity.get("PCPU", 0)),
            state.hypervisor_version or 0,
        )
        self._cpu_ratio[position] = 1.0 if state.vcpus is None else state.cpu_allocation_ratio

    def write_back(self, position: int, more: HostNumbers) -> None:
        """Undo ``write``: the host's numbers were more by so much, and its ratio was this."""
        self._free[: len(more.free), position] += more.free
        self._figures[:, position] += more.figures
        self._cpu_ratio[position] = more.cpu_ratio

    def set_figure(self, figure: Figure, position: int, value: int) -> None:
        """Set one figure of a host."""
        self._figures[figure, position] = value

    def add_operations(self, position: int, more: int) -> None:
        """Count more operations under way on a host, or with ``more`` below 0 fewer."""
        self._stored_figures[Figure.num_io_ops, position] += more

    def take(self, positions: Sequence[int], allocation: Allocation, sign: int = 1, *, building: bool = True) -> None:
        """Take an allocation once for each position; ``sign`` -1: give it back.

        ``building`` False: what was under way for the claims is not in the figures any more.
        """
        key = (id(allocation), sign, building)
        pending = self._pending.get(key)
        if pending is None:
            self._amounts_of(allocation)  # which makes a row for a resource class that is new
            self._pending[key] = (allocation, list(positions))
        else:
            pending[1].extend(positions)
        self._pending_size += len(positions)
        if self._pending_size > 4 * self._count + 4096:
            self.add_up()

    def add_up(self) -> None:
        """Add up what was taken and given back since this was done last."""
        pending, self._pending, self._pending_size = self._pending, {}, 0
        for (_, sign, building), (allocation, positions) in pending.items():
            free, figures = self._amounts_of(allocation)
            if allocation.building and not building:
                figures = figures.copy()
                figures[Figure.num_io_ops] = 0
            if len(positions) == 1:
                self._stored_free[:, positions[0]] -= sign * free
                self._stored_figures[:, positions[0]] += sign * figures
                continue
            places, counts = np.unique(np.array(positions, dtype=np.int64), return_counts=True)
            self._stored_free[:, places] -= sign * np.outer(free, counts)
            self._stored_figures[:, places] += sign * np.outer(figures, counts)

    def copy(self) -> HostColumns:
        """Copy them: what changes in one does not in the other."""
        self.add_up()
        found = HostColumns()
        found.resource_classes, found.row_of = self.resource_classes.copy(), self.row_of.copy()
        found._count, found._amounts = self._count, self._amounts.copy()
        found._stored_free, found._stored_figures = self._stored_free.copy(), self._stored_figures.copy()
        found._cpu_ratio = self._cpu_ratio.copy()
        return found

    @property
    def _free(self) -> Amounts:
        if self._pending:
            self.add_up()
        return self._stored_free

    @property
    def _figures(self) -> Amounts:
        if self._pending:
            self.add_up()
        return self._stored_figures

    def _amounts_of(self, allocation: Allocation) -> tuple[Amounts, Amounts]:
        """Return what an allocation adds to the use of each class, and to each figure; worked out once for each."""
        known = self._amounts.get(id(allocation))
        if known is not None and len(known[1]) == len(self.resource_classes):
            return known[1], known[2]
        rows = {self._row(name): amount for name, amount in allocation.resources.items() if amount}
        free, figures = np.zeros(len(self.resource_classes), dtype=np.int64), np.zeros(len(Figure), dtype=np.int64)
        free[list(rows)] = list(rows.values())
        memory_mb, disk_mb, figures[Figure.vcpus_used] = allocation.figures
        figures[Figure.free_ram_mb], figures[Figure.free_disk_mb] = -memory_mb, -disk_mb
        figures[Figure.num_instances] = 1
        figures[Figure.num_io_ops] = allocation.building
        if len(self._amounts) >= ALLOCATIONS_KEPT:
            self._amounts.clear()
        self._amounts[id(allocation)] = (allocation, free, figures)
        return free, figures

    def _row(self, name: str) -> int:
        row = self.row_of.get(name)
        if row is None:
            self.add_up()  # while there is no such class
            row = self.row_of[name] = len(self.resource_classes)
            self.resource_classes.append(name)
            self._stored_free = np.pad(self._stored_free, ((0, 1), (0, 0)))
        return row


def _left(state: HostState, name: str) -> int:
    """Return what the host has left of a resource class by its own word."""
    return state.capacity.get(name, 0) - state.used.get(name, 0)


def _given(reported: int | None, otherwise: int) -> int:
    return otherwise if reported is None else reported


def _count(stats: Mapping[str, str | None], name: str) -> int | None:
    text = stats.get(name)
    return None if text is None else host_report_validation.count_of(text)


def _least(state: HostState, otherwise: int) -> int:
    """Return free disk in GiB: of what is on the books and what is really there, the less. Source: Nova's HostState."""
    free = _given(state.free_disk_gb, otherwise)
    return free if state.disk_available_least is None else min(free, state.disk_available_least)
