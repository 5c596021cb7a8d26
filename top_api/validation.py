"""JSON bodies and queries: strict reading, and JSON Schema per microversion with Nova's messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from jsonschema import ValidationError

from cellcloud import errors
from top_api.json_schema import Compiled, Schema, is_deep, read_time
from top_api.microversion import FIRST, LAST, Microversion

__all__ = ["ANY_QUERY", "NO_QUERY", "Queries", "Schema", "Versioned", "check_body", "read_json", "read_time"]
MALFORMED = "Malformed request body"
MOST_VALUES = 200  # behind a question mark
_SHOWN = 200  # characters of a refused value that are repeated to the caller


class UnsupportedType(errors.FixRequest):
    """A body of a type that is not taken; answered with 415."""


def read_json(data: bytes) -> Any:
    """Strictly: UTF-8, no duplicate keys, no NUL, bounded depth. Raises Invalid."""
    if not data:
        return None
    if b"\\u0000" in data.replace(b"\\\\", b""):  # where the backslash is not itself an escaped one
        raise errors.Invalid(MALFORMED)
    try:
        value = msgspec.json.decode(data)
        json.loads(data, object_pairs_hook=_no_twice)
    except (ValueError, RecursionError) as error:
        raise errors.Invalid(MALFORMED) from error
    if is_deep(value):
        raise errors.Invalid(MALFORMED)
    return value


def _no_twice(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError


class Versioned:
    """Schemas by the first microversion each holds for; compiled when first used. ``kind``: what a body is."""

    def __init__(self, first: Schema, *later: tuple[tuple[int, int], Schema]) -> None:
        self._schemas = [((2, 1), first), *later]
        self.kind: type = list if first.get("type") == "array" else dict
        self._compiled: dict[tuple[int, int], Compiled] = {}

    def __iter__(self) -> Iterator[tuple[tuple[int, int], Schema]]:
        return iter(self._schemas)

    def validator(self, version: Microversion) -> Compiled:
        """Return the validator for that microversion."""
        since, schema = next((s, body) for s, body in reversed(self._schemas) if version >= s)
        if since not in self._compiled:
            self._compiled[since] = Compiled(schema)
        return self._compiled[since]


def compute_words(error: ValidationError) -> str:
    """Say as Nova does what is wrong with a body."""
    reason = str(error.message).replace(repr(error.instance), _cut(repr(error.instance)))
    path = [str(part) for part in error.absolute_path]
    if not path:
        return _cut(reason, 3 * _SHOWN)
    name = _cut(path[-1])
    return f"Invalid input for field/attribute {name}. Value: {_cut(str(error.instance))}. {_cut(reason, 3 * _SHOWN)}"


def path_words(error: ValidationError) -> str:
    """Say where in a body something is wrong, by the whole path to it."""
    where = "/".join(str(part) for part in error.absolute_path) or "body"
    return f"Invalid input for {where[:200]}. {error.message[:300]}"


def check_body(
    versioned: Versioned,
    version: Microversion,
    body: Any,
    *,
    relaxed: bool = False,
    words: Callable[[ValidationError], str] = compute_words,
) -> None:
    """Raise Invalid for a body that the schema refuses, in those words. ``relaxed``: unknown keys are taken out, as in
    the API of before 2.1."""
    error = versioned.validator(version).find_error(body, relaxed=relaxed)
    if error is not None:
        raise errors.Invalid(words(error))


def _cut(text: str, length: int = _SHOWN) -> str:
    return text if len(text) <= length else text[:length] + "..."


class Queries:
    """What a route takes behind the question mark.

    ``single`` keys may come once, ``repeated`` ones many times; each has a schema of its own. Unknown keys are
    refused from ``strict_since`` on, and ignored before; so are several values of a single key, of which the last
    counts before. ``since`` and ``until``: the microversions that know a key, both included.
    """

    def __init__(
        self,
        single: Mapping[str, Schema],
        *,
        repeated: Mapping[str, Schema] | None = None,
        strict_since: tuple[int, int] = (2, 1),
        since: Mapping[str, tuple[int, int]] | None = None,
        until: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self._single = single
        self._kinds = {**single, **(repeated or {})}
        self._strict_since = strict_since
        self._since, self._until = since or {}, until or {}
        self._validators = {key: Compiled(schema) for key, schema in self._kinds.items()}

    def __iter__(self) -> Iterator[tuple[str, Schema]]:
        return iter(self._kinds.items())

    def known(self, version: Microversion) -> Iterator[tuple[str, bool, Schema]]:
        """Yield each key that there is at that microversion, whether it may be repeated, and its schema."""
        for key, schema in self._kinds.items():
            if self._since.get(key, FIRST) <= version <= self._until.get(key, LAST):
                yield key, key not in self._single, schema

    def read(self, pairs: Mapping[str, Sequence[str]], version: Microversion) -> dict[str, list[str]]:
        """Return the known keys with their values. Raises Invalid."""
        found: dict[str, list[str]] = {}
        for key, values in pairs.items():
            if key not in self._kinds or not self._since.get(key, FIRST) <= version <= self._until.get(key, LAST):
                if version >= self._strict_since:
                    raise errors.Invalid(
                        f"Invalid input for query parameters {_cut(key)}. Additional properties are not allowed "
                        f"({_cut(key)!r} was unexpected)"
                    )
                continue
            if "\x00" in "".join(values):
                raise errors.Invalid(f"Invalid input for query parameters {_cut(key)}.")
            if key in self._single and len(values) > 1 and version >= self._strict_since:
                raise errors.Invalid(
                    f"Invalid input for query parameters {_cut(key)}. Value: {_cut(str(list(values)))}. "
                    "The parameter may be given once only."
                )
            for value in values:
                self._check(key, value)
            found[key] = list(values)
        if sum(map(len, found.values())) > MOST_VALUES:
            raise errors.Invalid(f"A query has at most {MOST_VALUES} parameters.")
        return found

    def _check(self, key: str, value: str) -> None:
        error = self._validators[key].find_error(value)
        if error is not None:
            reason = _cut(str(error.message), 3 * _SHOWN)
            raise errors.Invalid(f"Invalid input for query parameters {key}. Value: {_cut(value)}. {reason}")


class _Everything(Queries):
    def read(self, pairs: Mapping[str, Sequence[str]], version: Microversion) -> dict[str, list[str]]:
        """Return the keys with their values. Raises Invalid for what no database can hold."""
        found = {key: list(values) for key, values in pairs.items()}
        if any("\x00" in text for key, values in found.items() for text in (key, *values)):
            raise errors.Invalid("A query has no NUL in it.")
        return found


NO_QUERY = Queries({}, strict_since=(2, 1000))
ANY_QUERY = _Everything({})  # for lists that say themselves what each key means
