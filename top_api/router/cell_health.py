"""A cell's health, judged by asking for its digest."""

from __future__ import annotations

from cellcloud import clock, errors, metrics
from cellcloud.context import service_context
from cellcloud.db import cells, intents
from cellcloud.db.engine import Database, retried
from cellcloud.model.placement_messages import CellDigest
from cellcloud.rpc.conductor import Conductor

BUDGET = 2.0  # seconds a healthy cell needs at the very most
MISSES = 2  # looks in a row without an answer until a cell counts as down
STANDSTILL = 10.0  # seconds between two looks after which this process, not the cell, was away


class CellHealthWatch:
    """Looks at one cell."""

    def __init__(self, database: Database, cell: str, conductor: Conductor) -> None:
        self._database = database
        self._cell = cell
        self._conductor = conductor
        self._misses = 0
        self._looked_at = (clock.monotonic(), clock.now())

    def look(self) -> None:
        """Ask once and write down what was seen. After a standstill of its own it begins to count anew."""
        if self._stood_still():
            self._misses = 0
        try:
            digest = self._conductor.get_digest(service_context(BUDGET))
        except errors.CellcloudError as error:
            self._misses += 1
            if self._misses >= MISSES:
                metrics.CELLS.labels(self._cell).set(0)
                _set_health(self._database, self._cell, "down", error.message, None)
        else:
            self._misses = 0
            if digest.cell == self._cell:
                _set_health(self._database, self._cell, "up", "", digest)
                metrics.CELLS.labels(self._cell).set(1)
            else:
                reason = f"its queue is that of cell {digest.cell}"
                _set_health(self._database, self._cell, "down", reason, None)
        self._looked_at = (clock.monotonic(), clock.now())

    def _stood_still(self) -> bool:
        """By either clock: the monotonic one of a machine that was paused from outside stands still with it."""
        monotonic, now = self._looked_at
        return max(clock.monotonic() - monotonic, abs((clock.now() - now).total_seconds())) > STANDSTILL


@retried
def _set_health(database: Database, cell: str, health: str, reason: str, digest: CellDigest | None) -> None:
    """With a cell that is back, what waits for one is free at once."""
    with database.write() as connection:
        before = cells.set_health(connection, cell, health=health, reason=reason, digest=digest)
        if before == "down" and health == "up":
            intents.hasten(connection)
