"""Which history a database tells: an id that changes when it was put back to an earlier state.

Both trees have the table, with one row. In a cell, what orders copies and commands begins anew far above what anybody
can have seen: versions, generations and the sequences of feed and change log, whose entries go. So each follower finds
a gap, reads the whole, and takes it for newer than all it knows.
"""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db import cell_schema
from cellcloud.db.engine import racing, utc_now
from cellcloud.db.top_schema import incarnations as table
from cellcloud.model.incarnation import Incarnation

LEAP = 1 << 32  # more changes than one incarnation of a cell ever sees


def find(connection: Connection) -> Incarnation | None:
    """None: the database has none yet."""
    row = connection.execute(sa.select(table.c.value, table.c.number, table.c.since, table.c.reason)).one_or_none()
    return None if row is None else Incarnation(id=row.value, number=row.number, since=row.since, reason=row.reason)


def ensure(connection: Connection) -> Incarnation:
    """The present one, made if there is none."""
    found = find(connection)
    if found is None:
        with racing():
            values = {"id": 1, "value": str(uuid.uuid4()), "number": 1, "since": utc_now(), "reason": "first start"}
            connection.execute(sa.insert(table).values(values))
        found = find(connection)
    assert found is not None  # noqa: S101 -- just made
    return found


def begin_in_top(connection: Connection, reason: str) -> Incarnation:
    """Begin another one of the top's database: every intent accepted before asks all cells before it is placed."""
    _begin(connection, ensure(connection).id, reason)
    return ensure(connection)


def notice_in_top(connection: Connection, lost_since: dt.datetime) -> None:
    """Something of the top's database is lost that was stored after ``lost_since``: begin another incarnation, unless
    one has begun since then."""
    if ensure(connection).since < lost_since:
        begin_in_top(connection, "a cell runs what waits for a cell here")


def begin_in_cell(connection: Connection, known: str, reason: str) -> Incarnation:
    """Begin another one of a cell's database, unless ``known`` is not the present one any more; returns the present
    one."""
    if ensure(connection).id == known and _begin(connection, known, reason):
        _leap(connection)
    return ensure(connection)


def _begin(connection: Connection, known: str, reason: str) -> bool:
    values = {"value": str(uuid.uuid4()), "number": table.c.number + 1, "since": utc_now(), "reason": reason[:255]}
    return connection.execute(sa.update(table).where(table.c.value == known).values(values)).rowcount == 1


def _leap(connection: Connection) -> None:
    servers, runs = cell_schema.servers, cell_schema.runs
    connection.execute(sa.update(servers).values(version=servers.c.version + LEAP))
    living = (servers.c.generation > 0, servers.c.deleted.is_(False))  # what is deleted commands nothing any more
    connection.execute(sa.update(servers).where(*living).values(generation=servers.c.generation + LEAP))
    connection.execute(sa.update(runs).values(generation=runs.c.generation + LEAP))
    connection.execute(sa.delete(cell_schema.console_tokens))
    for counter, log in (
        (cell_schema.feed_counter, cell_schema.feed),
        (cell_schema.change_counter, cell_schema.changes),
    ):
        connection.execute(sa.update(counter).values(value=counter.c.value + LEAP))
        connection.execute(sa.delete(log))
