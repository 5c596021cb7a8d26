"""Quotas: a counter per project and resource, moved by conditional updates in the transaction that changes it."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.top_schema import quota_limits, quota_usages, server_index
from cellcloud.model import codec
from cellcloud.model.flavor import Flavor
from cellcloud.model.server import ServerRecord

RESOURCES = ("cores", "instances", "ram")
UNLIMITED = -1


def cost_of(flavor: Flavor, count: int = 1) -> dict[str, int]:
    """What ``count`` servers of a flavor count for."""
    return {"cores": flavor.vcpus * count, "instances": count, "ram": flavor.memory_mb * count}


def list_usages(connection: Connection, project_id: str) -> dict[str, int]:
    """Resource -> what the project uses now."""
    rows = connection.execute(
        sa.select(quota_usages.c.resource, quota_usages.c.used).where(quota_usages.c.project_id == project_id)
    )
    return dict.fromkeys(RESOURCES, 0) | {row.resource: row.used for row in rows}


def list_limits(connection: Connection, project_id: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """Resource -> the project's limit; ``defaults`` where it has none of its own."""
    rows = connection.execute(
        sa.select(quota_limits.c.resource, quota_limits.c.hard_limit).where(quota_limits.c.project_id == project_id)
    )
    return dict(defaults) | {row.resource: row.hard_limit for row in rows}


def set_limits(connection: Connection, project_id: str, limits: Mapping[str, int]) -> None:
    """Give a project limits of its own."""
    for resource, limit in limits.items():
        mine = (quota_limits.c.project_id == project_id, quota_limits.c.resource == resource)
        changed = connection.execute(sa.update(quota_limits).where(*mine).values(hard_limit=limit))
        if changed.rowcount == 0:
            connection.execute(
                sa.insert(quota_limits).values(project_id=project_id, resource=resource, hard_limit=limit)
            )


def delete_limits(connection: Connection, project_id: str) -> None:
    """Back to the defaults."""
    connection.execute(sa.delete(quota_limits).where(quota_limits.c.project_id == project_id))


def reserve(
    connection: Connection, project_id: str, amounts: Mapping[str, int], limits: Mapping[str, int]
) -> str | None:
    """Count ``amounts`` up, each only if it stays within its limit; the resource that did not fit, or None.

    After a refusal the caller must roll back: resources before it in the alphabet are counted already.
    """
    for resource in sorted(amounts):
        if not _move_up(connection, project_id, resource, amounts[resource], limits.get(resource, UNLIMITED)):
            return resource
    return None


def _move_up(connection: Connection, project_id: str, resource: str, amount: int, limit: int) -> bool:
    fits = sa.true() if limit == UNLIMITED else quota_usages.c.used + amount <= limit
    mine = (quota_usages.c.project_id == project_id, quota_usages.c.resource == resource)
    statement = sa.update(quota_usages).where(*mine, fits).values(used=quota_usages.c.used + amount)
    if connection.execute(statement).rowcount == 1:
        return True
    if connection.execute(sa.select(quota_usages.c.used).where(*mine)).one_or_none() is not None:
        return False
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(quota_usages).values(project_id=project_id, resource=resource, used=0))
    except sa.exc.IntegrityError:
        pass  # another request has just made the row
    return connection.execute(statement).rowcount == 1


def release(connection: Connection, project_id: str, amounts: Mapping[str, int]) -> None:
    """Count ``amounts`` down."""
    for resource in sorted(amounts):
        connection.execute(
            sa.update(quota_usages)
            .where(quota_usages.c.project_id == project_id, quota_usages.c.resource == resource)
            .values(used=quota_usages.c.used - amounts[resource])
        )


def refusal(
    resource: str, amounts: Mapping[str, int], usages: Mapping[str, int], limits: Mapping[str, int]
) -> errors.QuotaExceeded:
    """The error that says which limits would be exceeded and by what, in Nova's words."""
    over = [
        name
        for name in sorted(amounts)
        if limits.get(name, UNLIMITED) != UNLIMITED and usages.get(name, 0) + amounts[name] > limits[name]
    ] or [resource]
    names = ", ".join(over)

    def figures(of: Mapping[str, int]) -> str:
        return ", ".join(str(of.get(name, 0)) for name in over)

    return errors.QuotaExceeded(
        f"Quota exceeded for {names}: Requested {figures(amounts)}, but already used {figures(usages)} "
        f"of {figures(limits)} {names}"
    )


def recount(connection: Connection) -> list[tuple[str, str, int, int]]:
    """(project, resource, counted, recomputed from the servers) wherever the two differ."""
    recomputed: dict[tuple[str, str], int] = {}
    rows = connection.execute(
        sa.select(server_index.c.project_id, server_index.c.record).where(server_index.c.quota_held.is_(True))
    )
    for row in rows:
        record: ServerRecord = codec.from_plain(row.record, ServerRecord)
        for resource, amount in cost_of(record.spec.flavor).items():
            key = (row.project_id, resource)
            recomputed[key] = recomputed.get(key, 0) + amount
    counted = {(row.project_id, row.resource): row.used for row in connection.execute(sa.select(quota_usages))}
    return [
        (project, resource, counted.get((project, resource), 0), recomputed.get((project, resource), 0))
        for project, resource in sorted(counted.keys() | recomputed.keys())
        if counted.get((project, resource), 0) != recomputed.get((project, resource), 0)
    ]
