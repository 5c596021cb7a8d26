"""Whether a cell has listened for long enough to say who is silent.

A cell whose queue, database or conductors were away, or whose machine stood still, has heard nobody meanwhile: that
says nothing of anybody. It judges again after it has listened for as long as it takes to count as silent.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.cell_schema import hosts, listening, services
from cellcloud.db.engine import utc_after, utc_now

OF_ITS_OWN = "nova-conductor"  # whose heartbeats come by no queue
_ROW = listening.c.id == 1


def has_listened(down_time: float) -> sa.ColumnElement[bool]:
    """Return whether the cell has, as a condition."""
    return sa.exists().where(_ROW, listening.c.since <= utc_after(-down_time))


def is_noted(down_time: float) -> sa.ColumnElement[bool]:
    """Return whether noting another look would change nothing yet, as a condition: it is an eighth of ``down_time`` at
    most since one was noted, and somebody was heard."""
    return sa.and_(
        sa.exists().where(_ROW, listening.c.looked_at > utc_after(-down_time / 8), listening.c.looked_at <= utc_now()),
        _is_heard(down_time),
    )


def look(connection: Connection, *, down_time: float) -> bool:
    """Note that somebody looks, as conductors do unless that is noted; whether the cell has listened for ``down_time``
    seconds.

    It has begun anew when nobody was heard, or nobody looked, for half of that, or the clock was set back.
    """
    lately = utc_after(-down_time / 2)
    unbroken = sa.and_(listening.c.looked_at > lately, listening.c.looked_at <= utc_now(), _is_heard(down_time))
    since = sa.case((unbroken, listening.c.since), else_=utc_now())
    changed = connection.execute(sa.update(listening).where(_ROW).values(since=since, looked_at=utc_now()))
    if changed.rowcount == 0:
        connection.execute(sa.insert(listening).values(id=1, since=utc_now(), looked_at=utc_now()))
    return bool(connection.execute(sa.select(has_listened(down_time))).scalar())


def _is_heard(down_time: float) -> sa.ColumnElement[bool]:
    lately = utc_after(-down_time / 2)
    return sa.or_(
        sa.exists().where(hosts.c.last_seen > lately),
        sa.exists().where(services.c.last_seen > lately, services.c.binary != OF_ITS_OWN),
    )
