"""Answers about security groups."""

from __future__ import annotations

from top_api.answers.types import INTEGER, TEXT, UUID, WORD, only
from top_api.response_schema import Fields, list_of, nullable, optional

_RANGE = {"type": "string", "pattern": "[0-9a-fA-F:.]+/[0-9]{1,3}"}
_RULE = Fields(
    {
        "id": UUID,
        "parent_group_id": UUID,
        "ip_protocol": nullable(WORD),
        "from_port": nullable(INTEGER),
        "to_port": nullable(INTEGER),
        "group": Fields({"name": optional(TEXT), "tenant_id": optional(WORD)}),
        "ip_range": Fields({"cidr": optional(_RANGE)}),
    },
    name="SecurityGroupRule",
)
_GROUP = Fields(
    {"id": UUID, "name": TEXT, "description": TEXT, "tenant_id": WORD, "rules": list_of(_RULE)}, name="SecurityGroup"
)
LIST = only("security_groups", list_of(_GROUP))
ONE = only("security_group", _GROUP)
RULE = only("security_group_rule", _RULE)
