"""A flavor's extra specs must be met by the metadata of the host's aggregates.

Source: Nova's AggregateInstanceExtraSpecsFilter. Keys of other scopes are not asked for.
"""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.policy.filters.operators import flaw_of, meets
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass

SCOPE = "aggregate_instance_extra_specs"


def applies(request: SchedulingRequest, context: FilterContext) -> bool:
    return bool(request.shape.flavor.extra_specs)


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host whose aggregates lack a key, or have no value of it that is as required."""
    for given, requirement in request.shape.flavor.extra_specs.items():
        scope, colon, key = given.partition(":")
        if colon and scope != SCOPE:
            continue
        key = key if colon else given
        values = host_class.metadata.get(key)
        if not values:
            return HostRefusal(f"is in no aggregate with {key}")
        if not any(meets(value, requirement) for value in values):
            flaw = flaw_of(requirement)
            found = f"extra spec {given} is malformed: {flaw}" if flaw else None
            return HostRefusal(found or f"has {key} {', '.join(sorted(values))} by its aggregates, not {requirement}")
    return None


FILTER = HostClassFilter("AggregateInstanceExtraSpecsFilter", refuse, applies=applies)
