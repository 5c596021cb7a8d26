"""The console authority: gives tokens out, and says what a token opens."""

from __future__ import annotations

import logging
import threading

from cell.consoleauth.token_generation import console_url, hash_token, make_token, serial_url
from cellcloud import errors
from cellcloud.config import ConsoleConfig
from cellcloud.context import RequestContext
from cellcloud.model.console import (
    SERIAL,
    VNC,
    ConsoleAddress,
    ConsoleBinding,
    ConsoleGrant,
    is_token,
    unavailable,
)
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Transport

LOG = logging.getLogger(__name__)
TYPES = {VNC: "novnc", SERIAL: "serial"}


class ConsoleAuthority:
    """Implements ``cellcloud.rpc.consoleauth.ConsoleAuth``."""

    def __init__(self, console: ConsoleConfig, transport: Transport) -> None:
        conductor: Conductor = transport.client(Conductor)
        self._console = console
        self._conductor = conductor
        self._computes = Computes(transport, conductor)

    def create_console(self, context: RequestContext, server_id: str, protocol: str, type: str) -> ConsoleGrant:
        if TYPES.get(protocol) != type or (protocol == SERIAL and not self._console.serial_enabled):
            raise errors.Invalid(unavailable(type))
        token = make_token()
        ttl = self._console.token_ttl
        binding = self._conductor.save_console_token(context, server_id, hash_token(token), protocol, ttl)
        if protocol == SERIAL:  # only the host knows whether the guest was started with one
            self._address(context, binding)
        url = serial_url(self._console.url, token) if protocol == SERIAL else console_url(self._console.url, token)
        return ConsoleGrant(server_id=server_id, protocol=protocol, type=type, url=url, token=token)

    def find_console(self, context: RequestContext, token: str) -> ConsoleAddress:
        return self._address(context, self._binding(context, token, use=False))

    def redeem(self, context: RequestContext, token: str) -> ConsoleAddress:
        binding = self._binding(context, token, use=True)
        address = self._address(context, binding)
        LOG.info("console opened", extra={"server": binding.server_id, "user": binding.user_id})
        return address

    def _binding(self, context: RequestContext, token: str, *, use: bool) -> ConsoleBinding:
        if not is_token(token):
            raise errors.NotFound("The console token is not valid.")
        return self._conductor.redeem_console_token(context, hash_token(token), use)

    def _address(self, context: RequestContext, binding: ConsoleBinding) -> ConsoleAddress:
        address = self._computes.get_console(context, binding)
        if address.protocol != binding.protocol:
            raise errors.Invalid(unavailable(TYPES[binding.protocol]))
        if address.server_id != binding.server_id or address.generation != binding.generation:
            raise errors.Stale("The server has changed since its console was opened.")
        return address

    def check(self, context: RequestContext, server_id: str, generation: int) -> bool:
        return self._conductor.check_console(context, server_id, generation)


class Computes:
    """Reaches the compute service of a host by the queue that the host reported."""

    def __init__(self, transport: Transport, conductor: Conductor) -> None:
        self._transport = transport
        self._conductor = conductor
        self._lock = threading.Lock()
        self._queues: dict[str, str] = {}
        self._clients: dict[str, Compute] = {}

    def get_console(self, context: RequestContext, binding: ConsoleBinding) -> ConsoleAddress:
        """Ask the host. Raises NotFound, Stale, Conflict, Invalid, Unreachable."""
        host, protocol = binding.host, binding.protocol
        try:
            return self._client(context, host).get_console(
                context, host, binding.server_id, binding.generation, protocol
            )
        except errors.Unreachable:
            with self._lock:
                self._queues.clear()
            raise

    def _client(self, context: RequestContext, host: str) -> Compute:
        if host not in self._queues:
            states = self._conductor.list_host_states(context)
            with self._lock:
                self._queues = {state.host: state.queue or state.host for state in states}
        queue = self._queues.get(host, host)
        with self._lock:
            if queue not in self._clients:
                self._clients[queue] = self._transport.client(Compute, server=queue)
            return self._clients[queue]
