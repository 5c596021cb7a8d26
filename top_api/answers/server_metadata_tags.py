"""Answers about metadata, of servers and of images, and about tags."""

from __future__ import annotations

from top_api.answers.types import TEXT, TEXTS, WORD, only
from top_api.response_schema import list_of, map_of

METADATA = only("metadata", TEXTS)
ITEM = only("meta", map_of(TEXT, minProperties=1))
TAGS = only("tags", list_of(WORD, maxItems=50, uniqueItems=True))
