"""Disks of a guest that moves, from one host to another: ``serve`` on the old one, ``fetch`` on the new.

Both run as small processes where the hypervisor's network is, on the standard library alone. The server is there for
one guest: it proves itself with a certificate made for it, which the client knows beforehand, and answers only who has
its token. Data goes in pieces with a checksum each, holes do not go at all, and a copy that was cut off goes on where
it was last made durable.

Neither trusts the other. A stranger is heard for a short time, and takes no place of those who have the token. The
client takes no more than it was told to, in order and within what was announced; what the bytes are is for others to
judge, before anything opens them.
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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cellcloud import clock

PIECE = 1 << 20  # bytes that have a checksum of their own
DURABLE_EVERY = 64 << 20  # bytes after which a copy is made durable as far as it is
SECTOR = 512  # bytes; pieces are whole sectors, but for a file's last
IDLE = 300.0  # seconds in which nobody asks anything after which a server ends; one that is needed is started again
HEAR = 10.0  # seconds in which who connects has to say what it wants
SILENCE = 30.0  # seconds that either side may say nothing
LEAST_RATE = 64 << 10  # bytes a second that a server must come to on the whole
MOST_REQUEST = 4096
MOST_STRANGERS = 64  # connections that have not shown the token yet
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
        self._strangers = threading.BoundedSemaphore(MOST_STRANGERS)
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._listener = listen(settings["address"])
        self._listener.settimeout(IDLE)
        self._heard, self._busy = clock.monotonic(), 0
        self._lock = threading.Lock()
        self._done = False

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        """Until the files were fetched, or nobody has asked anything for a long time."""
        with self._listener:
            while not self._done:
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    if not self._busy and clock.monotonic() - self._heard >= IDLE:
                        return
                except OSError:  # it was shut, or whoever connected is gone again
                    clock.sleep(0.01)
                else:
                    self._receive(connection)

    def end(self) -> None:
        """Take no more connections."""
        self._done = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    def _receive(self, connection: socket.socket) -> None:
        if self._strangers.acquire(blocking=False):
            with self._lock:
                self._busy += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
        else:
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        wrong = (OSError, ValueError, KeyError, TypeError, RecursionError)
        with contextlib.suppress(*wrong), contextlib.closing(connection), self._counted():
            try:
                secured, asked = self._hear(connection)
            finally:
                self._strangers.release()
            with secured:
                if not self._slots.acquire(timeout=SILENCE):
                    return
                try:
                    self._serve(secured, asked)
                finally:
                    self._slots.release()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._busy, self._heard = self._busy - 1, clock.monotonic()

    def _hear(self, connection: socket.socket) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        """Return what somebody asks who has the token. Raises OSError, ValueError for anybody else."""
        deadline = clock.monotonic() + HEAR
        connection.settimeout(HEAR)
        secured, line = self._context.wrap_socket(connection, server_side=True), b""
        try:
            while not line.endswith(b"\n"):
                secured.settimeout(max(deadline - clock.monotonic(), 0.001))
                more = secured.recv(MOST_REQUEST - len(line))
                if not more:
                    raise ValueError("It asks nothing, or too much.")
                line += more
            asked: dict[str, Any] = json.loads(line)
            if not hmac.compare_digest(str(asked["token"]).encode(), self._token):
                raise ValueError("It has not the token.")
        except BaseException:
            secured.close()
            raise
        secured.settimeout(SILENCE)
        return secured, asked

    def _serve(self, secured: ssl.SSLSocket, asked: dict[str, Any]) -> None:
        if "done" in asked:
            self.end()
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


def listen(address: str) -> socket.socket:
    """Listen at a free port of those that hosts' firewalls let other hosts have."""
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
Data = bytes | bytearray
Pieces = Iterator[tuple[int, Data, int]]  # offset, bytes, CRC-32; no bytes: the end, at the file's size


class RemoteDisks:
    """``source``: address, port, certificate (PEM) and token of a server."""

    def __init__(self, source: dict[str, str]) -> None:
        self._source = source
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate itself is known, whatever names are in it
        context.load_verify_locations(cadata=source["certificate"])

    @contextlib.contextmanager
    def _ask(self, **asked: object) -> Iterator[_SourceAnswer]:
        address = (self._source["address"], int(self._source["port"]))
        if address[1] not in PORTS:
            raise SourceAway("No disks are had at that port.")
        with socket.create_connection(address, timeout=SILENCE) as plain, self._context.wrap_socket(plain) as secured:
            secured.sendall(json.dumps({"token": self._source["token"], **asked}).encode() + b"\n")
            yield _SourceAnswer(secured)

    def list_sizes(self) -> object:
        with self._ask() as answer:
            return json.loads(answer.read_line())

    def read(self, name: str, offset: int) -> Pieces:
        with self._ask(file=name, offset=offset) as answer:
            while True:
                at, length, checksum = HEAD.unpack(answer.read(HEAD.size))
                if length > PIECE:
                    raise ValueError(f"{name} comes in a piece of {length} bytes")
                yield at, answer.read(length), checksum
                if not length:
                    return

    def finish(self) -> None:
        """Let the server end. It does so by itself, later, where it does not hear this."""
        with contextlib.suppress(OSError, SourceAway), self._ask(done=True) as answer:
            answer.read_line()


