"""The node's metadata proxy takes little from a guest, and passes on less."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest

from cell.compute.metadata_proxy import (
    MAX_ANSWER,
    MAX_REQUEST,
    Guest,
    Refused,
    Request,
    Settings,
    forward,
    parse_request,
    read_request,
)
from cellcloud.model import metadata_signature as signature

GUEST = Guest(server="server", port="port")
KEY = signature.node_key(b"secret", "host")


class Service(socketserver.ThreadingTCPServer):
    daemon_threads = True
    seen: dict[str, str]
    body: bytes = b"{}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.seen = {"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}
        self.server.seen["posted"] = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Set-Cookie", "a=b")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Handler) as service:
        thread = threading.Thread(target=service.serve_forever, daemon=True)
        thread.start()
        yield service
        service.shutdown()
        thread.join()


def settings_for(port: int) -> Settings:
    place = ("network", "10.0.0.5")
    return Settings(host="host", key=KEY, upstream=("127.0.0.1", port), namespaces={}, guests={place: GUEST})


def test_a_request_is_taken_apart() -> None:
    request = parse_request(b"GET /openstack/latest HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nX-Cellcloud-Server: other")
    assert request == Request(method="GET", path="/openstack/latest", headers={"accept": "*/*"})


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET", 400),
        (b"GET / HTTP/2.0", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET http://elsewhere/ HTTP/1.1", 400),
        (b"GET /\x01 HTTP/1.1", 400),
        (b"GET /\xc3\xa9 HTTP/1.1", 400),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1", 400),
        (b"PUT / HTTP/1.1", 405),
        (b"POST / HTTP/1.1", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 1025", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: -1", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: +1", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
        (b"GET / HTTP/1.1\r\nContent-Length:", 400),
        (b"CONNECT / HTTP/1.1", 405),
        (b"GET / HTTP/1.1\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\n folded: x", 400),
        (b"GET / HTTP/1.1\r\nA: b\nX-Cellcloud-Server: c", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 4", 400),
    ],
)
def test_what_is_out_of_order_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(Refused) as refusal:
        parse_request(head)
    assert refusal.value.status == status


def test_reading_is_bounded_in_space_and_time() -> None:
    def read(data: bytes, *, close: bool = False, hurry: bool = False) -> int:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(data)
            if close:
                theirs.shutdown(socket.SHUT_WR)
            ticks = iter([0.0, 9.99, 10.5]) if hurry else None
            with pytest.raises(Refused) as refusal:
                read_request(ours, *([lambda: next(ticks)] if ticks else []))
            return refusal.value.status

    assert read(b"GET / HTTP/1.1\r\n", close=True) == 400
    assert read(b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_REQUEST) == 431
    assert read(b"GET / HTTP/1.1\r\n", hurry=True) == 408
    assert read(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", close=True) == 400
    assert read(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", hurry=True) == 408


@pytest.mark.parametrize("parts", [[b"abc"], [b"", b"ab", b"cd"]])
def test_what_is_posted_is_read_to_its_end_and_no_further(parts: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"POST /p HTTP/1.1\r\nContent-Length: 3\r\n\r\n" + b"".join(parts))
        assert read_request(ours).body == b"abc"


def test_what_is_posted_goes_on_and_is_signed(service: Service) -> None:
    request = replace(parse_request(b"POST /p HTTP/1.1\r\nContent-Length: 3"), body=b"abc")
    assert forward(request, settings_for(service.server_address[1]), GUEST)[0] == 200
    seen = service.seen
    signed = signature.SignedRequest(
        method="POST",
        path="/p",
        host="host",
        server="server",
        port="port",
        time=seen["x-cellcloud-time"],
        nonce=seen["x-cellcloud-nonce"],
        body=b"abc",
    )
    assert seen["posted"] == "abc"
    assert signed.is_signed_by(KEY, seen["x-cellcloud-signature"])
    assert not replace(signed, body=b"abd").is_signed_by(KEY, seen["x-cellcloud-signature"])


def test_the_request_goes_on_signed_and_bare(service: Service) -> None:
    port = service.server_address[1]
    request = parse_request(b"GET /openstack/latest/?a=b HTTP/1.1\r\nUser-Agent: curl\r\nx-cellcloud-server: lie")
    status, headers, body = forward(request, settings_for(port), GUEST)
    assert (status, headers, body) == (200, {"content-type": "application/json"}, b"{}")
    seen = service.seen
    signed = signature.SignedRequest(
        method="GET",
        path="/openstack/latest/?a=b",
        host="host",
        server="server",
        port="port",
        time=seen["x-cellcloud-time"],
        nonce=seen["x-cellcloud-nonce"],
    )
    assert seen["path"] == signed.path
    assert seen["x-cellcloud-server"] == "server"
    assert signed.is_signed_by(KEY, seen["x-cellcloud-signature"])
    assert not signed.is_signed_by(signature.node_key(b"secret", "other"), seen["x-cellcloud-signature"])


def test_a_sick_service_is_an_error_of_the_service(service: Service) -> None:
    request = Request(method="GET", path="/", headers={})
    service.body = bytes(MAX_ANSWER + 1)
    with pytest.raises(Refused, match="Bad Gateway"):
        forward(request, settings_for(service.server_address[1]), GUEST)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(Refused, match="Service Unavailable"):
            forward(request, settings_for(nobody.getsockname()[1]), GUEST)


def test_the_key_is_never_shown() -> None:
    assert KEY.hex() not in repr(settings_for(1))
    assert str(KEY) not in repr(settings_for(1))
