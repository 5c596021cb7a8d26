"""One verb at a time for each guest, and a word to the one under way when a newer one waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Guest:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    newest: int = 0


class GuestLocks:
    """Orders the verbs of each guest. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guests: dict[str, _Guest] = {}

    @contextmanager
    def take(self, server_id: str, generation: int) -> Iterator[None]:
        """Wait for the guest's turn and hold it."""
        with self._lock:
            guest = self._guests.setdefault(server_id, _Guest())
            guest.users += 1
            guest.newest = max(guest.newest, generation)
        try:
            with guest.lock:
                yield
        finally:
            with self._lock:
                guest.users -= 1
                if not guest.users:
                    self._guests.pop(server_id, None)

    @contextmanager
    def take_idle(self, server_id: str) -> Iterator[bool]:
        """Hold the guest's turn, or yield False while a verb works on it."""
        with self._lock:
            is_idle = server_id not in self._guests
        if not is_idle:
            yield False
            return
        with self.take(server_id, 0):
            yield True

    def is_busy(self, server_id: str) -> bool:
        """Return whether a verb works on the guest."""
        return server_id in self._guests

    def is_overtaken(self, server_id: str, generation: int) -> bool:
        """Return whether a verb of a newer generation waits for this guest."""
        with self._lock:
            guest = self._guests.get(server_id)
            return guest is not None and guest.newest > generation
