"""Answers about the versions of the API."""

from __future__ import annotations

from top_api.answers.types import SECOND, TEXT, URL, a_word, only
from top_api.response_schema import FieldParts, Fields, list_of, optional

_STATUS = a_word(("CURRENT", "SUPPORTED", "DEPRECATED"))
_MINOR = {"type": "string", "pattern": r"|[0-9]+\.[0-9]+"}
_VERSION: FieldParts = {
    "id": TEXT,
    "status": _STATUS,
    "version": _MINOR,
    "min_version": _MINOR,
    "updated": SECOND,
}
_LINKS = list_of(Fields({"rel": a_word(("self",)), "href": URL}), minItems=1)
_DESCRIBED = Fields({"rel": a_word(("self", "describedby")), "href": URL, "type": optional(TEXT)})
_MEDIA = list_of(Fields({"base": TEXT, "type": TEXT}))
LIST = only("versions", list_of(Fields({**_VERSION, "links": _LINKS})))
ONE = only("version", Fields({**_VERSION, "links": list_of(_DESCRIBED), "media-types": _MEDIA}))
CHOICES = only("choices", list_of(Fields({"id": TEXT, "status": _STATUS, "links": _LINKS, "media-types": _MEDIA})))
