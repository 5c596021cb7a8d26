"""Models to plain JSON values and back (msgspec). Unknown fields are ignored, absent ones take their defaults."""

from __future__ import annotations

import zlib
from typing import Any, TypeVar

import msgspec

from cellcloud import errors

T = TypeVar("T")
_ENCODER = msgspec.msgpack.Encoder()


def to_plain(value: object) -> Any:
    """Plain JSON values: enums as their values, datetimes as ISO text, tuples as lists."""
    return msgspec.to_builtins(value)


def from_plain(data: object, kind: type[T] | Any) -> T:
    """Read ``data`` as ``kind``. Raises Invalid when it is not of that shape."""
    try:
        return msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError as error:
        raise errors.Invalid("A message is not of the expected form.", detail=str(error)) from error


def to_text(value: object) -> str:
    """A model as JSON text; the same plain values, made in a fraction of the time."""
    return msgspec.json.encode(value).decode()


def from_text(text: str | msgspec.Raw, kind: type[T] | Any) -> T:
    """What ``to_text`` was given, read as ``kind``. Raises Invalid when it is not of that shape."""
    try:
        return msgspec.json.decode(text, type=kind, strict=False)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise errors.Invalid("A message is not of the expected form.", detail=str(error)) from error


def pack(value: object) -> bytes:
    """A model in few bytes, for what is large and read seldom."""
    return zlib.compress(_ENCODER.encode(value), 1)


def unpack(data: bytes, kind: type[T] | Any) -> T:
    """What ``pack`` was given, read as ``kind``. Raises Invalid when it is not of that shape."""
    try:
        return msgspec.msgpack.decode(zlib.decompress(data), type=kind, strict=False)
    except (msgspec.ValidationError, msgspec.DecodeError, zlib.error) as error:
        raise errors.Invalid("A record is not of the expected form.", detail=str(error)) from error
