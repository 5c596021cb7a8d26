"""Bodies about floating IPs."""

from __future__ import annotations

from top_api.schemas.types import Schema, an_object, only
from top_api.validation import Versioned

_ADDRESS: Schema = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}], "maxLength": 45}
CREATE = Versioned({"type": ["object", "null"], "properties": {"pool": {"type": ["string", "null"], "maxLength": 255}}})
ADD = Versioned(
    only("addFloatingIp", an_object({"address": _ADDRESS, "fixed_address": _ADDRESS}, required=("address",)))
)
REMOVE = Versioned(only("removeFloatingIp", an_object({"address": _ADDRESS}, required=("address",))))
