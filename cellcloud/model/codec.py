"""Models to plain JSON values and back (msgspec). Unknown fields are ignored, absent ones take their defaults."""

from __future__ import annotations

import base64
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


def to_wire(value: object) -> Any:
    """Write a model for a message: as text that is quickly written and read. Numbers beyond 64 bits do not fit into
    that; a value with one stands by itself, plain, in a list."""
    try:
        return base64.b64encode(_ENCODER.encode(value)).decode()
    except OverflowError:
        return [to_plain(value)]


def wire_size(value: object) -> int:
    """Bytes of a model in a message. Raises TypeError for what cannot be written down."""
    try:
        return 4 * (len(_ENCODER.encode(value)) // 3 + 1)
    except OverflowError:
        return len(msgspec.json.encode(to_plain(value)))


def from_wire(data: object, kind: type[T] | Any) -> T:
    """Return what ``to_wire`` was given, read as ``kind``. Raises Invalid when it is not of that shape."""
    found: T
    try:
        if isinstance(data, str):
            found = msgspec.msgpack.decode(base64.b64decode(data), type=kind, strict=False)
        else:
            (plain,) = data if isinstance(data, list) else []
            found = from_plain(plain, kind)
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
        raise errors.Invalid("A message is not of the expected form.", detail=str(error)) from error
    return found


def pack(value: object) -> bytes:
    """Return a model in few bytes, for what is large and read seldom."""
    return zlib.compress(_ENCODER.encode(value), 1)


def unpack(data: bytes, kind: type[T] | Any) -> T:
    """Return what ``pack`` was given, read as ``kind``. Raises Invalid when it is not of that shape."""
    try:
        return msgspec.msgpack.decode(zlib.decompress(data), type=kind, strict=False)
    except (msgspec.ValidationError, msgspec.DecodeError, zlib.error) as error:
        raise errors.Invalid("A record is not of the expected form.", detail=str(error)) from error
