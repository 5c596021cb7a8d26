"""A host must have the traits that flavor and image require, and none that they forbid.

Nova leaves this to Placement. A host whose compute service is disabled has COMPUTE_STATUS_DISABLED. For a rebuild it
is only what the new image requires that counts.
"""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.resources_and_traits import (
    DISABLED_TRAIT,
    Demand,
    demands_of,
    image_demand,
    root_required,
)
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host whose traits meet none of the request's demands."""
    if request.shape.rebuild:
        return lack_of(host_class, image_demand(request.shape))
    if DISABLED_TRAIT in host_class.traits:
        return HostRefusal(f"has the trait {DISABLED_TRAIT}", remedy="enabled")
    wanted = root_required(request.shape, context.options)
    demands = demands_of(request.shape, pinned_only=context.options.disable_fallback_pcpu_query)
    lacks = [lack_of(host_class, demand, wanted) for demand in demands]
    return None if None in lacks else lacks[0]


def lack_of(host_class: HostClass, demand: Demand, also_required: frozenset[str] = frozenset()) -> HostRefusal | None:
    """Return what stands between a host's traits and one demand."""
    missing = (demand.required | also_required) - host_class.traits
    if missing:
        return HostRefusal(f"has not the trait {', '.join(sorted(missing))}", remedy="with it")
    unwanted = ", ".join(sorted(demand.forbidden & host_class.traits))
    return HostRefusal(f"has the trait {unwanted}, which is forbidden", remedy="without it") if unwanted else None


FILTER = HostClassFilter("TraitsFilter", refuse, on_rebuild=True)
