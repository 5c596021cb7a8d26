"""A host must report all metrics that weigh. Source: Nova's MetricsFilter."""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass


def applies(request: SchedulingRequest, context: FilterContext) -> bool:
    return bool(context.options.metrics_weight_setting)


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host without one of them."""
    missing = {name for name, _ in context.options.metrics_weight_setting} - host_class.metrics
    return HostRefusal(f"does not report {', '.join(sorted(missing))}") if missing else None


FILTER = HostClassFilter("MetricsFilter", refuse, applies=applies, once=False)
