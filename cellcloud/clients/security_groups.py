"""Security groups: what the Compute API passes on of them, and the groups of servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cellcloud.model.security_group import SecurityGroup, SecurityGroupRule

CANNOT_BE_APPLIED = "Network requires port_security_enabled and subnet associated in order to apply security groups."


class SecurityGroupClient(Protocol):
    """Acts for a project: another's things are NotFound. Safe to call from several threads."""

    def list_groups(self, project_id: str | None) -> tuple[SecurityGroup, ...]:
        """Return a project's groups; None: those of all."""
        ...

    def list_names(self, group_ids: Sequence[str]) -> dict[str, str]:
        """Id -> name, of the groups that there are."""
        ...

    def list_groups_of_server(self, server_id: str) -> tuple[SecurityGroup, ...]:
        """Return the groups that the server's ports are in, each once."""
        ...

    def get_group(self, project_id: str, group_id: str) -> SecurityGroup: ...

    def create_group(self, project_id: str, name: str, description: str) -> SecurityGroup:
        """Make a group. Raises QuotaExceeded, Conflict."""
        ...

    def update_group(self, project_id: str, group_id: str, name: str, description: str) -> SecurityGroup: ...

    def delete_group(self, project_id: str, group_id: str) -> None:
        """Delete a group. Raises NotFound, Conflict for one in use."""
        ...

    def create_rule(self, project_id: str, rule: SecurityGroupRule) -> SecurityGroupRule:
        """Add a rule. Raises Invalid, NotFound, QuotaExceeded, Conflict for one that the group has."""
        ...

    def delete_rule(self, project_id: str, rule_id: str) -> None: ...

    def change_server(
        self, project_id: str, server_id: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Put all ports of a server into groups, and out of others, by name or id; return the names of those that
        they are in then. Raises NotFound for a group that there is not, or that no port is in, Conflict for a name of
        several, Invalid for a server whose ports take none."""
        ...
