"""A websocket that takes only so much from its client at once."""

from __future__ import annotations

from typing import Any

from websockify.websocket import WebSocketWantWriteError
from websockify.websockifyserver import CompatibleWebSocket

MAX_MESSAGE = 1 << 20  # bytes, as they are sent
CONTROL_HEAD = 6  # bytes that go before what a ping holds


class TooMuch(Exception):
    """The client sent a message larger than is taken."""


class _CountedSocket:
    """A socket that gives only so many bytes of a message that does not end."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def recv(self, size: int) -> bytes:
        """As a socket's. Raises TooMuch."""
        if self._taken > MAX_MESSAGE:
            raise TooMuch
        data: bytes = self._connection.recv(size)
        self._taken += len(data)
        return data

    def done_with(self, size: int | None = None) -> None:
        """So many bytes are no longer kept; None: all that were a message's."""
        self._taken = 0 if size is None else max(0, self._taken - size)


class BoundedWebSocket(CompatibleWebSocket):  # type: ignore[misc]
    """websockify's, with an end to its buffers. Of several pings only the last is answered, when there is room.

    Overrides what websockify documents for that, ``handle_ping`` and ``handle_pong``, and what it offers its users.
    """

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        self._ping: bytes | None = None
        self._unsent: tuple[Any, bytes] | None = None

    def accept(self, socket: Any, headers: Any) -> None:
        self._counted = _CountedSocket(socket)
        super().accept(self._counted, headers)

    @property
    def has_unsent(self) -> bool:
        """Whether something waits until the client reads; nothing else can be sent before."""
        return self._unsent is not None

    def offer(self, message: bytes) -> None:
        """Send a message, now or as the client reads on. Only when nothing is unsent."""
        self._send_or_keep(self.sendmsg, message)

    def send_more(self) -> None:
        """Go on sending what is unsent, then answer a ping."""
        if self._unsent is not None:
            self._send_or_keep(*self._unsent)
        self._answer_ping()

    def receive(self) -> bytes | None:
        """Return the next message; None when the client has closed. Raises WebSocketWantReadError, TooMuch."""
        message: bytes | None = self.recvmsg()
        self._counted.done_with()
        self._answer_ping()
        return message

    def handle_ping(self, data: bytes) -> None:
        self._ping = data
        self._counted.done_with(CONTROL_HEAD + len(data))

    def handle_pong(self, data: bytes) -> None:
        self._counted.done_with(CONTROL_HEAD + len(data))

    def _answer_ping(self) -> None:
        if self._ping is not None and self._unsent is None:
            ping, self._ping = self._ping, None
            self._send_or_keep(self.pong, ping)

    def _send_or_keep(self, send: Any, data: bytes) -> None:
        try:
            send(data)
            self._unsent = None
        except WebSocketWantWriteError:
            self._unsent = (send, data)
