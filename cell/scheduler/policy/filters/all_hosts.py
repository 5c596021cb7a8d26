"""Every host passes. Source: Nova's AllHostsFilter."""

from __future__ import annotations

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """Never."""
    return None


FILTER = FactsFilter("AllHostsFilter", refuse, applies=lambda request, context: False)
