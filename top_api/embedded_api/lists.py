"""What a list of an embedded service may be asked for: each filter declared with its type and operators, each key to
sort by; from a query to a page. What comes with the question is obeyed, or refused as the service's own API does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellcloud import errors
from cellcloud.db import pagination_snapshots
from cellcloud.db.listing import Condition
from cellcloud.db.pagination_snapshots import Walk

Read = Callable[[str], Any]
MAX_PAGE = 1000
ORDER = frozenset({"lt", "lte", "gt", "gte", "eq", "neq"})
_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})
_SECOND = dt.timedelta(seconds=1)


def text(value: str) -> str:
    """Any text that a database can hold."""
    return value.encode("utf-8").decode()


def boolean(value: str) -> bool:
    """Read a truth value. Raises ValueError."""
    if value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise ValueError("no truth value")


def true_or_false(value: str) -> bool:
    """Return the two words alone. Raises ValueError."""
    if value not in ("true", "false"):
        raise ValueError("neither true nor false")
    return value == "true"


def number(value: str) -> int:
    """Read a number. Raises ValueError."""
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise ValueError("no number")
    return int(value)


def time(value: str) -> dt.datetime:
    """To the second, as times are shown; UTC where no zone is said. Raises ValueError."""
    at = dt.datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
    at = at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)
    if not 1900 < at.year < 9990:
        raise ValueError("no time of this cloud")
    return at.astimezone(dt.UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """``of``: the column of the list, where it has another name. ``operators``: what may stand before a value."""

    read: Read = text
    of: str | None = None
    operators: frozenset[str] = frozenset()


def read_value(name: str, value: str, read: Read) -> Any:
    """One value of a filter. Raises Invalid."""
    try:
        return read(value)
    except (ValueError, OverflowError):
        raise errors.Invalid(f"Invalid value '{value[:64]}' for '{name[:64]}' filter.") from None


def read_limit(given: str | None, most: int = MAX_PAGE) -> int | None:
    """Return the ``limit`` that a query gives, at most so many; None where there is none. Raises Invalid."""
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 10):
        raise errors.Invalid(f"limit must be an integer 0 or greater and not '{given[:64]}'.")
    return min(int(given), most)


def compared_time(column: str, operator: str, at: dt.datetime) -> Condition:
    """Return a comparison of times as they are shown, in seconds: stored ones are finer."""
    if operator in ("eq", "neq"):
        return Condition(column, (at, at + _SECOND), "within" if operator == "eq" else "outside")
    moved = at + _SECOND if operator in ("gt", "lte") else at
    return Condition(column, (moved,), {"gt": "gte", "lte": "lt"}.get(operator, operator))


def all_pairs(query: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return each value of a query with its key."""
    return [(name, value) for name, values in query.items() for value in values]


def pairs_of(query: Mapping[str, Sequence[str]], walk: Walk | None = None) -> list[tuple[str, str]]:
    """Return the whole query but for its marker, for a link to another page, of the same walk."""
    found = [pair for pair in all_pairs(query) if pair[0] not in ("marker", pagination_snapshots.NAME)]
    return [*found, (pagination_snapshots.NAME, walk.name)] if walk is not None and walk.name else found
