"""Answers about the tokens of consoles."""

from __future__ import annotations

from top_api.answers.types import COUNT, NULL, TEXT, UUID, only
from top_api.response_schema import FieldParts, Fields, nullable

_CONSOLE: FieldParts = {
    "instance_uuid": UUID,
    "host": nullable(TEXT),
    "port": COUNT,
    "internal_access_path": NULL,
}
SHOW = only("console", Fields(_CONSOLE))
