"""Answers about the versions of the API."""

from __future__ import annotations

from top_api.answers.types import LINKS, SECOND, TEXT, a_word, only
from top_api.response_schema import FieldParts, Fields, list_of

_STATUS = a_word(("CURRENT", "SUPPORTED", "DEPRECATED"))
_MINOR = {"type": "string", "pattern": r"|[0-9]+\.[0-9]+"}
_VERSION: FieldParts = {
    "id": TEXT,
    "status": _STATUS,
    "version": _MINOR,
    "min_version": _MINOR,
    "updated": SECOND,
    "links": LINKS,
}
_MEDIA = list_of(Fields({"base": TEXT, "type": TEXT}))
LIST = only("versions", list_of(Fields(_VERSION)))
ONE = only("version", Fields({**_VERSION, "media-types": _MEDIA}))
CHOICES = only("choices", list_of(Fields({"id": TEXT, "status": _STATUS, "links": LINKS, "media-types": _MEDIA})))
