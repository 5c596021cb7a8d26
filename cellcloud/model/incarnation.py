"""Incarnation: which history a database tells."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """Changed by a restore, or when a promoted standby lacks what was known of the one before. ``number`` grows with
    each; ``since``: the database's time."""

    id: str
    number: int
    since: dt.datetime
    reason: str = ""
