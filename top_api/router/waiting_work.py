"""One look for all cells at what waits for them: network plans that changed, tasks of volumes. The loops that see to it
sleep until they are woken, so that a cloud where nothing happens is quiet."""

from __future__ import annotations

from collections.abc import Callable, Collection

from cellcloud import clock
from cellcloud.db import waiting_work
from cellcloud.db.engine import Database

INTERVAL = 0.3  # seconds between two looks while something happens
IDLE_SECONDS = 0.8  # between two looks when nothing does: a rule holds within a second
BUSY_SECONDS = 5.0  # after something was found, for which more is expected


class WaitingWorkWatch:
    """``wake_plans``: is told whether plans may be others than at the last look. ``wake_volumes``: is told the cells
    with tasks that nobody is at; ``""`` among them is for volumes that have no cell yet."""

    def __init__(
        self,
        database: Database,
        wake_plans: Callable[[bool], None] | None,
        wake_volumes: Callable[[Collection[str]], None] | None,
    ) -> None:
        self._database = database
        self._wake_plans = wake_plans
        self._wake_volumes = wake_volumes
        self._mark: object = None
        self._found_at = self._looked_at = -BUSY_SECONDS

    def look(self) -> None:
        """Look once, unless it is too early for an idle cloud."""
        now = clock.monotonic()
        if now - self._looked_at < IDLE_SECONDS and now - self._found_at > BUSY_SECONDS:
            return
        self._looked_at = now
        with self._database.read() as connection:
            mark, waiting = waiting_work.look(connection)
        if waiting or mark != self._mark:
            self._found_at = now
        if self._wake_plans:
            self._wake_plans(mark != self._mark)
        if self._wake_volumes and waiting:
            self._wake_volumes(waiting)
        self._mark = mark
