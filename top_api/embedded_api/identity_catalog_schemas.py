"""Bodies of the identity API about the catalog."""

from __future__ import annotations

from top_api.embedded_api.identity_schemas import body_of

_ID = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"[^/]*\S[^/]*"}
_REGION = {
    "description": {"type": ["string", "null"], "maxLength": 4096},
    "parent_region_id": {"type": ["string", "null"], "maxLength": 255},
}
_SERVICE = {
    "type": {"type": "string", "minLength": 1, "maxLength": 255},
    "name": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": {"type": ["string", "null"], "maxLength": 4096},
    "enabled": {"type": "boolean"},
}
# A catalog's URL is absolute, without spaces or line breaks: it is shown to every client.
_ENDPOINT = {
    "service_id": {"type": "string", "minLength": 1, "maxLength": 64},
    "region": {"type": ["string", "null"], "minLength": 1, "maxLength": 255},
    "region_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 255},
    "interface": {"enum": ["admin", "internal", "public"]},
    "url": {"type": "string", "minLength": 1, "maxLength": 225, "pattern": r"[a-zA-Z0-9+.-]+:\S+"},
    "enabled": {"type": "boolean"},
}
REGION = body_of("region", _REGION | {"id": _ID})
REGION_UPDATE = body_of("region", _REGION, at_least=1)
SERVICE = body_of("service", _SERVICE, ("type",))
SERVICE_UPDATE = body_of("service", _SERVICE, at_least=1)
ENDPOINT = body_of("endpoint", _ENDPOINT, ("interface", "service_id", "url"))
ENDPOINT_UPDATE = body_of("endpoint", _ENDPOINT, at_least=1)
