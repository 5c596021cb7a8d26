"""Server groups, which projects make at the top. Their members are the servers of the index that name them; a group's
row is locked by whoever adds a member and whoever gives one to a cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import quotas
from cellcloud.db.engine import utc_now
from cellcloud.db.quotas import UNLIMITED
from cellcloud.db.top_schema import server_groups, server_index
from cellcloud.model.server_group import ServerGroup

QUOTA = "server_groups"
_FIELDS = [server_groups.c[name] for name in ServerGroup.__slots__]


def create(connection: Connection, group: ServerGroup, *, most: int, most_of_user: int) -> None:
    """Raises QuotaExceeded when the project has ``most`` already, or the user ``most_of_user`` of them."""
    mine = server_groups.c.project_id == group.project_id
    have = sa.select(sa.func.count()).select_from(server_groups).where(mine)
    fits = quotas.fits(connection, group.project_id, QUOTA, have, 1, most)
    used = count(connection, group.project_id, group.user_id) if most_of_user != UNLIMITED else 0
    if not fits or UNLIMITED < most_of_user <= used:
        raise errors.QuotaExceeded("Quota exceeded, too many server groups.")
    values = {name: getattr(group, name) for name in ServerGroup.__slots__}
    connection.execute(sa.insert(server_groups).values(**values, created_at=utc_now()))


def count(connection: Connection, project_id: str, user_id: str | None = None) -> int:
    """Return how many groups a project has, or a user of them."""
    mine = [server_groups.c.project_id == project_id]
    if user_id is not None:
        mine.append(server_groups.c.user_id == user_id)
    return connection.execute(sa.select(sa.func.count()).select_from(server_groups).where(*mine)).scalar_one()


def get(connection: Connection, group_id: str, project_id: str | None) -> ServerGroup:
    """Raises NotFound; also for a group of another project than that, if one is given."""
    found = find(connection, [group_id]).get(group_id)
    if found is None or project_id not in (None, found.project_id):
        raise errors.NotFound(f"Instance group {group_id[:64]} could not be found.")
    return found


def find(connection: Connection, group_ids: Collection[str], *, lock: bool = False) -> dict[str, ServerGroup]:
    """Those of the groups that there are. ``lock`` keeps their rows, in the order of their ids, until the transaction
    ends."""
    if not group_ids:
        return {}
    query = sa.select(*_FIELDS).where(server_groups.c.id.in_(sorted(group_ids))).order_by(server_groups.c.id)
    rows = connection.execute(query.with_for_update() if lock else query)
    return {row.id: ServerGroup(**row._mapping) for row in rows}


def list_page(connection: Connection, project_id: str | None, *, limit: int, offset: int) -> list[ServerGroup]:
    """Return groups of a project, or of all, in the order in which they were made."""
    query = sa.select(*_FIELDS).order_by(server_groups.c.created_at, server_groups.c.id).limit(limit).offset(offset)
    if project_id is not None:
        query = query.where(server_groups.c.project_id == project_id)
    return [ServerGroup(**row._mapping) for row in connection.execute(query)]


def delete(connection: Connection, group_id: str) -> None:
    """Forget a group; its members stay as they are. Raises NotFound."""
    if connection.execute(sa.delete(server_groups).where(server_groups.c.id == group_id)).rowcount == 0:
        raise errors.NotFound(f"Instance group {group_id[:64]} could not be found.")


def list_members(connection: Connection, group_ids: Sequence[str]) -> dict[str, list[str]]:
    """Group -> the servers in it, in the order in which they were made."""
    found: dict[str, list[str]] = {group_id: [] for group_id in group_ids}
    for row in connection.execute(_members(group_ids).order_by(server_index.c.created_at, server_index.c.id)):
        found[row.group_id].append(row.id)
    return found


def _members(group_ids: Collection[str]) -> sa.Select[Any]:
    names = ("id", "group_id", "user_id", "cell")
    mine = (server_index.c.group_id.in_(sorted(group_ids)), server_index.c.deleted.is_(False))
    return sa.select(*(server_index.c[name] for name in names)).where(*mine)


def check_members(connection: Connection, group_id: str, user_id: str, more: int, most: int) -> None:
    """Keep the group's row until the transaction ends, so that who asks after this one counts its servers. Raises
    Invalid where the group is gone, QuotaExceeded where the user would have more than ``most`` servers in it."""
    if group_id not in find(connection, [group_id], lock=True):
        raise errors.Invalid(f"Instance group {group_id} could not be found.")
    mine = (server_index.c.group_id == group_id, server_index.c.deleted.is_(False), server_index.c.user_id == user_id)
    have = connection.execute(sa.select(sa.func.count()).select_from(server_index).where(*mine)).scalar_one()
    if UNLIMITED < most < have + more:
        raise errors.QuotaExceeded("Quota exceeded, too many servers in group")


def list_cells(connection: Connection, group_ids: Collection[str]) -> dict[str, set[str]]:
    """Group -> the cells that have members of it, of groups that are still there."""
    there = find(connection, group_ids)
    found: dict[str, set[str]] = {group_id: set() for group_id in there}
    for row in connection.execute(_members(there).distinct().where(server_index.c.cell != "")) if there else ():
        found[row.group_id].add(row.cell)
    return found


def adopt(connection: Connection, groups: Mapping[str, ServerGroup]) -> None:
    """Make groups again that members found in a cell name and that are not known, since the database was put back to
    a time before them."""
    for group_id in sorted(groups.keys() - find(connection, groups).keys()):
        values = {name: getattr(groups[group_id], name) for name in ServerGroup.__slots__}
        connection.execute(sa.insert(server_groups).values(**values, created_at=utc_now()))
