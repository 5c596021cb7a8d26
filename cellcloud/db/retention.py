"""What a database forgets: things that are over, older than their options say and needed by nobody, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import metrics
from cellcloud.db import cell_schema as cell
from cellcloud.db import top_schema as top
from cellcloud.db import usage
from cellcloud.db.engine import Database, retried, utc_after
from cellcloud.model import migration

AT_ONCE = 500  # rows of a table in one transaction
DAY = 86400.0
SILENT_SERVICE = 7 * DAY


def purge_cell(database: Database, *, deleted_days: float, runs_days: float) -> Mapping[str, int]:
    """Forget deleted servers, groups without any, finished runs, and services that are gone; returns how many rows went
    of which table.

    A deleted server's row is what has a guest destroyed that turns up late: it stays until its host, or every host
    where the row names none, has shown since that it holds nothing that is to go.
    """
    runs = (cell.runs.c.active.is_(None), cell.runs.c.finished_at < utc_after(-runs_days * DAY))
    silent = cell.services.c.last_seen < utc_after(-SILENT_SERVICE)
    unused = sa.not_(sa.exists().where(cell.servers.c.group_id == cell.server_groups.c.id))
    return {
        "servers": _purge(database, cell.servers, *_confirmed_deletes(deleted_days)),
        "server_groups": _purge(database, cell.server_groups, unused),
        "runs": _purge(database, cell.runs, *runs),
        "services": _purge(database, cell.services, silent),
    }


def purge_top(
    database: Database, *, deleted_days: float, keys_days: float, usage_days: float = 400.0
) -> Mapping[str, int]:
    """Forget deleted servers (what they used is kept for ``usage_days``) and their moves, moves of others that are over
    for as long as that, clients' keys, and services that are gone; returns how many rows went of which table."""
    index = top.server_index.c
    deleted = (index.deleted.is_(True), index.quota_held.is_(False), index.deleted_at < utc_after(-deleted_days * DAY))
    wanted = sa.exists().where(top.intents.c.server_id == index.id)  # until the outbox has forgotten it
    keys = top.idempotency_keys.c.created_at < utc_after(-keys_days * DAY)
    silent = top.services.c.last_seen < utc_after(-SILENT_SERVICE)
    used = top.past_servers.c.terminated_at < utc_after(-usage_days * DAY)
    moves = _moves(deleted_days, usage_days)
    return {
        "server_index": _purge(database, top.server_index, *deleted, sa.not_(wanted), keep=usage.keep),
        "past_servers": _purge(database, top.past_servers, used),
        "migrations": _purge(database, top.migrations, moves),
        "idempotency_keys": _purge(database, top.idempotency_keys, keys),
        "services": _purge(database, top.services, silent),
    }


def _moves(deleted_days: float, living_days: float) -> sa.ColumnElement[bool]:
    """Those of forgotten servers; and old ones that servers' records tell of no more."""
    moves, later = top.migrations.c, top.migrations.alias().c
    there = sa.exists().where(top.server_index.c.id == moves.server_id)
    after = sa.select(sa.func.count()).where(later.server_id == moves.server_id, later.id > moves.id).scalar_subquery()
    return sa.or_(
        sa.and_(moves.created_at < utc_after(-deleted_days * DAY), sa.not_(there)),
        sa.and_(
            moves.created_at < utc_after(-living_days * DAY),
            moves.status.in_(sorted(migration.OVER)),
            after >= migration.TOLD,
        ),
    )


def count_unconfirmed(connection: Connection, days: float) -> dict[str, int]:
    """Host -> deleted servers older than that whose rows wait for the host's word; "" stands for all hosts."""
    servers = cell.servers.c
    old = (servers.deleted.is_(True), servers.terminated_at < utc_after(-days * DAY), sa.not_(_is_confirmed()))
    query = sa.select(servers.host, sa.func.count().label("n")).where(*old).group_by(servers.host)
    return {row.host or "": row.n for row in connection.execute(query)}


def _confirmed_deletes(days: float) -> tuple[sa.ColumnElement[bool], ...]:
    servers, runs = cell.servers.c, cell.runs.c
    leaving = sa.exists().where(runs.server_id == servers.id, runs.active == 1)  # until its host has come back
    return servers.deleted.is_(True), servers.terminated_at < utc_after(-days * DAY), sa.not_(leaving), _is_confirmed()


def _is_confirmed() -> sa.ColumnElement[bool]:
    """Each of the two looks at hosts by their key, or only for the few rows that name none."""
    servers, hosts = cell.servers.c, cell.hosts.c
    silent = sa.or_(hosts.compared_at.is_(None), hosts.compared_at <= servers.terminated_at)
    its_own = sa.exists().where(hosts.host == servers.host, silent)
    any_host = sa.exists().where(silent).correlate(cell.servers)
    return sa.and_(sa.not_(its_own), sa.or_(servers.host.is_not(None), sa.not_(any_host)))


@retried
def _purge(
    database: Database,
    table: sa.Table,
    *rows: sa.ColumnElement[bool],
    keep: Callable[[Connection, Sequence[str]], None] | None = None,
) -> int:
    """Delete some of those rows. ``keep`` stores, in the same transaction, what is to stay of those keys'."""
    keys = list(table.primary_key.columns)
    with database.read() as connection:
        found = connection.execute(sa.select(*keys).where(*rows).limit(AT_ONCE)).all()
    if not found:
        return 0
    with database.write() as connection:
        chosen: sa.ColumnElement[Any] = keys[0].in_([row[0] for row in found])
        if keep is not None:
            keep(
                connection,
                list(connection.execute(sa.select(keys[0]).where(chosen, *rows).with_for_update()).scalars()),
            )
        if len(keys) > 1:
            chosen = sa.tuple_(*keys).in_([tuple(row) for row in found])
        count = connection.execute(sa.delete(table).where(chosen, *rows)).rowcount
    return note(table.name, count)


def note(table: str, rows: int) -> int:
    """Count rows that a table has forgotten; returns how many."""
    metrics.PURGED.labels(table).inc(rows)
    return rows
