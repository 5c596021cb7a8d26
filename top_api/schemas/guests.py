"""Bodies and queries of what operators ask about guests that no record accounts for."""

from __future__ import annotations

from top_api.schemas.types import TEXT, an_object
from top_api.validation import Queries, Versioned

UNKNOWN = Queries({"host": TEXT, "cell": TEXT})
IN_CELL = Versioned(an_object({"cell": {"type": ["string", "null"], "maxLength": 255}}))
REPAIR = Versioned(
    an_object(
        {
            "servers": {"type": "array", "items": {"type": "string", "maxLength": 36}, "maxItems": 1000},
            "keep": {"type": ["string", "null"], "maxLength": 64},
        }
    )
)
REMOVE_HOST = Versioned(
    an_object({"cell": {"type": ["string", "null"], "maxLength": 255}, "force": {"type": "boolean"}})
)
HELD_BY = Versioned(
    an_object({"host": TEXT, "cell": {"type": ["string", "null"], "maxLength": 255}}, required=("host",))
)
