"""Hosts of aggregates that name projects take only servers of these. Source: Nova's AggregateMultiTenancyIsolation."""

from __future__ import annotations

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts

PREFIX = "filter_tenant_id"


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host that is for other projects."""
    named = [projects for key, projects in facts.metadata.items() if key.startswith(PREFIX)]
    if not named or any(request.shape.project_id in projects for projects in named):
        return None
    return Refusal("is kept for other projects")


FILTER = FactsFilter("AggregateMultiTenancyIsolation", refuse)
