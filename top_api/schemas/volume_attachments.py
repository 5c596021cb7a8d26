"""Bodies and queries about a server's volumes."""

from __future__ import annotations

from top_api.paging import LIMIT
from top_api.schemas.types import BOOLEAN, TAG, UUID, Schema, an_object, only
from top_api.validation import Queries, Versioned

DEVICE: Schema = {"type": ["string", "null"], "maxLength": 255, "pattern": r"/dev/x?[a-z]?d?[a-z]+[0-9]*"}
LIST = Queries({}, repeated={"limit": LIMIT, "offset": LIMIT}, strict_since=(2, 75))


def _of(properties: dict[str, Schema]) -> Schema:
    return only("volumeAttachment", an_object({"volumeId": UUID, **properties}, required=("volumeId",)))


CREATE = Versioned(
    _of({"device": DEVICE}),
    ((2, 49), _of({"device": DEVICE, "tag": TAG})),
    ((2, 79), _of({"device": DEVICE, "tag": TAG, "delete_on_termination": BOOLEAN})),
)
UPDATE = Versioned(
    _of({}),
    (
        (2, 85),
        _of({"device": DEVICE, "tag": TAG, "delete_on_termination": BOOLEAN, "serverId": UUID, "id": UUID}),
    ),
)
