"""What the volume API's lists may be asked for, as Cinder reads it: filters of each collection, keys to sort by, pages
by marker and offset."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from cellcloud import errors
from cellcloud.db import pagination_snapshots
from cellcloud.db.listing import Condition, Page
from top_api.embedded_api.lists import (
    ORDER,
    Filter,
    boolean,
    compared_time,
    number,
    pairs_of,
    read_limit,
    read_value,
    text,
    time,
)
from top_api.embedded_api.volume_calls import MOST_ITEMS, flag, url
from top_api.paging import walk_of
from top_api.request_pipeline import Call, Pair

T = TypeVar("T")
_ASIDE = frozenset(
    {
        *("limit", "marker", "offset", "sort", "sort_key", "sort_dir", "with_count", "all_tenants", "project_id"),
        pagination_snapshots.NAME,
    }
)
_STRICT = (3, 31)
_SAME_FOR_ALL = {"consumes_quota": True, "group_id": None, "migration_status": None}
_LIKE = (3, 34)


def pairs(value: str) -> dict[str, str]:
    """Read a mapping of texts as Python or JSON writes it. Raises ValueError."""
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise ValueError("no mapping") from None
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return {str(key): str(each) for key, each in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeListForm:
    """One collection. ``since``: the microversions from which a filter is known."""

    collection: str
    filters: Mapping[str, Filter]
    sort_keys: Sequence[str]
    since: Mapping[str, Pair] = field(default_factory=dict)

    def page(self, call: Call) -> tuple[Page, int]:
        """Return what the request asks for, and how many items are left out at its beginning. Raises Invalid."""
        where = [each for name in call.query if name not in _ASIDE for each in self._read(call, name)]
        limit, offset = read_limit(call.param("limit"), MOST_ITEMS), _offset(call.param("offset"))
        limit = MOST_ITEMS if limit is None else limit
        page = Page(
            where=where,
            sort=self._sort(call),
            after=call.param("marker") or None,
            limit=limit + offset,
            walk=None if offset else walk_of(call),
        )
        return page, offset

    def _read(self, call: Call, name: str) -> list[Condition]:
        like = name.endswith("~") and call.version >= _LIKE
        bare = name.removesuffix("~") if like else name
        known = self.filters.get(bare)
        if known is None or call.version < self.since.get(bare, (0, 0)):
            if call.version >= _STRICT:
                raise errors.Invalid(f"Invalid filters {bare[:64]} are found in query options.")
            return []
        value, column = call.query[name][-1], known.of or bare
        if known.read is time:
            return _times(column, value)
        found = read_value(bare, value, known.read)
        if bare in _SAME_FOR_ALL:
            return [] if found is _SAME_FOR_ALL[bare] else [Condition("id", ())]
        values = list(found.items()) if known.read is pairs else [found]
        return [Condition(column, values, "icontains" if like and known.read is text else "in")]

    def _sort(self, call: Call) -> list[tuple[str, bool]]:
        keys, directions = call.query.get("sort_key", []), call.query.get("sort_dir", [])
        sort = call.param("sort")
        if sort is not None:
            if keys or directions:
                raise errors.Invalid("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with "
                                     "the 'sort' parameter.")  # fmt: skip
            parts = [part.partition(":") for part in sort.split(",")]
            keys, directions = [part[0] for part in parts], [part[2] or "desc" for part in parts]
        keys = [key.strip().removeprefix("display_") for key in keys] or ["created_at"]
        directions = [each.strip() for each in directions] or ["desc"]
        directions += [directions[0]] * (len(keys) - len(directions))
        if len(directions) > len(keys) or not set(directions) <= {"asc", "desc"}:
            raise errors.Invalid("Invalid sort direction: it is 'asc' or 'desc', once for each key.")
        for key in keys:
            if key not in self.sort_keys:
                raise errors.Invalid(f"Invalid sort key: {key[:64]}.")
        return [*zip(keys, (each == "asc" for each in directions), strict=True), ("id", directions[0] == "asc")]


def _offset(given: str | None) -> int:
    if given is None:
        return 0
    if not (given.isascii() and given.isdecimal() and len(given) < 10):
        raise errors.Invalid("offset param must be an integer of 0 or more.")
    return int(given)


def _times(column: str, value: str) -> list[Condition]:
    """Comparisons, as gt:TIME,lt:TIME; a bare time is one that is equal. Raises Invalid."""
    found = []
    for part in value.split(","):
        before, _, after = part.partition(":")
        operator, at = (before, after) if before in ORDER else ("eq", part)
        if before.isalpha() and before not in ORDER:
            raise errors.Invalid(f"Invalid {before[:16]} operator")
        found.append(compared_time(column, operator, read_value(column, at, time)))
    return found


def project_of(call: Call) -> str | None:
    """Whose things are listed: the caller's own; of an administrator who says so, everybody's or another's."""
    if not (call.context.is_admin and flag(call, "all_tenants")):
        return call.context.project_id
    return call.param("project_id")


