"""The front of the API: heads and bodies are gathered asynchronously, and only whole requests get a thread.

A slow client holds a connection, never a thread; heads and bodies have a time-out, and of connections that have sent
no head the oldest are closed when there are too many. Up to OPEN_BODY bytes are read from anybody; for more the
application is asked, by the head alone, whether it admits the request: what it does not is handed on without its
body, for it to refuse in its own words. Log-ins, and transfers of images, which are streamed, have threads of their
own, so that neither hashing of passwords nor slow transfers delay other requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import h11
from a2wsgi import WSGIMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from cellcloud.third_party_patches import wsgi_environ

LOG = logging.getLogger(__name__)
OPEN_BODY = 16 << 10  # bytes anybody may send
DRAINED = 8 << 20  # bytes behind the answer that are read and dropped, so that the client gets to hear it
MOST_HEAD = 32 << 10  # bytes: a token has up to 8 KiB
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0  # for a whole body that is gathered, and for each piece of one that is streamed
DRAIN_SECONDS = 5.0  # without another byte of them
MOST_DRAIN_SECONDS = 30.0
WRITE_SECONDS = 60.0  # until a client takes a piece of its answer
LEAST_RATE = 8 << 10  # bytes a second that a streamed body comes at, after BODY_SECONDS
BUSY = "Too many requests are at work; try again shortly."
TURN_SECONDS = 60.0  # that a transfer waits for others of its project
MOST_LOGINS = 200  # that wait for their turn
MOST_WAITING = 1000  # connections without a head
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Lane(StrEnum):
    """Which threads a request is worked on by."""

    ORDINARY = "ordinary"
    LOGIN = "login"
    TRANSFER = "transfer"


class Gate(Protocol):
    """What the application says of a request by its head; it keeps one as ``extensions["gate"]``."""

    most: int
    """Bytes of a body that are gathered."""

    def lane(self, method: str, path: str) -> str: ...

    def admits(self, headers: Mapping[str, str]) -> str | None:
        """Return the project that asks; None: the request is going to be refused. Names are in lower case."""
        ...


class _Queue:
    """How many requests wait for threads or are worked on by them. ``each``: requests of one project at once, the
    others wait; it may take half of the queue."""

    def __init__(self, *, most: int, each: int | None = None) -> None:
        self._most = most
        self._each = each
        self._here: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}

    @contextlib.asynccontextmanager
    async def place(self, project: str = "") -> AsyncIterator[bool]:
        """Take a place in the queue while the block runs; False: there is none."""
        full = self._each is not None and self._here[project] >= self._most // 2
        if full or self._here.total() >= self._most:
            yield False
            return
        self._here[project] += 1
        try:
            async with self._turn(project) as mine:
                yield mine
        finally:
            self._here[project] -= 1
            if not self._here[project]:
                del self._here[project]
                self._turns.pop(project, None)

    @contextlib.asynccontextmanager
    async def _turn(self, project: str) -> AsyncIterator[bool]:
        if self._each is None:
            yield True
            return
        turn = self._turns.setdefault(project, asyncio.Semaphore(self._each))
        try:
            await asyncio.wait_for(turn.acquire(), TURN_SECONDS)
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            turn.release()


class _Threads(_Queue):
    """A pool of threads with a bounded queue, for requests that are there in whole and have small answers."""

    def __init__(self, application: Any, *, threads: int, most: int) -> None:
        super().__init__(most=most)
        self._application = application
        self.executor = ThreadPoolExecutor(threads)

    async def run(self, scope: Scope, body: bytes, send: Send) -> None:
        """Work on a request: one way to a thread and one back."""
        call = functools.partial(_call, self._application, {**wsgi_environ(scope), "wsgi.input": io.BytesIO(body)})
        start, text = await asyncio.get_running_loop().run_in_executor(self.executor, call)
        await send(start)
        await send({"type": "http.response.body", "body": text})


class _StreamingThreads(_Queue):
    """A pool of threads with a bounded queue, for bodies and answers in pieces."""

    def __init__(self, application: Any, *, threads: int, most: int, each: int) -> None:
        super().__init__(most=most, each=each)
        self._streaming: Any = WSGIMiddleware(functools.partial(_whatever_length, application), workers=threads)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work on a request as its body comes."""
        await self._streaming(scope, receive, send)


def _whatever_length(application: Any, environ: Mapping[str, Any], start_response: Any) -> Any:
    """Let the body end where the client says so, in its head or in the last of its chunks; else reading it is an
    error."""
    return application({**environ, "wsgi.input_terminated": True}, start_response)


