"""Server groups, which projects make at the top. Their members are the servers of the index that name them; a group's
row is locked by whoever adds a member and whoever gives one to a cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import quotas
from cellcloud.db.engine import racing, utc_now
from cellcloud.db.quotas import UNLIMITED
from cellcloud.db.top_schema import server_groups, server_index
from cellcloud.model.server_group import ServerGroup

QUOTA = "server_groups"
_FIELDS = [server_groups.c[name] for name in ServerGroup.__slots__]


def create(connection: Connection, group: ServerGroup, *, most: int, most_of_user: int) -> None:
    """Store a server group. Raises QuotaExceeded when the project has ``most`` already, or the user ``most_of_user`` of
    them."""
    mine = server_groups.c.project_id == group.project_id
    have = sa.select(sa.func.count()).select_from(server_groups).where(mine)
    fits = quotas.fits(connection, group.project_id, QUOTA, have, 1, most)
    used = count(connection, group.project_id, group.user_id) if most_of_user != UNLIMITED else 0
    if not fits or UNLIMITED < most_of_user <= used:
        raise errors.QuotaExceeded("Quota exceeded, too many server groups.")
    connection.execute(sa.insert(server_groups).values(**_values(group), created_at=utc_now()))


def count(connection: Connection, project_id: str, user_id: str | None = None) -> int:
    """Return how many groups a project has, or a user of them."""
    mine = [server_groups.c.project_id == project_id]
    if user_id is not None:
        mine.append(server_groups.c.user_id == user_id)
    return connection.execute(sa.select(sa.func.count()).select_from(server_groups).where(*mine)).scalar_one()


def get(connection: Connection, group_id: str, project_id: str | None) -> ServerGroup:
    """Return a server group. Raises NotFound; also for a group of another project than that, if one is given."""
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
    for row in connection.execute(
        _members(group_ids, "group_id", "id").order_by(server_index.c.created_at, server_index.c.id)
    ):
        found[row.group_id].append(row.id)
    return found


def _members(group_ids: Collection[str], *names: str) -> sa.Select[Any]:
    mine = (server_index.c.group_id.in_(sorted(group_ids)), server_index.c.deleted.is_(False))
    return sa.select(*(server_index.c[name] for name in names)).where(*mine)


def check_members(
    connection: Connection, more: Mapping[tuple[str, str], int], most: Mapping[tuple[str, str], int]
) -> None:
    """Check that users may have so many more servers in groups, by (group, user), where they may have ``most``.

    The groups' rows are kept until the transaction ends, so that who asks after this one counts its servers. Raises
    Invalid where a group is gone, QuotaExceeded.
    """
    if not more:
        return
    groups = {group_id for group_id, _ in more}
    gone = groups - find(connection, groups, lock=True).keys()
    if gone:
        raise errors.Invalid(f"Instance group {min(gone)} could not be found.")
    living = (server_index.c.group_id.in_(sorted(groups)), server_index.c.deleted.is_(False))
    names = (server_index.c.group_id, server_index.c.user_id)
    query = sa.select(*names, sa.func.count().label("have")).where(*living).group_by(*names)
    have = {(row.group_id, row.user_id): row.have for row in connection.execute(query)}
    for key, wanted in more.items():
        if UNLIMITED < most[key] < have.get(key, 0) + wanted:
            raise errors.QuotaExceeded("Quota exceeded, too many servers in group")


def list_cells(connection: Connection, group_ids: Collection[str], *, lock: bool = False) -> dict[str, set[str]]:
    """Group -> the cells that have members of it, of groups that are still there. ``lock`` keeps the groups' rows until
    the transaction ends: nobody else gives a member to a cell meanwhile."""
    there = find(connection, group_ids, lock=lock)
    found: dict[str, set[str]] = {group_id: set() for group_id in there}
    placed = _members(there, "group_id", "cell").where(server_index.c.cell != "").distinct()
    for row in connection.execute(placed) if there else ():
        found[row.group_id].add(row.cell)
    return found


def adopt(connection: Connection, group: ServerGroup) -> None:
    """Make a group again that a server found in a cell is in, where it is not known: the database was put back to a
    time before it. Raises LostRace where another was first to."""
    if not find(connection, [group.id]):
        with racing():
            connection.execute(sa.insert(server_groups).values(**_values(group), created_at=utc_now()))


def _values(group: ServerGroup) -> dict[str, Any]:
    return {name: getattr(group, name) for name in ServerGroup.__slots__}
