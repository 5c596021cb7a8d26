"""Disks of a guest that moves, from one host to another: ``serve`` on the old one, ``fetch`` on the new.

Both run as small processes where the hypervisor's network is, on the standard library alone. The server is there for
one guest: it proves itself with a certificate made for it, which the client knows beforehand, and answers only who has
its token. Data goes in pieces with a checksum each, holes do not go at all, and a copy that was cut off goes on where
it was last made durable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hmac
import json
import os
import socket
import ssl
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

PIECE = 1 << 20  # bytes that have a checksum of their own
DURABLE_EVERY = 64 << 20  # bytes after which a copy is made durable as far as it is
IDLE = 3600.0  # seconds without a connection after which a server ends; one that is needed is started again
SILENCE = 30.0  # seconds that either side may say nothing
MOST_REQUEST = 4096
MOST_CONNECTIONS = 4
PORTS = range(49152, 49216)  # of the hosts: libvirt's for migrations
HEAD = struct.Struct(">QII")  # offset, length, CRC-32; length 0: the end, at the file's size
TOLD_BY_HOST = "unreachable"


class SourceAway(Exception):
    """The other side is not there, or offers this no longer: later perhaps."""


def pieces(file: BinaryIO, offset: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of the data of a file from there on, without its holes."""
    descriptor, end = file.fileno(), os.fstat(file.fileno()).st_size
    while offset < end:
        try:
            offset = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        until = os.lseek(descriptor, offset, os.SEEK_HOLE)
        while offset < until:
            data = os.pread(descriptor, min(PIECE, until - offset), offset)
            if not data:
                return
            yield offset, data
            offset += len(data)


# ---- serve -----------------------------------------------------------------------------------------------------------
class DiskServer:
    """``settings``: address; token; certificate and key, paths; files, name -> path."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._token = str(settings["token"]).encode()
        self._files: dict[str, str] = settings["files"]
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(settings["certificate"], settings["key"])
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._listener = _listen(settings["address"])
        self._listener.settimeout(IDLE)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        """Until nobody has come for a long time."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                return
            self._slots.acquire()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(SILENCE)
        try:
            with self._context.wrap_socket(connection, server_side=True) as secured:
                self._serve(secured)
        except (OSError, ValueError, KeyError):
            connection.close()
        finally:
            self._slots.release()

    def _serve(self, secured: ssl.SSLSocket) -> None:
        asked = json.loads(secured.makefile("rb").readline(MOST_REQUEST))
        if not hmac.compare_digest(str(asked["token"]).encode(), self._token):
            return
        if "file" not in asked:
            sizes = {name: os.stat(path).st_size for name, path in self._files.items()}
            secured.sendall(json.dumps(sizes).encode() + b"\n")
            return
        with open(self._files[asked["file"]], "rb") as file:
            for offset, data in pieces(file, int(asked["offset"])):
                secured.sendall(HEAD.pack(offset, len(data), zlib.crc32(data)))
                secured.sendall(data)
            secured.sendall(HEAD.pack(os.fstat(file.fileno()).st_size, 0, 0))


def _listen(address: str) -> socket.socket:
    """At a free port of those that hosts' firewalls let other hosts have."""
    for port in PORTS:
        with contextlib.suppress(OSError):
            return socket.create_server((address, port))
    raise OSError(errno.EADDRINUSE, "no port for a guest's disks is free")


def serve(settings_path: str, pid_path: str) -> None:
    """Write the port beside the settings and the process id to ``pid_path``, then serve."""
    server = DiskServer(json.loads(Path(settings_path).read_text()))
    _replace(Path(settings_path).with_suffix(".port"), str(server.port))
    _replace(Path(pid_path), str(os.getpid()))
    server.run()


# ---- fetch -----------------------------------------------------------------------------------------------------------
Pieces = Iterator[tuple[int, bytes, int]]  # offset, bytes, CRC-32; no bytes: the end, at the file's size


