"""A host must have room for what the request takes, in each resource class. Nova leaves this to Placement."""

from __future__ import annotations

import numpy as np

from cell.scheduler.policy.filters import traits
from cell.scheduler.policy.filters.rule import Context
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.demand import Demand, demands_of, root_required
from cell.scheduler.request.request import Request
from cell.scheduler.state.snapshot import Flags, Places, Snapshot


class ResourceClassFilter:
    """With two demands, each counts only where the host's traits suit it."""

    name = "ResourceClassFilter"
    once = False
    on_rebuild = False

    def applies(self, request: Request, context: Context) -> bool:
        return True

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        """Which hosts have the room."""
        demands = _demands(request, context)
        if len(demands) == 1:
            return _room(snapshot, places, demands[0])
        also = root_required(request.shape, context.options)
        found = np.zeros(len(places), dtype=np.bool_)
        for demand in demands:
            suits = [traits.lack_of(facts, demand, also) is None for facts in snapshot.facts.values]
            found |= np.array(suits, dtype=np.bool_)[snapshot.signature[places]] & _room(snapshot, places, demand)
        return found

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        """The class of which the largest part is lacking."""
        lacks = lacks_at(snapshot, position, request, context)
        return max(lacks, key=lambda lack: lack.lack / lack.needed if lack.needed else 1.0, default=None)


def lacks_at(snapshot: Snapshot, position: int, request: Request, context: Context) -> list[Refusal]:
    """What a host lacks of the request's last demand, class by class; empty when it meets any demand."""
    if demand_at(snapshot, position, request, context) is not None:
        return []
    resources = _demands(request, context)[-1].resources
    left = {name: _left(snapshot, position, name) for name in resources}
    lacks = [Refusal(name, amount, left[name]) for name, amount in resources.items() if left[name] < amount]
    return lacks or [Refusal("has not the traits that go with its room")]


def demand_at(snapshot: Snapshot, position: int, request: Request, context: Context) -> Demand | None:
    """The first of the request's demands that a host meets."""
    demands = _demands(request, context)
    also = root_required(request.shape, context.options)
    for demand in demands:
        suits = len(demands) == 1 or traits.lack_of(snapshot.facts_at(position), demand, also) is None
        if suits and all(_left(snapshot, position, name) >= amount for name, amount in demand.resources.items()):
            return demand
    return None


def _demands(request: Request, context: Context) -> tuple[Demand, ...]:
    return demands_of(request.shape, pinned_only=context.options.disable_fallback_pcpu_query)


def _room(snapshot: Snapshot, places: Places, demand: Demand) -> Flags:
    found = np.ones(len(places), dtype=np.bool_)
    for name, amount in demand.resources.items():
        row = snapshot.row_of.get(name)
        if row is None:
            return np.zeros(len(places), dtype=np.bool_)
        found &= snapshot.free[row][places] >= amount
    return found


def _left(snapshot: Snapshot, position: int, name: str) -> int:
    row = snapshot.row_of.get(name)
    return 0 if row is None else int(snapshot.free[row, position])


FILTER = ResourceClassFilter()
