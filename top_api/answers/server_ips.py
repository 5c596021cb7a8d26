"""Answers about servers' addresses: with their ports where a server is shown, without where they alone are."""

from __future__ import annotations

from top_api.answers.types import ADDRESS, MAC, a_word, only
from top_api.response_schema import FieldParts, Fields, list_of, map_of

_PLAIN: FieldParts = {"version": {"type": "integer", "enum": [4, 6]}, "addr": ADDRESS}
_ADDRESSES = list_of(Fields(_PLAIN))
PLAIN = map_of(_ADDRESSES)
WITH_PORTS = map_of(
    list_of(Fields({**_PLAIN, "OS-EXT-IPS:type": a_word(("fixed", "floating")), "OS-EXT-IPS-MAC:mac_addr": MAC}))
)
LIST = only("addresses", PLAIN)
NETWORK = map_of(_ADDRESSES, minProperties=1, maxProperties=1)