class RemoteDisks:
    """``source``: address, port, certificate (PEM) and token of a server."""

    def __init__(self, source: dict[str, str]) -> None:
        self._source = source
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate itself is known, whatever names are in it
        context.load_verify_locations(cadata=source["certificate"])

    @contextlib.contextmanager
    def _ask(self, **asked: object) -> Iterator[BinaryIO]:
        address = (self._source["address"], int(self._source["port"]))
        with socket.create_connection(address, timeout=SILENCE) as plain, self._context.wrap_socket(plain) as secured:
            secured.sendall(json.dumps({"token": self._source["token"], **asked}).encode() + b"\n")
            with secured.makefile("rb", buffering=PIECE) as answer:
                yield answer  # type: ignore[misc]  # a buffered reader is a BinaryIO

    def list_sizes(self) -> dict[str, int]:
        with self._ask() as answer:
            line = answer.readline(MOST_REQUEST)
        if not line:
            raise SourceAway("The server does not know the token.")
        return dict(json.loads(line))

    def read(self, name: str, offset: int) -> Pieces:
        with self._ask(file=name, offset=offset) as answer:
            while True:
                at, length, checksum = HEAD.unpack(_exactly(answer, HEAD.size))
                data = _exactly(answer, length)
                yield at, data, checksum
                if not length:
                    return


class LocalDisks:
    """Files of this host: name -> path."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def list_sizes(self) -> dict[str, int]:
        return {name: os.stat(path).st_size for name, path in self._files.items()}

    def read(self, name: str, offset: int) -> Pieces:
        with open(self._files[name], "rb") as file:
            for at, data in pieces(file, offset):
                yield at, data, zlib.crc32(data)
            yield os.fstat(file.fileno()).st_size, b"", 0


def fetch(source: RemoteDisks | LocalDisks, targets: dict[str, str], tell: Callable[[int, int], None]) -> None:
    """Copy the files that the source has, name -> path; those that are there are left alone. ``tell``: how many bytes
    are done, of how many. Raises SourceAway, and ValueError for a piece that is not what its checksum says."""
    sizes = source.list_sizes()
    wanted = {name: Path(path) for name, path in targets.items() if name in sizes}
    total, done = sum(sizes[name] for name in wanted), 0
    for name, path in wanted.items():
        before = done

        def report(at: int, before: int = before) -> None:
            tell(before + at, total)

        if not path.exists():
            _copy(source, name, path, report)
        done += sizes[name]
        tell(done, total)


def _copy(source: RemoteDisks | LocalDisks, name: str, path: Path, report: Callable[[int], None]) -> None:
    part, mark = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.at")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
    with open(descriptor, "wb", buffering=0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SourceAway("An earlier copy is still at work.") from error
        durable = 0
        with contextlib.suppress(FileNotFoundError, ValueError):
            durable = int(mark.read_text())
        made: list[Future[None]] = []
        with ThreadPoolExecutor(1) as pool:  # makes it durable beside the copying
            for offset, data, checksum in source.read(name, durable):
                if not data:
                    os.ftruncate(descriptor, offset)
                    break
                if zlib.crc32(data) != checksum:
                    raise ValueError(f"{name} differs at {offset}")
                _write(descriptor, data, offset)
                if offset + len(data) - durable >= DURABLE_EVERY:
                    durable = offset + len(data)
                    for earlier in made:
                        earlier.result()
                    made = [pool.submit(_make_durable, descriptor, mark, durable)]
                    report(durable)
        for last in made:
            last.result()
        os.fsync(descriptor)
    part.replace(path)
    mark.unlink(missing_ok=True)


def _make_durable(descriptor: int, mark: Path, until: int) -> None:
    """All that was written before, and that it was."""
    os.fdatasync(descriptor)
    _replace(mark, str(until))


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _exactly(answer: BinaryIO, length: int) -> bytes:
    data = answer.read(length)
    if len(data) != length:
        raise SourceAway("The server has gone.")
    return data


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def run_fetch(asked: dict[str, Any], out: Any) -> int:
    """Fetch as asked: source or files, and targets. Says a line of JSON for each step of progress, and at last whether
    it is whole, or why not."""
    last = -1

    def tell(done: int, total: int) -> None:
        nonlocal last
        percent = 100 * done // total if total else 100
        if percent != last:
            last = percent
            print(json.dumps({"percent": percent}), file=out, flush=True)

    try:
        source = RemoteDisks(asked["source"]) if asked.get("source") else LocalDisks(asked["files"])
        fetch(source, asked["targets"], tell)
    except (SourceAway, ssl.SSLError, ConnectionError, TimeoutError, socket.gaierror) as error:
        print(json.dumps({"error": TOLD_BY_HOST, "why": str(error)}), file=out, flush=True)
        return 1
    except (OSError, ValueError) as error:
        unreachable = isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
        told = TOLD_BY_HOST if unreachable else "failed"
        print(json.dumps({"error": told, "why": str(error)}), file=out, flush=True)
        return 1
    print(json.dumps({"whole": True}), file=out, flush=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3])
    else:
        sys.exit(run_fetch(json.loads(sys.stdin.readline()), sys.stdout))
