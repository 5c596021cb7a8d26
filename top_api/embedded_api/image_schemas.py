"""Bodies of the image API. What is no attribute of every image is a property of this one: a string."""

from __future__ import annotations

from typing import Any

from top_api.validation import Versioned

MAX_PROPERTIES = 128
READ_ONLY = frozenset({
    "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "self",
    "file", "schema", "first", "next", "direct_url", "locations", "stores",
})  # fmt: skip
_BIG = (1 << 31) - 1
CORE: dict[str, Any] = {
    "id": {"type": "string", "pattern": "[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"},
    "name": {"type": ["string", "null"], "maxLength": 255},
    "owner": {"type": ["string", "null"], "maxLength": 255},
    "visibility": {"enum": ["public", "private", "shared", "community"]},
    "protected": {"type": "boolean"},
    "os_hidden": {"const": False},
    "disk_format": {"enum": ["raw", "qcow2", None]},
    "container_format": {"enum": ["bare", None]},
    "min_ram": {"type": "integer", "minimum": 0, "maximum": _BIG},
    "min_disk": {"type": "integer", "minimum": 0, "maximum": _BIG},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}, "maxItems": MAX_PROPERTIES},
}
_PROPERTY = {"type": "string", "maxLength": 65535}
_NAMES = {"maxLength": 255, "minLength": 1}
_IMAGE = {
    "type": "object",
    "properties": {**CORE, **{name: {} for name in READ_ONLY}},
    "additionalProperties": _PROPERTY,
    "propertyNames": _NAMES,
    "maxProperties": 2 * MAX_PROPERTIES,
}
IMAGE = Versioned(_IMAGE)
OPERATIONS = ("add", "replace", "remove")
_PATH = {"type": "string", "pattern": "/([^/~]|~[01])+", "maxLength": 600}
_OPERATION = {
    "type": "object",
    "properties": {"op": {"enum": [*OPERATIONS]}, "path": _PATH},
    "required": ["op", "path"],
}
_OLDER = [
    {"type": "object", "properties": {verb: _PATH, "value": {}}, "required": [verb], "additionalProperties": False}
    for verb in OPERATIONS
]
PATCH = Versioned({"type": "array", "maxItems": 2 * MAX_PROPERTIES, "items": {"anyOf": [_OPERATION, *_OLDER]}})