def _call(application: Any, environ: Mapping[str, Any]) -> tuple[Message, bytes]:
    """Return the beginning of the answer and its body."""
    start: Message = {"type": "http.response.start"}

    def begin(status: str, headers: Sequence[tuple[str, str]], exc_info: object = None) -> None:
        pairs = [(name.lower().encode("latin1"), value.encode("latin1")) for name, value in headers]
        start.update(status=int(status.split(" ", 1)[0]), headers=pairs)

    with contextlib.closing(application(environ, begin)) as pieces:
        return start, b"".join(pieces)


class Front:
    """An ASGI application that gathers requests for a WSGI one."""

    def __init__(
        self, application: Any, *, threads: int, body_seconds: float = BODY_SECONDS, most_logins: int = MOST_LOGINS
    ) -> None:
        self.body_seconds = body_seconds
        self._gate: Gate = application.extensions["gate"]
        self._lanes: dict[str, _Threads] = {
            Lane.ORDINARY: _Threads(application, threads=threads, most=64 * threads),
            Lane.LOGIN: _Threads(application, threads=2, most=most_logins),
        }
        self.transfers = _StreamingThreads(application, threads=16, most=256, each=8)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            connection = CONNECTION.get()
            with connection.exchange() if connection is not None else contextlib.nullcontext():
                await _Exchange(self, scope, receive, send).run()

    async def admits(self, scope: Scope) -> str | None:
        """Asks the gate in a thread: it may look into the database."""
        headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._lanes[Lane.ORDINARY].executor, self._gate.admits, headers)

    def lane_of(self, scope: Scope) -> str:
        return self._gate.lane(scope["method"], scope["path"])

    def threads_of(self, lane: str) -> _Threads:
        return self._lanes[lane]

    @property
    def most(self) -> int:
        return self._gate.most


class _Late(Exception):
    """A body did not come in time."""


