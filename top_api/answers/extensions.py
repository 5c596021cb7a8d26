"""Answers about extensions."""

from __future__ import annotations

from top_api.answers.types import SECOND, TEXT, URL, only
from top_api.response_schema import Fields, list_of

_NONE = list_of(TEXT, maxItems=0)
_EXTENSION = Fields(
    {
        "alias": TEXT,
        "name": TEXT,
        "description": TEXT,
        "namespace": URL,
        "updated": SECOND,
        "links": _NONE,
    },
    name="Extension",
)
LIST = only("extensions", list_of(_EXTENSION))
ONE = only("extension", _EXTENSION)
