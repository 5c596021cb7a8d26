"""Bodies and queries of flavors, by microversion."""

from __future__ import annotations

from cellcloud.db import pagination_snapshots
from top_api.paging import LIMIT, MARKER, WALK
from top_api.schemas.types import BOOLEAN, DESCRIPTION, NAME, TEXT, Schema, an_object, only, words
from top_api.validation import Queries, Versioned

_MOST = 0x7FFFFFFF
_DESCRIPTION: Schema = {**DESCRIPTION, "maxLength": 65535}


def _number(least: int) -> Schema:
    """``least`` 0 or 1. A text of digits is as good as a number, and of the same range."""
    digits = "[0-9]{1,10}" if least == 0 else "0{0,9}[1-9][0-9]{0,9}"
    return {"type": ["integer", "string"], "pattern": digits, "minimum": least, "maximum": _MOST}


_FLAVOR: dict[str, Schema] = {
    "name": NAME,
    "id": {
        "type": ["string", "number", "null"],
        "maxLength": 255,
        "pattern": words("a-zA-Z0-9._-"),
    },
    "ram": _number(1),
    "vcpus": _number(1),
    "disk": _number(0),
    "OS-FLV-EXT-DATA:ephemeral": _number(0),
    "swap": _number(0),
    "rxtx_factor": {
        "type": ["number", "string"],
        "pattern": r"0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*",
        "maxLength": 64,
        "exclusiveMinimum": 0,
        "maximum": 3.40282e38,
    },
    "os-flavor-access:is_public": BOOLEAN,
}
_NEEDED = ("name", "ram", "vcpus", "disk")
CREATE = Versioned(
    only("flavor", an_object(_FLAVOR, required=_NEEDED)),
    ((2, 55), only("flavor", an_object({**_FLAVOR, "description": _DESCRIPTION}, required=_NEEDED))),
)
UPDATE = Versioned(only("flavor", an_object({"description": _DESCRIPTION}, required=("description",))))
_SPEC_VALUE: Schema = {"type": ["string", "number"], "maxLength": 255}
_SPECS: Schema = {
    "type": "object",
    "patternProperties": {r"[a-zA-Z0-9_:. -]{1,255}": _SPEC_VALUE},
    "additionalProperties": False,
}
EXTRA_SPECS = Versioned(only("extra_specs", _SPECS))
EXTRA_SPEC = Versioned({**_SPECS, "minProperties": 1, "maxProperties": 1})
_PROJECT = an_object({"tenant": {**TEXT, "minLength": 1}}, required=("tenant",))
ADD_ACCESS = Versioned(only("addTenantAccess", _PROJECT))
REMOVE_ACCESS = Versioned(only("removeTenantAccess", _PROJECT))
SORT_KEYS = (
    "created_at", "description", "disabled", "ephemeral_gb", "flavorid", "id", "is_public", "memory_mb", "name",
    "root_gb", "rxtx_factor", "swap", "updated_at", "vcpu_weight", "vcpus",
)  # fmt: skip
LIST = Queries(
    {pagination_snapshots.NAME: WALK},
    repeated={
        "limit": LIMIT,
        "marker": MARKER,
        "is_public": TEXT,
        "minRam": TEXT,
        "minDisk": TEXT,
        "sort_key": {
            "type": "string",
            "enum": list(SORT_KEYS),
        },
        "sort_dir": {"type": "string", "enum": ["asc", "desc"]},
    },
    strict_since=(2, 75),
)  # fmt: skip
