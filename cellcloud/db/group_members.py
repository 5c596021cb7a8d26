"""Where a cell has the members of server groups, and what the groups' policies let a claim do.

Whoever claims for a member of a strict group locks the group's row before it looks where the others are, in the
transaction that makes the claim: so no two claim at once what only one of them may. A server that moves counts on each
host that it has a claim on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.cell_schema import claims, server_groups, servers
from cellcloud.db.claims import Claim
from cellcloud.db.engine import racing
from cellcloud.model import codec
from cellcloud.model.decision import ClaimConflict
from cellcloud.model.server import ServerSpec
from cellcloud.model.server_group import AFFINITY, ServerGroup

CONFLICT = "SERVER_GROUP"  # what a conflict names where a group's policy keeps a host from a member
Hosts = dict[str, set[str]]  # member -> the hosts that it has claims on
_AT_ONCE = 500
_HOSTS = (
    sa.select(servers.c.group_id, claims.c.server_id, claims.c.host)
    .join_from(servers, claims, claims.c.server_id == servers.c.id)
    .where(servers.c.deleted.is_(False))
)


def list_hosts(connection: Connection, group_ids: Collection[str]) -> dict[str, Hosts]:
    """Group -> where its members are."""
    found: dict[str, Hosts] = {group_id: {} for group_id in group_ids}
    if not group_ids:
        return found
    for group_id, server_id, host in connection.execute(_HOSTS.where(servers.c.group_id.in_(sorted(group_ids)))):
        found[group_id].setdefault(server_id, set()).add(host)
    return found


def list_held(connection: Connection, group_ids: Collection[str]) -> dict[str, set[str]]:
    """Group -> its members that are held: nobody knows yet whether they stay."""
    found: dict[str, set[str]] = {group_id: set() for group_id in group_ids}
    held = (servers.c.held.is_(True), servers.c.deleted.is_(False))
    query = sa.select(servers.c.group_id, servers.c.id).where(servers.c.group_id.in_(sorted(group_ids)), *held)
    for group_id, server_id in connection.execute(query) if group_ids else ():
        found[group_id].add(server_id)
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


def list_broken(connection: Connection) -> list[tuple[ServerGroup, Hosts]]:
    """Strict groups whose members are not where the policy has them, as guests that were adopted may be: looks at the
    claims of all servers in groups."""
    found: dict[str, Hosts] = {}
    for group_id, server_id, host in connection.execute(_HOSTS.where(servers.c.group_id.is_not(None))):
        found.setdefault(group_id, {}).setdefault(server_id, set()).add(host)
    members = sorted(min(hosts) for hosts in found.values() if len(hosts) > 1)
    broken: list[tuple[ServerGroup, Hosts]] = []
    for first in range(0, len(members), _AT_ONCE):
        query = sa.select(servers.c.spec).where(servers.c.id.in_(members[first : first + _AT_ONCE]))
        for spec in connection.execute(query).scalars():
            group: ServerGroup | None = codec.from_plain(spec, ServerSpec).group
            if group is not None and group.strict and _breaks(group, found[group.id]):
                broken.append((group, found[group.id]))
    return broken


def _breaks(group: ServerGroup, hosts: Hosts) -> bool:
    used = Counter(host for theirs in hosts.values() for host in theirs)
    return len(used) > 1 if group.policy == AFFINITY else max(used.values()) > (group.max_server_per_host or 1)


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
