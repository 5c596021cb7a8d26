"""A node's metadata proxy: tells the cell's metadata service which guest asks, and signs it.

Runs as a process of its own where the guests' bridges are, on the standard library alone. Who asks is known by the
mark that the firewall put on the connection's packets when they left the guest's tap; nothing that a guest sends
counts, and none of its headers go on but two harmless ones.
usage: python -m cell.compute.metadata_proxy SETTINGS PID_FILE
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cellcloud.model.metadata_signature import SignedRequest

ADDRESS, PORT = "169.254.169.254", 80
SO_MARK = 36
SO_BINDTODEVICE = 25
MAX_REQUEST = 8 << 10
MAX_PATH = 1 << 10
MAX_ANSWER = 1 << 20
READ_SECONDS = 10.0
UPSTREAM_SECONDS = 15.0
MAX_CONNECTIONS = 64
MAX_PER_GUEST = 4
REFRESH_SECONDS = 1.0
PASSED_ON = ("accept", "user-agent")
PASSED_BACK = ("content-type", "retry-after")


class Refused(Exception):
    """The request gets this status and nothing else."""

    def __init__(self, status: int) -> None:
        super().__init__(http.client.responses[status])
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Who is behind a mark, and where its connections must come from."""

    server: str
    port: str
    device: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the host's compute service wrote for us."""

    host: str
    key: bytes = field(repr=False)
    upstream: tuple[str, int]
    guests: dict[int, Guest]

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read the file; its owner replaces it as a whole."""
        data = json.loads(path.read_text())
        guests = {
            int(mark): Guest(
                server=entry["server"],
                port=entry["port"],
                device=entry["device"],
                addresses=tuple(entry["addresses"]),
            )
            for mark, entry in data["guests"].items()
        }
        address, port = data["upstream"]
        return cls(host=data["host"], key=bytes.fromhex(data["key"]), upstream=(address, int(port)), guests=guests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The little that is taken from a guest's request."""

    method: str
    path: str
    headers: dict[str, str]


class Proxy:
    """Listens on every guest bridge and forwards to the cell's metadata service."""

    def __init__(self, settings_path: Path) -> None:
        self._path = settings_path
        self._stamp: tuple[int, int] = (0, 0)
        self._settings = Settings.read(settings_path)
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[str, tuple[int, socket.socket]] = {}
        self._lock = threading.Lock()
        self._open: Counter[int] = Counter()

    def serve(self) -> None:
        """Serve until killed."""
        while True:
            self._refresh()
            self._follow_devices()
            for key, _ in self._selector.select(REFRESH_SECONDS):
                self._accept(key.fileobj, str(key.data))  # type: ignore[arg-type]

    def _refresh(self) -> None:
        """Take up new settings; a guest that has just been plugged is in them before it can send."""
        with suppress(OSError, ValueError, KeyError):
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp != self._stamp:
                self._settings = Settings.read(self._path)
                self._stamp = stamp

    def _follow_devices(self) -> None:
        """One listener per bridge, bound to it, so that networks with the same addresses do not meet."""
        wanted = {guest.device for guest in self._settings.guests.values()}
        for device in wanted | self._listeners.keys():
            index = _device_index(device) if device in wanted else 0
            known, listener = self._listeners.get(device, (0, None))
            if index == known:
                continue
            if listener is not None:
                self._selector.unregister(listener)
                listener.close()
                del self._listeners[device]
            if index:
                with suppress(OSError):
                    listener = _listen(device)
                    self._selector.register(listener, selectors.EVENT_READ, device)
                    self._listeners[device] = (index, listener)

    def _accept(self, listener: socket.socket, device: str) -> None:
        try:
            connection, (address, _) = listener.accept()
        except OSError:
            return
        self._refresh()
        settings = self._settings
        mark = connection.getsockopt(socket.SOL_SOCKET, SO_MARK)
        guest = settings.guests.get(mark)
        if guest is None or guest.device != device or address not in guest.addresses or not self._enter(mark):
            connection.close()
            return
        try:
            threading.Thread(target=self._serve_one, args=(connection, settings, mark), daemon=True).start()
        except RuntimeError:  # no thread to be had
            connection.close()
            self._leave(mark)

    def _enter(self, mark: int) -> bool:
        """Count a connection in, unless there are too many: of this guest or in all."""
        with self._lock:
            if self._open[mark] >= MAX_PER_GUEST or self._open.total() >= MAX_CONNECTIONS:
                return False
            self._open[mark] += 1
            return True

    def _leave(self, mark: int) -> None:
        with self._lock:
            self._open[mark] -= 1
            if not self._open[mark]:
                del self._open[mark]

    def _serve_one(self, connection: socket.socket, settings: Settings, mark: int) -> None:
        try:
            with connection, suppress(OSError):
                try:
                    request = read_request(connection)
                    status, headers, body = forward(request, settings, settings.guests[mark])
                except Refused as refusal:
                    status, headers, body = refusal.status, {"Content-Type": "text/plain"}, f"{refusal}\n".encode()
                    request = Request(method="GET", path="", headers={})
                connection.settimeout(READ_SECONDS)
                connection.sendall(_answer(status, headers, body, with_body=request.method != "HEAD"))
        finally:
            self._leave(mark)


