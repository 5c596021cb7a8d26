"""The compute service: takes commands for the guests of its hosts and tells the cell what became of them.

Most often it serves one host. With the fake driver one process stands for many: they share its queue, its threads
and its messages.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from cell.compute.actions import console, guest, moves, questions
from cell.compute.command_executor import CommandExecutor
from cell.compute.driver import Driver
from cell.compute.identity import Identity, Standing
from cell.compute.image_cache import ImageCache
from cell.compute.image_prefetch import ImagePrefetch
from cell.compute.inventory import Inventory
from cell.compute.network_plans import PlanKeeper
from cell.compute.reconcile import Reconciler
from cell.compute.report_queue import ReportQueue
from cell.compute.resume_guests_on_host_boot import BootLog, resume_guests
from cellcloud import errors, log
from cellcloud.config import Config
from cellcloud.context import RequestContext
from cellcloud.model.console import VNC, ConsoleAddress
from cellcloud.model.guest_commands import GuestCommand, GuestEvent
from cellcloud.model.guest_questions import GuestDiagnostics, GuestQuestion
from cellcloud.model.image import Image
from cellcloud.model.network_plan import GivenPlan
from cellcloud.model.observed_guests import GuestDescription, GuestState
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.network_store import NetworkStore
from cellcloud.rpc.transport import Server, Transport
from cellcloud.server_states import PowerState
from cellcloud.service import Loop

LOG = logging.getLogger(__name__)
SHORT_WORK_THREADS = 16
MOST_THREADS = 48
DRAIN_SECONDS = 8.0
RECONCILE_SECONDS = 60.0
LEAST_INTERVAL = 2.0
HOSTS_REPORTED_A_SECOND = 1000
NAMES_RENEWED = 3  # times in the life of the lease on them
UNUSED_IMAGE_SECONDS = 7 * 86400.0
PREFETCH_SECONDS = 2.0  # until an image that is not there yet is asked for again
DETACH_SECONDS = 120.0  # that a guest has to let go of a volume; about what Nova gives it


class ComputeService:
    """Serves the Compute verbs for ``drivers``, host name -> driver, under the server name ``queue``."""

    def __init__(
        self,
        config: Config,
        transport: Transport,
        drivers: Mapping[str, Driver],
        images: ImageCache,
        *,
        queue: str,
        identity: Identity,
        on_stopped: Callable[[], None],
    ) -> None:
        self._on_stopped = on_stopped
        self._identity = identity
        self.name = f"compute-{queue}"
        self._transport = transport
        self._drivers = drivers
        self._images = images
        self._queue = queue
        self._patience = config.compute.shutdown_timeout, config.compute.wait_soft_reboot_seconds
        conductor: Conductor = transport.client(Conductor)
        builds = config.compute.max_concurrent_builds
        self._conductor = conductor
        self._standing = Standing(conductor, list(drivers), identity.open)
        self._report_queue = ReportQueue(conductor, queue)
        self._boots = BootLog(config.state_dir / "cells" / config.cell.name / "boots" / f"{queue}.json")
        self._resumes = config.compute.resume_guests_state_on_host_boot
        self._executor = CommandExecutor(
            self._perform,
            self._refuse,
            threads=min(MOST_THREADS, builds * len(drivers) + SHORT_WORK_THREADS),
            builds_per_host=builds,
        )
        self._prefetch = ImagePrefetch(images, self._executor.run_later)
        self._inventory = Inventory(conductor, drivers, config.compute, zone=config.cell.zone, queue=queue)
        self._reconcilers = [
            Reconciler(host, driver, conductor, is_busy=self._executor.is_busy, report=self._report_queue.post)
            for host, driver in drivers.items()
        ]
        self._plans = PlanKeeper(transport.client(NetworkStore), drivers)
        self._next_reconciler = 0
        between = max(LEAST_INTERVAL, RECONCILE_SECONDS / len(drivers))
        self._reconciled_at_once = math.ceil(len(drivers) * between / RECONCILE_SECONDS)
        self._connected: set[str] = set()
        self._server: Server | None = None
        self._begun = False
        self._start_loop = Loop("begin", 1.0, self._begin)
        self._names_loop = Loop("names", config.cell.service_down_time / NAMES_RENEWED, self._hold_names)
        report_interval = max(config.cell.report_interval, len(drivers) / HOSTS_REPORTED_A_SECOND)
        self._report_loop = Loop("report", report_interval, self._tell)
        self._reconcile_loop = Loop("reconcile", between, self._reconcile_some)
        self._prune_loop = Loop("prune", 3600.0, lambda: images.prune(UNUSED_IMAGE_SECONDS))

    # ---- service -----------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin; work is taken once every host has been compared with the cell's records."""
        self._report_queue.start()
        self._start_loop.start()

    def stop(self) -> None:
        for loop in (self._start_loop, self._names_loop, self._report_loop, self._reconcile_loop, self._prune_loop):
            loop.stop()
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            self._images.close()
            self._executor.close(DRAIN_SECONDS)
        self._report_queue.stop()
        for host in self._connected:
            self._drivers[host].close()
        self._connected.clear()
        self._identity.close()
        self._on_stopped()

    def check(self) -> dict[str, str]:
        if self._server is None:
            return {"start": self._start_loop.last_error or "hosts are being compared with the records"}
        return {
            "name": "ok" if self._standing.holds else self._names_loop.last_error or "the hosts' names are not held",
            "report": self._report_loop.check(),
            "reconcile": self._reconcile_loop.check(),
            "report_queue": self._report_queue.check(),
            "hypervisor": self._inventory.check(),
        }

    # ---- verbs -------------------------------------------------------------------------------------------------
    def apply(self, context: RequestContext, host: str, commands: list[GuestCommand]) -> None:
        for command in commands:
            where = command.host or host
            if where in self._drivers:
                self._executor.submit(where, command)
            else:
                LOG.warning("command for a host that is not served here", extra={"host": where})

    def get_console_output(self, context: RequestContext, host: str, server_id: str, length: int) -> str:
        return console.read_output(self._driver_of(host), server_id, length)

    def ask_guest(
        self, context: RequestContext, host: str, server_id: str, generation: int, question: GuestQuestion
    ) -> GuestDiagnostics | None:
        return questions.answer(self._driver_of(host), server_id, generation, question)

    def cache_images(self, context: RequestContext, host: str, images: list[Image]) -> dict[str, str]:
        self._driver_of(host)
        return self._prefetch.look(host, images, PREFETCH_SECONDS)

    def get_console(
        self, context: RequestContext, host: str, server_id: str, generation: int, protocol: str = VNC
    ) -> ConsoleAddress:
        return console.find_address(self._driver_of(host), server_id, generation, protocol)

    def list_guests(self, context: RequestContext, host: str) -> list[GuestState]:
        return self._driver_of(host).list_guests()

    def describe_guest(self, context: RequestContext, host: str, server_id: str) -> GuestDescription:
        return self._driver_of(host).describe_guest(server_id)

    def compare_guests(self, context: RequestContext, host: str) -> None:
        for reconciler in self._reconcilers:
            if reconciler.host == host:
                self._executor.run_later(functools.partial(self._compare, reconciler))

    def change_plans(
        self, context: RequestContext, hosts: list[str], plans: list[GivenPlan], removed: dict[str, list[str]]
    ) -> None:
        if self._standing.holds:
            self._plans.change(hosts, plans, removed)

    def check_networks(self, context: RequestContext, hosts: list[str]) -> dict[str, list[str]]:
        return {host: self._plans.list_faults(host) for host in hosts if host in self._drivers}

    # ---- work --------------------------------------------------------------------------------------------------
    def _driver_of(self, host: str) -> Driver:
        driver = self._drivers.get(host)
        if driver is None:
            raise errors.NotFound("This compute service does not serve that host.")
        return driver

    def _begin(self) -> None:
        """Begin as a host that comes back: make sure that its name is its own, start the guests again that ran, drop
        what is no longer its own, then take work, then say that it is there."""
        if self._server is not None:
            return
        try:
            for (host, driver), reconciler in zip(self._drivers.items(), self._reconcilers, strict=True):
                self._ensure_standing()
                if host not in self._connected:
                    driver.connect()
                    self._connected.add(host)
                    driver.watch(functools.partial(self._notice, host))
                if self._resumes and self._boots.is_new(host, driver.get_boot_id()):
                    resume_guests(host, driver, self._conductor, may_act=lambda: self._standing.holds)
                if reconciler.has_guests():
                    self._ensure_standing()
                    reconciler.compare()
                self._plans.compare(host)
            self._boots.note({host: driver.get_boot_id() for host, driver in self._drivers.items()})
        except errors.HostRefused as error:
            raise errors.Unreachable(f"{error.message} {error.detail}".strip()) from error
        self._server = self._transport.serve(Compute, self, server=self._queue, threads=8)
        if not self._begun:
            self._begun = True
            for loop in (self._names_loop, self._report_loop, self._reconcile_loop, self._prune_loop):
                loop.start()

    def _ensure_standing(self) -> None:
        """Until the loop renews the lease, work that took long may have outlived it."""
        if not self._standing.holds:
            self._standing.renew()

    def _hold_names(self) -> None:
        """Hold the names of this machine: one that has lost a name to another takes no more work, until it has all its
        names again."""
        if self._server is None:
            return
        try:
            self._standing.renew()
        except errors.HostRefused as error:
            LOG.error("host name lost", extra={"why": error.detail or error.message})
            server, self._server = self._server, None
            server.stop()

    def _tell(self) -> None:
        if self._standing.holds:
            self._inventory.report()

    def _compare(self, reconciler: Reconciler) -> None:
        if self._standing.holds:
            reconciler.compare()

    def _reconcile_some(self) -> None:
        """Reconcile a slice of the hosts, so that each one's turn comes about once a minute."""
        for _ in range(self._reconciled_at_once):
            place = self._next_reconciler
            self._next_reconciler = (place + 1) % len(self._reconcilers)
            self._compare(self._reconcilers[place])
            if self._standing.holds:
                self._plans.compare(self._reconcilers[place].host)

    def _perform(self, host: str, command: GuestCommand) -> None:
        if command.request_id:
            log.request_id.set(command.request_id)
        if not self._standing.holds:
            LOG.warning("command left alone: the host's name is not held", extra={"host": host, "kind": command.kind})
            return  # it is sent again, to whoever holds the name then
        try:
            driver = self._drivers[host]
            outputs = moves.find_offer(driver, command)
            tell = functools.partial(self._tell_progress, host, command)
            state = guest.perform(driver, self._images, command, *self._patience, tell, DETACH_SECONDS)
        except errors.CellcloudError as error:
            self._refuse(host, command, error)
        except OSError as error:
            LOG.exception("command failed", extra={"host": host, "server": command.server_id, "kind": command.kind})
            refused = errors.HostRefused("The host's own files or devices fail it.", detail=f"{error}"[:2000])
            self._refuse(host, command, refused)
        except Exception as error:
            LOG.exception("command failed", extra={"host": host, "server": command.server_id, "kind": command.kind})
            failed = errors.GuestFailed(
                "The host failed to carry out the operation.", detail=f"{type(error).__name__}: {error}"[:2000]
            )
            self._refuse(host, command, failed)
        else:
            self._report_queue.post(_answer(host, command, state.power_state, outputs=outputs))

    def _tell_progress(self, host: str, command: GuestCommand, percent: int) -> None:
        self._report_queue.post(replace(_answer(host, command, PowerState.NOSTATE), progress=percent))

    def _refuse(self, host: str, command: GuestCommand, error: errors.CellcloudError) -> None:
        LOG.warning(
            "command refused",
            extra={"host": host, "server": command.server_id, "kind": command.kind, "why": error.message},
        )
        self._report_queue.post(_answer(host, command, self._power_of(host, command.server_id), error))

    def _power_of(self, host: str, server_id: str) -> int:
        try:
            state = self._drivers[host].find_guest(server_id)
        except errors.CellcloudError:
            return PowerState.NOSTATE
        return state.power_state if state else PowerState.NOSTATE

    def _notice(self, host: str, seen: GuestState) -> None:
        """Tell of a guest that changed by itself. What it is now is read on the pool: the driver's thread may not wait,
        and what it saw may be over by the time anybody hears of it."""

        def report() -> None:
            if self._executor.is_busy(host, seen.server_id) or not self._standing.holds:
                return
            try:
                state = self._drivers[host].find_guest(seen.server_id)
            except errors.CellcloudError as error:
                LOG.warning("guest not looked at", extra={"server": seen.server_id, "why": error.message})
                return
            if state is not None:
                self._report_queue.post(
                    GuestEvent(
                        host=host,
                        server_id=state.server_id,
                        generation=state.generation,
                        power_state=state.power_state,
                    )
                )

        if not self._executor.is_busy(host, seen.server_id):
            self._executor.run_later(report)


def _answer(
    host: str,
    command: GuestCommand,
    power_state: int,
    error: errors.CellcloudError | None = None,
    outputs: dict[str, str] | None = None,
) -> GuestEvent:
    kinds = errors.lineage(error) if error else ("",)
    return GuestEvent(
        host=host,
        server_id=command.server_id,
        generation=command.generation,
        power_state=power_state,
        run_id=command.run_id,
        step=command.step,
        error=kinds[0],
        error_kinds=kinds[1:],
        message=error.message if error else "",
        detail=error.detail if error else "",
        outputs=outputs or {},
    )
