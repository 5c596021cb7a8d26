"""What the conductor's steps reach beyond the cell's database: outside services, and hosts by their queues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cell.conductor.workflow import FoundHost
from cellcloud import errors
from cellcloud.batching import Batcher, portions
from cellcloud.clients.image import ImageClient
from cellcloud.clients.network import NetworkClient
from cellcloud.clients.volume import Connector, VolumeClient
from cellcloud.context import service_context
from cellcloud.db import hosts
from cellcloud.db.engine import Connection, Database
from cellcloud.model import codec
from cellcloud.model.guest_commands import GuestCommand
from cellcloud.model.run import LeasedRun
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.transport import Transport

Place = Callable[[LeasedRun, ServerSpec, Sequence[str]], ServerRecord]
"""Claims another host for a run's server, not one of those."""
PlaceMove = Callable[[LeasedRun, ServerSpec, str, bool], FoundHost]
"""Claims a host for a migration of a run's server; whether its own will do."""
CheckRebuild = Callable[[LeasedRun, ServerSpec, str], None]
"""Asks whether a run's server may be rebuilt to that on its host."""


@dataclass(slots=True)
class Inside:
    """The ``PassiveServices`` inside a transaction: all that they tell is read by its connection."""

    resend_after: float
    max_attempts: int
    _connection: Connection
    _down_time: float

    def is_up(self, host: str) -> bool:
        return hosts.is_up(self._connection, host, down_time=self._down_time)

    def is_fenced(self, host: str) -> bool:
        return hosts.is_fenced(self._connection, host)


class Gateway:
    """The ``RunServices`` of a running conductor."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        networks: NetworkClient,
        *,
        cell: str,
        resend_after: float,
        service_down_time: float,
        max_attempts: int,
        place: Place,
        find_images: Callable[[], ImageClient],
        find_volumes: Callable[[], VolumeClient],
        place_move: PlaceMove,
        check_rebuild: CheckRebuild,
    ) -> None:
        self.networks = networks
        self.cell = cell
        self._find_images = find_images
        self._find_volumes = find_volumes
        self.resend_after = resend_after
        self.max_attempts = max_attempts
        self._place = place
        self._place_move = place_move
        self._check_rebuild = check_rebuild
        self._database = database
        self._transport = transport
        self._down_time = service_down_time
        self._queues: dict[str, str] = {}
        self._computes: dict[str, Compute] = {}
        self._senders: dict[str, Batcher[GuestCommand, None]] = {}
        self._lock = threading.Lock()

    @property
    def images(self) -> ImageClient:
        """The image service, which is looked for when it is first needed."""
        return self._find_images()

    @property
    def volumes(self) -> VolumeClient:
        """The volume service, which is looked for when it is first needed."""
        return self._find_volumes()

    def connector(self, host: str) -> Connector:
        with self._database.read() as connection:
            return hosts.get_connector(connection, host)

    def send(self, command: GuestCommand) -> None:
        """Commands for one compute service that come together share a message."""
        self._sender(command.host)(command)

    def within(self, connection: Connection) -> Inside:
        return Inside(self.resend_after, self.max_attempts, connection, self._down_time)

    def is_up(self, host: str) -> bool:
        with self._database.read() as connection:
            return self.within(connection).is_up(host)

    def is_fenced(self, host: str) -> bool:
        with self._database.read() as connection:
            return self.within(connection).is_fenced(host)

    def find_host(self, run: LeasedRun, spec: ServerSpec, exclude: Sequence[str]) -> ServerRecord:
        return self._place(run, spec, exclude)

    def find_move(self, run: LeasedRun, spec: ServerSpec, migration_id: str, *, may_stay: bool) -> FoundHost:
        return self._place_move(run, spec, migration_id, may_stay)

    def check_rebuild(self, run: LeasedRun, spec: ServerSpec, host: str) -> None:
        self._check_rebuild(run, spec, host)

    def compute(self, host: str) -> Compute:
        """Return the compute service that answers for the host. Raises NotFound."""
        queue = self._queue(host)
        with self._lock:
            if queue not in self._computes:
                self._computes[queue] = self._transport.client(Compute, server=queue)
            return self._computes[queue]

    def _queue(self, host: str) -> str:
        queue = self._queues.get(host)
        if queue is None:
            with self._database.read() as connection:
                self._queues = hosts.list_queues(connection)
            queue = self._queues.get(host)
            if queue is None:
                raise errors.NotFound(f"Compute host {host} could not be found.")
        return queue

    def _sender(self, host: str) -> Batcher[GuestCommand, None]:
        queue, compute = self._queue(host), self.compute(host)

        def send(commands: Sequence[GuestCommand]) -> Sequence[None]:
            for some in portions(commands, codec.wire_size):
                compute.apply(service_context(), host, some)
            return [None] * len(commands)

        with self._lock:
            return self._senders.setdefault(queue, Batcher(send, name="commands"))

    def forget_queues(self) -> None:
        """Hosts may have moved to other compute services."""
        self._queues = {}
