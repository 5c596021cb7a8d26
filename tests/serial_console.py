"""A program at a guest's serial console, through the cell's console proxy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from websockify.websocket import WebSocket


class _Client(WebSocket):  # type: ignore[misc]
    """websockify's client, which leaves out what a URL has behind its path."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send_request(self, type: str, path: str) -> None:
        super().send_request(type, f"{path}?{urlsplit(self._url).query}")


class SerialConsole:
    """An open one. ``said``: all that has come from the guest since then."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self.said = ""

    def type(self, line: str) -> None:
        self._websocket.sendmsg(f"{line}\r".encode())

    def wait_for(self, text: str, seconds: float = 240.0, *, nudge: bool = False) -> None:
        """Read until the guest has said it. ``nudge``: it does only when Enter is pressed, once it listens."""
        end = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < end, f"{text!r} is not in {self.said[-1000:]!r}"
            if nudge:
                self.type("")
            with suppress(TimeoutError):
                part = self._websocket.recvmsg()
                assert part is not None, f"the console has ended after {self.said[-1000:]!r}"
                self.said += part.decode(errors="replace")


@contextmanager
def serial_console(url: str) -> Iterator[SerialConsole]:
    """The console that a URL with a token opens. Raises Exception for one that opens nothing."""
    websocket = _Client(url)
    try:
        websocket.connect(url, protocols=["binary"])
        assert websocket.protocol == "binary"
        websocket.socket.settimeout(1.0)
        yield SerialConsole(websocket)
    finally:
        websocket.socket.close()
