"""Queries of consoles' tokens."""

from __future__ import annotations

from top_api.validation import Queries

SHOW = Queries({}, strict_since=(2, 99))
