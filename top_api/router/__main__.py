"""The router: sweeps the outbox, follows every cell's feed and judges every cell's health."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from cellcloud import config as options
from cellcloud import errors, log, service
from cellcloud.config import Config
from cellcloud.context import service_context
from cellcloud.db import cells as cells_table
from cellcloud.db import rollback_detection, server_index
from cellcloud.db.clock_step_compensation import TOP_TIMES, SteadyClock
from cellcloud.db.engine import Database
from cellcloud.embedded.volume import abandoned
from cellcloud.embedded.volume.delivery import Announce, VolumeDelivery, VolumeHostWatch, place
from cellcloud.embedded.volume.service import VolumeService
from cellcloud.model.external_event import ExternalEvent
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.feed_notification import Router
from cellcloud.rpc.network_store import NetworkStore
from cellcloud.rpc.scheduling_store import SchedulingStore
from cellcloud.rpc.transport import Server, Transport, unique_name
from cellcloud.rpc.volume_store import VolumeStore
from cellcloud.service import Loop
from top_api import network_plan_copies
from top_api.aggregate_copies import CopyKeeper
from top_api.cell_clients import Cells
from top_api.dispatch.outbox_dispatcher import OutboxDispatcher
from top_api.network_plan_copies import PlanCopyKeeper
from top_api.network_plan_documents import PlanDocuments
from top_api.router import waiting_work
from top_api.router.cell_health import CellHealthWatch
from top_api.router.feed_follower import FeedFollower, Nudges
from top_api.router.outbox_sweep import Sweep

LOG = logging.getLogger(__name__)
SWEEP_INTERVAL = 1.0
PRUNE_INTERVAL = 600.0
FIGURES_INTERVAL = 5.0
IMAGES_INTERVAL = 30.0
ABANDONED_INTERVAL = 15.0  # seconds between two looks for what killed processes have begun with volumes
VOLUMES_INTERVAL = 5.0  # seconds between two looks for what volume services are to do, unless woken
VOLUME_HOSTS_INTERVAL = 3.0
ASK_SECONDS = 5.0
CELLS_INTERVAL = 2.0  # seconds until a cell added to the table is noticed


class _Attendance:
    """The loops of one cell. Each has its own thread, so that a sick cell holds up only itself."""

    def __init__(
        self,
        database: Database,
        cell: str,
        transport: Transport,
        config: Config,
        volumes: VolumeService | None,
        documents: PlanDocuments,
        announce: Announce,
    ) -> None:
        self._transport = transport
        conductor = transport.client(Conductor)
        top = config.top
        follower = FeedFollower(database, cell, conductor, deadline=top.intent_deadline, key=top.placements_key)
        self._follow = Loop(f"follow-{cell}", config.top.follow_interval, follower.read)
        self._health = Loop(
            f"health-{cell}", config.top.health_interval, CellHealthWatch(database, cell, conductor).look
        )
        copies = CopyKeeper(database, cell, transport.client(SchedulingStore), top.cell_timeout)
        self._copies = Loop(f"aggregates-{cell}", CELLS_INTERVAL, copies.look)
        self._keeper = PlanCopyKeeper(database, cell, transport.client(NetworkStore), top.cell_timeout, documents)
        self._plans = Loop(f"networks-{cell}", network_plan_copies.ENDPOINTS_SECONDS, self._keeper.look)
        self._listen = Loop(f"listen-{cell}", CELLS_INTERVAL, self._ensure_listening)
        loops = [self._follow, self._health, self._copies, self._listen]
        self._loops = [*loops, self._plans] if config.adapters.network_adapter == "embedded" else loops
        self._volumes: Loop | None = None
        if volumes is not None:
            delivery = VolumeDelivery(volumes, cell, announce)
            watch = VolumeHostWatch(volumes, cell, conductor)
            self._volumes = Loop(f"volumes-{cell}", VOLUMES_INTERVAL, delivery.deliver)
            self._loops.append(self._volumes)
            self._loops.append(Loop(f"volume-hosts-{cell}", VOLUME_HOSTS_INTERVAL, watch.look))
        self._name = unique_name(config.host)
        self._server: Server | None = None

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        for loop in self._loops:
            loop.stop()
        if self._server is not None:
            self._server.stop()

    def wake_plans(self, changed: bool) -> None:
        """Give the cell its plans, where they changed or it is not known to have them."""
        if changed or self._keeper.is_behind:
            self._plans.wake()

    def wake_volumes(self) -> None:
        """Deliver tasks of volumes."""
        if self._volumes is not None:
            self._volumes.wake()

    def _ensure_listening(self) -> None:
        """Serve the cell's nudges; here, because it waits for as long as the cell's queue is away."""
        if self._server is None:
            nudges = Nudges(self._follow.wake)
            self._server = self._transport.serve(Router, nudges, server=self._name)


class RouterService:
    """The loops of the top cell."""

    name = "router"

    def __init__(
        self, config: Config, database: Database, cells: Cells, sweep_images: Callable[[], None] | None = None
    ) -> None:
        self._config = config
        self._database = database
        self._cells = cells
        self._dispatcher = OutboxDispatcher(database, cells, unique_name(config.host), config.top)
        lengths = {
            "intent_lease": config.top.intent_lease,
            "intent_deadline": config.top.intent_deadline,
            "token_seconds": config.identity.token_hours * 3600,
        }
        steady = SteadyClock(database, TOP_TIMES, lengths)
        sweep = Sweep(
            database,
            self._dispatcher,
            lease=config.top.intent_lease,
            deleted_days=config.top.deleted_days,
            keys_days=config.top.keys_days,
            usage_days=config.top.usage_days,
            before_judging=steady.compensate,
        )
        self._marker = rollback_detection.top_marker(database, config.state_dir)
        self._loops = {
            "mark": Loop("mark", rollback_detection.INTERVAL, self._look_back),
            "clock": Loop("clock", 1.0, functools.partial(steady.compensate, 0.9)),  # unless the sweep does
            "sweep": Loop("sweep", SWEEP_INTERVAL, sweep.take_over),
            "asked": Loop("asked", FIGURES_INTERVAL, sweep.forget_asked),
            "terms": Loop("terms", FIGURES_INTERVAL, sweep.renew_terms),
            "figures": Loop("figures", FIGURES_INTERVAL, sweep.measure),
            "purge": Loop("purge", PRUNE_INTERVAL, sweep.purge),
            "prune": Loop("prune", PRUNE_INTERVAL, sweep.prune),
            "cells": Loop("cells", CELLS_INTERVAL, self._attend),
        }
        if sweep_images is not None:
            self._loops["images"] = Loop("images", IMAGES_INTERVAL, sweep_images)
        self._volumes = _volumes(config, database, cells)
        if self._volumes is not None:
            self._loops["volumes"] = Loop("volumes", VOLUMES_INTERVAL, functools.partial(place, self._volumes))
            sweep_volumes = functools.partial(abandoned.sweep, self._volumes, self._ask_servers)
            self._loops["attachments"] = Loop("attachments", ABANDONED_INTERVAL, sweep_volumes)
        self._documents = PlanDocuments(database)
        self._attended: dict[str, _Attendance] = {}
        self._lock = threading.Lock()
        wake_plans = self._wake_plans if config.adapters.network_adapter == "embedded" else None
        wake_volumes = self._wake_volumes if self._volumes is not None else None
        if wake_plans or wake_volumes:
            watch = waiting_work.WaitingWorkWatch(database, wake_plans, wake_volumes)
            self._loops["waiting"] = Loop("waiting", waiting_work.INTERVAL, watch.look)

    def start(self) -> None:
        """Begin; cells are attended to as they are found."""
        try:
            self._look_back()
        except errors.TryLater as error:
            LOG.warning("the database is not compared with its mark", extra={"why": error.message})
        for loop in self._loops.values():
            loop.start()

    def stop(self) -> None:
        """End the loops and finish what is being delivered."""
        for loop in self._loops.values():
            loop.stop()
        with self._lock:
            attended, self._attended = list(self._attended.values()), {}
        with ThreadPoolExecutor(len(attended) or 1) as pool:
            for attendance in attended:
                pool.submit(attendance.stop)
        self._dispatcher.stop()

    def check(self) -> dict[str, str]:
        """Return the router's own parts; a cell that is down is the cell's trouble, and shows in its health."""
        return {name: loop.check() for name, loop in self._loops.items()} | {"deliver": self._dispatcher.check()}

    def _wake_plans(self, changed: bool) -> None:
        with self._lock:
            for attendance in self._attended.values():
                attendance.wake_plans(changed)

    def _wake_volumes(self, cells: Collection[str]) -> None:
        if "" in cells:
            self._loops["volumes"].wake()
        with self._lock:
            for attendance in [self._attended[cell] for cell in cells if cell in self._attended]:
                attendance.wake_volumes()

    def announce(self, server_id: str, volume_id: str) -> None:
        """Tell a server's cell, which may be another than the volume's, that its volume has grown, as Cinder tells
        Compute. Raises TryLater."""
        with self._database.read() as connection:
            cell = server_index.cells_of(connection, [server_id]).get(server_id)
        if cell:
            event = ExternalEvent(server_id=server_id, name="volume-extended", tag=volume_id)
            self._cells.conductor(cell).apply_external_events(service_context(10.0), [event])

    def _ask_servers(self, cell: str, ids: list[str]) -> list[ServerRecord]:
        return self._cells.conductor(cell).get_servers(service_context(ASK_SECONDS), ids)

    def _look_back(self) -> None:
        self._marker.look()

    def _attend(self) -> None:
        """Attend to cells that are new in the table."""
        with self._database.read() as connection:
            names = [cell.name for cell in cells_table.list_cells(connection)]
        for name in names:
            with self._lock:
                if name in self._attended:
                    continue
                try:
                    transport = self._cells.transport(name)
                except errors.CellcloudError as error:
                    LOG.error("a cell's queue cannot be used", extra={"cell": name, "why": error.message})
                    continue
                self._attended[name] = _Attendance(
                    self._database, name, transport, self._config, self._volumes, self._documents, self.announce
                )
                self._attended[name].start()
            LOG.info("a cell is attended to", extra={"cell": name})


def _volumes(config: Config, database: Database, cells: Cells) -> VolumeService | None:
    """Return the embedded volume service, where volumes are with it."""
    if (config.identity.adapter, config.adapters.volume_adapter) != ("embedded", "embedded"):
        return None
    from cellcloud.embedded.images import EmbeddedImages

    images = EmbeddedImages.of(database, config.state_dir / "images", config.adapters)

    def reach(cell: str, host: str) -> VolumeStore:
        return cells.transport(cell).client(VolumeStore, server=host)

    return VolumeService(database=database, images=images, reach=functools.cache(reach))


def build(
    config: Config, database: Database | None = None, transports: dict[str, Transport] | None = None
) -> RouterService:
    """Wire the router; the embedded profile hands in its database and its cells' transports."""
    database = database or Database(config.top.connection, timeout=config.database_timeout)
    return RouterService(config, database, Cells(database, config.top, transports), _image_sweeper(config, database))


def _image_sweeper(config: Config, database: Database) -> Callable[[], None] | None:
    """Return what takes back what uploads and imports of killed processes left, where images are embedded."""
    if config.adapters.image_adapter != "embedded":
        return None
    from cellcloud.embedded.images import EmbeddedImages

    directory = config.state_dir / "images"

    def sweep() -> None:
        if directory.is_dir():  # else they are on another machine, whose uploads cannot be told from dead ones here
            EmbeddedImages.of(database, directory, config.adapters).sweep()

    return sweep


@click.command()
@click.option("--config", "path", type=click.Path(dir_okay=False), required=True, help="The top cell's option file.")
@click.option("--health-socket", type=click.Path(dir_okay=False, path_type=Path), help="Where to answer /health.")
def main(path: str, health_socket: Path | None) -> None:
    """Run the router until SIGTERM."""
    config = options.load(path)
    log.set_up("router", level=config.log_level)
    service.run(build(config), health_socket=health_socket)


if __name__ == "__main__":
    main()