def listed(
    call: Call,
    form: VolumeListForm,
    read: Callable[[Page], Sequence[T]],
    view: Callable[[T], dict[str, Any]],
    *,
    path: tuple[str, ...] = (),
    count: Callable[[Page], int] | None = None,
) -> dict[str, Any]:
    """Return a page, a link to the next one where it is full, and how many there are in all where that is asked."""
    page, offset = form.page(call)
    shown = [view(item) for item in read(page)[offset:]] if page.limit else []
    body: dict[str, Any] = {form.collection: shown}
    if shown and page.limit is not None and len(shown) + offset == page.limit:
        query = [pair for pair in pairs_of(call.query, page.walk) if pair[0] not in ("offset",)]
        query.append(("marker", str(shown[-1]["id"])))
        href = f"{url(call, *(path or (form.collection,)))}?{urlencode(query)}"
        body[f"{form.collection}_links"] = [{"rel": "next", "href": href}]
    if count is not None and call.version >= (3, 45) and flag(call, "with_count"):
        body["count"] = count(replace(page, after=None, limit=None))
    return body


VOLUMES = VolumeListForm(
    collection="volumes",
    filters={
        **{name: Filter() for name in ("id", "name", "status", "availability_zone", "description", "user_id")},
        **{name: Filter() for name in ("snapshot_id", "source_volid", "volume_type")},
        "host": Filter(read=lambda value: value.partition("@")[0]),
        **{name: Filter(read=boolean) for name in ("bootable", "multiattach", "consumes_quota")},
        "size": Filter(read=number),
        **{name: Filter(read=pairs) for name in ("metadata", "glance_metadata")},
        **{name: Filter(read=time) for name in ("created_at", "updated_at")},
        "group_id": Filter(),
        "migration_status": Filter(),
    },
    sort_keys=("id", "name", "status", "size", "availability_zone", "bootable", "created_at", "updated_at", "host"),
    since={"glance_metadata": (3, 4), "group_id": (3, 10), "created_at": (3, 60), "updated_at": (3, 60)}
    | {"consumes_quota": (3, 65)},
)
ATTACHMENTS = VolumeListForm(
    collection="attachments",
    filters={
        **{name: Filter() for name in ("volume_id", "status")},
        "instance_id": Filter(of="server_id"),
        "attach_status": Filter(of="status"),
    },
    sort_keys=("id", "status", "volume_id", "created_at"),
)
SNAPSHOTS = VolumeListForm(
    collection="snapshots",
    filters={
        **{name: Filter() for name in ("id", "name", "status", "volume_id", "availability_zone", "user_id")},
        "metadata": Filter(read=pairs),
        "size": Filter(read=number),
        "consumes_quota": Filter(read=boolean),
    },
    sort_keys=("id", "name", "status", "size", "volume_id", "created_at", "updated_at"),
    since={"metadata": (3, 22), "consumes_quota": (3, 65)},
)
TYPES = VolumeListForm(
    collection="volume_types",
    filters={"is_public": Filter(read=boolean), "extra_specs": Filter(read=pairs), "name": Filter()},
    sort_keys=("id", "name", "is_public", "created_at", "updated_at", "description"),
    since={"extra_specs": (3, 52)},
)
TRANSFERS = VolumeListForm(
    collection="transfers",
    filters={**{name: Filter() for name in ("id", "name", "volume_id")}},
    sort_keys=("id", "name", "volume_id", "created_at"),
)
