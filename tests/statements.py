"""Counts what a database is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from cellcloud.db.engine import Database


@contextmanager
def counted(database: Database, *, here: bool = False) -> Iterator[list[str]]:
    """The statements that it is sent; one for many rows counts once. ``here``: by this thread alone."""
    seen: list[str] = []
    me = threading.get_ident()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not here or threading.get_ident() == me:
            seen.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(database.engine, "before_cursor_execute", note)
