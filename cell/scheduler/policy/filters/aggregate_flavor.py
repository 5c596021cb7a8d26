"""Hosts of aggregates that name flavors take only these. Source: Nova's AggregateTypeAffinityFilter."""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass

KEY = "instance_type"


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host that is for other flavors."""
    flavors = host_class.metadata.get(KEY)
    if flavors is None or request.shape.flavor.name in flavors:
        return None
    return HostRefusal(f"is kept for flavors {', '.join(sorted(flavors))}")


FILTER = HostClassFilter("AggregateTypeAffinityFilter", refuse)
