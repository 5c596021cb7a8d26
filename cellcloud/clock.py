"""Time as the process sees it. Tests swap in a clock driven by hand.

Leases, deadlines and expiry that several processes must agree on are decided by the database's clock
(``cellcloud.db.engine.utc_now``), never by this one.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Clock(Protocol):
    """What a clock can do. Seconds throughout."""

    def now(self) -> dt.datetime: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that moves only when told; ``sleep`` moves it."""

    def __init__(self, start: dt.datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._now = start or dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._monotonic = 0.0

    def now(self) -> dt.datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        with self._lock:
            self._now += dt.timedelta(seconds=seconds)
            self._monotonic += seconds


_current: Clock = SystemClock()


def now() -> dt.datetime:
    """Wall-clock time, aware, UTC."""
    return _current.now()


def monotonic() -> float:
    """Seconds since an arbitrary start; never steps back, and counts while the machine sleeps."""
    return _current.monotonic()


def sleep(seconds: float) -> None:
    """Wait that many seconds."""
    _current.sleep(seconds)


@contextmanager
def using(clock: Clock) -> Iterator[Clock]:
    """Make ``clock`` the process's clock inside the block."""
    global _current
    before, _current = _current, clock
    try:
        yield clock
    finally:
        _current = before
