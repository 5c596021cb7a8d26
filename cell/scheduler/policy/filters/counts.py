"""A host must have fewer than so many servers, or operations under way: one limit for all, or by its aggregates.

Source: Nova's NumInstancesFilter, IoOpsFilter, AggregateNumInstancesFilter and AggregateIoOpsFilter. Of several
aggregates' limits the least counts; all are void when one is no number.
"""

from __future__ import annotations

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Amounts, Flags, Places
from cell.scheduler.state.host_class import HostClass
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.host_table import HostTable


class CountFilter:
    """``option`` is the limit's name, in the policy and in aggregates' metadata."""

    once = False
    on_rebuild = False

    def __init__(self, name: str, figure: Figure, option: str, what: str, *, by_aggregate: bool) -> None:
        self.name, self.figure, self.option, self.what = name, figure, option, what
        self.by_aggregate = by_aggregate

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return True

    def limit(self, host_class: HostClass, context: FilterContext) -> int:
        """Return how many a host of this class may have, this one included."""
        limit: int = getattr(context.options, self.option)
        return int(host_class.least_of(self.option, int, limit)) if self.by_aggregate else limit

    def limits(self, table: HostTable, context: FilterContext) -> Amounts:
        """Return the limit of each host class."""
        return np.array([self.limit(host_class, context) for host_class in table.host_classes.values], dtype=np.int64)

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        limits = self.limits(table, context)[table.host_classes.ids[places]]
        return np.asarray(table.columns.figure(self.figure)[places] < limits)

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        limit = self.limit(table.host_classes.at(position), context)
        count = int(table.columns.figure(self.figure)[position])
        return None if count < limit else HostRefusal(self.what, 1, limit - count)


_IO_OPS = (Figure.num_io_ops, "max_io_ops_per_host", "place for an operation under way")
_SERVERS = (Figure.num_instances, "max_instances_per_host", "place for a server")
FILTERS = (
    CountFilter("IoOpsFilter", *_IO_OPS, by_aggregate=False),
    CountFilter("AggregateIoOpsFilter", *_IO_OPS, by_aggregate=True),
    CountFilter("NumInstancesFilter", *_SERVERS, by_aggregate=False),
    CountFilter("AggregateNumInstancesFilter", *_SERVERS, by_aggregate=True),
)
