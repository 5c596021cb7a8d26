"""Bodies and queries of what operators ask about scheduling."""

from __future__ import annotations

from top_api.schemas.types import TEXT, Schema, an_object
from top_api.validation import Queries, Versioned

_CELL: Schema = {"type": ["string", "null"], "maxLength": 255}
_DOCUMENT: Schema = {"type": "object"}
_COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
_VERSION: Schema = {"type": ["integer", "null"], "minimum": 0}
CELL = Queries({"cell": TEXT})
WHY = Queries({"key": TEXT, "host": TEXT, "cell": TEXT, "most": {"type": "string", "pattern": "[0-9]{1,4}"}})
REPLAY = Versioned(an_object({"policy": {"type": ["object", "null"]}, "cell": _CELL}))
FITS = Versioned(
    an_object(
        {"flavor": TEXT, "servers": _COUNT, "zone": {"type": ["string", "null"], "maxLength": 255}, "cell": _CELL},
        required=("flavor", "servers"),
    )
)
LOSS = Versioned(
    an_object(
        {"hosts": {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 10_000}, "drain": {"type": "boolean"}},
        required=("hosts", "drain"),
    )
)
ADD_POLICY = Versioned(an_object({"document": _DOCUMENT, "comment": TEXT, "cell": _CELL}, required=("document",)))
SET_ROLE = Versioned(
    an_object(
        {"role": {"enum": ["active", "shadow"]}, "version": _VERSION, "cell": _CELL}, required=("role", "version")
    )
)
