"""Whether the cell's database still tells the history that this conductor has seen."""

from __future__ import annotations

import logging

from cellcloud.db import database_incarnations
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.db.rollback_detection import Marker

LOG = logging.getLogger(__name__)


class DatabaseWatch:
    """Remembers how far the sequences were, and keeps a mark for the process after this one: a database that is behind
    has lost commits, whoever promoted a standby."""

    def __init__(self, database: Database, marker: Marker | None = None) -> None:
        self._database = database
        self._marker = marker
        self._known = ""
        self._feed = self._changes = 0

    def look(self) -> bool:
        """Return True when the database has fallen back; another incarnation of it has begun then."""
        if self._is_shorter():  # first: it is seen where no mark can be kept, too
            return True
        return self._marker is not None and self._marker.look()

    def _is_shorter(self) -> bool:
        with self._database.read() as connection:
            present, *lengths = database_incarnations.find_lengths(connection)
        lost = present == self._known and (lengths[0] < self._feed or lengths[1] < self._changes)
        if lost:
            LOG.error("the database has fallen back", extra={"feed": lengths[0], "known": self._feed})
            self.begin(present, "its sequences were seen further by a conductor")
            return True
        self._known, (self._feed, self._changes) = present, lengths
        return False

    def begin(self, known: str, reason: str) -> str:
        """Begin another incarnation, unless ``known`` is not the present one any more; returns the present one."""

        def leap(connection: Connection) -> str:
            return database_incarnations.begin_in_cell(connection, known, reason).id

        present = transact(self._database, leap)
        LOG.warning("an incarnation of the database", extra={"id": present, "why": reason})
        return present
