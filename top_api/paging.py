"""Lists in pages: limit, marker and the link to the next page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from cellcloud import errors
from top_api.routing import Call

T = TypeVar("T")
LIMIT = {"type": "string", "pattern": "^[0-9]+$", "maxLength": 30}
MARKER = {"type": "string", "maxLength": 255}


def limit_of(call: Call) -> int:
    """How many items a page has: at most the configured maximum; 0 means the maximum."""
    most = call.parts.config.top.max_limit
    wanted = int(call.param("limit") or "0")
    return min(wanted, most) if wanted else most


def next_links(call: Call, collection: str, path: tuple[str, ...], ids: list[str]) -> dict[str, object]:
    """``{collection_links: [...]}`` when the page was full, else nothing."""
    if len(ids) < limit_of(call):
        return {}
    pairs = [(key, value) for key, values in call.query.items() if key != "marker" for value in values]
    pairs.append(("marker", ids[-1]))
    return {f"{collection}_links": [{"rel": "next", "href": f"{call.url(*path)}?{urlencode(pairs)}"}]}


def page_of(call: Call, items: Sequence[T], id_of: Callable[[T], str]) -> list[T]:
    """One page of a list that is held whole. Raises Invalid for an unknown marker."""
    start = 0
    marker = call.param("marker")
    if marker is not None:
        places = [place for place, item in enumerate(items) if id_of(item) == marker]
        if not places:
            raise errors.Invalid(f"marker [{marker}] not found")
        start = places[0] + 1
    return list(items[start : start + limit_of(call)])
