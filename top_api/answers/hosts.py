"""Answers about hosts, until 2.42."""

from __future__ import annotations

from top_api.answers.types import INTEGER, TEXT, WORD, a_word, only
from top_api.response_schema import FieldParts, Fields, list_of

LIST = only("hosts", list_of(Fields({"host_name": WORD, "service": WORD, "zone": TEXT})))
_ROW: FieldParts = {"host": WORD, "project": TEXT, "cpu": INTEGER, "memory_mb": INTEGER, "disk_gb": INTEGER}
SHOW = only("host", list_of(only("resource", Fields(_ROW)), minItems=3))
UPDATED = Fields({"host": WORD, "status": a_word(("enabled", "disabled"))})
