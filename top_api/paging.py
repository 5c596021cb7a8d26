"""Lists in pages: limit, marker and the link to the next page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from cellcloud import errors
from cellcloud.db import pagination_snapshots, server_lists
from cellcloud.db.engine import Connection
from cellcloud.db.pagination_snapshots import Walk
from cellcloud.db.server_conditions import ServerQuery
from cellcloud.model.server import ServerRecord
from top_api.microversion import FIRST
from top_api.request_pipeline import Call, Pair

T = TypeVar("T")
LIMIT = {"type": "string", "pattern": "[0-9]+", "maxLength": 64}
MARKER = {"type": "string", "maxLength": 255}
WALK = {"type": "string", "pattern": "[0-9a-f]{16}"}
_PLACE = ("marker", pagination_snapshots.NAME)  # keys of a query that say where in a list a page begins


def limit_of(call: Call) -> int:
    """Return how many items a page has: at most the configured maximum, which is meant where nothing is said."""
    most = call.services.config.top.max_limit
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
        pairs.append((pagination_snapshots.NAME, walk))
    return {f"{collection}_links": [{"rel": "next", "href": f"{call.url(*path)}?{urlencode(pairs)}"}]}


def servers_page(call: Call, query: ServerQuery) -> tuple[list[ServerRecord], str]:
    """One page of servers, and the walk that it is of. Raises NotFound for a marker that is no such server.

    Where servers may change their places in the order asked for, their order at the first page is kept for the pages
    that follow, by its name in the link to the next one or, for who sends only the marker, by what else was asked: so
    a server that is there all the while is shown exactly once.
    """
    database = call.services.database
    if query.is_steady:
        with database.read() as connection:
            return server_lists.list_records(connection, query), ""
    walk = walk_of(call)

    def rows(connection: Connection) -> list[ServerRecord]:
        if query.marker is None:
            known = server_lists.list_ids(connection, query, pagination_snapshots.LONGEST)
        else:
            known = walk.find_behind(connection, query.marker)
        if known is None:  # by the place that the marker has now
            return server_lists.list_records(connection, query)
        records = server_lists.list_of(connection, query, known)
        if query.marker is None and len(records) == query.limit:
            walk.begin(known, len(records))
        return records

    return pagination_snapshots.listed(database, walk, rows), walk.name


def walk_of(call: Call) -> Walk:
    """Return the caller's walk through the list that the request asks for."""
    who = call.context
    return Walk.through(who.project_id, who.user_id, call.path.removesuffix("/detail"), call.query.items())


def page_of(
    call: Call, items: Sequence[T], id_of: Callable[[T], str], *, since: Pair = FIRST, steady: bool = True
) -> tuple[list[T], str]:
    """One page of a list that is held whole, and the walk that it is of. Raises Invalid for an unknown marker.
    ``since``: the first microversion that has pages; below it the whole list is one. ``steady``: no item ever changes
    its place in that order."""
    if call.version < since:
        return list(items), ""
    marker = call.param("marker")
    place = {id_of(item): number for number, item in enumerate(items)}
    if steady:
        return _from(call, items, place, marker), ""
    walk = walk_of(call)

    def chosen(connection: Connection) -> list[T]:
        behind = list(place) if marker is None else walk.find_behind(connection, marker)
        if behind is None:
            return _from(call, items, place, marker)
        found = [items[place[one]] for one in behind if one in place][: limit_of(call)]
        if marker is None:
            walk.begin(behind, len(found))
        return found

    return pagination_snapshots.listed(call.services.database, walk, chosen), walk.name


def _from(call: Call, items: Sequence[T], place: Mapping[str, int], marker: str | None) -> list[T]:
    if marker is not None and marker not in place:
        raise errors.Invalid(f"marker [{marker}] not found")
    start = 0 if marker is None else place[marker] + 1
    return list(items[start : start + limit_of(call)])
