"""Wires the console proxy. Start one with ``cellcloud-consoleproxy --config FILE``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from cell.consoleproxy.http_server import ProxyServer
from cellcloud import errors
from cellcloud.config import Config
from cellcloud.context import service_context
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.consoleauth import ConsoleAuth
from cellcloud.rpc.transport import Transport
from cellcloud.service import Loop, command

CHECK_SECONDS = 2.0
UNANSWERED_CHECKS = 15


class ConsoleProxyService:
    """The proxy with its listener, and the watch over open sessions."""

    name = "consoleproxy"

    def __init__(self, config: Config, transport: Transport) -> None:
        self._host = config.host
        self._config = config.console
        conductor: Conductor = transport.client(Conductor)
        authority: ConsoleAuth = transport.client(ConsoleAuth)
        self._conductor = conductor
        self._authority = authority
        self._server: ProxyServer | None = None
        self._thread: threading.Thread | None = None
        self._unanswered = 0
        self._watch_loop = Loop("sessions", CHECK_SECONDS, self._check_sessions)
        self._heartbeat_loop = Loop("heartbeat", config.cell.report_interval, self._beat)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1]) if self._server else 0

    def start(self) -> None:
        address = (self._config.bind_host, self._config.bind_port)
        self._server = ProxyServer(
            address,
            self._authority,
            self._config.url,
            Path(self._config.web_root).resolve(),
            allowed_origins=self._config.allowed_origins,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="consoles", daemon=True)
        self._thread.start()
        self._watch_loop.start()
        self._heartbeat_loop.start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.end_connections()
            server.server_close()
        self._watch_loop.stop()
        self._heartbeat_loop.stop()

    def check(self) -> dict[str, str]:
        alive = self._thread is not None and self._thread.is_alive()
        return {"http": "ok" if alive else "not serving", "sessions": self._watch_loop.check()}

    def _check_sessions(self) -> None:
        """End sessions whose server has moved on; all of them when nobody can say for long."""
        server = self._server
        if server is None:
            return
        server.end_slow_requests()
        sessions = server.list_sessions()
        try:
            allowed = {
                key: self._authority.check(service_context(CHECK_SECONDS), *key)
                for key in {(session.server_id, session.generation) for session in sessions}
            }
        except errors.TryLater:
            self._unanswered += 1
            if self._unanswered < UNANSWERED_CHECKS:
                raise
            allowed = {}
        else:
            self._unanswered = 0
        for session in sessions:
            if not allowed.get((session.server_id, session.generation), False):
                session.cut()

    def _beat(self) -> None:
        self._conductor.heartbeat(service_context(), "nova-novncproxy", self._host)


def build(config: Config, *, transport: Transport | None = None, **_others: Any) -> ConsoleProxyService:
    """Return the console proxy of the configured cell."""
    return ConsoleProxyService(config, transport or Transport(config.cell.name, config.cell.transport_url))


main = command("consoleproxy", "a console proxy", build)

if __name__ == "__main__":
    main()
