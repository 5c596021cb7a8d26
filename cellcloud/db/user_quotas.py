"""Limits of single users within a project. Where a user has one of servers, cores or memory, their own use is counted
beside it, from the moment it is set, in the transactions that count the project's.

Whoever counts has changed the project's counters before in the same transaction: so they wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db import quotas
from cellcloud.db.engine import racing
from cellcloud.db.quotas import RESOURCES, UNLIMITED
from cellcloud.db.top_schema import server_index, user_quotas

_MINE = (
    user_quotas.c.project_id == sa.bindparam("which_project"),
    user_quotas.c.user_id == sa.bindparam("which_user"),
)
_AMOUNT = sa.case(
    *((user_quotas.c.resource == name, sa.bindparam(f"amount_{name}", type_=sa.BigInteger)) for name in RESOURCES)
)
_COUNT = (
    sa.update(user_quotas)
    .where(*_MINE, user_quotas.c.resource.in_(RESOURCES))
    .values(used=user_quotas.c.used + _AMOUNT)
)
_FOUND = sa.select(user_quotas.c.resource, user_quotas.c.hard_limit, user_quotas.c.used).where(*_MINE)
_OVER = _FOUND.where(user_quotas.c.hard_limit != UNLIMITED, user_quotas.c.used > user_quotas.c.hard_limit)


def count(connection: Connection, project_id: str, user_id: str, amounts: Mapping[str, int]) -> bool:
    """Count ``amounts``, negative ones down, where the user has limits. False: the user is over one of them, which who
    asks for more must roll back for."""
    values = {f"amount_{name}": amounts.get(name, 0) for name in RESOURCES}
    mine = _which(project_id, user_id)
    if not connection.execute(_COUNT, mine | values).rowcount:
        return True
    return connection.execute(_OVER.where(user_quotas.c.resource.in_(RESOURCES)), mine).first() is None


def list_limits(connection: Connection, project_id: str, user_id: str) -> dict[str, int]:
    """Resource -> the user's own limit, of those that they have."""
    return {row.resource: row.hard_limit for row in connection.execute(_FOUND, _which(project_id, user_id))}


def list_counted(connection: Connection, project_id: str, user_id: str) -> dict[str, tuple[int, int]]:
    """Resource -> (limit, what is counted), of servers, cores and memory, where the user has a limit."""
    rows = connection.execute(_FOUND, _which(project_id, user_id))
    return {row.resource: (row.hard_limit, row.used) for row in rows if row.resource in RESOURCES}


def list_given(connection: Connection, project_id: str) -> dict[str, int]:
    """Resource -> the sum of what its users have as limits of their own."""
    total = sa.func.sum(user_quotas.c.hard_limit).label("total")
    bounded = (user_quotas.c.project_id == project_id, user_quotas.c.hard_limit != UNLIMITED)
    rows = connection.execute(sa.select(user_quotas.c.resource, total).where(*bounded).group_by(user_quotas.c.resource))
    return {row.resource: int(row.total) for row in rows}


def list_usages(connection: Connection, project_id: str, user_id: str) -> dict[str, int]:
    """Resource -> what the user's servers in the project come to: as it is counted, where the user has a limit of
    each; else it is summed up, and records are read of those servers only that say what they are counted for."""
    counted = list_counted(connection, project_id, user_id)
    if counted.keys() == set(RESOURCES):
        return {resource: used for resource, (_, used) in counted.items()}
    row = server_index.c
    mine = sa.and_(row.project_id == project_id, row.user_id == user_id)
    told = sa.and_(row.quota_cores.is_not(None), row.quota_ram.is_not(None), row.quota_asked_at.is_(None))
    sums = sa.select(sa.func.count(), sa.func.sum(row.quota_cores), sa.func.sum(row.quota_ram))
    count, cores, ram = connection.execute(sums.where(mine, told, row.quota_held.is_(True))).one()
    used = {"cores": int(cores or 0), "instances": count, "ram": int(ram or 0)}
    for (*_, resource), amount in quotas.costs_of(connection, sa.and_(mine, sa.not_(told)), by_user=True).items():
        used[resource] += amount
    return used


def set_limits(connection: Connection, project_id: str, user_id: str, limits: Mapping[str, int]) -> None:
    """Give a user limits of their own. The first statement of its transaction. Raises LostRace where another request
    was first to."""
    quotas.lock(connection, project_id)
    used = list_usages(connection, project_id, user_id)
    for resource, limit in sorted(limits.items()):
        mine = {"project_id": project_id, "user_id": user_id, "resource": resource}
        row = sa.and_(*(user_quotas.c[name] == value for name, value in mine.items()))
        if connection.execute(sa.update(user_quotas).where(row).values(hard_limit=limit)).rowcount == 0:
            with racing():
                values = {"hard_limit": limit, "used": used.get(resource, 0)}
                connection.execute(sa.insert(user_quotas).values(**mine, **values))


def delete_limits(connection: Connection, project_id: str, user_id: str | None = None) -> None:
    """Back to the project's; without a user, all of its users."""
    mine = [user_quotas.c.project_id == project_id]
    if user_id is not None:
        mine.append(user_quotas.c.user_id == user_id)
    connection.execute(sa.delete(user_quotas).where(*mine))


def _which(project_id: str, user_id: str) -> dict[str, str]:
    return {"which_project": project_id, "which_user": user_id}
