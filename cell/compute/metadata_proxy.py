"""A node's metadata proxy: tells the cell's metadata service which guest asks, and signs it.

Runs as a process of its own on its host, on the standard library alone, and listens in the namespace of each guest
network. Who asks is known by that network and by the address of the connection, which the firewall lets nobody else
use; nothing that a guest sends counts, and none of its headers go on but two harmless ones.
usage: python -m cell.compute.metadata_proxy SETTINGS PID_FILE [VERSION]
"""

from __future__ import annotations

import ctypes
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
from dataclasses import dataclass, field, replace
from pathlib import Path

from cellcloud.model.metadata_signature import SignedRequest

ADDRESS, PORT = "169.254.169.254", 80
CLONE_NEWNET = 0x40000000
MAX_REQUEST = 8 << 10
MAX_PATH = 1 << 10
MAX_POSTED = 1 << 10
MAX_ANSWER = 1 << 20
READ_SECONDS = 10.0
UPSTREAM_SECONDS = 15.0
BACKLOG = 64  # of each network
MAX_PER_GUEST = 4
REFRESH_SECONDS = 1.0
PASSED_ON = ("accept", "user-agent")
PASSED_BACK = ("content-type", "retry-after")


class Refused(Exception):
    """The request gets this status and nothing else."""

    def __init__(self, status: int) -> None:
        super().__init__(http.client.responses[status])
        self.status = status


Place = tuple[str, str]  # network, address
Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Who has an address of a network."""

    server: str
    port: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the host's compute service wrote for us. ``namespaces``: network -> the file of its namespace."""

    host: str
    key: bytes = field(repr=False)
    upstream: tuple[str, int]
    namespaces: dict[str, str]
    guests: dict[Place, Guest]

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read the file; its owner replaces it as a whole."""
        data = json.loads(path.read_text())
        address, port = data["upstream"]
        return cls(
            host=data["host"],
            key=bytes.fromhex(data["key"]),
            upstream=(address, int(port)),
            namespaces={network: entry["namespace"] for network, entry in data["networks"].items()},
            guests={
                (network, address): Guest(server=guest["server"], port=guest["port"])
                for network, entry in data["networks"].items()
                for address, guest in entry["guests"].items()
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The little that is taken from a guest's request. ``length``: of its body, in bytes."""

    method: str
    path: str
    headers: dict[str, str]
    length: int = 0
    body: bytes = field(default=b"", repr=False)


class Proxy:
    """Listens in every guest network and forwards to the cell's metadata service."""

    def __init__(self, settings_path: Path) -> None:
        self._path = settings_path
        self._stamp: Stamp | None = None
        self._settings = Settings.read(settings_path)
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[str, tuple[Stamp, socket.socket]] = {}
        self._lock = threading.Lock()
        self._open: Counter[Place] = Counter()

    def serve(self) -> None:
        """Serve until killed."""
        while True:
            self._refresh()
            self._follow_networks()
            for key, _ in self._selector.select(REFRESH_SECONDS):
                self._accept(key.fileobj, str(key.data))  # type: ignore[arg-type]

    def _refresh(self) -> None:
        """Take up new settings; a guest that has just been plugged is in them before it can send."""
        with suppress(OSError, ValueError, KeyError):
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._settings = Settings.read(self._path)
                self._stamp = stamp

    def _follow_networks(self) -> None:
        """One listener per network, in its namespace: networks with the same addresses do not meet."""
        wanted = self._settings.namespaces
        for network in wanted.keys() | self._listeners.keys():
            stamp = _stamp(Path(wanted[network])) if network in wanted else None
            known, listener = self._listeners.get(network, (None, None))
            if stamp == known:
                continue
            if listener is not None:
                self._selector.unregister(listener)
                listener.close()
                del self._listeners[network]
            if stamp is not None:
                with suppress(OSError, RuntimeError):
                    listener = _listen(wanted[network])
                    self._selector.register(listener, selectors.EVENT_READ, network)
                    self._listeners[network] = (stamp, listener)

    def _accept(self, listener: socket.socket, network: str) -> None:
        try:
            connection, (address, _) = listener.accept()
        except OSError:
            return
        self._refresh()
        settings, place = self._settings, (network, address)
        if place not in settings.guests or not self._enter(place):
            connection.close()
            return
        try:
            threading.Thread(target=self._serve_one, args=(connection, settings, place), daemon=True).start()
        except RuntimeError:  # no thread to be had
            connection.close()
            self._leave(place)

    def _enter(self, place: Place) -> bool:
        """Count a connection in, unless this guest has too many."""
        with self._lock:
            if self._open[place] >= MAX_PER_GUEST:
                return False
            self._open[place] += 1
            return True

    def _leave(self, place: Place) -> None:
        with self._lock:
            self._open[place] -= 1
            if not self._open[place]:
                del self._open[place]

    def _serve_one(self, connection: socket.socket, settings: Settings, place: Place) -> None:
        try:
            with connection, suppress(OSError):
                try:
                    request = read_request(connection)
                    status, headers, body = forward(request, settings, settings.guests[place])
                except Refused as refusal:
                    status, headers, body = refusal.status, {"Content-Type": "text/plain"}, f"{refusal}\n".encode()
                    request = Request(method="GET", path="", headers={})
                connection.settimeout(READ_SECONDS)
                connection.sendall(_answer(status, headers, body, with_body=request.method != "HEAD"))
        finally:
            self._leave(place)


