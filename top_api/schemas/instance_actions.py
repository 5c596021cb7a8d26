"""Queries of a server's actions."""

from __future__ import annotations

from top_api.paging import LIMIT, MARKER
from top_api.schemas.types import DATE
from top_api.validation import Queries

LIST = Queries(
    {"limit": LIMIT, "marker": MARKER, "changes-since": DATE, "changes-before": DATE},
    since={"limit": (2, 58), "marker": (2, 58), "changes-since": (2, 58), "changes-before": (2, 66)},
    strict_since=(2, 58),
)
