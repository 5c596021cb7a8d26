"""Wires a conductor. Start one with ``cellcloud-conductor --config FILE``."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from cell.conductor.placement import rebuild, relocation
from cell.conductor.rpc_endpoint import ConductorService
from cell.conductor.runs.executor import RunExecutor
from cell.conductor.step_services import Gateway
from cellcloud import errors
from cellcloud.clients.image import ImageClient
from cellcloud.clients.network import NetworkClient
from cellcloud.clients.volume import VolumeClient
from cellcloud.config import Config
from cellcloud.context import service_context
from cellcloud.db import cell_identity as owners
from cellcloud.db import rollback_detection
from cellcloud.db.clock_step_compensation import CELL_TIMES, SteadyClock
from cellcloud.db.engine import Database, transact
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.feed_notification import Router
from cellcloud.rpc.network_store import NetworkStore
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore
from cellcloud.rpc.transport import Server, Transport, unique_name
from cellcloud.service import Loop, command

LOG = logging.getLogger(__name__)
PRUNE_INTERVAL = 30.0
PURGE_INTERVAL = 60.0
FIGURES_INTERVAL = 5.0
CONFIRM_INTERVAL = 10.0


class ConductorProcess:
    """A conductor with its queue, executor and loops."""

    name = "conductor"

    def __init__(
        self,
        config: Config,
        transport: Transport,
        database: Database,
        networks: NetworkClient,
        find_images: Callable[[], ImageClient],
        find_volumes: Callable[[], VolumeClient],
    ) -> None:
        cell = config.cell
        self._owner = unique_name(config.host)
        self._host = config.host
        self._cell = cell.name
        self._database = database
        self._transport = transport
        scheduler = transport.client(Scheduler)
        gateway = Gateway(
            database,
            transport,
            networks,
            cell=cell.name,
            resend_after=cell.resend_after,
            service_down_time=cell.service_down_time,
            max_attempts=cell.max_attempts,
            place=functools.partial(relocation.place_elsewhere, database, scheduler),
            find_images=find_images,
            find_volumes=find_volumes,
            place_move=functools.partial(
                relocation.find_move, database, scheduler, same_host=cell.allow_resize_to_same_host
            ),
            check_rebuild=functools.partial(rebuild.check_rebuild, database, scheduler),
        )
        lengths = {name: getattr(cell, name) for name in ("hold_seconds", "run_lease", "service_down_time")}
        steady = SteadyClock(database, CELL_TIMES, lengths)
        self.executor = RunExecutor(
            database,
            gateway,
            owner=self._owner,
            lease=cell.run_lease,
            threads=cell.engine_threads,
            before_judging=steady.compensate,
        )
        self.service = ConductorService(
            cell,
            database,
            scheduler,
            gateway,
            self.executor,
            transport.client(Router),
            before_judging=steady.compensate,
            reclaim_seconds=config.reclaim_instance_interval,
            marker=rollback_detection.cell_marker(database, config.state_dir, cell.name),
        )
        self._loops = [
            Loop("sweep", 5.0, self.service.sweep),
            Loop("prune", PRUNE_INTERVAL, self.service.prune),
            Loop("purge", PURGE_INTERVAL, self.service.purge),
            Loop("figures", FIGURES_INTERVAL, self.service.measure),
            Loop("judge", 1.0, self.service.judge),
            Loop("confirm", CONFIRM_INTERVAL, self.service.confirm_resizes),
            Loop("offload", 1.0, self.service.offload_shelved),
            Loop("clock", 1.0, functools.partial(steady.compensate, 0.9)),  # unless the judging does
            Loop("watch", rollback_detection.INTERVAL, self.service.watch),
            Loop("heartbeat", cell.report_interval, self._beat),
            self.service.nudger,
            self.service.teller,
            self.service.cacher,
        ]
        self._servers: list[Server] = []

    def start(self) -> None:
        """Serve the queue and move runs. Raises Misconfigured when the database is another cell's."""
        self._check_owner()
        self._look_back()
        self._servers = [
            self._transport.serve(Conductor, self.service, server=self._owner),
            self._transport.serve(SchedulingStore, self.service.scheduling_store, server=self._owner, threads=4),
            self._transport.serve(NetworkStore, self.service.network_store, server=self._owner, threads=2),
        ]
        self.executor.start()
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        """Take no new calls, finish the steps at hand."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.stop()
        for loop in self._loops:
            loop.stop()
        self.executor.stop()

    def check(self) -> dict[str, str]:
        """Database and loops."""
        parts = {loop.name: loop.check() for loop in (*self._loops, self.executor.loop)}
        try:
            with self._database.read() as connection:
                connection.exec_driver_sql("SELECT 1")
            parts["database"] = "ok"
        except errors.CellcloudError as error:
            parts["database"] = error.message
        return parts

    def _check_owner(self) -> None:
        try:
            owner = transact(self._database, lambda connection: owners.ensure(connection, self._cell))
        except errors.TryLater as error:
            LOG.warning("the database is not asked whose it is", extra={"why": error.message})
            return
        if owner != self._cell:
            raise errors.Misconfigured(f"The database is that of cell {owner}: cell {self._cell} needs one of its own.")

    def _look_back(self) -> None:
        """Notice that the database has fallen back before anything of it is told."""
        try:
            self.service.watch()
        except errors.TryLater as error:
            LOG.warning("the database is not compared with its mark", extra={"why": error.message})

    def _beat(self) -> None:
        self.service.heartbeat(service_context(5.0), "nova-conductor", self._host)


def make_networks(config: Config) -> NetworkClient:
    """Return the network service this cell was configured for."""
    if config.adapters.network_adapter != "neutron":
        raise errors.Misconfigured(
            "A conductor in a process of its own needs a network service: set adapters.network_adapter to neutron."
        )
    from cellcloud.clients.neutron import NeutronClient

    return NeutronClient.from_config(config)


def make_images(config: Config) -> ImageClient:
    """Return the image service that the configuration names."""
    from cellcloud.clients.glance import GlanceClient

    return GlanceClient.from_config(config)


def make_volumes(config: Config) -> VolumeClient:
    """Return the volume service of the service account's catalog."""
    from cellcloud.clients.cinder import CinderClient

    return CinderClient.from_config(config)


def build(
    config: Config,
    *,
    transport: Transport | None = None,
    database: Database | None = None,
    networks: NetworkClient | None = None,
    images: ImageClient | None = None,
    volumes: VolumeClient | None = None,
    **_others: Any,
) -> ConductorProcess:
    """Return a conductor of the configured cell; what is not given is made from the configuration."""
    return ConductorProcess(
        config,
        transport or Transport(config.cell.name, config.cell.transport_url),
        database or Database(config.cell.connection, timeout=config.database_timeout),
        networks or make_networks(config),
        functools.cache(lambda: images or make_images(config)),
        functools.cache(lambda: volumes or make_volumes(config)),
    )


main = command("conductor", "a conductor", build)

if __name__ == "__main__":
    main()
