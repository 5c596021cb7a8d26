"""A cell's change log: what schedulers read, as it changed, in order, without gaps, one entry a transaction."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.cell_schema import change_counter, changes
from cellcloud.db.engine import racing, utc_after, utc_now
from cellcloud.model import change_log as model
from cellcloud.model import codec
from cellcloud.model.change_log import ChangeEntry, ChangePage, Changes

PRUNED_AT_ONCE = 5000
_COUNT = sa.update(change_counter).where(change_counter.c.id == 1).values(value=change_counter.c.value + 1)
_NEWEST = sa.select(change_counter.c.value).where(change_counter.c.id == 1)
_ENTRY = sa.insert(changes).from_select(
    ["sequence", "entry", "at"],
    sa.select(change_counter.c.value, sa.bindparam("entry", type_=changes.c.entry.type), utc_now()).where(
        change_counter.c.id == 1
    ),
)


def append(connection: Connection, made: Changes) -> None:
    """Append an entry, unless nothing changed. Call it late in the transaction, and before the feed's: the counter's
    row stays locked until the commit, which is what makes entries visible in the order of their sequence."""
    entry = model.to_plain(made)
    if not entry.keys() - {"holdings", "servers"}:
        return
    if connection.execute(_COUNT).rowcount == 0:
        with racing():
            connection.execute(sa.insert(change_counter).values(id=1, value=1))
    connection.execute(_ENTRY, {"entry": entry})


def get_newest(connection: Connection) -> int:
    """Return the sequence of the last committed entry; 0 before the first."""
    return connection.execute(_NEWEST).scalar() or 0


def list_after(connection: Connection, after: int, limit: int) -> ChangePage:
    """Up to ``limit`` entries with a sequence above ``after``."""
    rows = connection.execute(
        sa.select(changes.c.sequence, changes.c.entry)
        .where(changes.c.sequence > after)
        .order_by(changes.c.sequence)
        .limit(limit)
    ).all()
    oldest = connection.execute(sa.select(sa.func.min(changes.c.sequence))).scalar()
    newest = get_newest(connection)
    return ChangePage(
        entries=tuple(ChangeEntry(sequence=r.sequence, changes=codec.from_plain(r.entry, Changes)) for r in rows),
        oldest=newest + 1 if oldest is None else oldest,
        newest=max(newest, rows[-1].sequence if rows else 0),
    )


def prune(connection: Connection, seconds: float) -> int:
    """Forget entries older than that, the oldest first and some at a time; returns how many went."""
    oldest = connection.execute(sa.select(sa.func.min(changes.c.sequence))).scalar()
    if oldest is None:
        return 0
    some = (changes.c.sequence < oldest + PRUNED_AT_ONCE, changes.c.at < utc_after(-seconds))
    return connection.execute(sa.delete(changes).where(*some)).rowcount
