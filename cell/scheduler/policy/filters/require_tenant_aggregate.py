"""Projects with aggregates of their own stay in them. Source: Nova's require_tenant_aggregate, which asks Placement."""

from __future__ import annotations

from collections.abc import Sequence

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass
from cellcloud.model.host import Aggregate

PREFIX = "filter_tenant_id"


def aggregates_of(project_id: str, aggregates: Sequence[Aggregate]) -> list[Aggregate]:
    """Return the aggregates that are a project's own."""
    return [
        one
        for one in aggregates
        if project_id in one.metadata.values() and any(key.startswith(PREFIX) for key in one.metadata)
    ]


def applies(request: SchedulingRequest, context: FilterContext) -> bool:
    return context.options.limit_tenants_to_placement_aggregate


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host outside the project's aggregates; any host, where each project must have some and this one has
    none."""
    mine = aggregates_of(request.shape.project_id, context.aggregates)
    if not mine:
        required = context.options.placement_aggregate_required_for_tenants
        return HostRefusal("no aggregate is for the project") if required else None
    if host_class.aggregate_uuids.isdisjoint(one.uuid or str(one.id) for one in mine):
        return HostRefusal("is in none of the project's aggregates")
    return None


FILTER = HostClassFilter("TenantAggregateFilter", refuse, applies=applies)
