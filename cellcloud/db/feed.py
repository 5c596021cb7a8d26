"""A cell's feed: what changed, in order, without gaps."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.cell_schema import feed, feed_counter
from cellcloud.db.engine import utc_now
from cellcloud.model import codec
from cellcloud.model.cell import FeedEntry, FeedPage
from cellcloud.model.server import ServerRecord

_COUNT = (
    sa.update(feed_counter).where(feed_counter.c.id == 1).values(value=feed_counter.c.value + sa.bindparam("entries"))
)
_NEWEST = sa.select(feed_counter.c.value).where(feed_counter.c.id == 1)
_PAGE = (
    sa.select(feed.c.sequence, feed.c.record)
    .where(feed.c.sequence > sa.bindparam("after"))
    .order_by(feed.c.sequence)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_ENDS = sa.select(sa.select(sa.func.min(feed.c.sequence)).scalar_subquery(), _NEWEST.scalar_subquery())
_ENTRY = sa.insert(feed).values(at=utc_now())


def append(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Append one entry a record. Call it last in the transaction: the counter's row stays locked until the commit,
    which is what makes entries visible in the order of their sequence."""
    if not records:
        return
    count = len(records)
    if connection.execute(_COUNT, {"entries": count}).rowcount == 0:
        connection.execute(sa.insert(feed_counter).values(id=1, value=count))
    last = connection.execute(_NEWEST).scalar_one()
    connection.execute(
        _ENTRY,
        [
            {
                "sequence": last - count + 1 + offset,
                "server_id": record.id,
                "version": record.version,
                "record": codec.to_plain(record),
            }
            for offset, record in enumerate(records)
        ],
    )


def list_after(connection: Connection, after: int, limit: int) -> FeedPage:
    """Up to ``limit`` entries with a sequence above ``after``."""
    rows = connection.execute(_PAGE, {"after": after, "most": limit}).all()
    oldest, last = connection.execute(_ENDS).one()
    last = last or 0
    return FeedPage(
        entries=tuple(FeedEntry(sequence=r.sequence, record=codec.from_plain(r.record, ServerRecord)) for r in rows),
        oldest=last + 1 if oldest is None else oldest,
        newest=last,
    )


def newest(connection: Connection) -> int:
    """The sequence of the last entry."""
    return connection.execute(_NEWEST).scalar() or 0


def prune(connection: Connection, keep: int) -> int:
    """Forget all but the newest ``keep`` entries; returns how many went."""
    return connection.execute(sa.delete(feed).where(feed.c.sequence <= newest(connection) - keep)).rowcount
