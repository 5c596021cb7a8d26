"""Bodies and queries about security groups."""

from __future__ import annotations

from top_api.paging import LIMIT
from top_api.schemas.types import UUID, Schema, an_object, only
from top_api.validation import Queries, Versioned

_TEXT: Schema = {"type": "string", "maxLength": 255}
_PORT: Schema = {"type": ["integer", "string", "null"], "maxLength": 16}
_ACTION: Schema = an_object({"name": {"type": "string", "minLength": 1, "maxLength": 255}}, required=("name",))
ADD = Versioned(only("addSecurityGroup", _ACTION))
REMOVE = Versioned(only("removeSecurityGroup", _ACTION))
LIST = Queries({}, repeated={"all_tenants": {}, "limit": LIMIT, "offset": LIMIT}, strict_since=(2, 36))
_GROUP: Schema = {
    "type": "object",
    "properties": {"name": _TEXT, "description": _TEXT},
    "required": ["name", "description"],
}
_RULE: Schema = {
    "type": "object",
    "properties": {
        "group_id": {"type": ["string", "null"], "format": "uuid"},
        "parent_group_id": UUID,
        "ip_protocol": {"type": ["string", "integer", "null"], "maxLength": 64},
        "from_port": _PORT,
        "to_port": _PORT,
        "cidr": {"type": ["string", "null"], "maxLength": 64},
    },
    "required": ["parent_group_id"],
}


def _open(key: str, inner: Schema) -> Versioned:
    """Return a body with that key, and any other beside it, as Nova takes it."""
    return Versioned({"type": "object", "properties": {key: inner}, "required": [key]})


GROUP = _open("security_group", _GROUP)
RULE = _open("security_group_rule", _RULE)
