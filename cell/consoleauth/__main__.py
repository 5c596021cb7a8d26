"""Wires the console authority. Start one with ``cellcloud-consoleauth --config FILE``."""

from __future__ import annotations

from typing import Any

from cell.consoleauth.rpc_endpoint import ConsoleAuthority
from cellcloud.config import Config
from cellcloud.context import service_context
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.consoleauth import ConsoleAuth
from cellcloud.rpc.transport import Server, Transport, unique_name
from cellcloud.service import Loop, command


class ConsoleAuthService:
    """The console authority with its queue and heartbeat."""

    name = "consoleauth"

    def __init__(self, config: Config, transport: Transport) -> None:
        self._transport = transport
        self._host = config.host
        conductor: Conductor = transport.client(Conductor)
        self._conductor = conductor
        self._authority = ConsoleAuthority(config.console, transport)
        self._heartbeat_loop = Loop("heartbeat", config.cell.report_interval, self._beat)
        self._server: Server | None = None

    def start(self) -> None:
        self._server = self._transport.serve(ConsoleAuth, self._authority, server=unique_name(self._host), threads=8)
        self._heartbeat_loop.start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        self._heartbeat_loop.stop()

    def check(self) -> dict[str, str]:
        return {"heartbeat": self._heartbeat_loop.check()}

    def _beat(self) -> None:
        self._conductor.heartbeat(service_context(), "nova-consoleauth", self._host)


def build(config: Config, *, transport: Transport | None = None, **_others: Any) -> ConsoleAuthService:
    """Return the console authority of the configured cell."""
    return ConsoleAuthService(config, transport or Transport(config.cell.name, config.cell.transport_url))


main = command("consoleauth", "a console authority", build)

if __name__ == "__main__":
    main()
