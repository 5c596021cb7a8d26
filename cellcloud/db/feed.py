"""A cell's feed: what changed, in order, without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud.db import bulk
from cellcloud.db.cell_schema import feed, feed_counter
from cellcloud.model import large_fields
from cellcloud.model.cell import FeedEntry, FeedPage
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import without_connections

MOST_BYTES = 1 << 20  # of the message that one page is
PRUNED_AT_ONCE = 5000
ENTRY_SIZE = 5000  # characters that an entry is counted for: larger ones push others out
_ENTRIES = sa.bindparam("entries", type_=sa.BigInteger)
_COUNT = sa.update(feed_counter).where(feed_counter.c.id == 1)
_LARGER = feed_counter.c.size + sa.bindparam("larger", type_=sa.BigInteger)
_COUNT_TOLD = _COUNT.values(value=feed_counter.c.value + _ENTRIES, size=_LARGER).returning(feed_counter.c.value)
_COUNT_KEPT = _COUNT.values(value=sa.func.last_insert_id(feed_counter.c.value + _ENTRIES), size=_LARGER)
_NEWEST = sa.select(feed_counter.c.value).where(feed_counter.c.id == 1)
_PAGE = (
    sa.select(feed.c.sequence, sa.type_coerce(feed.c.record, sa.Text).label("record"))
    .where(feed.c.sequence > sa.bindparam("after"))
    .order_by(feed.c.sequence)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_ENDS = sa.select(sa.select(sa.func.min(feed.c.sequence)).scalar_subquery(), _NEWEST.scalar_subquery())
_ENCODER = msgspec.json.Encoder()
_RECORD = msgspec.json.Decoder(ServerRecord)


def append(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Append one entry a record. Call it last in the transaction: the counter's row stays locked until the commit,
    which is what makes entries visible in the order of their sequence."""
    if not records:
        return
    texts = [(record.id, record.version, _text(record)) for record in records]
    last = _count(connection, len(texts), sum(len(text) for _, _, text in texts))
    rows = [(last - len(texts) + place, *text, len(text[2])) for place, text in enumerate(texts, start=1)]
    bulk.insert(connection, feed, ("sequence", "server_id", "version", "record", "size"), rows, at=("at",))


def _text(record: ServerRecord) -> str:
    record = replace(record, volumes=without_connections(record.volumes)) if record.volumes else record
    stored = large_fields.as_stored(record.spec)
    return _ENCODER.encode(record if stored is record.spec else replace(record, spec=stored)).decode()


def _count(connection: Connection, entries: int, larger: int) -> int:
    """Return the sequence of the last of so many new entries; in one statement, for all others wait for it."""
    if connection.dialect.name in ("mysql", "mariadb"):
        counted = connection.execute(_COUNT_KEPT, {"entries": entries, "larger": larger})
        last = counted.lastrowid if counted.rowcount else None
    else:
        last = connection.execute(_COUNT_TOLD, {"entries": entries, "larger": larger}).scalar()
    if last is None:
        connection.execute(sa.insert(feed_counter).values(id=1, value=entries, size=larger))
        return entries
    return int(last)


def list_after(connection: Connection, after: int, limit: int) -> FeedPage:
    """Up to ``limit`` entries with a sequence above ``after``, of MOST_BYTES in all, but two where there are."""
    rows = connection.execute(_PAGE, {"after": after, "most": limit}).all()
    oldest, last = connection.execute(_ENDS).one()
    last = last or 0
    return FeedPage(
        entries=tuple(FeedEntry(sequence=r.sequence, record=_RECORD.decode(r.record)) for r in _bounded(rows)),
        oldest=last + 1 if oldest is None else oldest,
        newest=last,
    )


def _bounded(rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    size = 0
    for place, row in enumerate(rows):
        size += len(row.record.encode()) * 4 // 3  # as a message has it, or more
        if size > MOST_BYTES and place >= 2:
            return rows[:place]
    return rows


def newest(connection: Connection) -> int:
    """Return the sequence of the last entry."""
    return connection.execute(_NEWEST).scalar() or 0


def prune(connection: Connection, keep: int) -> int:
    """Forget all but the newest ``keep`` entries, or fewer where they are larger than ENTRY_SIZE on the whole; the
    oldest first and some at a time. Returns how many went."""
    oldest, last = connection.execute(_ENDS).one()
    if oldest is None:
        return 0
    newest_to_go = min(oldest + PRUNED_AT_ONCE - 1, (last or 0) - 1)
    until = min(newest_to_go, (last or 0) - keep)
    size = connection.execute(sa.select(feed_counter.c.size)).scalar() or 0
    gone = 0
    eldest = sa.select(feed.c.sequence, feed.c.size).where(feed.c.sequence <= newest_to_go).order_by(feed.c.sequence)
    for row in connection.execute(eldest) if until >= oldest or size > keep * ENTRY_SIZE else ():
        if row.sequence > until and size - gone <= keep * ENTRY_SIZE:
            break
        gone += row.size
        until = max(until, row.sequence)
    if until < oldest:
        return 0
    count = connection.execute(sa.delete(feed).where(feed.c.sequence <= until)).rowcount
    connection.execute(_COUNT.values(size=feed_counter.c.size - gone))
    return count
