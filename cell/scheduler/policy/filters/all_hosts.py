"""Every host passes. Source: Nova's AllHostsFilter."""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse no host."""
    return None


FILTER = HostClassFilter("AllHostsFilter", refuse, applies=lambda request, context: False)
