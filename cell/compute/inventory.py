"""What a host offers, told to the cell at start and then again and again: registration and heartbeat in one."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping

from cell.compute.driver import Driver
from cellcloud import clock, errors
from cellcloud.config import ComputeConfig
from cellcloud.context import service_context
from cellcloud.model.host import HostReport
from cellcloud.rpc.conductor import Conductor

LOG = logging.getLogger(__name__)
BATCH = 250


class Inventory:
    """``queue``: the server name this process answers to. Hosts whose hypervisor does not answer go mute."""

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
        self._mute: set[str] = set()

    def report(self) -> None:
        """Tell the cell of every host that answers. Raises TryLater when no conductor does."""
        made = (self._describe(host, driver) for host, driver in self._drivers.items())
        reports = (report for report in made if report is not None)
        while batch := list(itertools.islice(reports, BATCH)):
            self._conductor.report_hosts(service_context(), batch)

    def check(self) -> str:
        """ "ok", or which hosts do not answer."""
        mute = sorted(self._mute)
        return "ok" if not mute else f"no answer from {', '.join(mute[:5])}" + (" and others" if mute[5:] else "")

    def _describe(self, host: str, driver: Driver) -> HostReport | None:
        try:
            facts = driver.get_facts()
        except errors.CellcloudError as error:
            if host not in self._mute:
                LOG.error("host does not answer", extra={"host": host, "why": error.message, "detail": error.detail})
            self._mute.add(host)
            return None
        self._mute.discard(host)
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
