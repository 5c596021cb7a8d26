"""Lists in pages: limit, marker and the link to the next page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from cellcloud import errors
from cellcloud.db import index, walks
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.db.index import ServerQuery
from cellcloud.model.server import ServerRecord
from top_api.microversion import FIRST
from top_api.routing import Call, Pair

T = TypeVar("T")
LIMIT = {"type": "string", "pattern": "[0-9]+", "maxLength": 64}
MARKER = {"type": "string", "maxLength": 255}
_PLACE = ("marker", "walk")  # keys of a query that say where in a list a page begins


def limit_of(call: Call) -> int:
    """How many items a page has: at most the configured maximum, which is meant where nothing is said."""
    most = call.parts.config.top.max_limit
    wanted = call.param("limit")
    return most if wanted is None else min(int(wanted), most)


def next_links(
    call: Call, collection: str, path: tuple[str, ...], ids: list[str], *, walk: str = ""
) -> dict[str, object]:
    """``{collection_links: [...]}`` when the page was full, else nothing. ``walk``: the one that the page is of."""
    if not ids or len(ids) < limit_of(call):
        return {}
    pairs = [(key, value) for key, values in call.query.items() if key not in _PLACE for value in values]
    pairs.append(("marker", ids[-1]))
    if walk:
        pairs.append(("walk", walk))
    return {f"{collection}_links": [{"rel": "next", "href": f"{call.url(*path)}?{urlencode(pairs)}"}]}


def servers_page(call: Call, query: ServerQuery) -> tuple[list[ServerRecord], str]:
    """One page of servers, and the walk that it is of. Raises NotFound for a marker that is no such server.

    Where servers may change their places in the order asked for, their order at the first page is kept for the pages
    that follow, by its name in the link to the next one or, for who sends only the marker, by what else was asked: so
    a server that is there all the while is shown exactly once.
    """
    database = call.parts.database
    if query.is_steady:
        with database.read() as connection:
            return index.list_records(connection, query), ""
    whose = hashlib.sha256(f"{call.context.project_id} {call.context.user_id}".encode()).hexdigest()
    asked = sorted((key, values) for key, values in call.query.items() if key not in {"limit", *_PLACE})
    what = hashlib.sha256(msgspec.json.encode((call.path.removesuffix("/detail"), asked))).hexdigest()
    walk = ""
    with database.read() as connection:
        if query.marker is None:
            ids = index.list_ids(connection, query, walks.LONGEST + 1)
            found = ("", ids) if len(ids) <= walks.LONGEST else None
        else:
            found = _walk(connection, whose, what, call.param("walk"), query.marker)
        if found is None:  # by the place that the marker has now
            return index.list_records(connection, query), ""
        walk, ids = found
        records = index.list_of(connection, query, ids)
    if query.marker is None and len(records) == query.limit:
        walk = _keep_walk(database, whose, what, ids)
    return records, walk


def _walk(connection: Connection, whose: str, what: str, name: str | None, marker: str) -> tuple[str, list[str]] | None:
    named = walks.find(connection, whose, what, name, marker) if name else None
    return named or walks.find(connection, whose, what, None, marker)


@retried
def _keep_walk(database: Database, whose: str, what: str, ids: list[str]) -> str:
    with database.write() as connection:
        return walks.keep(connection, whose, what, ids)


def page_of(call: Call, items: Sequence[T], id_of: Callable[[T], str], *, since: Pair = FIRST) -> list[T]:
    """One page of a list that is held whole. Raises Invalid for an unknown marker. ``since``: the first microversion
    that has pages; below it the whole list is one."""
    if call.version < since:
        return list(items)
    start = 0
    marker = call.param("marker")
    if marker is not None:
        places = [place for place, item in enumerate(items) if id_of(item) == marker]
        if not places:
            raise errors.Invalid(f"marker [{marker}] not found")
        start = places[0] + 1
    return list(items[start : start + limit_of(call)])
