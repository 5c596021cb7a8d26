"""The console proxy's server: shows noVNC, and joins a websocket with a guest's screen or serial port for a token.

A token is looked for only in the query of a websocket request, and no request target is ever logged.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockify.websockifyserver import WebSockifyRequestHandler

from cell.consoleproxy.bounded_websocket import BoundedWebSocket
from cell.consoleproxy.console_relay import Session
from cell.consoleproxy.static_files import TYPES, find_page
from cellcloud import clock, errors, log
from cellcloud.context import RequestContext
from cellcloud.model.console import SERIAL, VNC, ConsoleAddress, is_token
from cellcloud.rpc.consoleauth import ConsoleAuth

LOG = logging.getLogger(__name__)
HANDSHAKE_SECONDS = 10.0
PLAIN_SECONDS = 30.0
CONNECT_SECONDS = 5.0
MAX_CONNECTIONS = 512
PORTS = {"http": 80, "https": 443}


class ProxyServer(ThreadingHTTPServer):
    """Connections, each with a thread, and the sessions among them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        authority: ConsoleAuth,
        base_url: str,
        web_root: Path,
        *,
        allowed_origins: Sequence[str] = (),
    ) -> None:
        self.authority = authority
        self.web_root = web_root
        self._lock = threading.Lock()
        self._plain: dict[socket.socket, float] = {}
        self._sessions: dict[socket.socket, Session] = {}
        super().__init__(address, ConsoleRequest)
        parts = urlsplit(base_url)
        self.origins = frozenset(_origin_of(url) for url in (base_url, *allowed_origins))
        websocket = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}"
        framing = ("'self'", *allowed_origins)
        self.page_policy = (
            f"default-src 'self'; connect-src 'self' {websocket}; img-src 'self' data: blob:; "
            "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors {' '.join(framing)}"
        )
        self.framed_elsewhere = bool(allowed_origins)

    def server_bind(self) -> None:
        """As HTTPServer does, but without asking DNS who we are."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take so many connections and no more."""
        with self._lock:
            if len(self._plain) + len(self._sessions) >= MAX_CONNECTIONS:
                return False
            self._plain[request] = clock.monotonic()
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._plain.pop(request, None)
            self._sessions.pop(request, None)
        super().shutdown_request(request)

    def enter(self, connection: socket.socket, session: Session) -> None:
        """From now on the connection is a session."""
        with self._lock:
            self._plain.pop(connection, None)
            self._sessions[connection] = session

    def list_sessions(self) -> list[Session]:
        """Every open session."""
        with self._lock:
            return list(self._sessions.values())

    def end_slow_requests(self) -> None:
        """End connections that have asked for pages, or for nothing, long enough."""
        oldest = clock.monotonic() - PLAIN_SECONDS
        with self._lock:
            for connection, since in self._plain.items():
                if since < oldest:
                    _hang_up(connection)

    def end_connections(self) -> None:
        """End everything."""
        with self._lock:
            for session in self._sessions.values():
                session.cut()
            for connection in self._plain:
                _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.warning("connection failed", exc_info=True)


class ConsoleRequest(WebSockifyRequestHandler):  # type: ignore[misc]
    """One connection: pages, or a websocket."""

    server: ProxyServer
    SocketClass = BoundedWebSocket
    server_version = "cellcloud"
    sys_version = ""
    timeout = HANDSHAKE_SECONDS

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in (("KEEPIDLE", 30), ("KEEPINTVL", 10), ("KEEPCNT", 3)):
            self.connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{option}"), value)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    # ---- pages -------------------------------------------------------------------------------------------------
    def do_GET(self) -> None:
        self._show(with_body=True)

    def do_HEAD(self) -> None:
        self._show(with_body=False)

    def _show(self, *, with_body: bool) -> None:
        page = find_page(self.server.web_root, self.path)
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = page.read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[page.suffix])
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", self.server.page_policy)
        if not self.server.framed_elsewhere:  # it knows no list; the policy above does
            self.send_header("X-Frame-Options", "SAMEORIGIN")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    # ---- the websocket -----------------------------------------------------------------------------------------
    def handle_upgrade(self) -> None:
        self.close_connection = True
        if not self._may_come_from_there():
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        token = _token_of(self.path)
        if token is None:
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        context = RequestContext(budget=HANDSHAKE_SECONDS)
        log.request_id.set(context.request_id)
        try:
            address = self.server.authority.redeem(context, token)
        except errors.FixRequest:
            self._refuse(HTTPStatus.FORBIDDEN)
        except errors.CellcloudError as error:
            LOG.warning("console not opened", extra={"why": error.message})
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._join(address)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer without a body, which a client of websockets would take for a frame."""
        self.send_response(status)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _join(self, address: ConsoleAddress) -> None:
        if address.protocol != _protocol_of(self.path):
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        try:
            target = connect(address)
        except OSError as error:
            LOG.warning("guest's console does not answer", extra={"server": address.server_id, "why": error})
            self._refuse(HTTPStatus.BAD_GATEWAY)
            return
        with target:
            self._address, self._target = address, target
            super(WebSockifyRequestHandler, self).handle_upgrade()

    def handle_websocket(self) -> None:
        session = Session(self.request, self._target, self._address.server_id, self._address.generation)
        self.server.enter(self.connection, session)
        LOG.info("console session begins", extra={"server": session.server_id})
        why = session.run()
        LOG.info("console session ends", extra={"server": session.server_id, "why": why})
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR, 1000, "")

    def _may_come_from_there(self) -> bool:
        """Whether the page that opens the websocket may: this proxy's own, by its URL or by the name under which the
        browser has asked for it, or one of the listed. Only programs that are no browsers name no origin."""
        origins = self.headers.get_all("Origin") or []
        if not origins:
            return True
        try:
            origin = _origin_of(origins[0])
        except errors.Invalid:
            return False
        return len(origins) == 1 and (origin in self.server.origins or self._is_asked_for_as(origin))

    def _is_asked_for_as(self, origin: tuple[str, str, int]) -> bool:
        hosts = self.headers.get_all("Host") or []
        try:
            return len(hosts) == 1 and _origin_of(f"{origin[0]}://{hosts[0]}") == origin
        except errors.Invalid:
            return False

    def log_message(self, format: str, *args: Any) -> None:
        """Request lines hold tokens; what is worth a line is logged where it happens."""


def connect(address: ConsoleAddress) -> socket.socket:
    """Return a connection to a guest's console. Raises OSError."""
    if not address.socket:
        target = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return target
    target = socket.socket(socket.AF_UNIX)
    try:
        target.settimeout(CONNECT_SECONDS)
        target.connect(address.socket)
    except OSError:
        target.close()
        raise
    return target


def _origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL that has nothing else. Raises Invalid."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        port = None
    if port is None or not parts.hostname or parts.geturl() != f"{parts.scheme}://{parts.netloc}" or "@" in url:
        raise errors.Invalid("A URL is not of the form scheme://host:port.")
    return parts.scheme, parts.hostname, port


def _token_of(request_target: str) -> str | None:
    try:
        tokens = parse_qs(urlsplit(request_target).query, max_num_fields=8).get("token", [])
    except ValueError:
        return None
    return tokens[0] if len(tokens) == 1 and is_token(tokens[0]) else None


def _protocol_of(request_target: str) -> str:
    """Return what kind of console is asked for, as the URLs of either kind say."""
    return SERIAL if urlsplit(request_target).path == "/" else VNC


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
