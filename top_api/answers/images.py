"""Answers about images and their metadata, until 2.35 and 2.38."""

from __future__ import annotations

from top_api.answers.types import COUNT, LINKS, SECOND, TEXT, TEXTS, URL, UUID, a_page, a_word, only
from top_api.response_schema import FieldParts, Fields, in_order, nullable, optional

_LINKS = in_order(
    *(Fields({"rel": {"const": rel}, "href": URL}) for rel in ("self", "bookmark")),
    Fields({"rel": {"const": "alternate"}, "type": {"const": "application/vnd.openstack.image"}, "href": URL}),
)
_BRIEF: FieldParts = {"id": UUID, "name": nullable(TEXT), "links": _LINKS}
_WHOLE = Fields(
    {
        **_BRIEF,
        "minRam": COUNT,
        "minDisk": COUNT,
        "metadata": TEXTS,
        "created": SECOND,
        "updated": SECOND,
        "status": a_word(("ACTIVE", "SAVING", "DELETED", "ERROR", "UNKNOWN")),
        "progress": {"type": "integer", "enum": [0, 25, 50, 100]},
        "OS-EXT-IMG-SIZE:size": COUNT,
        "server": optional(Fields({"id": TEXT, "links": LINKS})),
        "OS-DCF:diskConfig": optional(a_word(("AUTO", "MANUAL"))),
    },
    name="Image",
)
LIST = a_page("images", Fields(_BRIEF))
DETAIL = a_page("images", _WHOLE)
ONE = only("image", _WHOLE)
