"""Answers about servers and their actions, by microversion."""

from __future__ import annotations

from cellcloud.server_states import PowerState, TaskState, VmState, status_of
from top_api.answers import server_ips
from top_api.answers.types import (
    BASE64,
    BOOKMARKS,
    BOOLEAN,
    COUNT,
    INTEGER,
    LINKS,
    MICROSECOND,
    SECOND,
    TEXT,
    TEXTS,
    URL,
    UUID,
    WORD,
    a_page,
    a_word,
    only,
)
from top_api.response_schema import (
    NOTHING,
    FieldParts,
    Fields,
    changing,
    list_of,
    map_of,
    nullable,
    one_of,
    optional,
    shown_by,
    since,
    until,
)

HOST = "os_compute_api:os-extended-server-attributes"
HOST_STATUS = "os_compute_api:servers:show:host_status"
EXTRA_SPECS = "os_compute_api:servers:show:flavor-extra-specs"
_STATUSES = {status_of(vm, task) for vm in VmState for task in (None, *TaskState)}
_DISK_CONFIG = a_word(("AUTO", "MANUAL"))
_GROUPS = list_of(Fields({"name": TEXT}))
_BRIEF = Fields({"id": UUID, "name": TEXT, "links": LINKS}, name="ServerInList")
_FLAVOR = changing(
    Fields({"id": WORD, "links": BOOKMARKS}),
    {
        47: Fields(
            {
                **dict.fromkeys(("vcpus", "ram", "disk", "ephemeral", "swap"), COUNT),
                "original_name": TEXT,
                "extra_specs": shown_by(EXTRA_SPECS, TEXTS),
            },
            name="FlavorOfServer",
        )
    },
)
_FAULT = Fields({"code": INTEGER, "created": SECOND, "message": TEXT, "details": optional(TEXT)})
_PLAIN: FieldParts = {
    "id": UUID,
    "name": TEXT,
    "status": a_word(sorted(_STATUSES), "UNKNOWN"),
    "tenant_id": TEXT,
    "user_id": TEXT,
    "metadata": TEXTS,
    "hostId": {"type": "string", "pattern": "([0-9a-f]{56})?"},
    "image": one_of(Fields({"id": UUID, "links": BOOKMARKS, "properties": since(98, TEXTS)}), {"const": ""}),
    "flavor": _FLAVOR,
    "created": SECOND,
    "updated": SECOND,
    "accessIPv4": {"type": "string", "anyOf": [{"const": ""}, {"format": "ipv4"}]},
    "accessIPv6": {"type": "string", "anyOf": [{"const": ""}, {"format": "ipv6"}]},
    "links": LINKS,
    "OS-DCF:diskConfig": _DISK_CONFIG,
    "progress": optional({"type": "integer", "minimum": 0, "maximum": 100}),
    "fault": optional(_FAULT),
    "locked": since(9, BOOLEAN),
    "description": since(19, nullable(TEXT)),
    "tags": since(26, list_of(WORD, maxItems=50, uniqueItems=True)),
    "trusted_image_certificates": since(63, nullable(list_of(TEXT))),
    "locked_reason": since(73, nullable(TEXT)),
}
_EXTENDED: FieldParts = {
    "OS-EXT-AZ:availability_zone": TEXT,
    "config_drive": a_word(("", "True")),
    "key_name": nullable(TEXT),
    "OS-SRV-USG:launched_at": nullable(MICROSECOND),
    "OS-SRV-USG:terminated_at": nullable(MICROSECOND),
    "OS-EXT-STS:task_state": nullable(a_word(TaskState)),
    "OS-EXT-STS:vm_state": a_word(VmState),
    "OS-EXT-STS:power_state": {"type": "integer", "enum": [*map(int, PowerState)]},
    "os-extended-volumes:volumes_attached": list_of(Fields({"id": TEXT, "delete_on_termination": since(3, BOOLEAN)})),
    "security_groups": optional(_GROUPS),
    "OS-EXT-SRV-ATTR:host": shown_by(HOST, nullable(TEXT)),
    "OS-EXT-SRV-ATTR:hypervisor_hostname": shown_by(HOST, nullable(TEXT)),
    "OS-EXT-SRV-ATTR:instance_name": shown_by(HOST, TEXT),
    **{
        f"OS-EXT-SRV-ATTR:{name}": since(3, shown_by(HOST, part))
        for name, part in {
            "kernel_id": TEXT,
            "launch_index": COUNT,
            "ramdisk_id": TEXT,
            "reservation_id": TEXT,
            "root_device_name": nullable(TEXT),
            "user_data": nullable(BASE64),
        }.items()
    },
    "OS-EXT-SRV-ATTR:hostname": (*since(3, until(89, shown_by(HOST, TEXT))), *since(90, TEXT)),
    "host_status": since(16, shown_by(HOST_STATUS, a_word(("UP", "DOWN", "MAINTENANCE", "UNKNOWN", "")))),
    "pinned_availability_zone": since(96, nullable(TEXT)),
    "scheduler_hints": since(100, map_of({})),
}
_WHOLE: FieldParts = {**_PLAIN, "addresses": server_ips.WITH_PORTS, **_EXTENDED}
_GROUP = since(71, list_of(UUID, maxItems=1))
_UPDATED: FieldParts = {
    **_PLAIN,
    "addresses": changing(server_ips.PLAIN, {75: server_ips.WITH_PORTS}),
    "server_groups": _GROUP,
    **{name: since(75, part) for name, part in _EXTENDED.items()},
}
_REBUILT: FieldParts = {
    **{name: part for name, part in _UPDATED.items() if name != "OS-EXT-SRV-ATTR:user_data"},
    "key_name": since(54, nullable(TEXT)),
    "user_data": since(57, nullable(BASE64)),
    "adminPass": TEXT,
}
LIST = a_page("servers", _BRIEF)
DETAIL = a_page("servers", Fields(_WHOLE, name="ServerInDetail"))
SHOW = only("server", Fields({**_WHOLE, "server_groups": _GROUP}, name="Server"))
UPDATED = only("server", Fields(_UPDATED))
REBUILT = only("server", Fields(_REBUILT))
_ACCEPTED: FieldParts = {
    "id": UUID,
    "links": LINKS,
    "OS-DCF:diskConfig": _DISK_CONFIG,
    "security_groups": _GROUPS,
    "adminPass": TEXT,
}
CREATED = one_of(only("server", Fields(_ACCEPTED)), only("reservation_id", WORD))
IMAGE_MADE = changing(NOTHING, {45: only("image_id", UUID)})
PASSWORD = only("adminPass", TEXT)
OUTPUT = only("output", TEXT)
VNC_CONSOLE = only("console", Fields({"type": {"const": "novnc"}, "url": URL}))
SERIAL_CONSOLE = only("console", Fields({"type": {"const": "serial"}, "url": URL}))
REMOTE_CONSOLE = only(
    "remote_console",
    Fields({"protocol": a_word(("vnc", "serial")), "type": a_word(("novnc", "serial")), "url": URL}),
)
