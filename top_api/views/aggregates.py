"""How aggregates are shown, by microversion."""

from __future__ import annotations

from typing import Any

from cellcloud.model.host import Aggregate
from top_api.microversion import Microversion
from top_api.views.times import show_microsecond


def show_new(aggregate: Aggregate, version: Microversion) -> dict[str, Any]:
    """Return what a create answers: without hosts and metadata."""
    shown = {
        "id": aggregate.id,
        "name": aggregate.name,
        "availability_zone": aggregate.zone,
        "created_at": show_microsecond(aggregate.created_at),
        "updated_at": show_microsecond(aggregate.updated_at),
        "deleted_at": None,
        "deleted": False,
    }
    return {**shown, "uuid": aggregate.uuid} if version >= (2, 41) else shown


def show(aggregate: Aggregate, version: Microversion) -> dict[str, Any]:
    """Return the whole aggregate."""
    return {**show_new(aggregate, version), "hosts": list(aggregate.hosts), "metadata": dict(aggregate.metadata)}