def read_request(connection: socket.socket, now: Callable[[], float] = time.monotonic) -> Request:
    """Read one request in bounded time and space. Raises Refused."""
    deadline = now() + READ_SECONDS
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection, MAX_REQUEST + 1 - len(data), deadline - now())
        if len(data) > MAX_REQUEST:
            raise Refused(431)
    head, _, body = data.partition(b"\r\n\r\n")
    request = parse_request(head)
    while len(body) < request.length:
        body += _receive(connection, request.length - len(body), deadline - now())
    return replace(request, body=body[: request.length])


def _receive(connection: socket.socket, most: int, seconds: float) -> bytes:
    if seconds <= 0:
        raise Refused(408)
    connection.settimeout(seconds)
    try:
        part = connection.recv(most)
    except TimeoutError:
        raise Refused(408) from None
    if not part:
        raise Refused(400)
    return part


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
    if method not in ("GET", "HEAD", "POST"):
        raise Refused(405)
    if not path.startswith("/") or not path.isprintable() or len(path) > MAX_PATH:
        raise Refused(400)
    headers: dict[str, str] = {}
    lengths: list[str] = []
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or not name or not name.replace("-", "").replace("_", "").isalnum() or not _is_plain(value):
            raise Refused(400)
        if name == "transfer-encoding":
            raise Refused(400)
        if name == "content-length":
            lengths.append(value)
        if name in PASSED_ON and name not in headers:
            headers[name] = value
    return Request(method=method, path=path, headers=headers, length=_length_of(method, lengths))


def _length_of(method: str, said: list[str]) -> int:
    """Return how many bytes follow the head. Raises Refused."""
    if len(said) > 1 or any(not (0 < len(text) < 10 and text.isascii() and text.isdigit()) for text in said):
        raise Refused(400)
    length = int(said[0]) if said else 0
    if method == "POST":
        if not said:
            raise Refused(411)
        if length > MAX_POSTED:
            raise Refused(413)
    elif length:
        raise Refused(400)
    return length


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
        body=request.body,
    )
    upstream = http.client.HTTPConnection(*settings.upstream, timeout=UPSTREAM_SECONDS)
    try:
        headers = {**request.headers, **signed.headers(settings.key), "Connection": "close"}
        upstream.request(request.method, request.path, body=request.body or None, headers=headers)
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


def _listen(namespace: str) -> socket.socket:
    """Return a listener in that network namespace. Only a thread of its own goes there, and ends. Raises OSError."""
    found: list[socket.socket | OSError] = []

    def visit() -> None:
        try:
            _enter_network(namespace)
            found.append(_open_listener())
        except OSError as error:
            found.append(error)

    visitor = threading.Thread(target=visit)
    visitor.start()
    visitor.join()
    (listener,) = found
    if isinstance(listener, OSError):
        raise listener
    return listener


def _enter_network(namespace: str) -> None:
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    finally:
        os.close(handle)


def _open_listener() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, PORT))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _stamp(path: Path) -> Stamp | None:
    """Return what changes when a file is replaced; None when it is not there."""
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_ino
    return None


def main(argv: list[str]) -> None:
    """Serve. Arguments: the settings, the file for our process id, and a version that is only to be seen."""
    settings, pid_file, *_ = argv
    os.umask(0o077)
    proxy = Proxy(Path(settings))
    Path(pid_file).write_text(str(os.getpid()))
    proxy.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
