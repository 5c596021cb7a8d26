"""Server groups: servers of a project that are to be together on one host, or apart on several."""

from __future__ import annotations

from dataclasses import dataclass

AFFINITY, ANTI_AFFINITY = "affinity", "anti-affinity"
SOFT_AFFINITY, SOFT_ANTI_AFFINITY = "soft-affinity", "soft-anti-affinity"
RULES = {AFFINITY: "ServerGroupAffinityFilter", ANTI_AFFINITY: "ServerGroupAntiAffinityFilter"}
"""Policies that are kept or else the server is refused, and the filters that see to them; the soft ones only weigh."""
STRICT, FILTERS = frozenset(RULES), frozenset(RULES.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGroup:
    """A group, whose policy never changes; it travels with the servers that are made in it.

    ``max_server_per_host``: how many members a host may have; None: not said, which is one. Of anti-affinity only.
    """

    id: str
    name: str
    project_id: str
    user_id: str
    policy: str
    max_server_per_host: int | None = None

    @property
    def strict(self) -> bool:
        """Whether a host that breaks the policy is refused."""
        return self.policy in STRICT
