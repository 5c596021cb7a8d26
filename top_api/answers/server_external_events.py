"""Answers about what other services told of servers."""

from __future__ import annotations

from top_api.answers.types import TEXT, UUID, a_word, only
from top_api.response_schema import FieldParts, Fields, list_of, optional

_EVENT: FieldParts = {
    "name": TEXT,
    "server_uuid": UUID,
    "tag": optional(TEXT),
    "status": a_word(("completed", "failed")),
    "code": {"type": "integer", "enum": [200, 400, 404, 422]},
}
CREATED = only("events", list_of(Fields(_EVENT), minItems=1))
