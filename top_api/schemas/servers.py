"""Bodies and queries of servers and their actions, by microversion."""

from __future__ import annotations

from top_api.schemas.types import (
    BOOLEAN,
    DATE,
    DESCRIPTION,
    FQDN,
    HOSTNAME,
    METADATA,
    NAME,
    NOT_NEGATIVE,
    POSITIVE,
    TAG,
    TAGS,
    TEXT,
    UUID,
    Schema,
    an_object,
    only,
)
from top_api.validation import Queries, Versioned

MAX_USER_DATA = 65535
_ADDRESSES: dict[str, Schema] = {f"accessIPv{one}": {"type": "string", "format": f"ipv{one}"} for one in (4, 6)}
MOST_NETWORKS = 32  # a guest's machine has no more places for network cards
MOST_GROUPS = 512
_DISK_CONFIG: Schema = {"type": "string", "enum": ["AUTO", "MANUAL"]}
_FIXED_IP: Schema = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_PASSWORD: Schema = {"type": "string", "maxLength": 255}
_NETWORK = an_object({"uuid": UUID, "port": {"type": ["string", "null"], "format": "uuid"}, "fixed_ip": _FIXED_IP})
_TAGGED_NETWORK = an_object(
    {"uuid": UUID, "port": {"type": ["string", "null"], "format": "uuid"}, "fixed_ip": _FIXED_IP, "tag": TAG}
)
_BLOCK_DEVICE: dict[str, Schema] = {
    "boot_index": {"type": ["integer", "string", "null"], "pattern": "-?[0-9]{1,3}"},
    "uuid": {"type": ["string", "null"], "maxLength": 64},
    "source_type": {"type": "string", "enum": ["volume", "image", "snapshot", "blank"]},
    "destination_type": {"type": "string", "enum": ["local", "volume"]},
    "volume_size": {"type": ["integer", "string", "null"]},
    "delete_on_termination": BOOLEAN,
    "device_name": {"type": ["string", "null"], "maxLength": 255},
    "device_type": {"type": ["string", "null"], "maxLength": 255},
    "disk_bus": {"type": ["string", "null"], "maxLength": 255},
    "guest_format": {"type": ["string", "null"], "maxLength": 255},
    "no_device": {},
}
_VOLUME_TYPE: Schema = {"type": ["string", "null"], "maxLength": 255}
_OLDER_DEVICE = an_object(
    {
        "virtual_name": {"type": ["string", "null"], "maxLength": 255},
        "volume_id": {"type": ["string", "null"], "format": "uuid"},
        "snapshot_id": {"type": ["string", "null"], "format": "uuid"},
        "volume_size": {"type": ["integer", "string", "null"]},
        "device_name": {"type": ["string", "null"], "maxLength": 255},
        "delete_on_termination": BOOLEAN,
        "no_device": {},
    }
)


def _devices(**more: Schema) -> Schema:
    return {"type": "array", "items": an_object({**_BLOCK_DEVICE, **more}), "maxItems": 32}


