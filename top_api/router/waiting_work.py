"""One look for all cells at what waits for them: network plans that changed, tasks of volumes. The loops that see to it
sleep until they are woken, so that a cloud where nothing happens is quiet."""

from __future__ import annotations

from collections.abc import Callable, Collection

from cellcloud import clock
from cellcloud.db import waiting_work
from cellcloud.db.engine import Database

INTERVAL = 0.25  # seconds between two looks: a rule holds within a second
LEISURE = 20.0  # times as long as a look took nothing is looked at: a twentieth of a processor at most


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
        self._rests_until = -LEISURE

    def look(self) -> None:
        """Look once, unless it is too early after a look that took long."""
        began = clock.monotonic()
        if began < self._rests_until:
            return
        with self._database.read() as connection:
            mark, waiting = waiting_work.look(connection)
        ended = clock.monotonic()
        self._rests_until = ended + LEISURE * (ended - began)
        if self._wake_plans:
            self._wake_plans(mark != self._mark)
        if self._wake_volumes and waiting:
            self._wake_volumes(waiting)
        self._mark = mark
