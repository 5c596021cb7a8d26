"""What a host offers, told to the cell at start and then again and again: registration and heartbeat in one."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence

from cell.compute.driver import Driver
from cellcloud import clock, errors
from cellcloud.batching import portions
from cellcloud.config import ComputeConfig
from cellcloud.context import service_context
from cellcloud.model import codec
from cellcloud.model.host import HostReport
from cellcloud.rpc.conductor import Conductor

LOG = logging.getLogger(__name__)
BATCH = 250
NO_ANSWER, NO_REPORT = "does not answer", "says what is no report"


class Inventory:
    """``queue``: the server name this process answers to.

    A host whose hypervisor does not answer, or says what a report cannot hold, is not heard; the others are. Those not
    heard last time are reported one by one, so that what is wrong with one is told of that one.
    """

    def __init__(
        self,
        conductor: Conductor,
        drivers: Mapping[str, Driver],
        config: ComputeConfig,
        *,
        zone: str,
        queue: str,
    ) -> None:
        self._conductor = conductor
        self._drivers = drivers
        self._config = config
        self._zone = zone
        self._queue = queue
        self._started_at = clock.now().isoformat()
        self._unheard: dict[str, str] = {}

    def report(self) -> None:
        """Tell the cell of every host that can be told of. Raises TryLater when no conductor answers."""
        made = (self._describe(host, driver) for host, driver in self._drivers.items())
        reports = (report for report in made if report is not None)
        while batch := list(itertools.islice(reports, BATCH)):
            doubtful = [report for report in batch if report.host in self._unheard]
            for some in portions([report for report in batch if report.host not in self._unheard], _size):
                self._tell(some)
            for report in doubtful:
                self._tell([report])

    def check(self) -> str:
        """ "ok", or which hosts are not heard, and why."""
        unheard = [f"{host} {why}" for host, why in sorted(self._unheard.items())]
        return "ok" if not unheard else "; ".join(unheard[:5]) + ("; and others" if unheard[5:] else "")

    def _tell(self, batch: Sequence[HostReport]) -> None:
        try:
            if batch:
                self._conductor.report_hosts(service_context(), list(batch))
        except (errors.Invalid, TypeError) as error:  # not of a report's form, or nothing that can be written down
            if len(batch) == 1:
                detail = error.detail if isinstance(error, errors.Invalid) else str(error)
                self._leave_out(batch[0].host, f"{NO_REPORT}: {detail}")
            else:
                for report in batch:
                    self._tell([report])
        else:
            for report in batch:
                self._unheard.pop(report.host, None)

    def _leave_out(self, host: str, why: str, detail: str = "") -> None:
        if self._unheard.get(host) != why:
            LOG.error("host is not heard", extra={"host": host, "why": why, "detail": detail})
        self._unheard[host] = why

    def _describe(self, host: str, driver: Driver) -> HostReport | None:
        try:
            facts = driver.get_facts()
        except errors.CellcloudError as error:
            self._leave_out(host, NO_ANSWER, f"{error.message} {error.detail}")
            return None
        return HostReport(
            host=host,
            facts=facts,
            zone=self._zone,
            cpu_ratio=self._config.cpu_allocation_ratio,
            memory_ratio=self._config.ram_allocation_ratio,
            disk_ratio=self._config.disk_allocation_ratio,
            started_at=self._started_at,
            queue=self._queue,
        )


def _size(report: HostReport) -> int:
    """Bytes in a message; 0 for what cannot be written down, which shows when it is told."""
    try:
        return codec.wire_size(report)
    except (TypeError, ValueError):
        return 0
