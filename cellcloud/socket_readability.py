"""What a socket says without being read."""

from __future__ import annotations

import select
import socket


def is_readable(line: socket.socket | int, seconds: float = 0.0) -> bool:
    """Return whether something, or the end, has come in on a socket or a file descriptor, or does so within that."""
    waiting = select.poll()
    waiting.register(line, select.POLLIN)
    return bool(waiting.poll(1000 * seconds))
