"""Incarnation: which history a database tells."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cellcloud.model.cell import Finding

LEAP = 1 << 32  # more changes than one incarnation of a cell ever sees


def count_in_one(generation: int) -> int:
    """Return how many commands a server had been given by then, whatever leaps lie between."""
    return generation % LEAP


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """Changed by a restore, or when a promoted standby lacks what was known of the one before. ``number`` grows with
    each; ``since``: the database's time."""

    id: str
    number: int
    since: dt.datetime
    reason: str = ""

    def finding(self, subject: str) -> Finding:
        """Return what a doctor shows of it."""
        text = f"incarnation {self.number}, since {self.since:%Y-%m-%d %H:%M:%S}: {self.reason}"
        return Finding(check="history", severity="ok", subject=subject, text=text)
