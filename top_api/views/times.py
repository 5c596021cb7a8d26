"""Times as the Compute API writes them, in UTC."""

from __future__ import annotations

import datetime as dt


def show_second(at: dt.datetime | None) -> str | None:
    """Return it to the second, with its zone; None for none."""
    return None if at is None else at.isoformat(timespec="seconds")[:19] + "Z"


def show_microsecond(at: dt.datetime | None) -> str | None:
    """Return it to the microsecond, without a zone; None for none."""
    return None if at is None else at.isoformat(timespec="microseconds")[:26]
