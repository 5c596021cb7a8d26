"""Hosts of aggregates that name projects take only servers of these. Source: Nova's AggregateMultiTenancyIsolation."""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass

PREFIX = "filter_tenant_id"


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host that is for other projects."""
    named = [projects for key, projects in host_class.metadata.items() if key.startswith(PREFIX)]
    if not named or any(request.shape.project_id in projects for projects in named):
        return None
    return HostRefusal("is kept for other projects")


FILTER = HostClassFilter("AggregateMultiTenancyIsolation", refuse)
