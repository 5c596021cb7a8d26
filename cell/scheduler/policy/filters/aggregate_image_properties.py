"""An image's properties must be among those that the host's aggregates name.

Source: Nova's AggregateImagePropertiesIsolation. Keys that no image can have say nothing.
"""

from __future__ import annotations

from cell.scheduler.policy.filters.rule import Context, FactsFilter
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts
from cellcloud.model.image_properties import text_of


def applies(request: Request, context: Context) -> bool:
    return bool(request.shape.image_props)


def refuse(facts: Facts, request: Request, context: Context) -> Refusal | None:
    """A host in an aggregate for other images."""
    options = context.options
    namespace = options.aggregate_image_properties_isolation_namespace
    prefix = f"{namespace}{options.aggregate_image_properties_isolation_separator}" if namespace else ""
    for key, allowed in facts.metadata.items():
        value = request.shape.image_props.get(key) if key.startswith(prefix) else None
        if value and text_of(value) not in allowed:
            return Refusal(f"is kept for images with {key} {', '.join(sorted(allowed))}, not {text_of(value)}")
    return None


FILTER = FactsFilter("AggregateImagePropertiesIsolation", refuse, applies=applies, on_rebuild=True)
