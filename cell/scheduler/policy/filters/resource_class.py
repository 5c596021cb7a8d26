"""A host must have room for what the request takes, in each resource class. Nova leaves this to Placement."""

from __future__ import annotations

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters import traits
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.request.resources_and_traits import Demand, demands_of, root_required
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_table import HostTable


class ResourceClassFilter:
    """With two demands, each counts only where the host's traits suit it."""

    name = "ResourceClassFilter"
    once = False
    on_rebuild = False

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return True

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        """Return which hosts have the room."""
        demands = _demands(request, context)
        if len(demands) == 1:
            return _room(table, places, demands[0])
        also = root_required(request.shape, context.options)
        found = np.zeros(len(places), dtype=np.bool_)
        for demand in demands:
            suits = [traits.lack_of(host_class, demand, also) is None for host_class in table.host_classes.values]
            found |= np.array(suits, dtype=np.bool_)[table.host_classes.ids[places]] & _room(table, places, demand)
        return found

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        """Return the class of which the largest part is lacking."""
        lacks = lacks_at(table, position, request, context)
        return max(lacks, key=lambda lack: lack.lack / lack.needed if lack.needed else 1.0, default=None)


def lacks_at(table: HostTable, position: int, request: SchedulingRequest, context: FilterContext) -> list[HostRefusal]:
    """Return what a host lacks of the request's last demand, class by class; empty when it meets any demand."""
    if demand_at(table, position, request, context) is not None:
        return []
    resources = _demands(request, context)[-1].resources
    left = {name: _left(table, position, name) for name in resources}
    lacks = [HostRefusal(name, amount, left[name]) for name, amount in resources.items() if left[name] < amount]
    return lacks or [HostRefusal("has not the traits that go with its room")]


def demand_at(table: HostTable, position: int, request: SchedulingRequest, context: FilterContext) -> Demand | None:
    """Return the first of the request's demands that a host meets."""
    demands = _demands(request, context)
    also = root_required(request.shape, context.options)
    for demand in demands:
        suits = len(demands) == 1 or traits.lack_of(table.host_classes.at(position), demand, also) is None
        if suits and all(_left(table, position, name) >= amount for name, amount in demand.resources.items()):
            return demand
    return None


def _demands(request: SchedulingRequest, context: FilterContext) -> tuple[Demand, ...]:
    return demands_of(request.shape, pinned_only=context.options.disable_fallback_pcpu_query)


def _room(table: HostTable, places: Places, demand: Demand) -> Flags:
    found = np.ones(len(places), dtype=np.bool_)
    for name, amount in demand.resources.items():
        row = table.columns.row_of.get(name)
        if row is None:
            return np.zeros(len(places), dtype=np.bool_)
        found &= table.columns.free[row][places] >= amount
    return found


def _left(table: HostTable, position: int, name: str) -> int:
    row = table.columns.row_of.get(name)
    return 0 if row is None else int(table.columns.free[row, position])


FILTER = ResourceClassFilter()
