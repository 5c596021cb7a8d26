"""A websocket that takes only so much from its client at once."""

from __future__ import annotations

import struct
from typing import Any

from websockify.websocket import WebSocketWantWriteError
from websockify.websockifyserver import CompatibleWebSocket

MAX_MESSAGE = 1 << 20


class TooMuch(Exception):
    """The client sent a message larger than is taken."""


class BoundedWebSocket(CompatibleWebSocket):  # type: ignore[misc]
    """websockify's, with an end to its buffers. Of several pings only the last is answered, when there is room."""

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        self._ping: bytes | None = None
        self._unsent: tuple[Any, bytes] | None = None

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
        """The next message; None when the client has closed. Raises WebSocketWantReadError, TooMuch."""
        message: bytes | None = self.recvmsg()
        self._answer_ping()
        return message

    def handle_ping(self, data: bytes) -> None:
        self._ping = data

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

    def _recv(self) -> bool:
        if len(self._recv_buffer) + len(self._partial_msg) > MAX_MESSAGE:
            raise TooMuch
        return bool(super()._recv())

    def _decode_hybi(self, buf: bytes) -> Any:
        if len(buf) >= 10 and buf[1] & 0x7F == 127 and struct.unpack_from(">Q", buf, 2)[0] > MAX_MESSAGE:
            raise TooMuch
        return super()._decode_hybi(buf)
