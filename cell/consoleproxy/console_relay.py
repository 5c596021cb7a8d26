"""One open console: bytes between a websocket and a guest's console, until either ends or it is cut."""

from __future__ import annotations

import select
import socket
import threading

from websockify.websocket import WebSocketWantReadError

from cell.consoleproxy.bounded_websocket import BoundedWebSocket, TooMuch
from cellcloud import clock

CHUNK = 64 << 10
IDLE_SECONDS = 3600.0
STALLED_SECONDS = 60.0
LOOK_MILLISECONDS = 500
ENDED = select.POLLHUP | select.POLLERR


class Session:
    """``server_id`` and ``generation``: what was allowed. What waits for either side is bounded by one message."""

    def __init__(self, websocket: BoundedWebSocket, target: socket.socket, server_id: str, generation: int) -> None:
        self.server_id = server_id
        self.generation = generation
        self._websocket = websocket
        self._target = target
        self._to_target = bytearray()
        self._cut = threading.Event()

    def cut(self) -> None:
        """End the session soon."""
        self._cut.set()

    def run(self) -> str:
        """Pass bytes until the session ends; returns why."""
        self._websocket.setblocking(False)
        self._target.setblocking(False)
        last_word = last_progress = clock.monotonic()
        while not self._cut.is_set():
            client, target = self._wait()
            now = clock.monotonic()
            last_word = now if client or target else last_word
            stuck = self._websocket.has_unsent or bool(self._to_target)
            last_progress = last_progress if stuck and not (client | target) & select.POLLOUT else now
            if now - last_word > IDLE_SECONDS or now - last_progress > STALLED_SECONDS:
                return "idle"
            try:
                end = self._serve_target(target) or self._serve_client(client)
            except TooMuch:
                return "client sent too much"
            except OSError:
                return "connection lost"
            if end:
                return end
        return "cut"

    def _wait(self) -> tuple[int, int]:
        """Return what client and target are ready for. Neither is read from while the other is behind."""
        client, target = self._websocket.fileno(), self._target.fileno()
        poller = select.poll()
        for descriptor, behind, has_more in (
            (client, bool(self._to_target), self._websocket.has_unsent),
            (target, self._websocket.has_unsent, bool(self._to_target)),
        ):
            wanted = (0 if behind else select.POLLIN) | (select.POLLOUT if has_more else 0)
            if wanted:
                poller.register(descriptor, wanted)
        buffered = self._websocket.pending() and not self._to_target
        ready = dict(poller.poll(0 if buffered else LOOK_MILLISECONDS))
        return ready.get(client, 0) | (select.POLLIN if buffered else 0), ready.get(target, 0)

    def _serve_target(self, ready: int) -> str:
        if ready & select.POLLOUT:
            del self._to_target[: self._target.send(self._to_target)]
        if ready & (select.POLLIN | ENDED) and not self._websocket.has_unsent:
            data = self._target.recv(CHUNK)
            if not data:
                return "guest closed"
            self._websocket.offer(data)
        return ""

    def _serve_client(self, ready: int) -> str:
        if ready & select.POLLOUT:
            self._websocket.send_more()
        if ready & (select.POLLIN | ENDED) and not self._to_target:
            try:
                message = self._websocket.receive()
            except WebSocketWantReadError:
                return ""
            if message is None:
                return "client closed"
            self._to_target += message
        return ""
