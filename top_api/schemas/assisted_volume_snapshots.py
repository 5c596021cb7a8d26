"""Bodies and queries of snapshots of volumes that lie as files on a host."""

from __future__ import annotations

from top_api.schemas.types import Schema, an_object, only
from top_api.validation import Queries, Versioned

_WORD: Schema = {"type": "string", "minLength": 1, "maxLength": 4096}
_INFO = an_object(
    {"snapshot_id": _WORD, "type": {"type": "string", "enum": ["qcow2"]}, "new_file": _WORD, "id": _WORD},
    required=("snapshot_id", "type", "new_file"),
)
CREATE = Versioned(
    only("snapshot", an_object({"volume_id": _WORD, "create_info": _INFO}, required=("volume_id", "create_info")))
)
DELETE = Queries({}, repeated={"delete_info": {"type": "string", "maxLength": 65536}}, strict_since=(2, 75))
