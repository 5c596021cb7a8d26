"""Queries of what projects used, by microversion."""

from __future__ import annotations

from top_api.paging import LIMIT, MARKER
from top_api.schemas.types import TEXT
from top_api.validation import Queries

_PERIOD = {"start": TEXT, "end": TEXT}
_PAGES = {"limit": LIMIT, "marker": MARKER}
_SINCE = dict.fromkeys(_PAGES, (2, 40))
LIST = Queries({}, repeated=_PERIOD | {"detailed": TEXT} | _PAGES, since=_SINCE, strict_since=(2, 75))
SHOW = Queries({}, repeated=_PERIOD | _PAGES, since=_SINCE, strict_since=(2, 75))
