"""Bodies of the identity API about limits."""

from __future__ import annotations

from typing import Any

from top_api.validation import Versioned

_INT = {"type": "integer", "minimum": -1, "maximum": 0x7FFFFFFF}
_TEXT = {"type": ["string", "null"], "maxLength": 4096}
_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_NULLABLE = {"type": ["string", "null"], "minLength": 1, "maxLength": 64}
_NAME = {"type": "string", "minLength": 1, "maxLength": 128}
_PLACE = {"service_id": _ID, "region_id": _NULLABLE, "resource_name": _NAME}
_REGISTERED: dict[str, Any] = {**_PLACE, "default_limit": _INT, "description": _TEXT}
_LIMIT: dict[str, Any] = {
    **_PLACE,
    "project_id": _NULLABLE,
    "domain_id": _NULLABLE,
    "resource_limit": _INT,
    "description": _TEXT,
}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _several(name: str, item: dict[str, Any]) -> Versioned:
    return Versioned(_object({name: {"type": "array", "items": item, "minItems": 1, "maxItems": 200}}, name))


REGISTERED = _several("registered_limits", _object(_REGISTERED, "service_id", "resource_name", "default_limit"))
REGISTERED_UPDATE = Versioned(_object({"registered_limit": _object(_REGISTERED)}, "registered_limit"))
LIMITS = _several("limits", _object(_LIMIT, "service_id", "resource_name", "resource_limit"))
LIMIT_UPDATE = Versioned(_object({"limit": _object({"resource_limit": _INT, "description": _TEXT})}, "limit"))
