"""Answers about aggregates, by microversion."""

from __future__ import annotations

from top_api.answers.types import COUNT, MICROSECOND, TEXT, TEXTS, UUID, only
from top_api.response_schema import FieldParts, Fields, list_of, nullable, since

_NEW: FieldParts = {
    "id": COUNT,
    "name": TEXT,
    "availability_zone": nullable(TEXT),
    "created_at": MICROSECOND,
    "updated_at": nullable(MICROSECOND),
    "deleted_at": {"type": "null"},
    "deleted": {"const": False},
    "uuid": since(41, UUID),
}
_WHOLE = Fields({**_NEW, "hosts": list_of(TEXT), "metadata": TEXTS}, name="Aggregate")
LIST = only("aggregates", list_of(_WHOLE))
ONE = only("aggregate", _WHOLE)
CREATED = only("aggregate", Fields(_NEW))
