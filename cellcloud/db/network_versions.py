"""Versions of networks, security groups and routers: each grows in the transaction that changes what a host must know,
so who follows them misses nothing.

What hosts know of a network: the network, its subnets, its ports with their addresses and groups (the network's
version); the rules of those groups, and what is in the groups that the rules name (the groups' versions); the routers
with a port on it and their floating IPs (the routers' versions).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.network_schema import routers, security_groups
from cellcloud.db.top_schema import networks


def _raise_of(table: sa.Table) -> sa.Update:
    mine = table.c.id.in_(sa.bindparam("ids", expanding=True))
    return sa.update(table).where(mine).values(version=table.c.version + 1)


_TABLES = (networks, security_groups, routers)
_NETWORKS, _GROUPS, _ROUTERS = (_raise_of(table) for table in _TABLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Id -> version of all that there are."""

    networks: dict[str, int]
    security_groups: dict[str, int]
    routers: dict[str, int]


def raise_versions(
    c: Connection, *, networks: Collection[str] = (), groups: Collection[str] = (), routers: Collection[str] = ()
) -> None:
    """Let them grow. Whoever else changes the same waits until this transaction ends, so a transaction begins with
    it where it can."""
    for statement, ids in ((_NETWORKS, networks), (_GROUPS, groups), (_ROUTERS, routers)):
        if ids:
            c.execute(statement, {"ids": sorted(set(ids))})


def overtake(
    c: Connection,
    *,
    networks: Collection[tuple[str, int]],
    groups: Collection[tuple[str, int]],
    routers: Collection[tuple[str, int]],
) -> None:
    """Let (id, version) grow above the version that somebody has seen of it already."""
    for table, seen in ((_TABLES[0], networks), (_TABLES[1], groups), (_TABLES[2], routers)):
        for one, version in sorted(seen):
            mine = (table.c.id == one, table.c.version <= version)
            c.execute(sa.update(table).where(*mine).values(version=version + 1))


def list_versions(c: Connection) -> Versions:
    """Return the version of everything."""
    found = [
        dict(c.execute(sa.select(table.c.id, table.c.version)).all()) for table in (networks, security_groups, routers)
    ]
    return Versions(networks=found[0], security_groups=found[1], routers=found[2])
