"""What a socket says without being read."""

from __future__ import annotations

import select
import socket


def is_readable(line: socket.socket | int) -> bool:
    """Return whether something, or the end, has come in on a socket or a file descriptor."""
    waiting = select.poll()
    waiting.register(line, select.POLLIN)
    return bool(waiting.poll(0))
