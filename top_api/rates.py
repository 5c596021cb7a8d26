"""How many requests of one project are taken in a time: the option ``rate_limit``, in each process of the API."""

from __future__ import annotations

import math
import time

from flask import current_app
from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from cellcloud import errors


class TooManyRequests(errors.TryLater):
    """A project has asked too often; answered with 429. ``retry_after``: seconds until it may ask again."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("This request was rate-limited.")
        self.retry_after = retry_after


class RateLimits:
    """``text`` as "50/second;1000/minute"; "": none. Raises Misconfigured."""

    def __init__(self, text: str) -> None:
        try:
            self._limits = parse_many(text) if text.strip() else []
        except ValueError as error:
            raise errors.Misconfigured(f"The option top.rate_limit is wrong: {error}") from error
        self._limiter = FixedWindowRateLimiter(MemoryStorage()) if self._limits else None

    def check(self, project_id: str) -> None:
        """Count a request. Raises TooManyRequests."""
        if self._limiter is None:
            return
        for limit in self._limits:
            if not self._limiter.hit(limit, project_id):
                reset = self._limiter.get_window_stats(limit, project_id).reset_time
                raise TooManyRequests(max(1, math.ceil(reset - time.time())))


def count(project_id: str) -> None:
    """Count a request against the application's limits. Raises TooManyRequests."""
    kept = current_app.extensions.get("rates")
    if kept is not None:
        kept.check(project_id)
