"""Bodies that the volume API takes, as Cinder publishes them."""

from __future__ import annotations

from typing import Any

from top_api.validation import Versioned

TEXT: dict[str, Any] = {"type": ["string", "null"], "maxLength": 255}
NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"(?s).*\S.*"}
UUID: dict[str, Any] = {"type": "string", "format": "uuid"}
NO_UUID: dict[str, Any] = {"oneOf": [UUID, {"type": "null"}]}
BOOLEAN: dict[str, Any] = {
    "type": ["boolean", "string"],
    "enum": [
        *(True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t"),
        *(False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"),
    ],
}
SIZE: dict[str, Any] = {"type": ["integer", "string"], "pattern": "[0-9]{1,10}", "minimum": 1, "maximum": 2147483647}
_SIZE_OR_NONE = {**SIZE, "type": ["integer", "string", "null"]}
_KEY = r"[a-zA-Z0-9_:. /-]{1,255}"
MOST_ITEMS = 128
METADATA: dict[str, Any] = {
    "type": "object",
    "patternProperties": {_KEY: {"type": "string", "maxLength": 255}},
    "maxProperties": MOST_ITEMS,
    "additionalProperties": False,
}
NO_METADATA = {**METADATA, "type": ["object", "null"]}


def closed(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    """Return the schema of an object that has no other fields."""
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return found | ({"required": list(required)} if required else {})


def within(name: str, properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    """Return the schema of a body that is one object under a name."""
    return closed({name: closed(properties, *required, **more)}, name)


_NAMES = dict.fromkeys(("name", "description", "display_name", "display_description"), TEXT)
_VOLUME = {
    **_NAMES,
    "volume_type": TEXT,
    "metadata": NO_METADATA,
    "snapshot_id": NO_UUID,
    "source_volid": NO_UUID,
    "consistencygroup_id": NO_UUID,
    "size": _SIZE_OR_NONE,
    "availability_zone": TEXT,
    "multiattach": BOOLEAN,
    "image_id": TEXT,
    "imageRef": TEXT,
}
_HINTS = {"OS-SCH-HNT:scheduler_hints": {"type": ["object", "null"]}}


def _create(properties: dict[str, Any], *, is_open: bool) -> dict[str, Any]:
    volume = {**closed(properties), "additionalProperties": is_open}
    return closed({"volume": volume, **_HINTS}, "volume")


_WITH_GROUP = {**_VOLUME, "group_id": TEXT}
_WITH_BACKUP = {**_WITH_GROUP, "backup_id": NO_UUID}
CREATE = Versioned(
    _create(_VOLUME, is_open=True),
    ((3, 13), _create(_WITH_GROUP, is_open=True)),
    ((3, 47), _create(_WITH_BACKUP, is_open=True)),
    ((3, 53), _create(_WITH_BACKUP, is_open=False)),
)
_UPDATE = {**_NAMES, "metadata": METADATA}
UPDATE = Versioned(
    within("volume", _UPDATE), ((3, 53), within("volume", _UPDATE, anyOf=[{"required": [name]} for name in _UPDATE]))
)

# ---- attachments -------------------------------------------------------------------------------------------------
_ATTACHMENT = {"instance_uuid": UUID, "connector": {"type": ["object", "null"]}, "volume_uuid": UUID}
_MODE = {"type": "string", "enum": ["rw", "ro"]}
ATTACHMENT = Versioned(
    within("attachment", _ATTACHMENT, "volume_uuid"),
    ((3, 54), within("attachment", {**_ATTACHMENT, "mode": _MODE}, "volume_uuid")),
)
ATTACHMENT_UPDATE = Versioned(within("attachment", {"connector": {"type": "object", "minProperties": 1}}, "connector"))
COMPLETE = Versioned(closed({"os-complete": {}}, "os-complete"))

# ---- actions -----------------------------------------------------------------------------------------------------
ANYTHING: dict[str, Any] = {}


def _action(name: str, schema: dict[str, Any]) -> Versioned:
    return Versioned(closed({name: schema}, name))


BARE = {
    name: _action(name, ANYTHING)
    for name in (
        *("os-reserve", "os-unreserve", "os-begin_detaching", "os-roll_detaching", "os-force_delete"),
        "os-show_image_metadata",
    )
}
ATTACH = _action(
    "os-attach",
    closed(
        {
            "instance_uuid": UUID,
            "mountpoint": {"type": "string", "minLength": 1, "maxLength": 255},
            "host_name": {"type": "string", "maxLength": 255},
            "mode": _MODE,
        },
        "mountpoint",
        anyOf=[{"required": ["instance_uuid"]}, {"required": ["host_name"]}],
    ),
)
DETACH = _action("os-detach", {**closed({"attachment_id": NO_UUID}), "type": ["object", "null"]})
EXTEND = _action("os-extend", closed({"new_size": SIZE}, "new_size"))
RETYPE = _action(
    "os-retype",
    closed(
        {
            "new_type": {"type": "string", "maxLength": 255},
            "migration_policy": {"type": ["string", "null"], "enum": ["on-demand", "never"]},
        },
        "new_type",
    ),
)
SET_BOOTABLE = _action("os-set_bootable", closed({"bootable": BOOLEAN}, "bootable"))
READONLY = _action("os-update_readonly_flag", closed({"readonly": BOOLEAN}, "readonly"))
_UPLOAD = {
    "image_name": {"type": "string", "minLength": 1, "maxLength": 255},
    "force": BOOLEAN,
    "disk_format": {"type": "string", "enum": ["raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop"]},
    "container_format": TEXT,
}
_VISIBILITY = {"type": "string", "enum": ["community", "public", "private", "shared"]}
_UPLOAD_31 = {**_UPLOAD, "visibility": _VISIBILITY, "protected": BOOLEAN}
UPLOAD = Versioned(
    closed({"os-volume_upload_image": closed(_UPLOAD, "image_name")}, "os-volume_upload_image"),
    ((3, 1), closed({"os-volume_upload_image": closed(_UPLOAD_31, "image_name")}, "os-volume_upload_image")),
)
INITIALIZE = _action("os-initialize_connection", closed({"connector": {"type": "object"}}, "connector"))
TERMINATE = _action("os-terminate_connection", closed({"connector": {"type": ["object", "null"]}}, "connector"))
REIMAGE = _action("os-reimage", closed({"image_id": UUID, "reimage_reserved": BOOLEAN}, "image_id"))
REVERT = Versioned(closed({"revert": {**closed({"snapshot_id": UUID}, "snapshot_id")}}, "revert"))
STATUSES = (
    *("creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching"),
    *("in-use", "detaching", "maintenance", "restoring-backup", "error_restoring", "reserved", "awaiting-transfer"),
    *("backing-up", "error_backing-up", "error_extending", "downloading", "uploading", "retyping", "extending"),
)
RESET = _action(
    "os-reset_status",
    closed(
        {
            "status": {"type": ["string", "null"], "enum": [*STATUSES, None]},
            "attach_status": {"type": ["string", "null"], "enum": ["attached", "detached", None]},
            "migration_status": {"type": ["string", "null"], "maxLength": 255},
        },
        minProperties=1,
    ),
)
FORCE_DETACH = _action(
    "os-force_detach",
    closed({"connector": {"type": ["object", "null"]}, "attachment_id": {"type": ["string", "null"], "maxLength": 36}}),
)
REFUSED = {name: _action(name, {"type": ["object", "null"]}) for name in ("os-migrate_volume", "os-unmanage")}

# ---- snapshots ---------------------------------------------------------------------------------------------------
SNAPSHOT = Versioned(
    within(
        "snapshot",
        {
            "name": TEXT,
            "display_name": TEXT,
            "description": TEXT,
            "volume_id": NO_UUID,
            "force": BOOLEAN,
            "metadata": NO_METADATA,
        },
        "volume_id",
    )
)
SNAPSHOT_UPDATE = Versioned(within("snapshot", _NAMES, anyOf=[{"required": [name]} for name in _NAMES]))
_SNAPSHOT_STATUSES = ["available", "creating", "error", "deleting", "error_deleting", "restoring", "backing-up"]
SNAPSHOT_RESET = _action(
    "os-reset_status", closed({"status": {"type": "string", "enum": _SNAPSHOT_STATUSES}}, "status")
)
SNAPSHOT_STATUS = _action(
    "os-update_snapshot_status",
    closed(
        {
            "status": {"type": "string", "enum": _SNAPSHOT_STATUSES},
            "progress": {"type": ["string", "null"], "pattern": "((100|[0-9]{1,2})%)?", "maxLength": 4},
        },
        "status",
    ),
)

# ---- metadata ----------------------------------------------------------------------------------------------------
METADATA_BODY = Versioned(closed({"metadata": METADATA}, "metadata"))
META = Versioned(closed({"meta": METADATA}, "meta"))
_IMAGE_METADATA = {
    **METADATA,
    "patternProperties": {_KEY: {"type": "string", "maxLength": 65535}},
}
SET_IMAGE_METADATA = _action("os-set_image_metadata", closed({"metadata": _IMAGE_METADATA}, "metadata"))
UNSET_IMAGE_METADATA = _action("os-unset_image_metadata", closed({"key": NAME}, "key"))

# ---- types -------------------------------------------------------------------------------------------------------
_SPECS: dict[str, Any] = {
    "type": "object",
    "patternProperties": {r"[a-zA-Z0-9_:.-]{1,255}": {"type": ["string", "null"], "maxLength": 255}},
    "maxProperties": MOST_ITEMS,
    "additionalProperties": False,
}
TYPE = Versioned(
    within(
        "volume_type",
        {"name": NAME, "description": TEXT, "extra_specs": _SPECS, "os-volume-type-access:is_public": BOOLEAN},
        "name",
    )
)
TYPE_UPDATE = Versioned(
    within(
        "volume_type",
        {"name": {"type": ["string", "null"], "maxLength": 255}, "description": TEXT, "is_public": BOOLEAN},
    )
)
EXTRA_SPECS = Versioned(closed({"extra_specs": _SPECS}, "extra_specs"))
EXTRA_SPEC = Versioned({**_SPECS, "minProperties": 1, "maxProperties": 1})
ACCESS = {
    name: _action(name, closed({"project": {"type": "string", "minLength": 1, "maxLength": 255}}, "project"))
    for name in ("addProjectAccess", "removeProjectAccess")
}
DEFAULT_TYPE = Versioned(within("default_type", {"volume_type": NAME}, "volume_type"))

# ---- quotas, services --------------------------------------------------------------------------------------------
_LIMIT = {"type": ["integer", "string"], "pattern": "-1|[0-9]{1,10}", "minimum": -1, "maximum": 2147483647}
_LIMITS_SET: dict[str, Any] = {
    "type": "object",
    "properties": {"tenant_id": TEXT, "id": TEXT, "force": BOOLEAN},
    "additionalProperties": _LIMIT,
    "minProperties": 1,
    "maxProperties": 1000,
}
QUOTA_SET = Versioned(closed({"quota_set": _LIMITS_SET}, "quota_set"))
QUOTA_CLASS_SET = Versioned(closed({"quota_class_set": _LIMITS_SET}, "quota_class_set"))
SERVICE = Versioned(
    closed(
        {
            "host": {"type": "string", "minLength": 1, "maxLength": 255},
            "binary": {"type": "string", "maxLength": 255},
            "service": {"type": "string", "maxLength": 255},
            "disabled_reason": {"type": "string", "maxLength": 255},
        },
        "host",
    )
)

# ---- transfers ---------------------------------------------------------------------------------------------------
_TRANSFER = {"volume_id": UUID, "name": TEXT}
TRANSFER = Versioned(
    within("transfer", _TRANSFER, "volume_id"),
    ((3, 55), within("transfer", {**_TRANSFER, "no_snapshots": BOOLEAN}, "volume_id")),
)
TRANSFER_ACCEPT = Versioned(
    within("accept", {"auth_key": {"type": ["string", "integer"], "maxLength": 255}}, "auth_key")
)
