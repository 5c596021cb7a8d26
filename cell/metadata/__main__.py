"""Wires the metadata service. Start one with ``python -m cell.metadata --config FILE``."""

from __future__ import annotations

import threading
from typing import Any

import waitress

from cell.metadata.app import MOST_READ, create_app
from cell.metadata.lookup import Gatekeeper, Servers
from cellcloud import log
from cellcloud.config import Config
from cellcloud.context import RequestContext, service_context
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Transport
from cellcloud.service import Loop, command

THREADS = 8
FIND_SECONDS = 4.0


class MetadataService:
    """The application in a server of its own, and its heartbeat."""

    name = "metadata"

    def __init__(self, config: Config, transport: Transport) -> None:
        self._config = config
        conductor: Conductor = transport.client(Conductor)
        self._conductor = conductor
        self._servers = Servers(self._find)
        self.application = create_app(Gatekeeper(config.metadata.secret), self._servers)
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._heartbeat_loop = Loop("heartbeat", config.cell.report_interval, self._beat)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.effective_port) if self._server else 0

    def start(self) -> None:
        self._server = waitress.create_server(
            self.application,
            host=self._config.metadata.bind_host,
            port=self._config.metadata.bind_port,
            threads=THREADS,
            ident=None,
            channel_timeout=20,
            max_request_body_size=MOST_READ + 1,
            max_request_header_size=16384,
        )
        self._thread = threading.Thread(target=self._server.run, name=self.name, daemon=True)
        self._thread.start()
        self._heartbeat_loop.start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            server.task_dispatcher.shutdown(timeout=5)
        self._heartbeat_loop.stop()

    def check(self) -> dict[str, str]:
        alive = self._thread is not None and self._thread.is_alive()
        return {"http": "ok" if alive else "not serving"}

    def _find(self, host: str, server_id: str, posted_password: str) -> ServerRecord | None:
        context = RequestContext(budget=FIND_SECONDS, is_admin=True)
        log.request_id.set(context.request_id)
        return self._conductor.find_server_on(context, host, server_id, posted_password)

    def _beat(self) -> None:
        self._conductor.heartbeat(service_context(), "nova-metadata", self._config.host)


def build(config: Config, *, transport: Transport | None = None, **_others: Any) -> MetadataService:
    """Return the metadata service of the configured cell. Raises Misconfigured when it has no secret."""
    return MetadataService(config, transport or Transport(config.cell.name, config.cell.transport_url))


main = command("metadata", "a metadata service", build)

if __name__ == "__main__":
    main()
