"""Walks through lists whose order changes: the ids as they stood when the first page was asked for.

A position by a key's value would leave out what moves before it and show twice what moves behind it. A walk is
forgotten after an hour, or when its user has begun many more.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import Database, transact, utc_after, utc_now
from cellcloud.db.top_schema import walks

T = TypeVar("T")
LONGEST = 10_000  # ids: 0.4 MB
KEPT_SECONDS = 3600.0
KEPT_EACH = 20  # of one user in one project
_OF_A_PAGE = frozenset({"limit", "marker", "page_reverse"})
NAME = "walk"
"""The key of a query that names the walk a page is of; links to further pages carry it."""


@dataclass(slots=True, kw_only=True)
class Walk:
    """One user's way through one list. ``what`` tells questions apart. ``name``: as the client gave it, then of the
    walk that the page is of; empty: of none. ``begun``: the ids in order, where a page begins a walk."""

    whose: str
    what: str
    name: str = ""
    begun: Sequence[str] | None = None

    @classmethod
    def through(cls, project_id: str, user_id: str, path: str, asked: Iterable[tuple[str, Sequence[str]]]) -> Walk:
        """``asked``: the query by key."""
        pairs = {key: list(values) for key, values in asked}
        named = next(iter(pairs.pop(NAME, ())), "")
        wanted = sorted((key, values) for key, values in pairs.items() if key not in _OF_A_PAGE)
        return cls(
            whose=hashlib.sha256(f"{project_id} {user_id}".encode()).hexdigest(),
            what=hashlib.sha256(msgspec.json.encode((path, wanted))).hexdigest(),
            name=named,
        )

    def find_behind(self, connection: Connection, marker: str, *, backwards: bool = False) -> list[str] | None:
        """Ids behind the marker (``backwards``: before it, the nearest first) in the walk of that name, or else in the
        last one that has the marker. None: none has it."""
        mine = (walks.c.whose == self.whose, walks.c.what == self.what)
        wanted = sa.select(walks.c.id, walks.c.ids).where(*mine)
        newest = wanted.order_by(walks.c.started_at.desc()).limit(KEPT_EACH)
        for query in (wanted.where(walks.c.id == self.name), newest) if self.name else (newest,):
            for row in connection.execute(query):
                ids = bytes(row.ids).decode(errors="replace").split("\n")
                if marker in ids:
                    self.name = row.id
                    place = ids.index(marker)
                    return ids[:place][::-1] if backwards else ids[place + 1 :]
        self.name = ""
        return None

    def begin(self, ids: Sequence[str], shown: int) -> None:
        """Remember that a walk has begun, where there are ids behind the ``shown`` ones and not too many in all."""
        self.name = ""
        self.begun = ids if shown < len(ids) <= LONGEST else None

    def keep(self, connection: Connection) -> None:
        """Store a walk that has begun, and forget old ones."""
        name = secrets.token_hex(8)
        values = {"whose": self.whose, "what": self.what, "ids": "\n".join(self.begun or ()).encode()}
        connection.execute(sa.insert(walks).values(id=name, started_at=utc_now(), **values))
        connection.execute(sa.delete(walks).where(walks.c.started_at < utc_after(-KEPT_SECONDS)))
        newest = (
            sa.select(walks.c.id).where(walks.c.whose == self.whose).order_by(walks.c.started_at.desc(), walks.c.id)
        )
        old = connection.execute(newest.offset(KEPT_EACH).limit(100)).scalars().all()
        if old:
            connection.execute(sa.delete(walks).where(walks.c.id.in_(old)))
        self.name = name


def listed(database: Database, walk: Walk | None, rows: Callable[[Connection], T]) -> T:
    """Return what ``rows`` reads; a walk that begins with it is kept afterwards."""
    with database.read() as connection:
        found = rows(connection)
    if walk is not None and walk.begun is not None:
        transact(database, walk.keep)
    return found
