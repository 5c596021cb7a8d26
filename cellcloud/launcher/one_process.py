"""The embedded profile: every service of every cell in this one process."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from cellcloud import clock, errors, log
from cellcloud.launcher import log_rotation
from cellcloud.launcher.garbage_collection import paused_garbage_collection
from cellcloud.launcher.process_units import Unit, in_order
from cellcloud.launcher.start_progress import StartProgress
from cellcloud.service import Service, serve_health

LOG = logging.getLogger(__name__)
STARTERS = 4  # units started at once


class OneProcess:
    """Carries out a plan in threads until told to stop. As a service its health is that of all its parts."""

    name = "embedded"

    def __init__(self, units: Iterable[Unit], *, health: Path, log_file: Path, report: Callable[[str], None]) -> None:
        self._units = in_order(units)
        self._health = health
        self._log_file = log_file
        self._report = StartProgress(report)
        self._starting = threading.Lock()  # libraries that services share set themselves up at their first use
        self._services: list[Service] = []

    def run(self, *, on_ready: Callable[[], None]) -> str:
        """Stay until told to stop; answers with why the start failed, or with nothing. Main thread only.

        Signals are caught, not blocked: the daemons of hosts would inherit that and never hear that they shall read
        their files again.
        """
        told = threading.Event()
        signal.signal(signal.SIGHUP, lambda *_: None)  # there is nothing to read again
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.set())
        self._log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.set_up(self.name, file=str(self._log_file))
        try:
            with paused_garbage_collection():
                self.start()
            end_health = serve_health(self, self._health)
            on_ready()
            while not told.wait(log_rotation.EVERY):
                self._rotate_logs()
            end_health()
        except errors.CellcloudError as error:
            LOG.error("start failed", exc_info=True)
            return f"{error.message} Its log is {self._log_file}"
        finally:
            self.stop()
        return ""

    def _rotate_logs(self) -> None:
        try:
            log_rotation.rotate(self._log_file.parent)
        except OSError as error:
            LOG.warning("logs are not rotated", extra={"why": str(error)})

    def start(self) -> None:
        """Do the tasks and start the services, each behind what it needs, several at once."""
        graph = TopologicalSorter({unit.name: unit.after for unit in self._units})
        graph.prepare()
        known = {unit.name: unit for unit in self._units}
        under_way: dict[Future[None], str] = {}
        with ThreadPoolExecutor(STARTERS, thread_name_prefix="start") as pool:
            while graph.is_active():
                under_way |= {pool.submit(self._start_unit, known[name]): name for name in graph.get_ready()}
                done, _ = wait(under_way, 1.0, return_when=FIRST_COMPLETED)
                self._report.remind(under_way.values())
                for future in done:
                    name = under_way.pop(future)
                    if error := future.exception():
                        pool.shutdown(cancel_futures=True)
                        raise errors.Misconfigured(f"{name} failed: {_told(error)}") from error
                    graph.done(name)

    def stop(self) -> None:
        """End the services in reverse order."""
        while self._services:
            self._services.pop().stop()

    def check(self) -> dict[str, str]:
        """Every part of every service."""
        return {
            f"{service.name}: {part}": word
            for service in list(self._services)
            for part, word in service.check().items()
        }

    def _start_unit(self, unit: Unit) -> None:
        began = clock.monotonic()
        if unit.build is None:
            unit.run()
            self._report(f"{unit.name} done ({clock.monotonic() - began:.1f} s)")
            return
        with self._starting:
            service: Service = unit.build()
            service.start()
            self._services.append(service)
        self._report(f"{unit.name} started ({clock.monotonic() - began:.1f} s)")


def _told(error: BaseException) -> str:
    """All that is known of what went wrong: this is for the operator."""
    return f"{error} {error.detail}".rstrip() if isinstance(error, errors.CellcloudError) else str(error)
