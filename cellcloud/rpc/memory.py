"""Messages inside one process: kombu's memory transport, with receivers that sleep until a message arrives.

Kombu's own asks all its queues again and again, which keeps a processor busy.
"""

from __future__ import annotations

import queue
import threading
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, memory

from cellcloud import clock

_arrival = threading.Condition()
_count = 0


class Channel(memory.Channel):
    """Tells every waiting receiver of each message."""

    def _put(self, *args: Any, **options: Any) -> None:
        super()._put(*args, **options)  # type: ignore[no-untyped-call]
        _announce()

    def _put_fanout(self, *args: Any, **options: Any) -> None:
        super()._put_fanout(*args, **options)  # type: ignore[no-untyped-call]
        _announce()


class Transport(memory.Transport):
    """As kombu's, but for how it waits."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **options: Any) -> None:
        """Deliver one message; raises TimeoutError when none came in ``timeout`` seconds."""
        end = float("inf") if timeout is None else clock.monotonic() + timeout
        queues: Any = self.cycle
        while True:
            seen = _count
            try:
                queues.get(self._deliver, timeout=timeout)
                return
            except queue.Empty:
                left = end - clock.monotonic()
            if left <= 0:
                raise TimeoutError
            _wait_for_more_than(seen, left)


def install() -> None:
    """Let URLs of the kind ``memory`` mean this transport."""
    TRANSPORT_ALIASES["memory"] = f"{__name__}:Transport"


def _wait_for_more_than(seen: int, seconds: float) -> None:
    with _arrival:
        _arrival.wait_for(lambda: _count != seen, timeout=None if seconds == float("inf") else seconds)


def _announce() -> None:
    global _count
    with _arrival:
        _count += 1
        _arrival.notify_all()
