"""A host must be enabled and heard of. Source: Nova's ComputeFilter."""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host that may not take servers, or that is silent."""
    if not host_class.enabled:
        return HostRefusal("is disabled", remedy="enabled")
    return None if host_class.up else HostRefusal("is down", remedy="up")


FILTER = HostClassFilter("ComputeFilter", refuse)
