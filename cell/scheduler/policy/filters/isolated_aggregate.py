"""Aggregates that require traits take only servers that ask for these. Source: Nova's isolate_aggregates, which asks
Placement."""

from __future__ import annotations

from collections.abc import Mapping

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.resources_and_traits import demands_of
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass

PREFIX = "trait:"


def unmet(metadata: Mapping[str, str], required: frozenset[str]) -> list[str]:
    """Return the traits that an aggregate's metadata demand of its servers and that are not among the required."""
    keys = (key for key, value in metadata.items() if key.startswith(PREFIX) and value == "required")
    return [key.removeprefix(PREFIX) for key in keys if key.removeprefix(PREFIX) not in required]


def applies(request: SchedulingRequest, context: FilterContext) -> bool:
    return context.options.enable_isolated_aggregate_filtering


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host in an aggregate for servers that require what this one does not."""
    required = demands_of(request.shape)[0].required
    traits = [trait for _, pairs in host_class.aggregates for trait in unmet(dict(pairs), required)]
    return HostRefusal(f"is kept for servers that require {', '.join(sorted(set(traits)))}") if traits else None


FILTER = HostClassFilter("IsolatedAggregateFilter", refuse, applies=applies)
