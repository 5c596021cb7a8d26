"""Bodies about floating IPs."""

from __future__ import annotations

from top_api.schemas.types import ADDRESS, an_object, only
from top_api.validation import Versioned

CREATE = Versioned({"type": ["object", "null"], "properties": {"pool": {"type": ["string", "null"], "maxLength": 255}}})
ADD = Versioned(only("addFloatingIp", an_object({"address": ADDRESS, "fixed_address": ADDRESS}, required=("address",))))
REMOVE = Versioned(only("removeFloatingIp", an_object({"address": ADDRESS}, required=("address",))))
