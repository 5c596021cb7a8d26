"""A flavor's extra specs must be met by the metadata of the host's aggregates.

Source: Nova's AggregateInstanceExtraSpecsFilter. Keys of other scopes are not asked for.
"""

from __future__ import annotations

from cell.scheduler.policy.filters.operators import flaw_of, meets
from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts

SCOPE = "aggregate_instance_extra_specs"


def applies(request: Request, context: Context) -> bool:
    return bool(request.shape.flavor.extra_specs)


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host whose aggregates lack a key, or have no value of it that is as required."""
    for given, requirement in request.shape.flavor.extra_specs.items():
        scope, colon, key = given.partition(":")
        if colon and scope != SCOPE:
            continue
        key = key if colon else given
        values = facts.metadata.get(key)
        if not values:
            return Refusal(f"is in no aggregate with {key}")
        if not any(meets(value, requirement) for value in values):
            flaw = flaw_of(requirement)
            found = f"extra spec {given} is malformed: {flaw}" if flaw else None
            return Refusal(found or f"has {key} {', '.join(sorted(values))} by its aggregates, not {requirement}")
    return None


FILTER = FactsFilter("AggregateInstanceExtraSpecsFilter", refuse, applies=applies)
