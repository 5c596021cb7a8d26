"""The front of the API on a real socket: what slow, large and many requests can hold, which is little."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from flask import Flask, Response, request

from cellcloud.launcher.certificate_authority import Authority
from cellcloud.launcher.request_buffering import DRAINED, MOST_HEAD, Front, HeadProtocol
from cellcloud.launcher.web_server import FRONT

THREADS = 4
MOST = 1 << 20
SOON = 6.0  # seconds, on a busy machine; what is held up waits for 64 log-ins of 0.1 s, or for many more of a second


class QuickProtocol(HeadProtocol):
    head_seconds = 0.5
    drain_seconds = 1.0
    write_seconds = 1.0
    most_waiting = 200


class Gate:
    most = MOST

    def lane(self, method: str, path: str) -> str:
        return {"/login": "login", "/file": "transfer"}.get(path, "ordinary")

    def admits(self, headers: Mapping[str, str]) -> str | None:
        return headers.get("x-auth-token")


class Api:
    """An application in small: it authenticates, then reads the body."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.whole: list[int] = []
        self.flask = Flask("api")
        self.flask.extensions["gate"] = Gate()
        self.flask.add_url_rule("/", view_func=self.body, methods=["GET", "POST"], endpoint="body")
        self.flask.add_url_rule("/login", view_func=self.login, methods=["POST"])
        self.flask.add_url_rule("/file", view_func=self.file, methods=["PUT"])
        self.flask.add_url_rule("/large", view_func=lambda: Response(b"x" * (64 << 20)))

    def body(self) -> Response:
        if request.method == "POST" and "X-Auth-Token" not in request.headers:
            return Response("no token", status=401)
        request.max_content_length = MOST
        return Response(str(len(request.get_data())))

    def login(self) -> Response:
        time.sleep(0.1)
        return Response(str(len(request.get_data())))

    def file(self) -> Response:
        if "X-Auth-Token" not in request.headers:
            return Response("no token", status=401)
        request.max_content_length = 20 << 30
        size = 0
        while piece := request.stream.read(1 << 16):
            size += len(piece)
            self.began.set()
        self.whole.append(size)
        return Response(str(size))


@contextlib.contextmanager
def serving(api: Api, **more: Any) -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    front = Front(api.flask, threads=THREADS, body_seconds=1.0, most_logins=64)
    server = uvicorn.Server(uvicorn.Config(front, log_config=None, **{**FRONT, "http": QuickProtocol, **more}))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def api() -> Api:
    return Api()


@pytest.fixture(scope="module")
def address(api: Api) -> Iterator[tuple[str, int]]:
    with serving(api) as found:
        yield found


@pytest.fixture(scope="module")
def patient(api: Api) -> Iterator[tuple[str, int]]:
    """With the limits of a real front."""
    with serving(api, http=HeadProtocol) as found:
        yield found


def ask(address: tuple[str, int], method: str = "GET", path: str = "/", body: Any = None, **headers: str) -> Any:
    connection = http.client.HTTPConnection(*address, timeout=20)
    with contextlib.closing(connection):
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given, encode_chunked="Transfer-Encoding" in given)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def opened(address: tuple[str, int], data: bytes) -> socket.socket:
    made = socket.create_connection(address, timeout=10)
    made.sendall(data)
    return made


def is_closed(connection: socket.socket, within: float) -> bool:
    connection.settimeout(within)
    with contextlib.suppress(ConnectionError):
        return connection.recv(1) == b""
    return True


def served_soon(address: tuple[str, int]) -> bool:
    began = time.monotonic()
    status, _, _ = ask(address, "POST", "/", b"abc", X_Auth_Token="t")
    return bool(status == 200 and time.monotonic() - began < SOON)


def head(method: str, path: str, **headers: object) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


