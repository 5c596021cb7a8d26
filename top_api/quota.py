"""The limits of a project, and room within them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.config import QuotaConfig
from cellcloud.db import quotas
from cellcloud.db.engine import Connection
from cellcloud.db.quotas import UNLIMITED

INJECTED = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
"""Files are not injected: none may be."""
NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules", "networks")
"""Limits of the network service, which has its own."""


def defaults(config: QuotaConfig) -> dict[str, int]:
    """Resource -> limit of a project without limits of its own."""
    return {
        "instances": config.instances,
        "cores": config.cores,
        "ram": config.ram,
        "key_pairs": config.key_pairs,
        "metadata_items": config.metadata_items,
        "server_groups": config.server_groups,
        "server_group_members": config.server_group_members,
        **dict.fromkeys(INJECTED, 0),
        **dict.fromkeys(NETWORK, UNLIMITED),
    }


def limits_of(connection: Connection, project_id: str, config: QuotaConfig) -> dict[str, int]:
    """Resource -> the limit that counts for the project: what every check and every view asks."""
    return quotas.list_limits(connection, project_id, defaults(config))


def settable(given: Mapping[str, Any]) -> dict[str, int]:
    """The limits in a body. Raises Invalid for one that would be shown and not be kept."""
    found = {name: int(limit) for name, limit in given.items() if name != "force"}
    for name, limit in found.items():
        if limit != {**dict.fromkeys(INJECTED, 0), **dict.fromkeys(NETWORK, UNLIMITED)}.get(name, limit):
            raise errors.Invalid(f"The limit of {name} is not kept here and cannot be set.")
    return found


def check_metadata(connection: Connection, project_id: str, config: QuotaConfig, count: int) -> int:
    """The limit of a server's metadata items. Raises QuotaExceeded for more."""
    most = limits_of(connection, project_id, config)["metadata_items"]
    if UNLIMITED < most < count:
        raise errors.QuotaExceeded(f"Maximum number of metadata items exceeds {most}")
    return most


def how_many_fit(cost: dict[str, int], usages: dict[str, int], limits: dict[str, int]) -> int | None:
    """How many servers of that cost the project may still have; None: no limit applies."""
    bounds = [
        (limits[resource] - usages.get(resource, 0)) // amount
        for resource, amount in cost.items()
        if amount > 0 and limits.get(resource, UNLIMITED) != UNLIMITED
    ]
    return min(bounds) if bounds else None
