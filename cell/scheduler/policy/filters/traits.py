"""A host must have the traits that flavor and image require, and none that they forbid.

Nova leaves this to Placement. A host whose compute service is disabled has COMPUTE_STATUS_DISABLED.
"""

from __future__ import annotations

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.demand import DISABLED_TRAIT, Demand, demands_of, root_required
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host whose traits meet none of the request's demands."""
    if DISABLED_TRAIT in facts.traits:
        return Refusal(f"has the trait {DISABLED_TRAIT}")
    wanted = root_required(request.shape, context.options)
    demands = demands_of(request.shape, pinned_only=context.options.disable_fallback_pcpu_query)
    lacks = [lack_of(facts, demand, wanted) for demand in demands]
    return None if None in lacks else lacks[0]


def lack_of(facts: Facts, demand: Demand, also_required: frozenset[str] = frozenset()) -> Refusal | None:
    """What stands between a host's traits and one demand."""
    missing = (demand.required | also_required) - facts.traits
    if missing:
        return Refusal(f"has not the trait {', '.join(sorted(missing))}")
    unwanted = demand.forbidden & facts.traits
    return Refusal(f"has the trait {', '.join(sorted(unwanted))}, which is forbidden") if unwanted else None


FILTER = FactsFilter("TraitsFilter", refuse)
