"""Bodies and queries about volumes and their snapshots."""

from __future__ import annotations

from top_api.paging import LIMIT
from top_api.schemas.types import BOOLEAN, TEXT, Schema, an_object, only
from top_api.validation import Queries, Versioned

LIST = Queries({}, repeated={"limit": LIMIT, "offset": LIMIT}, strict_since=(2, 75))
_ID: Schema = {"type": "string", "maxLength": 255}
_METADATA: Schema = {"type": "object", "maxProperties": 128}
_NAMES = {"display_name": TEXT, "display_description": TEXT}
_VOLUME: dict[str, Schema] = {
    **_NAMES,
    "size": {"type": ["integer", "string"], "pattern": "[0-9]{1,9}", "minimum": 1, "maximum": 999_999_999},
    "volume_type": TEXT,
    "metadata": _METADATA,
    "snapshot_id": _ID,
    "availability_zone": TEXT,
}
_SNAPSHOT: dict[str, Schema] = {**_NAMES, "volume_id": _ID, "force": BOOLEAN}
CREATE = Versioned(only("volume", an_object(_VOLUME, required=("size",))))
CREATE_SNAPSHOT = Versioned(only("snapshot", an_object(_SNAPSHOT, required=("volume_id",))))
