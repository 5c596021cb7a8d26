"""Aggregates that require traits take only servers that ask for these. Source: Nova's isolate_aggregates, which asks
Placement."""

from __future__ import annotations

from collections.abc import Mapping

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.demand import demands_of
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts

PREFIX = "trait:"


def unmet(metadata: Mapping[str, str], required: frozenset[str]) -> list[str]:
    """Traits that an aggregate's metadata demand of its servers and that are not among the required."""
    keys = (key for key, value in metadata.items() if key.startswith(PREFIX) and value == "required")
    return [key.removeprefix(PREFIX) for key in keys if key.removeprefix(PREFIX) not in required]


def applies(request: Request, context: Context) -> bool:
    return context.options.enable_isolated_aggregate_filtering


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host in an aggregate for servers that require what this one does not."""
    required = demands_of(request.shape)[0].required
    traits = [trait for _, pairs in facts.aggregates for trait in unmet(dict(pairs), required)]
    return Refusal(f"is kept for servers that require {', '.join(sorted(set(traits)))}") if traits else None


FILTER = FactsFilter("IsolatedAggregateFilter", refuse, applies=applies)
