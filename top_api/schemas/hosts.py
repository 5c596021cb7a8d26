"""Bodies and queries of hosts."""

from __future__ import annotations

from top_api.schemas.types import TEXT, Schema, an_object
from top_api.validation import Queries, Versioned

_SWITCH: Schema = {"type": "string", "enum": ["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"]}
LIST = Queries({}, repeated={"zone": TEXT}, strict_since=(2, 1000))
UPDATE = Versioned({**an_object({"status": _SWITCH, "maintenance_mode": _SWITCH}), "minProperties": 1})
