"""Where a cell has the members of server groups, and what the groups' policies let a claim do.

Whoever claims for a member of a strict group locks the group's row before it looks where the others are, in the
transaction that makes the claim: so no two claim at once what only one of them may. A server that moves counts on each
host that it has a claim on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.cell_schema import claims, server_groups, servers
from cellcloud.db.claims import Claim
from cellcloud.db.engine import racing
from cellcloud.model.decision import ClaimConflict
from cellcloud.model.server_group import AFFINITY, ServerGroup

CONFLICT = "SERVER_GROUP"  # what a conflict names where a group's policy keeps a host from a member
Hosts = dict[str, set[str]]  # member -> the hosts that it has claims on


def list_hosts(connection: Connection, group_ids: Collection[str]) -> dict[str, Hosts]:
    """Group -> where its members are."""
    found: dict[str, Hosts] = {group_id: {} for group_id in group_ids}
    if not group_ids:
        return found
    query = (
        sa.select(servers.c.group_id, claims.c.server_id, claims.c.host)
        .join_from(servers, claims, claims.c.server_id == servers.c.id)
        .where(servers.c.group_id.in_(sorted(group_ids)), servers.c.deleted.is_(False))
    )
    for group_id, server_id, host in connection.execute(query):
        found[group_id].setdefault(server_id, set()).add(host)
    return found


def lock(connection: Connection, group_ids: Collection[str]) -> dict[str, Hosts]:
    """Keep the groups' rows until the transaction ends; returns where their members are. Call it before any host is
    locked. Raises LostRace where another transaction was first to use a group."""
    mine = server_groups.c.id.in_(sorted(group_ids))
    query = sa.select(server_groups.c.id).where(mine).order_by(server_groups.c.id).with_for_update()
    known = set(connection.execute(query).scalars()) if group_ids else set()
    for group_id in sorted(set(group_ids) - known):
        with racing():
            connection.execute(sa.insert(server_groups).values(id=group_id))
    return list_hosts(connection, group_ids)


class GroupClaims:
    """The strict groups of servers that one transaction claims for. ``groups``: by server."""

    def __init__(self, groups: Mapping[str, ServerGroup]) -> None:
        self._groups = {server_id: group for server_id, group in groups.items() if group.strict}
        self._hosts: dict[str, Hosts] = {}

    def lock(self, connection: Connection) -> None:
        """Look where the members are, from now on until the transaction ends."""
        self._hosts = lock(connection, {group.id for group in self._groups.values()}) if self._groups else {}

    def admit(self, claim: Claim, host: str) -> ClaimConflict | None:
        """Count a claim on that host among its group's; or return why the host is kept from it."""
        group = self._groups.get(claim.server_id)
        if group is None:
            return None
        hosts = self._hosts[group.id]
        others = [theirs for server_id, theirs in hosts.items() if server_id != claim.server_id]
        if group.policy == AFFINITY:
            most, used = 0, sum(bool(theirs - {host}) for theirs in others)
            kept = used > 0
        else:
            most, used = group.max_server_per_host or 1, sum(host in theirs for theirs in others)
            kept = used >= most
        if kept:
            return ClaimConflict(host=host, resource_class=CONFLICT, capacity=most, used=used, wanted=1)
        hosts.setdefault(claim.server_id, set()).add(host)
        return None
