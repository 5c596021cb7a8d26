"""A host must be enabled and heard of. Source: Nova's ComputeFilter."""

from __future__ import annotations

from cell.scheduler.facts import Facts
from cell.scheduler.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request import Request


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host that may not take servers, or that is silent."""
    if not facts.enabled:
        return Refusal("is disabled")
    return None if facts.up else Refusal("is down")


FILTER = FactsFilter("ComputeFilter", refuse)
