"""Models to plain JSON values and back (msgspec). Unknown fields are ignored, absent ones take their defaults."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from cellcloud import errors

T = TypeVar("T")


def to_plain(value: object) -> Any:
    """Plain JSON values: enums as their values, datetimes as ISO text, tuples as lists."""
    return msgspec.to_builtins(value)


def from_plain(data: object, kind: type[T] | Any) -> T:
    """Read ``data`` as ``kind``. Raises Invalid when it is not of that shape."""
    try:
        return msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError as error:
        raise errors.Invalid("A message is not of the expected form.", detail=str(error)) from error
