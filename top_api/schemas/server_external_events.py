"""Bodies of events that other services tell of, by microversion."""

from __future__ import annotations

from top_api.schemas.types import TEXT, UUID, Schema, an_object, only
from top_api.validation import Versioned

_FIRST = ("network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted")
_LATER = (
    ((2, 51), "volume-extended"),
    ((2, 76), "power-update"),
    ((2, 82), "accelerator-request-bound"),
    ((2, 93), "volume-reimaged"),
)


def _of_names(*names: str) -> Schema:
    event = an_object(
        {
            "name": {"type": "string", "enum": list(names)},
            "server_uuid": UUID,
            "status": {"type": "string", "enum": ["failed", "completed", "in-progress"]},
            "tag": TEXT,
        },
        required=("name", "server_uuid"),
    )
    return only("events", {"type": "array", "minItems": 1, "maxItems": 10_000, "items": event})


CREATE = Versioned(
    _of_names(*_FIRST),
    *(
        (since, _of_names(*_FIRST, *(name for _, name in _LATER[: number + 1])))
        for number, (since, _) in enumerate(_LATER)
    ),
)
