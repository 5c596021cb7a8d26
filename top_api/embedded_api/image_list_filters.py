"""What the list of images may be asked for, as Glance reads it: operators before values, tags all at once, and what is
no attribute of every image is a property."""

from __future__ import annotations

import csv
from urllib.parse import urlencode

from cellcloud import errors
from cellcloud.db import pagination_snapshots
from cellcloud.db.listing import Condition, Page
from top_api.embedded_api.lists import (
    ORDER,
    Filter,
    compared_time,
    number,
    pairs_of,
    read_limit,
    read_value,
    time,
    true_or_false,
)
from top_api.paging import walk_of
from top_api.request_pipeline import Call

_ASIDE = frozenset(
    {"limit", "marker", "sort", "sort_key", "sort_dir", "member_status", "tag", pagination_snapshots.NAME}
)
PAGE = 25  # images where no limit is given: Glance's
_VISIBILITIES = ("community", "public", "private", "shared", "all")
_MEMBER = ("pending", "accepted", "rejected", "all")
FILTERS = {
    **{
        name: Filter(operators=frozenset({"in", "eq"}))
        for name in ("id", "name", "status", "container_format", "disk_format")
    },
    **{name: Filter(read=time, operators=ORDER) for name in ("created_at", "updated_at")},
    **{name: Filter() for name in ("visibility", "owner", "checksum", "os_hash_value")},
    "protected": Filter(read=true_or_false),
    "os_hidden": Filter(read=lambda value: true_or_false(value.lower())),  # of this one Glance takes either case
    **{name: Filter(read=number) for name in ("size", "min_ram", "min_disk")},
    **{
        f"{name}_{bound}": Filter(read=number, of=name)
        for name in ("size", "min_ram", "min_disk")
        for bound in ("min", "max")
    },
}
SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")


def page(call: Call) -> Page:
    """Return what the request asks for. Raises Invalid."""
    _check(call)
    where = [condition for name in call.query if name not in _ASIDE for condition in _read(name, call.query[name][-1])]
    tags = [tag.strip() for tag in call.query.get("tag", ())]
    if tags:
        where.append(Condition("tag", tags, "every"))
    limit = read_limit(call.param("limit"))
    limit = PAGE if limit is None else limit
    return Page(where=where, sort=_sort(call), after=call.param("marker") or None, limit=limit, walk=walk_of(call))


def member_status(call: Call) -> str:
    """Return what the caller's project has made of the offers of those shared images that it is shown."""
    return call.param("member_status") or "accepted"


def _check(call: Call) -> None:
    if "changes-since" in call.query:
        raise errors.Invalid("The 'changes-since' filter is no longer available on v2.")
    visibility, status = call.param("visibility"), member_status(call)
    if visibility not in (None, *_VISIBILITIES):
        raise errors.Invalid(f"Invalid visibility value: {visibility[:64]}")
    if status not in _MEMBER:
        raise errors.Invalid(f"Invalid status: {status[:64]}")


def _read(name: str, given: str) -> list[Condition]:
    known = FILTERS.get(name)
    if known is None:
        return [Condition("properties", [(name, given)])]
    if name == "visibility" and given == "all":
        return [Condition("visibility", _VISIBILITIES)]  # so that those of a community are among them
    operator, value = _operator(given, known)
    column = known.of or name
    if operator == "in":
        return [Condition(column, [read_value(name, one, known.read) for one in _split(value)])]
    found = read_value(name, value, known.read)
    if known.read is time:
        return [compared_time(column, operator, found)]
    if name.endswith(("_min", "_max")):
        return [Condition(column, [found], "gte" if name.endswith("_min") else "lte")]
    return [Condition(column, [found])]


def _operator(given: str, known: Filter) -> tuple[str, str]:
    """Return the operator before a value, where the filter has any; raises Invalid for another."""
    before, colon, after = given.partition(":")
    if not known.operators or not colon:
        return "eq", given
    if known.read is time and before[:1].isdigit():
        return "eq", given
    if before not in known.operators:
        raise errors.Invalid(f"Unable to filter by unknown operator '{before[:64]}'.")
    return before, after


def _split(value: str) -> list[str]:
    """Values between commas, in quotes where they have one. Raises Invalid."""
    try:
        return next(csv.reader([value], escapechar="\\", strict=True), [])
    except csv.Error:
        raise errors.Invalid(f"Invalid filter value {value[:64]}. Its quotes and commas do not fit.") from None


def _sort(call: Call) -> list[tuple[str, bool]]:
    keys, directions = call.query.get("sort_key", []), call.query.get("sort_dir", [])
    sort = call.param("sort")
    if sort is not None:
        if keys or directions:
            raise errors.Invalid("Old and new sorting syntax cannot be combined")
        pairs = [part.partition(":") for part in sort.split(",")]
        keys, directions = [pair[0] for pair in pairs], [pair[2] or "desc" for pair in pairs]
    keys = [key.strip() for key in keys] or ["created_at"]
    directions = [direction.strip() for direction in directions] or ["desc"]
    if len(directions) not in (1, len(keys)):
        raise errors.Invalid("Number of sort dirs does not match the number of sort keys")
    for key in keys:
        if key not in SORT_KEYS:
            raise errors.Invalid(f"Invalid sort key: {key[:64]}. It must be one of: {', '.join(SORT_KEYS)}.")
    if not set(directions) <= {"asc", "desc"}:
        raise errors.Invalid("Invalid sort direction: it is 'asc' or 'desc'.")
    directions = directions * len(keys) if len(directions) == 1 else directions
    return [*zip(keys, (direction == "asc" for direction in directions), strict=True), ("id", False)]


def links(call: Call, last: str | None, wanted: Page) -> dict[str, str]:
    """Return ``first``, and ``next`` after the id of a full page's last image; both carry the whole query."""
    found = {"first": _path(pairs_of(call.query))}
    return found if last is None else found | {"next": _path([*pairs_of(call.query, wanted.walk), ("marker", last)])}


def _path(pairs: list[tuple[str, str]]) -> str:
    return "/v2/images" + (f"?{urlencode(pairs)}" if pairs else "")
