"""What a start tells whoever waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from cellcloud import clock

QUIET = 5.0  # seconds without a word after which one is due


class StartProgress:
    """Passes lines on, one at a time; may be called from several threads."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._said = clock.monotonic()

    def __call__(self, line: str) -> None:
        """Say that something is done; where nobody can be told, as with the disk full, go on without."""
        with self._lock, suppress(OSError):
            self._said = clock.monotonic()
            self._say(line)

    def remind(self, names: Iterable[str]) -> None:
        """Say what is under way, when nothing was said for a while."""
        if clock.monotonic() - self._said >= QUIET:
            self(f"... {', '.join(sorted(names))}")
