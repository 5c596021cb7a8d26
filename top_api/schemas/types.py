"""Pieces that several resources' schemas share. Patterns are Nova's where clients may notice."""

from __future__ import annotations

import ipaddress
from typing import Any

Schema = dict[str, Any]


def words(letters: str) -> str:
    """Return the pattern of texts of those letters and spaces without a space at either end."""
    return f"[{letters}]([ {letters}]*[{letters}])?"


_UNSEEN = r"\p{C}\p{Zl}\p{Zp}\x{FDD0}-\x{FDEF}\x{FFFE}\x{FFFF}"  # controls and what is no character
NO_CONTROLS = rf"[^{_UNSEEN}]*"
NAME: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": rf"[^{_UNSEEN}\p{{Zs}}]([^{_UNSEEN}]*[^{_UNSEEN}\p{{Zs}}])?",
    "trimmed": True,  # in the API of before 2.1
}
DESCRIPTION: Schema = {"type": ["string", "null"], "maxLength": 255, "pattern": NO_CONTROLS}
UUID: Schema = {"type": "string", "format": "uuid"}
BOOLEAN: Schema = {
    "type": ["boolean", "string"],
    "enum": [True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes",
             False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"],
}  # fmt: skip
POSITIVE: Schema = {"type": ["integer", "string"], "pattern": "0{0,8}[1-9][0-9]{0,8}", "minimum": 1, "minLength": 1}
NOT_NEGATIVE: Schema = {"type": ["integer", "string"], "pattern": "[0-9]{1,9}", "minimum": 0, "minLength": 1}
METADATA: Schema = {
    "type": "object",
    "patternProperties": {r"[a-zA-Z0-9_:. -]{1,255}": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
HOSTNAME: Schema = {
    "type": "string",
    "minLength": 2,
    "maxLength": 63,
    "pattern": r"[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]",
}
FQDN: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"[a-zA-Z0-9._-]*",
}
TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": r"[^,/\x00-\x1f\x7f]*"}
TAGS: Schema = {"type": "array", "items": TAG, "maxItems": 50}
TEXT: Schema = {"type": "string", "maxLength": 255}
ADDRESS: Schema = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}], "maxLength": 45}
DATE: Schema = {"type": "string", "format": "date-time", "maxLength": 64}

_TRUE = frozenset({True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"})


def is_true(value: object) -> bool:
    """Read what BOOLEAN admits."""
    return value is True or (isinstance(value, str) and value in _TRUE)


def shortest_address(text: str) -> str:
    """Write an IPv6 address as RFC 5952 has it, as clients compare it; "" stays."""
    return str(ipaddress.IPv6Address(text)) if text else text


def an_object(properties: dict[str, Schema], *, required: tuple[str, ...] = (), open: bool = False) -> Schema:
    """Return an object with these keys and, unless ``open``, no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": open,
    }


def only(key: str, schema: Schema) -> Schema:
    """Return an object with that one key."""
    return an_object({key: schema}, required=(key,))
