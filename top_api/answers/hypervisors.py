"""Answers about hypervisors, by microversion."""

from __future__ import annotations

from top_api.answers.types import ADDRESS, COUNT, INTEGER, TEXT, UUID, WORD, a_page, a_word, only
from top_api.response_schema import FieldParts, Fields, changing, list_of, nullable, optional, since, until

FIGURES: FieldParts = {
    "vcpus": COUNT,
    "memory_mb": COUNT,
    "local_gb": COUNT,
    "vcpus_used": COUNT,
    "memory_mb_used": COUNT,
    "local_gb_used": COUNT,
    "free_ram_mb": INTEGER,
    "free_disk_gb": INTEGER,
    "current_workload": COUNT,
    "running_vms": COUNT,
    "disk_available_least": INTEGER,
}
_ID = changing({"type": "integer", "minimum": 1}, {53: UUID})
_SERVERS = list_of(Fields({"uuid": UUID, "name": TEXT}))
_BRIEF: FieldParts = {
    "id": _ID,
    "hypervisor_hostname": WORD,
    "state": a_word(("up", "down")),
    "status": a_word(("enabled", "disabled")),
}
_LISTED: FieldParts = {**_BRIEF, "servers": optional(since(53, _SERVERS))}
_SERVICE = Fields({"id": _ID, "host": WORD, "disabled_reason": nullable(TEXT)})
_WHOLE = Fields(
    {
        **_LISTED,
        "hypervisor_type": TEXT,
        "hypervisor_version": COUNT,
        "host_ip": ADDRESS,
        "service": _SERVICE,
        "uptime": since(88, nullable(TEXT)),
        "cpu_info": until(87, changing(TEXT, {28: {"type": "object"}})),
        **{name: until(87, part) for name, part in FIGURES.items()},
    },
    name="Hypervisor",
)
LIST = a_page("hypervisors", Fields(_LISTED), paged_since=33)
DETAIL = a_page("hypervisors", _WHOLE, paged_since=33)
ONE = only("hypervisor", _WHOLE)
STATISTICS = only("hypervisor_statistics", Fields({"count": COUNT, **FIGURES}))
UPTIME = only("hypervisor", Fields({**_BRIEF, "uptime": TEXT}))
FOUND = only("hypervisors", list_of(Fields(_BRIEF)))
SERVERS = only("hypervisors", list_of(Fields({**_BRIEF, "servers": optional(_SERVERS)})))
