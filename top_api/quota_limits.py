"""The limits of a project, and room within them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cellcloud import errors
from cellcloud.config import QuotaConfig
from cellcloud.db import quotas, user_quotas
from cellcloud.db.engine import Connection
from cellcloud.db.quotas import UNLIMITED

INJECTED = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
"""Files are not injected: none may be."""
NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")
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


def limits_of_user(connection: Connection, project_id: str, user_id: str, config: QuotaConfig) -> dict[str, int]:
    """Resource -> the user's own limit within the project, where they have one, else the project's."""
    return limits_of(connection, project_id, config) | user_quotas.list_limits(connection, project_id, user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaScope:
    """Servers, cores and memory of a project, or of a user within it: what counts, and against which limits."""

    limits: Mapping[str, int]
    usages: Mapping[str, int]

    def how_many_fit(self, cost: Mapping[str, int]) -> int | None:
        """Return how many servers of that cost there is room for; None: no limit applies."""
        bounds = [
            (self.limits[resource] - self.usages.get(resource, 0)) // amount
            for resource, amount in cost.items()
            if amount > 0 and self.limits.get(resource, UNLIMITED) != UNLIMITED
        ]
        return min(bounds) if bounds else None


def scopes_of(connection: Connection, project_id: str, user_id: str, config: QuotaConfig) -> list[QuotaScope]:
    """Return the project's, and the user's own where they have limits."""
    usages = quotas.list_usages(connection, project_id)
    scopes = [QuotaScope(limits=limits_of(connection, project_id, config), usages=usages)]
    if counted := user_quotas.list_counted(connection, project_id, user_id):
        limits, used = ({name: pair[place] for name, pair in counted.items()} for place in (0, 1))
        scopes.append(QuotaScope(limits=limits, usages=used))
    return scopes


def refusal(
    connection: Connection, project_id: str, user_id: str, config: QuotaConfig, cost: Mapping[str, int]
) -> errors.QuotaExceeded:
    """Return the error of servers of that cost that were found not to fit."""
    scopes = scopes_of(connection, project_id, user_id, config)
    over = [scope for scope in scopes if (room := scope.how_many_fit(cost)) is not None and room < 1]
    full = over[-1] if over else scopes[0]
    return quotas.refusal(cost, full.usages, full.limits)


def most_of_user(connection: Connection, project_id: str, user_id: str, config: QuotaConfig, resource: str) -> int:
    """Return the limit of what is not counted across a project: the lower of the project's and the user's own."""
    limits = (limits_of(connection, project_id, config), user_quotas.list_limits(connection, project_id, user_id))
    bounds = [each[resource] for each in limits if each.get(resource, UNLIMITED) != UNLIMITED]
    return min(bounds, default=UNLIMITED)


def settable(given: Mapping[str, Any]) -> dict[str, int]:
    """Return the limits in a body. Raises Invalid for one that would be shown and not be kept."""
    found = {name: int(limit) for name, limit in given.items() if name != "force"}
    for name, limit in found.items():
        if limit != {**dict.fromkeys(INJECTED, 0), **dict.fromkeys(NETWORK, UNLIMITED)}.get(name, limit):
            raise errors.Invalid(f"The limit of {name} is not kept here and cannot be set.")
    return found


def check_metadata(connection: Connection, project_id: str, user_id: str, config: QuotaConfig, count: int) -> int:
    """Return the limit of a server's metadata items. Raises QuotaExceeded for more."""
    most = most_of_user(connection, project_id, user_id, config, "metadata_items")
    if UNLIMITED < most < count:
        raise errors.QuotaExceeded(f"Maximum number of metadata items exceeds {most}")
    return most
