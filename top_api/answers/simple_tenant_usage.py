"""Answers about what projects used, by microversion."""

from __future__ import annotations

from cellcloud.model.usage import ENDED
from cellcloud.server_states import VmState
from top_api.answers.types import COUNT, MICROSECOND, NEXT_PAGE, TEXT, UUID, a_word
from top_api.response_schema import FieldParts, Fields, list_of, nullable, one_of, optional, since

_AMOUNT = {"type": "number", "minimum": 0}
_SERVER = Fields(
    {
        "instance_id": UUID,
        "name": TEXT,
        "tenant_id": TEXT,
        "flavor": TEXT,
        **dict.fromkeys(("vcpus", "memory_mb", "local_gb", "uptime"), COUNT),
        "state": a_word(sorted({*VmState} - ENDED), "terminated"),
        "hours": _AMOUNT,
        "started_at": MICROSECOND,
        "ended_at": nullable(MICROSECOND),
    },
    name="ServerUsage",
)
_SUMS = ("total_hours", "total_vcpus_usage", "total_memory_mb_usage", "total_local_gb_usage")
_PROJECT: FieldParts = {"tenant_id": TEXT, "start": MICROSECOND, "stop": MICROSECOND, **dict.fromkeys(_SUMS, _AMOUNT)}
LIST = Fields(
    {
        "tenant_usages": list_of(Fields({**_PROJECT, "server_usages": optional(list_of(_SERVER))})),
        "tenant_usages_links": since(40, optional(NEXT_PAGE)),
    }
)
SHOW = Fields(
    {
        "tenant_usage": one_of(Fields({}), Fields({**_PROJECT, "server_usages": list_of(_SERVER)})),
        "tenant_usage_links": since(40, optional(NEXT_PAGE)),
    }
)
