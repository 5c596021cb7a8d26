"""Every host passes. Source: Nova's AllHostsFilter."""

from __future__ import annotations

from cell.scheduler.facts import Facts
from cell.scheduler.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request import Request


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """Never."""
    return None


FILTER = FactsFilter("AllHostsFilter", refuse, applies=lambda request, context: False)
