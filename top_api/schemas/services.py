"""Bodies and queries of compute services, by microversion."""

from __future__ import annotations

from top_api.schemas.types import BOOLEAN, FQDN, TEXT, Schema, an_object
from top_api.validation import Queries, Versioned

_REASON: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
LIST = Queries({}, repeated={"host": TEXT, "binary": TEXT}, strict_since=(2, 75))
_FIRST = {"host": FQDN, "binary": {**TEXT, "minLength": 1}, "disabled_reason": _REASON}
_NAMED = ("host", "binary")
_OLD = an_object(_FIRST, required=_NAMED)
_WITH_FORCED_DOWN = an_object({**_FIRST, "forced_down": BOOLEAN}, required=_NAMED)
_NEW = an_object(
    {
        "status": {"type": "string", "enum": ["enabled", "disabled"]},
        "disabled_reason": _REASON,
        "forced_down": BOOLEAN,
    }
)
UPDATE = Versioned(_OLD, ((2, 11), _WITH_FORCED_DOWN), ((2, 53), {**_NEW, "minProperties": 1}))
