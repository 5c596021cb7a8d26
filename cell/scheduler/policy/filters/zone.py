"""A host must be in the availability zone that was asked for.

Nova leaves this to Placement: the zone is that of the aggregates that hold the host, else its own.
"""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass

KEY = "availability_zone"


def applies(request: SchedulingRequest, context: FilterContext) -> bool:
    return request.shape.zone is not None


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host of another zone."""
    zones = host_class.values_of(KEY) or {host_class.zone}
    wanted = request.shape.zone
    if wanted is None or wanted in zones:
        return None
    return HostRefusal(f"is in zone {', '.join(sorted(zones))}, not in {wanted}")


FILTER = HostClassFilter("AvailabilityZoneFilter", refuse, applies=applies)