_PERSONALITY: Schema = {
    "type": "array",
    "items": an_object({"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}}),
    "maxItems": 1000,
}
_CERTIFICATES: Schema = {
    "type": ["array", "null"],
    "items": {**TEXT, "minLength": 1},
    "minItems": 1,
    "maxItems": 50,
    "uniqueItems": True,
}
_SERVERS: Schema = {"oneOf": [UUID, {"type": "array", "items": UUID, "maxItems": 100}]}
_HINTS: Schema = {
    "type": "object",
    "properties": {
        "group": {"oneOf": [UUID, {"type": "array", "items": UUID, "maxItems": 1}]},
        "different_host": _SERVERS,
        "same_host": _SERVERS,
        "query": {"type": "string", "maxLength": 16384},
        "build_near_host_ip": {"oneOf": [{"type": "string", "format": one} for one in ("ipv4", "ipv6")]},
        "cidr": {"type": "string", "maxLength": 46, "pattern": r"/[0-9a-f.:]{1,45}"},
    },
    "maxProperties": 32,
    "additionalProperties": True,
}
_FLAVOR: Schema = {"type": ["string", "integer"], "minLength": 1, "maxLength": 512}
_SERVER: dict[str, Schema] = {
    "name": NAME,
    "flavorRef": _FLAVOR,
    "imageRef": {"type": "string", "anyOf": [{"maxLength": 0}, {"format": "uuid"}]},
    "adminPass": _PASSWORD,
    "networks": {"type": "array", "items": _NETWORK, "maxItems": MOST_NETWORKS},
    "key_name": NAME,
    "metadata": METADATA,
    "user_data": {"type": ["string", "null"], "format": "base64", "maxLength": MAX_USER_DATA},
    "security_groups": {"type": "array", "items": an_object({"name": NAME}), "maxItems": MOST_GROUPS},
    "availability_zone": NAME,
    "block_device_mapping": {"type": "array", "items": _OLDER_DEVICE, "maxItems": 32},
    "block_device_mapping_v2": _devices(),
    "config_drive": BOOLEAN,
    "min_count": POSITIVE,
    "max_count": POSITIVE,
    "return_reservation_id": BOOLEAN,
    **_ADDRESSES,
    "OS-DCF:diskConfig": _DISK_CONFIG,
    "personality": _PERSONALITY,
}


def _create(server: dict[str, Schema], *, needs_networks: bool) -> Schema:
    required = ("name", "flavorRef", "networks") if needs_networks else ("name", "flavorRef")
    hints = dict.fromkeys(("os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"), _HINTS)
    return an_object({"server": an_object(server, required=required), **hints}, required=("server",))


def _create_by_version() -> Versioned:
    server = dict(_SERVER)
    first = _create(server, needs_networks=False)
    later: list[tuple[tuple[int, int], Schema]] = []

    def since(minor: int, changes: dict[str, Schema], *without: str) -> None:
        nonlocal server
        server = {key: value for key, value in (server | changes).items() if key not in without}
        later.append(((2, minor), _create(server, needs_networks=minor >= 37)))

    tagged: Schema = {"type": "array", "items": _TAGGED_NETWORK, "maxItems": MOST_NETWORKS}
    listed: Schema = {"type": "array", "items": _NETWORK, "maxItems": MOST_NETWORKS}
    word: Schema = {"type": "string", "enum": ["none", "auto"]}
    since(19, {"description": DESCRIPTION})
    since(32, {"networks": tagged, "block_device_mapping_v2": _devices(tag=TAG)})
    since(33, {"block_device_mapping_v2": _devices()})
    since(37, {"networks": {"oneOf": [listed, word]}})
    since(42, {"networks": {"oneOf": [tagged, word]}, "block_device_mapping_v2": _devices(tag=TAG)})
    since(52, {"tags": TAGS})
    since(57, {}, "personality")
    since(63, {"trusted_image_certificates": _CERTIFICATES})
    since(67, {"block_device_mapping_v2": _devices(tag=TAG, volume_type=_VOLUME_TYPE)})
    since(74, {"host": FQDN, "hypervisor_hostname": FQDN})
    since(90, {"hostname": HOSTNAME})
    since(94, {"hostname": FQDN})
    return Versioned(first, *later)


CREATE = _create_by_version()

_UPDATE: dict[str, Schema] = {
    "name": NAME,
    **_ADDRESSES,
    "OS-DCF:diskConfig": _DISK_CONFIG,
}
_UPDATE_19 = {**_UPDATE, "description": DESCRIPTION}


def _update(properties: dict[str, Schema]) -> Schema:
    return only("server", an_object(properties))


UPDATE = Versioned(
    _update(_UPDATE),
    ((2, 19), _update(_UPDATE_19)),
    ((2, 90), _update({**_UPDATE_19, "hostname": HOSTNAME})),
    ((2, 94), _update({**_UPDATE_19, "hostname": FQDN})),
)

REBOOT = Versioned(
    only(
        "reboot",
        an_object(
            {"type": {"type": "string", "enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}}, required=("type",)
        ),
    )
)
_REBUILD: dict[str, Schema] = {
    "name": NAME,
    "imageRef": UUID,
    "adminPass": _SERVER["adminPass"],
    "metadata": METADATA,
    "preserve_ephemeral": BOOLEAN,
    "OS-DCF:diskConfig": _DISK_CONFIG,
    **_ADDRESSES,
    "personality": _PERSONALITY,
}


def _rebuild_by_version() -> Versioned:
    changes: tuple[tuple[int, dict[str, Schema]], ...] = (
        (19, {"description": DESCRIPTION}),
        (54, {"key_name": {"type": ["string", "null"], "minLength": 1, "maxLength": 255}}),
        (57, {"user_data": _SERVER["user_data"]}),
        (63, {"trusted_image_certificates": _CERTIFICATES}),
        (90, {"hostname": HOSTNAME}),
        (94, {"hostname": FQDN}),
    )
    taken = _REBUILD
    later: list[tuple[tuple[int, int], Schema]] = []
    for minor, more in changes:
        taken = {key: value for key, value in (taken | more).items() if minor < 57 or key != "personality"}
        later.append(((2, minor), only("rebuild", an_object(taken, required=("imageRef",)))))
    return Versioned(only("rebuild", an_object(_REBUILD, required=("imageRef",))), *later)


REBUILD = _rebuild_by_version()
CREATE_IMAGE = Versioned(only("createImage", an_object({"name": NAME, "metadata": METADATA}, required=("name",))))
CREATE_BACKUP = Versioned(
    only(
        "createBackup",
        an_object(
            {"name": NAME, "backup_type": TEXT, "rotation": NOT_NEGATIVE, "metadata": METADATA},
            required=("name", "backup_type", "rotation"),
        ),
    )
)
CHANGE_PASSWORD = Versioned(
    only("changePassword", an_object({"adminPass": {"type": "string", "maxLength": 255}}, required=("adminPass",)))
)
TRIGGER_CRASH_DUMP = Versioned(only("trigger_crash_dump", {"type": "null"}))
RESET_STATE = Versioned(
    only("os-resetState", an_object({"state": {"type": "string", "enum": ["active", "error"]}}, required=("state",)))
)
_UNPINNED: Schema = {"anyOf": [NAME, {"type": "null"}]}
UNSHELVE = Versioned(
    only("unshelve", {}),
    (
        (2, 77),
        only(
            "unshelve",
            {"anyOf": [{"type": "null"}, an_object({"availability_zone": NAME}, required=("availability_zone",))]},
        ),
    ),
    (
        (2, 91),
        only(
            "unshelve",
            {
                "anyOf": [
                    {"type": "null"},
                    an_object({"availability_zone": _UNPINNED, "host": FQDN}),
                ]
            },
        ),
    ),
)
RESCUE = Versioned(
    only(
        "rescue",
        {"anyOf": [{"type": "null"}, an_object({"adminPass": _PASSWORD, "rescue_image_ref": UUID})]},
    )
)
ACTIONS = {"reboot": REBOOT}
"""Key of an operation's action -> its body, where that must be more than there."""
RESIZE = Versioned(
    only("resize", an_object({"flavorRef": _FLAVOR, "OS-DCF:diskConfig": _DISK_CONFIG}, required=("flavorRef",)))
)
MIGRATE = Versioned(
    only("migrate", {}),
    (
        (2, 56),
        only("migrate", {"anyOf": [{"type": "null"}, an_object({"host": {**FQDN, "type": ["string", "null"]}})]}),
    ),
)
CONSOLE_OUTPUT = Versioned(
    only(
        "os-getConsoleOutput",
        an_object({"length": {"type": ["integer", "string", "null"], "minimum": -1, "pattern": "-1|[0-9]{1,9}"}}),
    )
)
VNC_CONSOLE = Versioned(
    only("os-getVNCConsole", an_object({"type": {"type": "string", "enum": ["novnc", "xvpvnc"]}}, required=("type",)))
)
SPICE_CONSOLE = Versioned(
    only("os-getSPICEConsole", an_object({"type": {"type": "string", "enum": ["spice-html5"]}}, required=("type",)))
)
SERIAL_CONSOLE = Versioned(
    only("os-getSerialConsole", an_object({"type": {"type": "string", "enum": ["serial"]}}, required=("type",)))
)
_PROTOCOLS = ["vnc", "spice", "serial", "rdp"]
_CONSOLE_TYPES = ["novnc", "xvpvnc", "spice-html5", "serial", "rdp-html5"]


def _remote_console(protocols: list[str], types: list[str]) -> Schema:
    words = {"protocol": {"type": "string", "enum": protocols}, "type": {"type": "string", "enum": types}}
    return only("remote_console", an_object(words, required=("protocol", "type")))


REMOTE_CONSOLES = Versioned(
    _remote_console(_PROTOCOLS, _CONSOLE_TYPES),
    ((2, 8), _remote_console([*_PROTOCOLS, "mks"], [*_CONSOLE_TYPES, "webmks"])),
    ((2, 99), _remote_console([*_PROTOCOLS, "mks"], [*_CONSOLE_TYPES, "webmks", "spice-direct"])),
)
LOCK = Versioned(
    only("lock", {}),
    (
        (2, 73),
        only("lock", {"anyOf": [{"type": "null"}, an_object({"locked_reason": {**TEXT, "minLength": 1}})]}),
    ),
)

_PATTERN: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_LIMIT: Schema = {"type": "string", "pattern": "[0-9]{1,64}"}
JOINED = frozenset(
    {"block_device_mapping", "info_cache", "metadata", "pci_devices", "security_groups", "services", "system_metadata"}
)
"""What Nova's records are joined with: nobody filters by it, and administrators are told so."""
LIST = Queries(
    {
        "walk": {"type": "string", "pattern": "[0-9a-f]{16}"},
    },
    repeated={
        "limit": _LIMIT,
        "marker": TEXT,
        "all_tenants": TEXT,
        "changes-since": DATE,
        "changes-before": DATE,
        "deleted": TEXT,
        "sort_key": TEXT,
        "sort_dir": {"type": "string", "enum": ["asc", "desc"]},
        "tags": _PATTERN,
        "tags-any": _PATTERN,
        "not-tags": _PATTERN,
        "not-tags-any": _PATTERN,
        "locked": TEXT,
        "name": _PATTERN,
        "hostname": _PATTERN,
        "display_name": _PATTERN,
        "ip": _PATTERN,
        "ip6": _PATTERN,
        "power_state": _PATTERN,
        **dict.fromkeys(
            (
                "access_ip_v4",
                "access_ip_v6",
                "auto_disk_config",
                "availability_zone",
                "config_drive",
                "created_at",
                "description",
                "display_description",
                "flavor",
                "kernel_id",
                "key_name",
                "launched_at",
                "locked_by",
                "node",
                "progress",
                "ramdisk_id",
                "reservation_id",
                "root_device_name",
                "terminated_at",
            ),
            _PATTERN,
        ),
        **dict.fromkeys(
            (
                "deleted_at",
                "host",
                "image",
                "image_ref",
                "instance_type_id",
                "launch_index",
                "project_id",
                "soft_deleted",
                "status",
                "task_state",
                "tenant_id",
                "updated_at",
                "user_id",
                "uuid",
                "vm_state",
                *JOINED,
            ),
            TEXT,
        ),
    },
    until=dict.fromkeys(("deleted_at", "instance_type_id", "updated_at"), (2, 74)),
    strict_since=(2, 75),
    since={
        "changes-before": (2, 66),
        "locked": (2, 73),
        **dict.fromkeys(("tags", "tags-any", "not-tags", "not-tags-any"), (2, 26)),
    },
)
