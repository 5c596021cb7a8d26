"""Walks through lists whose order changes: the ids as they stood when the first page was asked for.

A position by a key's value would leave out what moves before it and show twice what moves behind it. A walk is
forgotten after an hour, or when its project has begun many more.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.top_schema import walks

LONGEST = 50_000  # ids: 800 kB
KEPT_SECONDS = 3600.0
KEPT_EACH = 20  # of one project
WIDTH = 16  # bytes of an id


def keep(connection: Connection, whose: str, what: str, ids: Sequence[str]) -> str:
    """Begin a walk through ``ids``; returns its name. ``whose``: a project's; ``what``: tells questions apart."""
    name = secrets.token_hex(8)
    connection.execute(sa.insert(walks).values(id=name, whose=whose, what=what, ids=_packed(ids), started_at=utc_now()))
    connection.execute(sa.delete(walks).where(walks.c.started_at < utc_after(-KEPT_SECONDS)))
    newest = sa.select(walks.c.id).where(walks.c.whose == whose).order_by(walks.c.started_at.desc(), walks.c.id)
    old = connection.execute(newest.offset(KEPT_EACH).limit(100)).scalars().all()
    if old:
        connection.execute(sa.delete(walks).where(walks.c.id.in_(old)))
    return name


def find(connection: Connection, whose: str, what: str, name: str | None, marker: str) -> tuple[str, list[str]] | None:
    """(name, ids behind the marker) of that walk, or, without a name, of the last one that has the marker."""
    wanted = sa.select(walks.c.id, walks.c.ids).where(walks.c.whose == whose, walks.c.what == what)
    if name is not None:
        wanted = wanted.where(walks.c.id == name)
    for row in connection.execute(wanted.order_by(walks.c.started_at.desc()).limit(KEPT_EACH)):
        ids = _unpacked(row.ids)
        if marker in ids:
            return row.id, ids[ids.index(marker) + 1 :]
    return None


def _packed(ids: Sequence[str]) -> bytes:
    return bytes.fromhex("".join(ids).replace("-", ""))


def _unpacked(packed: bytes) -> list[str]:
    text = packed.hex()
    found = (text[start : start + 2 * WIDTH] for start in range(0, len(text), 2 * WIDTH))
    return [f"{i[:8]}-{i[8:12]}-{i[12:16]}-{i[16:20]}-{i[20:]}" for i in found]
