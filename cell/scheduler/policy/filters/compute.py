"""A host must be enabled and heard of. Source: Nova's ComputeFilter."""

from __future__ import annotations

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host that may not take servers, or that is silent."""
    if not facts.enabled:
        return Refusal("is disabled")
    return None if facts.up else Refusal("is down")


FILTER = FactsFilter("ComputeFilter", refuse)