def read_request(connection: socket.socket, now: Callable[[], float] = time.monotonic) -> Request:
    """Read one request without a body, in bounded time and space. Raises Refused."""
    deadline = now() + READ_SECONDS
    data = b""
    while b"\r\n\r\n" not in data:
        left = deadline - now()
        if left <= 0:
            raise Refused(408)
        connection.settimeout(left)
        try:
            part = connection.recv(MAX_REQUEST + 1 - len(data))
        except TimeoutError:
            raise Refused(408) from None
        data += part
        if not part:
            raise Refused(400)
        if len(data) > MAX_REQUEST:
            raise Refused(431)
    return parse_request(data.partition(b"\r\n\r\n")[0])


def parse_request(head: bytes) -> Request:
    """Take a request's head apart. Raises Refused for anything out of the ordinary."""
    try:
        first, *lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise Refused(400) from None
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise Refused(400)
    method, path, _ = words
    if method not in ("GET", "HEAD"):
        raise Refused(405)
    if not path.startswith("/") or not path.isprintable() or len(path) > MAX_PATH:
        raise Refused(400)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or not name or not name.replace("-", "").replace("_", "").isalnum() or not _is_plain(value):
            raise Refused(400)
        if name == "transfer-encoding" or (name == "content-length" and value != "0"):
            raise Refused(400)
        if name in PASSED_ON and name not in headers:
            headers[name] = value
    return Request(method=method, path=path, headers=headers)


def forward(request: Request, settings: Settings, guest: Guest) -> tuple[int, dict[str, str], bytes]:
    """Ask the cell's service in the guest's name: status, headers and body of its answer. Raises Refused."""
    signed = SignedRequest(
        method=request.method,
        path=request.path,
        host=settings.host,
        server=guest.server,
        port=guest.port,
        time=str(int(time.time())),
        nonce=secrets.token_hex(16),
    )
    upstream = http.client.HTTPConnection(*settings.upstream, timeout=UPSTREAM_SECONDS)
    try:
        headers = {**request.headers, **signed.headers(settings.key), "Connection": "close"}
        upstream.request(request.method, request.path, headers=headers)
        answer = upstream.getresponse()
        body = answer.read(MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException):
        raise Refused(503) from None
    finally:
        upstream.close()
    if len(body) > MAX_ANSWER:
        raise Refused(502)
    back = {name: value for name in PASSED_BACK if (value := answer.headers.get(name)) is not None}
    return answer.status, back, body


def _answer(status: int, headers: dict[str, str], body: bytes, *, with_body: bool) -> bytes:
    reason = http.client.responses.get(status, "Unknown")
    fields = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body if with_body else b"")


def _is_plain(value: str) -> bool:
    return value.isprintable() or not value


def _listen(device: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, PORT))
        listener.listen(MAX_CONNECTIONS)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _device_index(device: str) -> int:
    with suppress(OSError):
        return socket.if_nametoindex(device)
    return 0


def main(argv: list[str]) -> None:
    """Serve with the settings of the first argument; the second names the file for our process id."""
    settings, pid_file = argv
    os.umask(0o077)
    proxy = Proxy(Path(settings))
    Path(pid_file).write_text(str(os.getpid()))
    proxy.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
