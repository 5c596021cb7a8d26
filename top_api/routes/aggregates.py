"""/os-aggregates: this cloud has none yet, and says so to clients that look."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from top_api.routing import Call, Resource

aggregates = Resource("os-aggregates")


@aggregates.route("GET", "/os-aggregates", "os_compute_api:os-aggregates:index")
def list_aggregates(call: Call) -> dict[str, Any]:
    return {"aggregates": []}


@aggregates.route("GET", "/os-aggregates/<aggregate_id>", "os_compute_api:os-aggregates:show")
def show(call: Call, aggregate_id: str) -> dict[str, Any]:
    raise errors.NotFound(f"Aggregate {aggregate_id[:64]} could not be found.")