class _SourceAnswer:
    """What a server says, as it comes. Raises SourceAway when it ends, TimeoutError when it takes too long."""

    def __init__(self, secured: ssl.SSLSocket) -> None:
        self._secured = secured
        self._waited, self._had = 0.0, 0

    def read(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            count = self._receive(view)
            if not count:
                raise SourceAway("The server has gone.")
            view = view[count:]
        return data

    def read_line(self) -> bytes:
        line, data = b"", bytearray(MOST_REQUEST)
        while len(line) < MOST_REQUEST and not line.endswith(b"\n"):
            count = self._receive(memoryview(data)[len(line) :])
            if not count:
                break
            line += data[len(line) :][:count]
        if not line:
            raise SourceAway("The server has ended, or does not know the token.")
        return line

    def _receive(self, view: memoryview) -> int:
        began = clock.monotonic()
        count = self._secured.recv_into(view)
        self._waited += clock.monotonic() - began
        self._had += count
        if self._waited > SILENCE + self._had / LEAST_RATE:
            raise TimeoutError("The server is too slow.")
        return count


class LocalDisks:
    """Files of this host: name -> path."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def list_sizes(self) -> object:
        return {name: os.stat(path).st_size for name, path in self._files.items()}

    def read(self, name: str, offset: int) -> Pieces:
        with open(self._files[name], "rb") as file:
            for at, data in pieces(file, offset):
                yield at, data, zlib.crc32(data)
            yield os.fstat(file.fileno()).st_size, b"", 0

    def finish(self) -> None:
        """Nothing is held for this."""


class Target(NamedTuple):
    """Where a file is to lie, how many bytes it may have, and whether it must come."""

    path: str
    most: int
    needed: bool = True


def fetch(source: RemoteDisks | LocalDisks, targets: Mapping[str, Target], tell: Callable[[int, int], None]) -> None:
    """Copy the files that the source has; those that are there are left alone. ``tell``: how many bytes are done, of
    how many. Raises SourceAway, and ValueError for what is not what it may be."""
    sizes = _check_sizes(source.list_sizes(), targets)
    total, done = sum(sizes.values()), 0
    for name, size in sizes.items():
        path, before = Path(targets[name].path), done

        def report(at: int, before: int = before) -> None:
            tell(before + at, total)

        if not path.exists():
            _copy(source, name, size, path, report)
        done += size
        tell(done, total)
    source.finish()


def _check_sizes(told: object, targets: Mapping[str, Target]) -> dict[str, int]:
    """Return the sizes of what is wanted and there. Raises ValueError."""
    if not isinstance(told, dict):
        raise ValueError("it says nothing of what it has")
    sizes = {name: told[name] for name in targets if name in told}
    for name, target in targets.items():
        size = sizes.get(name)
        if size is None and (target.needed or name in sizes):
            raise ValueError(f"it has no {name}")
        if size is not None and (type(size) is not int or not 0 <= size <= target.most):
            raise ValueError(f"{name} is said to have {size} bytes, and may have {target.most}")
    return sizes


def _copy(source: RemoteDisks | LocalDisks, name: str, size: int, path: Path, report: Callable[[int], None]) -> None:
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
        end = durable = durable if 0 <= durable <= size else 0
        made: list[Future[None]] = []
        with ThreadPoolExecutor(1) as pool:  # makes it durable beside the copying
            for offset, data, checksum in source.read(name, durable):
                before, end = end, offset + len(data)
                _check_piece(name, offset, data, after=before, size=size)
                if not data:
                    os.ftruncate(descriptor, size)
                    break
                if zlib.crc32(data) != checksum:
                    raise ValueError(f"{name} differs at {offset}")
                _write(descriptor, data, offset)
                if end - durable >= DURABLE_EVERY:
                    durable = end
                    for earlier in made:
                        earlier.result()
                    made = [pool.submit(_make_durable, descriptor, mark, durable)]
                    report(durable)
        for last in made:
            last.result()
        os.fsync(descriptor)
    part.replace(path)
    mark.unlink(missing_ok=True)


def _check_piece(name: str, offset: int, data: Data, *, after: int, size: int) -> None:
    """Check that a piece follows what came before, in whole sectors, and ends where it says. Raises ValueError."""
    end = offset + len(data)
    if not data and offset != size:
        raise ValueError(f"{name} ends at {offset} instead of {size}")
    if offset < after or end > size or (len(data) % SECTOR and end != size):
        raise ValueError(f"{name} comes out of order: {len(data)} bytes at {offset}, after {after} of {size}")


def _make_durable(descriptor: int, mark: Path, until: int) -> None:
    """All that was written before, and that it was."""
    os.fdatasync(descriptor)
    _replace(mark, str(until))


def _write(descriptor: int, data: Data, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


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
        fetch(source, {name: Target(*target) for name, target in asked["targets"].items()}, tell)
    except (SourceAway, ssl.SSLError, ConnectionError, TimeoutError, socket.gaierror) as error:
        print(json.dumps({"error": TOLD_BY_HOST, "why": str(error)}), file=out, flush=True)
        return 1
    except (OSError, ValueError, RecursionError) as error:
        unreachable = isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
        told = TOLD_BY_HOST if unreachable else "failed"
        print(json.dumps({"error": told, "why": str(error)}), file=out, flush=True)
        return 1
    print(json.dumps({"whole": True}), file=out, flush=True)
    return 0


def end_with_asker(line: int) -> None:
    """End this process when whoever asked closes the line, or is gone."""
    while os.read(line, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3])
    else:
        wanted = json.loads(sys.stdin.readline())
        threading.Thread(target=end_with_asker, args=(sys.stdin.fileno(),), daemon=True).start()
        sys.exit(run_fetch(wanted, sys.stdout))
