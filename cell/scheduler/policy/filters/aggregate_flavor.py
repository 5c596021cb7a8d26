"""Hosts of aggregates that name flavors take only these. Source: Nova's AggregateTypeAffinityFilter."""

from __future__ import annotations

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts

KEY = "instance_type"


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host that is for other flavors."""
    flavors = facts.metadata.get(KEY)
    if flavors is None or request.shape.flavor.name in flavors:
        return None
    return Refusal(f"is kept for flavors {', '.join(sorted(flavors))}")


FILTER = FactsFilter("AggregateTypeAffinityFilter", refuse)
