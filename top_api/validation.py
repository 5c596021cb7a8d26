"""JSON bodies and queries: strict reading, and JSON Schema per microversion with Nova's messages."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import ipaddress
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema
import msgspec
from jsonschema.exceptions import best_match

from cellcloud import errors
from top_api.microversion import Microversion

MALFORMED = "Malformed request body"
_SHOWN = 200  # characters of a refused value that are repeated to the caller
Schema = dict[str, Any]

_formats = jsonschema.FormatChecker(formats=())


@_formats.checks("uuid", raises=ValueError)
def _is_uuid(value: object) -> bool:
    if isinstance(value, str):
        plain = value.replace("-", "")
        return len(plain) == 32 and str(uuid.UUID(value)).replace("-", "") == plain.lower()
    return True


@_formats.checks("base64", raises=(binascii.Error, ValueError))
def _is_base64(value: object) -> bool:
    if isinstance(value, str):
        text = re.sub(r"\s", "", value).encode("ascii")
        base64.b64decode(text, validate=True)
        return len(text) % 4 == 0
    return True


def read_time(text: str) -> dt.datetime:
    """A time of a query, aware, UTC, not before 1970. Raises ValueError. A plus sign may have become a space."""
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        at = dt.datetime.fromisoformat(text.replace(" ", "+"))
    at = at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)
    return (
        at.astimezone(dt.UTC)
        if 1970 < at.year < 9999
        else dt.datetime(min(max(at.year, 1970), 9998), 1, 1, tzinfo=dt.UTC)
    )


@_formats.checks("date-time", raises=ValueError)
def _is_datetime(value: object) -> bool:
    if isinstance(value, str):
        read_time(value)
    return True


@_formats.checks("ipv4", raises=ValueError)
def _is_ipv4(value: object) -> bool:
    return not isinstance(value, str) or _parses_as(value, 4)


@_formats.checks("ipv6", raises=ValueError)
def _is_ipv6(value: object) -> bool:
    return not isinstance(value, str) or _parses_as(value, 6)


def _parses_as(value: str, version: int) -> bool:
    return ipaddress.ip_address(value).version == version


class UnsupportedType(errors.FixRequest):
    """A body of a type that is not taken; answered with 415."""


def read_json(data: bytes) -> Any:
    """Strictly: UTF-8, no duplicate keys, no NUL, bounded depth. Raises Invalid."""
    if not data:
        return None
    if b"\\u0000" in data:
        raise errors.Invalid(MALFORMED)
    try:
        value = msgspec.json.decode(data)
        json.loads(data, object_pairs_hook=_no_twice)
    except (ValueError, RecursionError) as error:
        raise errors.Invalid(MALFORMED) from error
    return value


def _no_twice(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError


class Versioned:
    """Schemas by the first microversion each holds for; compiled when first used."""

    def __init__(self, first: Schema, *later: tuple[tuple[int, int], Schema]) -> None:
        self._schemas = [((2, 1), first), *later]
        self._compiled: dict[tuple[int, int], Any] = {}

    def validator(self, version: Microversion) -> Any:
        """The validator for that microversion."""
        since, schema = next((s, body) for s, body in reversed(self._schemas) if version >= s)
        if since not in self._compiled:
            self._compiled[since] = jsonschema.Draft202012Validator(schema, format_checker=_formats)
        return self._compiled[since]


def check_body(versioned: Versioned, version: Microversion, body: Any) -> None:
    """Raises Invalid in Nova's words."""
    _check(versioned.validator(version), body)


def _check(validator: Any, value: Any) -> None:
    if validator.is_valid(value):
        return
    error = best_match(validator.iter_errors(value))
    reason = str(error.message).replace(repr(error.instance), _cut(repr(error.instance)))
    path = [str(part) for part in error.absolute_path]
    if not path:
        raise errors.Invalid(_cut(reason, 3 * _SHOWN))
    name = _cut(path[-1])
    raise errors.Invalid(
        f"Invalid input for field/attribute {name}. Value: {_cut(str(error.instance))}. {_cut(reason, 3 * _SHOWN)}"
    )


def _cut(text: str, length: int = _SHOWN) -> str:
    return text if len(text) <= length else text[:length] + "..."


class Queries:
    """What a route takes behind the question mark.

    ``single`` keys may come once, ``repeated`` ones many times; each has a schema of its own. Unknown keys are
    refused from ``strict_since`` on, and ignored before.
    """

    def __init__(
        self,
        single: Mapping[str, Schema],
        *,
        repeated: Mapping[str, Schema] | None = None,
        strict_since: tuple[int, int] = (2, 1000),
        since: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self._single = single
        self._kinds = {**single, **(repeated or {})}
        self._strict_since = strict_since
        self._since = since or {}
        self._validators = {
            key: jsonschema.Draft202012Validator(schema, format_checker=_formats) for key, schema in self._kinds.items()
        }

    def read(self, pairs: Mapping[str, Sequence[str]], version: Microversion) -> dict[str, list[str]]:
        """The known keys with their values. Raises Invalid."""
        found: dict[str, list[str]] = {}
        for key, values in pairs.items():
            if key not in self._kinds or version < self._since.get(key, (2, 1)):
                if version >= self._strict_since:
                    raise errors.Invalid(
                        f"Invalid input for query parameters {_cut(key)}. Additional properties are not allowed "
                        f"({_cut(key)!r} was unexpected)"
                    )
                continue
            if "\x00" in "".join(values):
                raise errors.Invalid(f"Invalid input for query parameters {_cut(key)}.")
            if key in self._single and len(values) > 1:
                raise errors.Invalid(
                    f"Invalid input for query parameters {_cut(key)}. Value: {_cut(str(list(values)))}. "
                    "The parameter may be given once only."
                )
            for value in values:
                self._check(key, value)
            found[key] = list(values)
        return found

    def _check(self, key: str, value: str) -> None:
        error = best_match(self._validators[key].iter_errors(value))
        if error is not None:
            reason = _cut(str(error.message), 3 * _SHOWN)
            raise errors.Invalid(f"Invalid input for query parameters {key}. Value: {_cut(value)}. {reason}")


NO_QUERY = Queries({})
