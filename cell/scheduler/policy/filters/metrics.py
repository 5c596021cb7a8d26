"""A host must report all metrics that weigh. Source: Nova's MetricsFilter."""

from __future__ import annotations

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts


def applies(request: Request, context: Context) -> bool:
    return bool(context.options.metrics_weight_setting)


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host without one of them."""
    missing = {name for name, _ in context.options.metrics_weight_setting} - facts.metrics
    return Refusal(f"does not report {', '.join(sorted(missing))}") if missing else None


FILTER = FactsFilter("MetricsFilter", refuse, applies=applies, once=False)
