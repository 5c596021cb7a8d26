"""Answers about extensions."""

from __future__ import annotations

from top_api.answers.types import LINKS, SECOND, TEXT, URL, only
from top_api.response_schema import Fields, list_of

_EXTENSION = Fields(
    {"alias": TEXT, "name": TEXT, "description": TEXT, "namespace": URL, "updated": SECOND, "links": LINKS},
    name="Extension",
)
LIST = only("extensions", list_of(_EXTENSION))
ONE = only("extension", _EXTENSION)
