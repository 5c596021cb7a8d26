"""JSON Schema for what users send: every keyword in time linear in the value, and bounds before what they bound.

Some things are other than in the standard. A ``pattern`` is for the whole text and RE2's (``cellcloud.safe_regex``).
A text, list or object that is longer than its schema allows is looked into no further. Where a number may come as a
text, the bounds of both hold for both, and 1.0 is no integer, as in Nova.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import functools
import ipaddress
import itertools
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import msgspec
from jsonschema.exceptions import ValidationError, best_match

from cellcloud.safe_regex import Pattern

Schema = dict[str, Any]
MOST_ERRORS = 100  # of which the one to tell is chosen
MOST_DEPTH = 64
_BOUNDS = ((str, "maxLength"), (list, "maxItems"), (dict, "maxProperties"))
_BLANKS = str.maketrans("", "", " \t\n\r\v\f")
FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("uuid", raises=ValueError)
def _is_uuid(value: object) -> bool:
    if isinstance(value, str):
        plain = value.replace("-", "")
        return len(plain) == 32 and str(uuid.UUID(value)).replace("-", "") == plain.lower()
    return True


@FORMATS.checks("base64", raises=(binascii.Error, ValueError))
def _is_base64(value: object) -> bool:
    if isinstance(value, str):
        text = value.translate(_BLANKS).encode("ascii")
        base64.b64decode(text, validate=True)
        return len(text) % 4 == 0
    return True


def read_time(text: str) -> dt.datetime:
    """Return a time of a query, aware, UTC, not before 1970. Raises ValueError. A plus sign may have become a space."""
    if len(text) > len("2026-01-01") and not any(letter in text[8:11] for letter in "Tt "):
        raise ValueError(f"no letter T or space parts the day from the time in {text[:64]!r}")
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


@FORMATS.checks("date-time", raises=ValueError)
def _is_datetime(value: object) -> bool:
    if isinstance(value, str):
        read_time(value)
    return True


@FORMATS.checks("ipv4", raises=ValueError)
def _is_ipv4(value: object) -> bool:
    return not isinstance(value, str) or _parses_as(value, 4)


@FORMATS.checks("ipv6", raises=ValueError)
def _is_ipv6(value: object) -> bool:
    return not isinstance(value, str) or _parses_as(value, 6)


def _parses_as(value: str, version: int) -> bool:
    return len(value) < 100 and "%" not in value and ipaddress.ip_address(value).version == version


# ---- keywords --------------------------------------------------------------------------------------------------------
def _too_long(value: object, schema: Mapping[str, Any]) -> bool:
    return any(isinstance(value, kind) and len(value) > schema.get(bound, len(value)) for kind, bound in _BOUNDS)


def _bounded(keyword: Any) -> Any:
    """Return the keyword, told nothing of values that their schema's bounds refuse."""

    @functools.wraps(keyword)
    def check(validator: Any, said: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
        if not _too_long(value, schema):
            yield from keyword(validator, said, value, schema) or ()

    return check


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Pattern:
    return Pattern(pattern)


def _pattern(validator: Any, pattern: str, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _compiled(pattern).matches(value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, inner in patterns.items():
        compiled = _compiled(pattern)
        for name, each in value.items():
            if compiled.matches(name):
                yield from validator.descend(each, inner, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    known, patterns = schema.get("properties", {}), [_compiled(one) for one in schema.get("patternProperties", {})]
    others = [name for name in value if name not in known and not any(one.matches(name) for one in patterns)]
    if isinstance(allowed, dict):
        for name in others:
            yield from validator.descend(value[name], allowed, path=name)
    elif not allowed and others:
        shown, verb = ", ".join(repr(name[:100]) for name in others[:5]), "was" if len(others) == 1 else "were"
        if patterns:
            yield ValidationError(f"{shown} do not match any of {', '.join(repr(one.text) for one in patterns)}")
        else:
            yield ValidationError(f"Additional properties are not allowed ({shown} {verb} unexpected)")


def _unique_items(validator: Any, wanted: bool, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if wanted and isinstance(value, list):
        seen = {msgspec.json.encode(item, order="sorted") for item in value}
        if len(seen) != len(value):
            yield ValidationError(f"{value!r} has non-unique elements")


def _is_integer(checker: Any, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _of_numbers(keyword: Any) -> Any:
    """Return the keyword for numbers, and for texts of digits where the schema takes both."""

    def check(validator: Any, said: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
        number = value
        if isinstance(value, str):
            try:
                number = float(value)
            except ValueError:
                return
        yield from keyword(validator, said, number, schema) or ()

    return check


def _max_length(validator: Any, most: int, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    text = str(value) if isinstance(value, int | float) else value
    if isinstance(text, str) and len(text) > most:
        yield ValidationError(f"{value!r} is too long")


_STANDARD = jsonschema.Draft202012Validator
_OWN = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    **{name: _STANDARD.VALIDATORS[name] for name in ("format", "items", "properties", "propertyNames")},
    **{name: _of_numbers(_STANDARD.VALIDATORS[name]) for name in ("minimum", "maximum", "exclusiveMinimum")},
}
_extend: Any = jsonschema.validators.extend
_Validator: Any = _extend(
    _STANDARD,
    {name: _bounded(own) for name, own in _OWN.items()} | {"maxLength": _max_length},
    type_checker=_STANDARD.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _forget_others(validator: Any, allowed: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if isinstance(allowed, dict) or schema.get("patternProperties"):
        yield from _additional_properties(validator, allowed, value, schema)
    elif not allowed and isinstance(value, dict):
        for name in value.keys() - schema.get("properties", {}).keys():
            del value[name]  # nothing has looked at it, so nobody may read it


def _trimmed_pattern(validator: Any, pattern: str, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """Names may have spaces around them, which whoever reads them takes off."""
    trimmed = value.strip(" ") if isinstance(value, str) and schema.get("trimmed") else value
    yield from _pattern(validator, pattern, trimmed, schema)


_Relaxed: Any = _extend(
    _Validator, {"additionalProperties": _bounded(_forget_others), "pattern": _bounded(_trimmed_pattern)}
)


class Compiled:
    """A schema made ready. Raises re2.error or SchemaError for one that is none."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._validator = _Validator(schema, format_checker=FORMATS)
        self._relaxed = _Relaxed(schema, format_checker=FORMATS)

    def find_error(self, value: Any, *, relaxed: bool = False) -> ValidationError | None:
        """Return the error that says most about what is wrong with the value; None when nothing is.

        ``relaxed``: keys that the schema does not know are no error; they are taken out of the value.
        """
        validator = self._relaxed if relaxed else self._validator
        if validator.is_valid(value):
            return None
        found: ValidationError | None = best_match(itertools.islice(validator.iter_errors(value), MOST_ERRORS))
        return found


def is_deep(value: object) -> bool:
    """Return whether lists and objects lie in each other more than MOST_DEPTH times."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, list | dict)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True
