"""Bodies and queries of keypairs, by microversion."""

from __future__ import annotations

from top_api.paging import LIMIT, MARKER
from top_api.schemas.types import TEXT, Schema, an_object, only, words
from top_api.validation import Queries, Versioned

_NAME: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": words("a-zA-Z0-9_-"),
    "trimmed": True,
}
_WIDE_NAME: Schema = {**_NAME, "pattern": words("a-zA-Z0-9@._-")}
_TYPE: Schema = {"type": "string", "enum": ["ssh", "x509"]}
_KEY: Schema = {"type": "string", "maxLength": 16384}
_USER: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
CREATE = Versioned(
    only("keypair", an_object({"name": _NAME, "public_key": _KEY}, required=("name",))),
    ((2, 2), only("keypair", an_object({"name": _NAME, "public_key": _KEY, "type": _TYPE}, required=("name",)))),
    (
        (2, 10),
        only(
            "keypair",
            an_object({"name": _NAME, "public_key": _KEY, "type": _TYPE, "user_id": _USER}, required=("name",)),
        ),
    ),
    (
        (2, 92),
        only(
            "keypair",
            an_object(
                {"name": _WIDE_NAME, "public_key": _KEY, "type": _TYPE, "user_id": _USER},
                required=("name", "public_key"),
            ),
        ),
    ),
)
LIST = Queries(
    {},
    repeated={"limit": LIMIT, "marker": MARKER, "user_id": TEXT},
    since={"user_id": (2, 10), "limit": (2, 35), "marker": (2, 35)},
    strict_since=(2, 75),
)
SHOW = Queries({}, repeated={"user_id": TEXT}, since={"user_id": (2, 10)}, strict_since=(2, 75))
