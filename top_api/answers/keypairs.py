"""Answers about keypairs, by microversion."""

from __future__ import annotations

from top_api.answers.types import MICROSECOND, NULL, TEXT, WORD, a_page, a_word, only
from top_api.response_schema import FieldParts, Fields, optional, since, until

_BRIEF: FieldParts = {"name": WORD, "public_key": TEXT, "fingerprint": TEXT, "type": since(2, a_word(("ssh", "x509")))}
_OWNED: FieldParts = {**_BRIEF, "user_id": TEXT}
LIST = a_page("keypairs", only("keypair", Fields(_BRIEF, name="Keypair")), paged_since=35)
CREATED = only("keypair", Fields({**_OWNED, "private_key": until(91, optional(TEXT))}))
SHOW = only(
    "keypair",
    Fields(
        {
            **_OWNED,
            "id": {"type": "integer"},
            "created_at": MICROSECOND,
            "updated_at": NULL,
            "deleted": {"const": False},
            "deleted_at": NULL,
        }
    ),
)