class _Exchange:
    """One request and its answer."""

    def __init__(self, front: Front, scope: Scope, receive: Receive, send: Send) -> None:
        self._front, self._scope, self._receive, self._send = front, scope, receive, send
        self._complete = False  # whether the body was read to its end
        self._read = 0
        self._answered = False

    async def run(self) -> None:
        lane = self._front.lane_of(self._scope)
        try:
            if lane == Lane.TRANSFER:
                await self._stream()
            else:
                await self._gather(lane)
        except ConnectionError:
            return  # nobody waits for an answer
        except _Late:
            await self._refuse(408, "The request's body did not come in time.")

    async def _gather(self, lane: str) -> None:
        body = await self._body(lane)
        headers = [pair for pair in self._scope["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]
        declared = _declared(self._scope)
        length = declared if declared is not None and not self._complete else len(body)
        if length:
            headers.append((b"content-length", str(length).encode()))
        await self._work(lane, {**self._scope, "headers": headers}, body)

    async def _body(self, lane: str) -> bytes:
        """Read the body; as much of it as the application needs to refuse it; nothing where it is not admitted."""
        most = OPEN_BODY if lane == Lane.LOGIN else self._front.most
        declared = _declared(self._scope)
        if declared is not None and declared > most:
            return b""
        body = bytearray()
        admitted = lane == Lane.LOGIN
        try:
            async with asyncio.timeout(self._front.body_seconds):
                while not self._complete and len(body) <= most:
                    if not admitted and max(len(body), declared or 0) > OPEN_BODY:
                        if await self._front.admits(self._scope) is None:
                            return b""
                        admitted = True
                    body += await self._piece()
        except TimeoutError:
            raise _Late from None
        return bytes(body)

    async def _stream(self) -> None:
        """Hand on a body of any length, in pieces as the application asks for them."""
        project = await self._front.admits(self._scope)
        if project is None:
            await self._work(Lane.ORDINARY, self._scope, b"")
            return
        began: float | None = None

        async def receive() -> Message:
            nonlocal began
            began = began or asyncio.get_running_loop().time()
            if self._complete:
                return {"type": "http.disconnect"}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._front.body_seconds):
                    piece = await self._piece()
                elapsed = asyncio.get_running_loop().time() - began - self._front.body_seconds
                if self._complete or self._read >= elapsed * LEAST_RATE:
                    return {"type": "http.request", "body": piece, "more_body": not self._complete}
            raise ConnectionAbortedError("The body comes too slowly.")

        threads = self._front.transfers
        async with threads.place(project) as free:
            if free:
                await threads.run(self._scope, receive, self._answer)
        if not free:
            await self._refuse(503, BUSY)

    async def _piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("The client is gone.")
        self._complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self._read += len(piece)
        return piece

    async def _work(self, lane: str, scope: Scope, body: bytes) -> None:
        threads = self._front.threads_of(lane)
        async with threads.place() as free:
            if free:
                await threads.run(scope, body, self._answer)
        if not free:
            await self._refuse(503, BUSY)

    async def _refuse(self, status: int, message: str) -> None:
        if self._answered:
            return
        text = f'{{"error": {{"code": {status}, "title": "Try again", "message": "{message}"}}}}'.encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        headers += [(b"retry-after", b"1")] if status == 503 else []
        await self._answer({"type": "http.response.start", "status": status, "headers": headers})
        await self._answer({"type": "http.response.body", "body": text})

    async def _answer(self, message: Message) -> None:
        """Pass a piece of the answer on. Behind an answer to a body that was not read the connection is closed."""
        if message["type"] == "http.response.start":
            self._answered = True
            if not self._complete and _has_body(self._scope):
                message["headers"] = [*message["headers"], (b"connection", b"close")]
        await self._send(message)


def _declared(scope: Scope) -> int | None:
    """Return the length that the head gives; the protocol has checked that it is a number."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), None)


def _has_body(scope: Scope) -> bool:
    return bool(_declared(scope)) or any(name == b"transfer-encoding" for name, _ in scope["headers"])


class _Closing:
    """A transport that its protocol closes in its own way."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HeadProtocol(H11Protocol):
    """HTTP/1.1 with a time-out for the head of a request and for a client that takes none of its answer, and an end to
    how many connections wait for a head. Overrides what asyncio calls, and nothing of uvicorn's own.

    A client that is answered while it still sends is read from until it has stopped: a connection that is closed with
    something unread is reset by the system, and the client fails to send, or loses the answer.
    """

    head_seconds = HEAD_SECONDS
    write_seconds = WRITE_SECONDS
    drain_seconds = DRAIN_SECONDS
    most_waiting = MOST_WAITING
    _all_waiting: ClassVar[OrderedDict[HeadProtocol, None]] = OrderedDict()
    _lock = threading.Lock()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Closing(transport, self._close))  # type: ignore[arg-type]  # all of a transport
        self._line: asyncio.Transport = transport
        self._timers = asyncio.get_running_loop()
        self._head: asyncio.TimerHandle | None = None
        self._write: asyncio.TimerHandle | None = None
        self._exchanges = 0
        self._left: int | None = None  # bytes that are still read and dropped; None: the connection serves
        self._draining: list[asyncio.TimerHandle] = []
        # Writing is paused as long as the client has not taken all. Not 0: TLS would pause with nothing to send.
        transport.set_write_buffer_limits(high=1)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self._left is not None:
            self._drop(len(data))
            return
        CONNECTION.set(self)
        super().data_received(data)
        if self._head is None and not self._exchanges:
            self._timers.call_soon(self._expect_head)  # after what this data may have begun

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self.resume_writing()
        for timer in self._draining:
            timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._write = self._timers.call_later(self.write_seconds, self._give_up)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._write is not None:
            self._write.cancel()
            self._write = None
        super().resume_writing()

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """While the block runs a request is worked on, and no head is waited for."""
        self._exchanges += 1
        self._head_came()
        try:
            yield
        finally:
            self._exchanges -= 1

    def _expect_head(self) -> None:
        if self._head is not None or self._exchanges or self._left is not None or self._line.is_closing():
            return
        self._head = self._timers.call_later(self.head_seconds, self._give_up)
        with self._lock:
            self._all_waiting[self] = None
            full = len(self._all_waiting) > self.most_waiting
            oldest = self._all_waiting.popitem(last=False)[0] if full else None
        if oldest is not None:
            oldest._timers.call_soon_threadsafe(oldest._give_up)

    def _head_came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
        with self._lock:
            self._all_waiting.pop(self, None)

    def _close(self) -> None:
        """Close the connection; behind an answer to what has not come in whole, once its client has stopped sending,
        or has sent much more, or for long."""
        if self.conn.their_state not in (h11.SEND_BODY, h11.ERROR):
            self._line.close()
        elif self._left is None:
            self._head_came()
            self._left = DRAINED
            if self._line.can_write_eof():
                self._line.write_eof()
            self._line.resume_reading()
            later = self._timers.call_later
            self._draining = [later(MOST_DRAIN_SECONDS, self._line.close), later(self.drain_seconds, self._line.close)]

    def _drop(self, size: int) -> None:
        self._left = max(0, (self._left or 0) - size)
        if not self._left:
            self._line.close()
            return
        self._draining.pop().cancel()
        self._draining.append(self._timers.call_later(self.drain_seconds, self._line.close))

    def _give_up(self) -> None:
        self._head_came()
        self._line.abort()


CONNECTION: ContextVar[HeadProtocol | None] = ContextVar("connection", default=None)
"""The connection that a request came by. uvicorn begins the task of a request where it receives the request's head."""
