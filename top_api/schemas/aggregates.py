"""Bodies and queries of aggregates, by microversion."""

from __future__ import annotations

from top_api.schemas.types import FQDN, NAME, NO_CONTROLS, UUID, Schema, an_object, only
from top_api.validation import Versioned

_ZONE: Schema = {
    **NAME,
    "type": ["string", "null"],
    "pattern": r"[^:\p{C}\p{Zl}\p{Zp}\p{Zs}]([^:\p{C}\p{Zl}\p{Zp}]*[^:\p{C}\p{Zl}\p{Zp}\p{Zs}])?",
}
_SPACED: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": NO_CONTROLS}
_FIELDS = {"name": NAME, "availability_zone": _ZONE}
CREATE = Versioned(only("aggregate", an_object(_FIELDS, required=("name",))))
UPDATE = Versioned(only("aggregate", {**an_object({**_FIELDS, "name": _SPACED}), "minProperties": 1}))
ADD_HOST = Versioned(only("add_host", an_object({"host": FQDN}, required=("host",))))
REMOVE_HOST = Versioned(only("remove_host", an_object({"host": FQDN}, required=("host",))))
_CACHED: Schema = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1000,
    "items": an_object({"id": UUID}, required=("id",)),
}
CACHE_IMAGES = Versioned(only("cache", _CACHED))
_METADATA: Schema = {
    "type": "object",
    "patternProperties": {r"[a-zA-Z0-9_:. -]{1,255}": {"type": ["string", "null"], "maxLength": 255}},
    "additionalProperties": False,
}
SET_METADATA = Versioned(only("set_metadata", an_object({"metadata": _METADATA}, required=("metadata",))))
