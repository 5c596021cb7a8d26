"""The limits of a project, and room within them."""

from __future__ import annotations

from cellcloud.config import QuotaConfig
from cellcloud.db.quotas import UNLIMITED


def defaults(config: QuotaConfig) -> dict[str, int]:
    """Resource -> limit of a project without limits of its own."""
    return {
        "instances": config.instances,
        "cores": config.cores,
        "ram": config.ram,
        "key_pairs": config.key_pairs,
        "metadata_items": config.metadata_items,
    }


def how_many_fit(cost: dict[str, int], usages: dict[str, int], limits: dict[str, int]) -> int | None:
    """How many servers of that cost the project may still have; None: no limit applies."""
    bounds = [
        (limits[resource] - usages.get(resource, 0)) // amount
        for resource, amount in cost.items()
        if amount > 0 and limits.get(resource, UNLIMITED) != UNLIMITED
    ]
    return min(bounds) if bounds else None