SLOW = {
    "half a head": b"GET / HTTP/1.1\r\nHost: a\r\nX-",
    "nothing at all": b"",
    "a body without a token": head("POST", "/", Content_Length=500_000),
    "a short body without a token": head("POST", "/", Content_Length=5_000) + b"x",
    "a body with a token": head("POST", "/", Content_Length=500_000, X_Auth_Token="t") + b"x" * 100_000,
    "a chunked body": head("POST", "/", Transfer_Encoding="chunked", X_Auth_Token="t") + b"5\r\nab",
    "a log-in": head("POST", "/login", Content_Length=500) + b"x",
    "an image": head("PUT", "/file", Content_Length=10 << 30, X_Auth_Token="t") + b"x",
    "an image without a token": head("PUT", "/file", Content_Length=10 << 30) + b"x",
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_hundred_slow_clients_hold_nobody_and_are_ended(address: tuple[str, int], kind: str) -> None:
    with contextlib.ExitStack() as stack:
        many = 20 if kind == "an image" else 100  # which take turns
        held = [stack.enter_context(opened(address, SLOW[kind])) for _ in range(many)]
        for _ in range(3):
            assert served_soon(address)
        for connection in held:
            ended = b""
            connection.settimeout(20)
            with contextlib.suppress(ConnectionError):
                while data := connection.recv(4096):
                    ended += data
            assert not ended or int(ended.split()[1]) in (400, 401, 408, 503, 200), ended


def drips_until_given_up(connection: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        for _ in range(100):
            time.sleep(0.05)
            connection.sendall(b"X-a: b\r\n")
        return False
    return True


def test_a_head_that_drips_is_given_up(address: tuple[str, int]) -> None:
    with opened(address, b"GET / HTTP/1.1\r\n") as connection:
        assert drips_until_given_up(connection)


def test_a_second_head_that_drips_is_given_up(address: tuple[str, int]) -> None:
    with opened(address, head("GET", "/")) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert drips_until_given_up(connection)


def test_of_too_many_connections_the_oldest_without_a_head_are_closed(address: tuple[str, int]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(QuickProtocol.most_waiting + 50):
            stack.enter_context(opened(address, b"GET"))
        assert served_soon(address)


def test_a_body_that_is_not_admitted_is_not_read(address: tuple[str, int]) -> None:
    for path, method in (("/", "POST"), ("/file", "PUT")):
        with opened(address, head(method, path, Content_Length=1 << 30)) as connection:
            sent = 0
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                while sent < 256 << 20:
                    sent += connection.send(b"x" * (1 << 16))
            assert sent < DRAINED + (16 << 20)  # the rest lay in buffers of the system
        status, text, headers = ask(address, method, path, b"x" * 100_000)
        assert (status, text, headers["Connection"]) == (401, b"no token", "close")


def test_bodies_come_whole(address: tuple[str, int]) -> None:
    for size in (0, 1, 16 << 10, (16 << 10) + 1, MOST):
        assert ask(address, "POST", "/", b"x" * size, X_Auth_Token="t")[1] == str(size).encode()
    pieces = (b"x" * 1000 for _ in range(300))
    assert ask(address, "POST", "/", pieces, X_Auth_Token="t", Transfer_Encoding="chunked")[1] == b"300000"


def test_a_body_that_is_too_large_is_refused(patient: tuple[str, int]) -> None:
    assert ask(patient, "POST", "/", b"x" * (MOST + 1), X_Auth_Token="t")[0] == 413
    pieces = (b"x" * 10_000 for _ in range(110))
    assert ask(patient, "POST", "/", pieces, X_Auth_Token="t", Transfer_Encoding="chunked")[0] == 413


CHUNKED = {"Transfer_Encoding": "chunked", "X_Auth_Token": "t"}
REFUSED = {
    "a body of too great a length": (413, head("POST", "/", Content_Length=3 << 20, X_Auth_Token="t")),
    "chunks that come to too much": (413, head("POST", "/", **CHUNKED) + b"110000\r\n" + b"x" * 0x110000 + b"\r\n"),
    "a body without a token": (401, head("POST", "/", Content_Length=3 << 20)),
    "an image without a token": (401, head("PUT", "/file", Content_Length=3 << 20)),
    "a chunk that is none": (400, head("POST", "/", **CHUNKED) + b"what\r\n"),
    "a head that is none": (400, b"what\r\n\r\n"),
    "too large a head": (400, b"GET / HTTP/1.1\r\nX-A: " + b"x" * (MOST_HEAD + 10_000)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_who_goes_on_sending_gets_the_answer_in_whole(patient: tuple[str, int], kind: str) -> None:
    """A connection closed at once would be reset, and the answer with it: its client would fail to send, or to read."""
    status, request = REFUSED[kind]
    with opened(patient, request) as connection:
        answer = connection.recv(1)  # it is answered, and closed to whatever comes now
        for _ in range(16):
            connection.sendall(b"x" * 10_000)
            answer += connection.recv(20_000, socket.MSG_DONTWAIT) if ready(connection) else b""
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(20_000):
            answer += data
    assert int(answer.split()[1]) == status


def ready(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0.02)[0])


def test_an_image_is_worked_on_while_it_comes(api: Api, address: tuple[str, int]) -> None:
    api.began.clear()
    with opened(address, head("PUT", "/file", Content_Length=3 << 20, X_Auth_Token="t")) as connection:
        connection.sendall(b"x" * (1 << 20))
        assert api.began.wait(60)
        connection.sendall(b"x" * (2 << 20))
        assert connection.recv(4096).split()[1] == b"200"


def test_an_image_of_unknown_length_comes_whole_or_is_refused(api: Api, address: tuple[str, int]) -> None:
    pieces = (b"x" * 10_000 for _ in range(300))
    assert ask(address, "PUT", "/file", pieces, X_Auth_Token="t", Transfer_Encoding="chunked")[1] == b"3000000"
    before = len(api.whole)
    for wanted in ({"Transfer_Encoding": "chunked"}, {"Content_Length": 1 << 20}):
        for left_open in (False, True):
            api.began.clear()
            with opened(address, head("PUT", "/file", X_Auth_Token="t", **wanted)) as connection:
                chunked = "Transfer_Encoding" in wanted
                connection.sendall((b"20000\r\n" if chunked else b"") + b"x" * 0x20000 + (b"\r\n" if chunked else b""))
                assert api.began.wait(60)
                if left_open:  # the front gives it up
                    assert b" 400 " in connection.recv(4096)
        time.sleep(0.3)
    assert len(api.whole) == before


def test_transfers_of_a_project_take_turns(address: tuple[str, int]) -> None:
    with ThreadPoolExecutor(40) as pool:
        answers = pool.map(lambda _: ask(address, "PUT", "/file", b"x" * 1000, X_Auth_Token="t")[0], range(40))
        assert set(answers) == {200}


def test_log_ins_delay_nobody_and_are_bounded(address: tuple[str, int]) -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(ask(address, "POST", "/login", b"x" * 50)[0])) for _ in range(80)
    ]
    for thread in threads:
        thread.start()
    for _ in range(3):
        assert served_soon(address)
    for thread in threads:
        thread.join(60)
    assert set(results) == {200, 503}
    assert results.count(200) >= 64


def test_who_takes_no_answer_is_given_up(address: tuple[str, int]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * THREADS):
            stack.enter_context(opened(address, head("GET", "/large")))
        time.sleep(1.5)
        assert any(served_soon(address) for _ in range(5))  # the answers take a busy machine a while to write


def test_answers_of_any_size_come_over_tls(api: Api, tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("api", ["127.0.0.1"])
    context = ssl.create_default_context(cafile=str(files.authority))
    with serving(api, ssl_certfile=str(files.certificate), ssl_keyfile=str(files.key)) as address:
        connection = http.client.HTTPSConnection(*address, timeout=30, context=context)
        for path, size in (("/", 1), ("/large", 64 << 20), ("/", 1)):
            connection.request("GET", path)
            assert len(connection.getresponse().read()) == size
        connection.close()


def test_small_answers_do_not_wait_for_acknowledgements(api: Api) -> None:
    """An answer is written in two pieces: under Nagle's algorithm the second waits 40 ms for a client's delayed one."""
    found: list[int] = []

    class Watched(QuickProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            made = transport.get_extra_info("socket")
            found.append(made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with serving(api, http=Watched) as address:
        assert ask(address)[0] == 200
    assert found
    assert all(found)


def test_requests_in_a_row_share_a_connection(address: tuple[str, int]) -> None:
    with opened(address, head("GET", "/") * 3) as connection:
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 3:
            answers += connection.recv(4096)


def test_gunicorn_s_workers_have_the_front_too() -> None:
    """As in the services profile: a worker whose threads no half heads and no half bodies can take."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = free.getsockname()[:2]
    target = [
        "-k",
        "cellcloud.launcher.web_server.FrontWorker",
        "--threads",
        "2",
        "tests.functional.test_front:application()",
    ]
    command = [sys.executable, "-m", "gunicorn", "-b", f"{where[0]}:{where[1]}", "--log-level", "error", *target]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with contextlib.suppress(OSError):
                    if ask(where)[0] == 200:
                        break
                time.sleep(0.1)
            with contextlib.ExitStack() as stack:
                for kind in ("half a head", "a body without a token", "a body with a token"):
                    for _ in range(40):
                        stack.enter_context(opened(where, SLOW[kind]))
                assert served_soon(where)
        finally:
            process.terminate()
    assert process.returncode == 0


def application() -> Flask:
    """For gunicorn."""
    return Api().flask
