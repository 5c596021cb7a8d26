"""Claims: who uses how much of which host. The database says who won.

A claim is one conditional UPDATE per host and resource class, checked by its row count, and one row per claim, in one
transaction. Claims for the same host in one call share the UPDATE.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import metrics
from cellcloud.db.cell_schema import claims, inventories
from cellcloud.db.engine import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Room for one server on one host: resource class -> amount."""

    server_id: str
    host: str
    resources: Mapping[str, int]


class _Full(Exception):
    """Rolls the savepoint back."""


def claim(connection: Connection, wanted: Sequence[Wanted]) -> set[str]:
    """Take room for each; returns the ids of those that lost. Those hold nothing."""
    lost: set[str] = set()
    by_host: dict[str, list[Wanted]] = defaultdict(list)
    for item in wanted:
        by_host[item.host].append(item)
    for host in sorted(by_host):
        items = by_host[host]
        if _claim_together(connection, host, items):
            continue
        if len(items) == 1:
            lost.add(items[0].server_id)
            continue
        lost.update(item.server_id for item in items if not _claim_together(connection, host, [item]))
    metrics.CLAIMS.labels("won").inc(len(wanted) - len(lost))
    metrics.CLAIMS.labels("lost").inc(len(lost))
    return lost


def _claim_together(connection: Connection, host: str, items: Sequence[Wanted]) -> bool:
    total: Counter[str] = Counter()
    for item in items:
        total.update({name: amount for name, amount in item.resources.items() if amount})
    try:
        with connection.begin_nested():
            for name in sorted(total):
                changed = connection.execute(
                    sa.update(inventories)
                    .where(
                        inventories.c.host == host,
                        inventories.c.resource_class == name,
                        inventories.c.used + total[name] <= inventories.c.capacity,
                    )
                    .values(used=inventories.c.used + total[name])
                )
                if changed.rowcount != 1:
                    raise _Full
            rows = [
                {"server_id": item.server_id, "host": host, "resource_class": name, "amount": amount}
                for item in items
                for name, amount in item.resources.items()
                if amount
            ]
            if rows:
                connection.execute(sa.insert(claims).values(created_at=utc_now()), rows)
    except _Full:
        return False
    return True


def release(connection: Connection, server_ids: Sequence[str]) -> None:
    """Give back all that the servers hold; what holds nothing is left alone. Idempotent."""
    if not server_ids:
        return
    rows = connection.execute(
        sa.select(claims)
        .where(claims.c.server_id.in_(server_ids))
        .order_by(claims.c.host, claims.c.resource_class, claims.c.server_id)
    ).all()
    given_back: Counter[tuple[str, str]] = Counter()
    for row in rows:
        gone = connection.execute(
            sa.delete(claims).where(
                claims.c.server_id == row.server_id,
                claims.c.host == row.host,
                claims.c.resource_class == row.resource_class,
            )
        )
        if gone.rowcount == 1:
            given_back[(row.host, row.resource_class)] += row.amount
    for (host, name), amount in sorted(given_back.items()):
        connection.execute(
            sa.update(inventories)
            .where(inventories.c.host == host, inventories.c.resource_class == name)
            .values(used=inventories.c.used - amount)
        )


def list_mismatches(connection: Connection) -> list[tuple[str, str, int, int]]:
    """(host, resource class, used as counted, sum of its claims) where the two differ."""
    held = (
        sa.select(claims.c.host, claims.c.resource_class, sa.func.sum(claims.c.amount).label("held"))
        .group_by(claims.c.host, claims.c.resource_class)
        .subquery()
    )
    rows = connection.execute(
        sa.select(
            inventories.c.host,
            inventories.c.resource_class,
            inventories.c.used,
            sa.func.coalesce(held.c.held, 0).label("held"),
        )
        .select_from(
            inventories.outerjoin(
                held,
                (inventories.c.host == held.c.host) & (inventories.c.resource_class == held.c.resource_class),
            )
        )
        .where(inventories.c.used != sa.func.coalesce(held.c.held, 0))
    )
    return [(row.host, row.resource_class, int(row.used), int(row.held)) for row in rows]


def list_owners(connection: Connection) -> list[str]:
    """Ids of servers that hold a claim."""
    return [row.server_id for row in connection.execute(sa.select(claims.c.server_id).distinct())]
