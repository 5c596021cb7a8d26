"""Bodies of a server's metadata and tags."""

from __future__ import annotations

from top_api.schemas.types import METADATA, TAGS, only
from top_api.validation import Versioned

ALL = Versioned(only("metadata", METADATA))
ONE = Versioned(only("meta", {**METADATA, "minProperties": 1, "maxProperties": 1}))
SET_TAGS = Versioned(only("tags", TAGS))
