"""A host must be in the availability zone that was asked for.

Nova leaves this to Placement: the zone is that of the aggregates that hold the host, else its own.
"""

from __future__ import annotations

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts

KEY = "availability_zone"


def applies(request: Request, context: Context) -> bool:
    return request.shape.zone is not None


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host of another zone."""
    zones = facts.values_of(KEY) or {facts.zone}
    wanted = request.shape.zone
    if wanted is None or wanted in zones:
        return None
    return Refusal(f"is in zone {', '.join(sorted(zones))}, not in {wanted}")


FILTER = FactsFilter("AvailabilityZoneFilter", refuse, applies=applies)
