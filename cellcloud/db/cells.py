"""The top's cells table."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import errors
from cellcloud.db.engine import utc_now
from cellcloud.db.top_schema import cells, incarnations
from cellcloud.model import codec
from cellcloud.model.cell import Cell
from cellcloud.model.placement_messages import CellDigest


def _cell(row: Row[Any]) -> Cell:
    return Cell(
        name=row.name,
        enabled=row.enabled,
        health=row.health,
        reason=row.reason,
        last_seen=row.last_seen,
        digest=codec.from_plain(row.digest, CellDigest) if row.digest else None,
        digest_at=row.digest_at,
        feed_cursor=row.feed_cursor,
        feed_mark=row.feed_mark,
        incarnation=row.incarnation,
        compared=row.compared,
    )


def register_cell(connection: Connection, name: str, transport_url: str) -> None:
    """Add a cell, or give it a new queue. Idempotent."""
    changed = connection.execute(sa.update(cells).where(cells.c.name == name).values(transport_url=transport_url))
    if changed.rowcount == 0:
        connection.execute(sa.insert(cells).values(name=name, transport_url=transport_url))


def list_cells(connection: Connection) -> list[Cell]:
    """All cells by name."""
    return [_cell(row) for row in connection.execute(sa.select(cells).order_by(cells.c.name))]


def get_cell(connection: Connection, name: str) -> Cell:
    """Return a cell. Raises NotFound."""
    row = connection.execute(sa.select(cells).where(cells.c.name == name)).one_or_none()
    if row is None:
        raise errors.NotFound(f"Cell {name} could not be found.")
    return _cell(row)


def get_followed(connection: Connection, name: str) -> tuple[Cell, str]:
    """Return a cell and the id of the top's own incarnation, "" with none yet. Raises NotFound."""
    present = sa.select(incarnations.c.value).scalar_subquery()
    row = connection.execute(sa.select(cells, present.label("present")).where(cells.c.name == name)).one_or_none()
    if row is None:
        raise errors.NotFound(f"Cell {name} could not be found.")
    return _cell(row), row.present or ""


def list_transports(connection: Connection) -> dict[str, str]:
    """Cell name -> its queue's URL, a secret."""
    return {row.name: row.transport_url for row in connection.execute(sa.select(cells.c.name, cells.c.transport_url))}


def set_health(
    connection: Connection, name: str, *, health: str, reason: str = "", digest: CellDigest | None = None
) -> str:
    """Record what the router saw; a digest also proves that the cell was seen now. Returns the health before."""
    values: dict[str, Any] = {"health": health, "reason": reason[:255]}
    if digest is not None:
        values |= {"digest": codec.to_plain(digest), "digest_at": utc_now(), "last_seen": utc_now()}
    mine = cells.c.name == name
    if connection.execute(sa.update(cells).where(mine, cells.c.health == health).values(**values)).rowcount:
        return health
    before = connection.execute(sa.select(cells.c.health).where(mine).with_for_update()).scalar()
    connection.execute(sa.update(cells).where(mine).values(**values))
    return before or ""


def move_cursor(
    connection: Connection,
    name: str,
    *,
    after: int,
    before: int | None = None,
    mark: str = "",
    incarnation: str = "",
) -> bool:
    """Move the feed cursor to an entry with that mark; False when another router has moved it from ``before``."""
    where = [cells.c.name == name]
    if before is not None:
        where.append(cells.c.feed_cursor == before)
    values = {"feed_cursor": after, "feed_mark": mark[:128], "incarnation": incarnation}
    return connection.execute(sa.update(cells).where(*where).values(**values)).rowcount == 1


def note_compared(connection: Connection, name: str, incarnation: str) -> None:
    """Note that the cell's servers have been compared with this incarnation of the top's database."""
    connection.execute(sa.update(cells).where(cells.c.name == name).values(compared=incarnation))
