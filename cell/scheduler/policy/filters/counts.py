"""A host must have fewer than so many servers, or operations under way: one limit for all, or by its aggregates.

Source: Nova's NumInstancesFilter, IoOpsFilter, AggregateNumInstancesFilter and AggregateIoOpsFilter. Of several
aggregates' limits the least counts; all are void when one is no number.
"""

from __future__ import annotations

import numpy as np

from cell.scheduler.policy.filters.rule import Context
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts
from cell.scheduler.state.snapshot import Amounts, Figure, Flags, Places, Snapshot


class CountFilter:
    """``option`` is the limit's name, in the policy and in aggregates' metadata."""

    once = False
    on_rebuild = False

    def __init__(self, name: str, figure: Figure, option: str, what: str, *, by_aggregate: bool) -> None:
        self.name, self.figure, self.option, self.what = name, figure, option, what
        self.by_aggregate = by_aggregate

    def applies(self, request: Request, context: Context) -> bool:
        return True

    def limit(self, facts: Facts, context: Context) -> int:
        """How many a host of these facts may have, this one included."""
        limit: int = getattr(context.options, self.option)
        return int(facts.least_of(self.option, int, limit)) if self.by_aggregate else limit

    def limits(self, snapshot: Snapshot, context: Context) -> Amounts:
        """The limit of each signature."""
        return np.array([self.limit(facts, context) for facts in snapshot.facts.values], dtype=np.int64)

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        limits = self.limits(snapshot, context)[snapshot.signature[places]]
        return np.asarray(snapshot.figure(self.figure)[places] < limits)

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        limit = self.limit(snapshot.facts_at(position), context)
        count = int(snapshot.figure(self.figure)[position])
        return None if count < limit else Refusal(self.what, 1, limit - count)


_IO_OPS = (Figure.num_io_ops, "max_io_ops_per_host", "place for an operation under way")
_SERVERS = (Figure.num_instances, "max_instances_per_host", "place for a server")
FILTERS = (
    CountFilter("IoOpsFilter", *_IO_OPS, by_aggregate=False),
    CountFilter("AggregateIoOpsFilter", *_IO_OPS, by_aggregate=True),
    CountFilter("NumInstancesFilter", *_SERVERS, by_aggregate=False),
    CountFilter("AggregateNumInstancesFilter", *_SERVERS, by_aggregate=True),
)
