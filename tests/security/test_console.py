"""The console proxy against those who try its doors."""

from __future__ import annotations

import base64
import contextlib
import http.client
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from cell.consoleauth import __main__ as consoleauth
from cell.consoleauth import token_generation
from cell.consoleauth.rpc_endpoint import ConsoleAuthority
from cell.consoleproxy import __main__ as consoleproxy
from cell.consoleproxy import console_relay, http_server
from cell.consoleproxy.__main__ import ConsoleProxyService
from cellcloud import config, errors
from cellcloud.context import RequestContext
from cellcloud.model.console import ConsoleAddress, is_token
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.consoleauth import ConsoleAuth
from cellcloud.rpc.transport import Transport
from tests.unit.cell_world import MemoryConductor, eventually, make_record, server_id

ONE = server_id(1)
CONTEXT = RequestContext(budget=86_400, user_id="u")
GREETING = b"RFB 003.008\n"


class Screen:
    """A VNC server that greets and then repeats what it hears."""

    def __init__(self, address: str | None = None) -> None:
        family = socket.AF_UNIX if address else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.bind(address or ("127.0.0.1", 0))
        self._listener.listen()
        self.port = 0 if address else self._listener.getsockname()[1]
        self.visitors = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.visitors += 1
                threading.Thread(target=self._repeat, args=(connection,), daemon=True).start()

    def _repeat(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(GREETING)
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Host(Compute):
    """A compute service with one guest."""

    def __init__(self) -> None:
        self.show(Screen())

    def show(self, screen: Screen) -> None:
        self.screen = screen
        self.address = ConsoleAddress(server_id=ONE, generation=3, host="127.0.0.1", port=screen.port)
        self.error: errors.CellcloudError | None = None
        self.has_serial = True

    def get_console(
        self, context: RequestContext, host: str, server_id: str, generation: int, protocol: str = "vnc"
    ) -> ConsoleAddress:
        if self.error is not None:
            raise self.error
        return replace(self.address, protocol=protocol if self.has_serial else "vnc")


@dataclass
class Cell:
    conductor: MemoryConductor
    host: Host
    service: ConsoleProxyService
    authority: ConsoleAuth
    web: Path
    transport: Transport

    @property
    def port(self) -> int:
        return self.service.port

    @property
    def origin(self) -> str:
        return f"http://console.example:{6080}"

    def token(self) -> str:
        return self.authority.create_console(CONTEXT, ONE, "vnc", "novnc").token

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", "x")
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def open(self, token: str, *, origins: list[str] | None = None, path: str = "/websockify?token=") -> Browser:
        return Browser(self.port, path + token, origins if origins is not None else [self.origin])


class Browser:
    """A websocket client that also does what browsers do not."""

    def __init__(self, port: int, target: str, origins: list[str]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {target} HTTP/1.1",
            "Host: x",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *(f"Origin: {origin}" for origin in origins),
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._data = b""
        head = self._take_until(b"\r\n\r\n")
        self.status = int(head.split(b" ")[1])

    def send(self, payload: bytes, opcode: int = 2, *, fin: bool = True) -> None:
        head = bytes([opcode | (0x80 if fin else 0)])
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else struct.pack(">BQ", 0xFF, size)
        self.socket.sendall(head + length + bytes(4) + payload)

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload; opcode -1 at the end."""
        head = self._take(2)
        if not head:
            return -1, b""
        size = head[1] & 0x7F
        if size == 126:
            size = struct.unpack(">H", self._take(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self._take(8))[0]
        return head[0] & 0x0F, self._take(size)

    def is_over(self) -> bool:
        """Read until the proxy ends the session; False when it does not."""
        with contextlib.suppress(TimeoutError):
            while self.receive()[0] not in (8, -1):
                continue
            return True
        return False

    def close(self) -> None:
        self.socket.close()

    def _take(self, count: int) -> bytes:
        while len(self._data) < count:
            try:
                part = self.socket.recv(65536)
            except ConnectionError:
                return b""
            if not part:
                return b""
            self._data += part
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def _take_until(self, mark: bytes) -> bytes:
        while mark not in self._data:
            part = self.socket.recv(65536)
            if not part:
                break
            self._data += part
        head, _, self._data = self._data.partition(mark)
        return head


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """The services over one transport, once for all tests: stopping them takes seconds."""
    tmp_path = tmp_path_factory.mktemp("console")
    web = tmp_path / "web"
    (web / "app").mkdir(parents=True)
    (web / "vnc.html").write_text("<html>noVNC</html>")
    (web / "app" / "ui.js").write_text("export {};")
    (web / ".hidden.html").write_text("secret")
    (web / "notes.txt").write_text("secret")
    (tmp_path / "secret.html").write_text("secret")
    (web / "link.html").symlink_to(tmp_path / "secret.html")
    options = config.load()
    options = replace(
        options,
        host="c1",
        cell=replace(options.cell, name="unit", report_interval=0.2),
        console=replace(
            options.console,
            bind_port=0,
            base_url="http://console.example:6080",
            allowed_origins=["https://dashboard.example"],
            web_root=str(web),
            serial_enabled=True,
        ),
    )
    transport = Transport("unit", "kombu+memory://")
    conductor = MemoryConductor()
    conductor.records[ONE] = make_record(1, generation=3)
    host = Host()
    servers = [
        transport.serve(Conductor, conductor, server="c1"),
        transport.serve(Compute, host, server="h1"),
    ]
    authority = consoleauth.build(options, transport=transport)
    service = consoleproxy.build(options, transport=transport)
    authority.start()
    service.start()
    yield Cell(conductor, host, service, transport.client(ConsoleAuth), web, transport)
    service.stop()
    service.stop()
    authority.stop()
    for server in servers:
        server.stop()
    transport.close()


@pytest.fixture
def cell(running: Cell) -> Iterator[Cell]:
    running.host.show(Screen())
    running.conductor.tokens.clear()
    running.conductor.current.clear()
    yield running
    running.host.screen.close()


def test_a_token_opens_its_console_once(cell: Cell) -> None:
    token = cell.token()
    browser = cell.open(token)
    assert browser.status == 101
    assert browser.receive() == (2, GREETING)
    for size in (1, 125, 126, 65535, 300_000):
        browser.send(b"k" * size)
        received = b""
        while len(received) < size:
            received += browser.receive()[1]
        assert received == b"k" * size
    browser.close()
    again = cell.open(token)
    assert again.status == 403
    again.close()
    assert cell.host.screen.visitors == 1


def test_to_look_where_a_token_leads_does_not_use_it_up(cell: Cell) -> None:
    token = cell.token()
    for _ in range(2):
        assert cell.authority.find_console(CONTEXT, token) == cell.host.address
    assert cell.authority.redeem(CONTEXT, token) == cell.host.address
    for wrong in (token, token_generation.make_token(), "x", "x" * 5000):
        with pytest.raises(errors.NotFound):
            cell.authority.find_console(CONTEXT, wrong)
    stale = cell.token()
    cell.host.address = replace(cell.host.address, generation=4)
    with pytest.raises(errors.Stale):
        cell.authority.find_console(CONTEXT, stale)


def test_the_url_is_what_novnc_expects(cell: Cell) -> None:
    grant = cell.authority.create_console(CONTEXT, ONE, "vnc", "novnc")
    parts = urlsplit(grant.url)
    query = parse_qs(parts.query)
    assert grant.url.startswith("http://console.example:6080/vnc.html?path=websockify%3Ftoken%3D")
    assert query["path"] == [f"websockify?token={grant.token}"]
    assert (query["autoconnect"], query["reconnect"]) == (["true"], ["false"])
    assert unquote(parts.query).count(grant.token) == 1


def test_a_serial_port_is_opened_by_the_url_itself(cell: Cell) -> None:
    grant = cell.authority.create_console(CONTEXT, ONE, "serial", "serial")
    assert grant.url == f"ws://console.example:6080/?token={grant.token}"
    assert cell.authority.find_console(CONTEXT, grant.token).protocol == "serial"
    for status in (101, 403):
        program = cell.open(grant.token, path="/?token=", origins=[])
        assert program.status == status
        program.close()


@pytest.mark.parametrize(
    ("kind", "path"), [(("serial", "serial"), "/websockify?token="), (("vnc", "novnc"), "/?token=")]
)
def test_a_token_opens_nothing_of_the_other_kind(cell: Cell, kind: tuple[str, str], path: str) -> None:
    program = cell.open(cell.authority.create_console(CONTEXT, ONE, *kind).token, path=path)
    assert program.status == 403
    program.close()
    assert cell.host.screen.visitors == 0


@pytest.mark.parametrize("without", ["by_option", "by_guest"])
def test_a_serial_port_that_a_guest_has_not(cell: Cell, without: str) -> None:
    """Its cell offers none, or it was started when its host offered none, or its host is older than they are."""
    authority: ConsoleAuth = cell.authority
    if without == "by_option":
        authority = ConsoleAuthority(config.load().console, cell.transport)
    cell.host.has_serial = without != "by_guest"
    with pytest.raises(errors.Invalid, match="Unavailable console type serial"):
        authority.create_console(CONTEXT, ONE, "serial", "serial")


def test_tokens_are_long_and_kept_as_hashes_only(cell: Cell) -> None:
    token = cell.token()
    assert is_token(token)
    assert len(base64.urlsafe_b64decode(token + "=")) == 32
    assert list(cell.conductor.tokens) == [token_generation.hash_token(token)]
    assert token not in repr(cell.conductor.tokens)


@pytest.mark.parametrize(
    "origins",
    [
        [],  # no browser
        ["http://console.example:6080"],
        ["http://x"],  # the name it is asked for as
        ["https://x"],  # likewise, behind what ends TLS
        ["https://dashboard.example"],
    ],
)
def test_pages_that_may_open_a_console(cell: Cell, origins: list[str]) -> None:
    browser = cell.open(cell.token(), origins=origins)
    assert browser.status == 101
    browser.close()


@pytest.mark.parametrize("kind", [("spice", "spice-html5"), ("vnc", "xvpvnc"), ("serial", "novnc")])
def test_other_consoles_are_not_offered(cell: Cell, kind: tuple[str, str]) -> None:
    with pytest.raises(errors.Invalid):
        cell.authority.create_console(CONTEXT, ONE, *kind)


@pytest.mark.parametrize(
    "origins",
    [
        ["null"],
        [""],
        ["http://x:6081"],
        ["http://y"],
        ["https://x:80"],
        ["http://dashboard.example:8080"],
        ["https://sub.dashboard.example"],
        ["http://evil.example:6080"],
        ["http://sub.console.example:6080"],
        ["http://console.example"],
        ["http://console.example:6081"],
        ["https://console.example:6080"],
        ["http://console.example:6080/"],
        ["http://console.example:6080@evil.example"],
        ["http://user@console.example:6080"],
        ["http://console.example:x"],
        ["http://console.example:6080", "http://console.example:6080"],
        ["http://console.example:6080, http://evil.example"],
    ],
)
def test_other_origins_are_refused_and_do_not_use_the_token_up(cell: Cell, origins: list[str]) -> None:
    token = cell.token()
    browser = cell.open(token, origins=origins)
    assert browser.status == 403
    assert browser.receive() == (-1, b"")
    browser.close()
    assert len(cell.conductor.tokens) == 1


@pytest.mark.parametrize(
    "target",
    [
        "/websockify",
        "/websockify?token=",
        "/websockify?token=short",
        "/websockify?token=" + "A" * 43,
        "/websockify?other={}",
        "/websockify?token={}&token={}",
        "/websockify#token={}",
        "/{}",
        "/websockify?token={}%0a",
        "/websockify?" + "a=1&" * 50 + "token={}",
    ],
)
def test_a_token_counts_only_in_the_query(cell: Cell, target: str) -> None:
    token = cell.token()
    browser = Browser(cell.port, target.replace("{}", token), [cell.origin])
    assert browser.status == 403
    assert browser.receive() == (-1, b"")
    browser.close()
    assert cell.host.screen.visitors == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [(errors.Stale("moved"), 403), (errors.NotFound("gone"), 403), (errors.HostRefused("no"), 503)],
)
def test_the_host_has_the_last_word(cell: Cell, error: errors.CellcloudError, status: int) -> None:
    cell.host.error = error
    browser = cell.open(cell.token())
    assert browser.status == status
    assert browser.receive() == (-1, b"")
    browser.close()
    assert cell.host.screen.visitors == 0


@pytest.mark.parametrize("answer", [{"server_id": server_id(2)}, {"generation": 4}])
def test_an_address_of_another_guest_is_not_used(cell: Cell, answer: dict[str, object]) -> None:
    cell.host.address = replace(cell.host.address, **answer)  # type: ignore[arg-type]
    browser = cell.open(cell.token())
    assert browser.status == 403
    assert browser.receive() == (-1, b"")
    browser.close()
    assert cell.host.screen.visitors == 0


def test_a_guest_that_does_not_listen(cell: Cell) -> None:
    cell.host.screen.close()
    browser = cell.open(cell.token())
    assert browser.status == 502
    assert browser.receive() == (-1, b"")
    browser.close()


def test_a_guest_on_a_unix_socket(cell: Cell, tmp_path: Path) -> None:
    screen = Screen(str(tmp_path / "vnc.sock"))
    cell.host.address = replace(cell.host.address, socket=str(tmp_path / "vnc.sock"))
    browser = cell.open(cell.token())
    assert browser.receive() == (2, GREETING)
    browser.close()
    screen.close()


def test_a_session_ends_when_its_server_moves_on(cell: Cell) -> None:
    browser = cell.open(cell.token())
    assert browser.receive() == (2, GREETING)
    cell.conductor.current[ONE] = 4
    assert browser.is_over()
    browser.close()


def test_a_session_ends_with_its_guest(cell: Cell) -> None:
    browser = cell.open(cell.token())
    assert browser.receive() == (2, GREETING)
    assert len(cell.service._server.list_sessions()) == 1  # type: ignore[union-attr]
    browser.send(b"", opcode=8)
    assert browser.is_over()
    eventually(lambda: not cell.service._server.list_sessions())  # type: ignore[union-attr]
    browser.close()


@pytest.mark.parametrize(
    "attack",
    [
        struct.pack(">BBQ", 0x82, 0xFF, 1 << 62) + bytes(4 + (2 << 20)),
        (struct.pack(">BBH", 0x02, 0xFE, 60000) + bytes(60004))
        + (struct.pack(">BBH", 0, 0xFE, 60000) + bytes(60004)) * 30,
        b"\x82\x01x",
        b"\x81\x81" + bytes(5),
        b"\xff" * (2 << 20),
        b"\x83\x80" + bytes(4),
    ],
    ids=["giant frame", "endless fragments", "unmasked", "text", "noise", "unknown kind"],
)
def test_hostile_frames_end_only_their_own_session(cell: Cell, attack: bytes) -> None:
    other = cell.open(cell.token())
    assert other.receive() == (2, GREETING)
    browser = cell.open(cell.token())
    with contextlib.suppress(ConnectionError):
        browser.send_raw(attack)
    assert browser.is_over()
    browser.close()
    other.send(b"still here")
    assert other.receive() == (2, b"still here")
    other.close()


def test_a_flood_of_pings_costs_nothing(cell: Cell) -> None:
    browser = cell.open(cell.token())
    assert browser.receive() == (2, GREETING)
    for _ in range(2000):
        browser.send(b"p", opcode=9)
    browser.send(b"data")
    seen = []
    while b"data" not in seen:
        opcode, payload = browser.receive()
        assert opcode in (2, 10)
        seen.append(payload)
    browser.close()


def test_a_client_that_does_not_read_holds_up_nobody(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, other = cell.open(cell.token()), cell.open(cell.token())
    slow.socket.settimeout(1.0)
    with contextlib.suppress(TimeoutError):  # until nothing on the way to the guest and back takes any more
        for _ in range(1000):
            slow.send(bytes(300_000))
    assert other.receive() == (2, GREETING)
    other.send(b"still here")
    assert other.receive() == (2, b"still here")
    assert len(cell.service._server.list_sessions()) == 2  # type: ignore[union-attr]
    monkeypatch.setattr(console_relay, "STALLED_SECONDS", 0.1)
    eventually(lambda: len(cell.service._server.list_sessions()) == 1)  # type: ignore[union-attr]
    for browser in (slow, other):
        browser.close()


def test_silent_connections_are_ended(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "PLAIN_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", cell.port), timeout=10) as connection:
        connection.sendall(b"GET /vnc.html HT")
        assert connection.recv(100) == b""


def test_pages_are_shown_with_their_headers(cell: Cell) -> None:
    status, body, headers = cell.get("/vnc.html?path=websockify%3Ftoken%3Dx&autoconnect=true")
    assert (status, body) == (200, b"<html>noVNC</html>")
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "connect-src 'self' ws://console.example:6080" in headers["Content-Security-Policy"]
    assert headers["Server"].strip() == "cellcloud"
    assert "Set-Cookie" not in headers
    assert cell.get("/app/ui.js")[2]["Content-Type"].startswith("text/javascript")
    assert cell.get("/app/ui.js", "HEAD")[:2] == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/app",
        "/app/",
        "/nothing.html",
        "/notes.txt",
        "/.hidden.html",
        "/link.html",
        "/../secret.html",
        "/%2e%2e/secret.html",
        "/..%2fsecret.html",
        "/%2e%2e%2fsecret.html",
        "/app/..%5c..%5csecret.html",
        "/app//ui.js",
        "/app/./ui.js",
        "/vnc.html%00",
        "/%252e%252e/secret.html",
        "/" + "a" * 5000 + ".html",
    ],
)
def test_nothing_else_is_shown(cell: Cell, path: str) -> None:
    status, body, _ = cell.get(path)
    assert status == 404
    assert b"secret" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS"])
def test_other_methods_are_refused(cell: Cell, method: str) -> None:
    assert cell.get("/vnc.html", method)[0] == 501


def test_no_token_is_logged(cell: Cell, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = cell.token()
    cell.get(f"/vnc.html?path=websockify%3Ftoken%3D{token}")
    cell.get(f"/nothing?token={token}")
    for _ in range(2):
        browser = cell.open(token)
        browser.close()
    eventually(lambda: "console session ends" in caplog.text)
    ours = [record for record in caplog.records if not record.name.startswith(("oslo", "kombu", "amqp"))]
    assert all(token not in str(record.__dict__) for record in ours)


def test_the_services_say_that_they_live(cell: Cell) -> None:
    eventually(lambda: {("nova-consoleauth", "c1"), ("nova-novncproxy", "c1")} <= set(cell.conductor.heartbeats))
    assert set(cell.service.check().values()) == {"ok"}
