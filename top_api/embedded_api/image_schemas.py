"""Bodies of the image API. What is no attribute of every image is a property of this one: a string."""

from __future__ import annotations

from typing import Any

from cellcloud.image_gate import ACCEPTED
from top_api.validation import Versioned

MAX_PROPERTIES = 128  # and tags: Glance's
READ_ONLY = frozenset({
    "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "self",
    "file", "schema", "first", "next", "direct_url", "stores",
})  # fmt: skip
RESERVED = frozenset({"location", "deleted", "deleted_at"})
_BIG = (1 << 31) - 1
CORE: dict[str, Any] = {
    "id": {"type": "string", "pattern": "[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"},
    "name": {"type": ["string", "null"], "maxLength": 255},
    "owner": {"type": ["string", "null"], "maxLength": 255},
    "visibility": {"enum": ["community", "public", "private", "shared"]},
    "protected": {"type": "boolean"},
    "os_hidden": {"type": "boolean"},
    "disk_format": {"enum": [None, *ACCEPTED]},
    "container_format": {"enum": [None, "bare"]},
    "min_ram": {"type": "integer", "minimum": 0, "maximum": _BIG},
    "min_disk": {"type": "integer", "minimum": 0, "maximum": _BIG},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}, "maxItems": 2 * MAX_PROPERTIES},
}
_PROPERTY = {"type": "string", "maxLength": 65535}
_IMAGE = {
    "type": "object",
    "properties": {**CORE, **{name: {} for name in READ_ONLY}, "locations": {}},
    "additionalProperties": _PROPERTY,
    "propertyNames": {"maxLength": 255, "minLength": 1},
    "maxProperties": 2 * MAX_PROPERTIES,
}
IMAGE = Versioned(_IMAGE)
PATCH = Versioned({"type": "array", "maxItems": 2 * MAX_PROPERTIES})
ANYTHING = Versioned({})
_METHOD = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 255}, "uri": {"type": "string", "maxLength": 8192}},
    "additionalProperties": False,
}
IMPORT = Versioned(
    {
        "type": "object",
        "properties": {
            "method": _METHOD,
            "stores": {"type": "array", "items": {"type": "string", "maxLength": 255}, "maxItems": 16},
            "all_stores": {"type": "boolean"},
            "all_stores_must_succeed": {"type": "boolean"},
        },
        "additionalProperties": False,
    }
)
MEMBER = Versioned(
    {
        "type": "object",
        "properties": {"member": {"type": "string", "minLength": 1, "maxLength": 255}},
        "required": ["member"],
        "additionalProperties": False,
    }
)
MEMBER_STATUS = Versioned(
    {
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": 255} for name in ("status", "member")},
        "required": ["status"],
        "additionalProperties": False,
    }
)
