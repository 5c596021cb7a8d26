"""An image's properties must be among those that the host's aggregates name.

Source: Nova's AggregateImagePropertiesIsolation. Keys that no image can have say nothing.
"""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass
from cellcloud.model.image_properties import text_of


def applies(request: SchedulingRequest, context: FilterContext) -> bool:
    return bool(request.shape.image_props)


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host in an aggregate for other images."""
    options = context.options
    namespace = options.aggregate_image_properties_isolation_namespace
    prefix = f"{namespace}{options.aggregate_image_properties_isolation_separator}" if namespace else ""
    for key, allowed in host_class.metadata.items():
        value = request.shape.image_props.get(key) if key.startswith(prefix) else None
        if value and text_of(value) not in allowed:
            return HostRefusal(f"is kept for images with {key} {', '.join(sorted(allowed))}, not {text_of(value)}")
    return None


FILTER = HostClassFilter("AggregateImagePropertiesIsolation", refuse, applies=applies, on_rebuild=True)
