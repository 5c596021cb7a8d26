"""Following a cell: its feed, read from a cursor, into the index; and a resync when the cursor fell off the feed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from cellcloud import clock
from cellcloud.context import RequestContext, service_context
from cellcloud.db import cells, index, intents
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor

LOG = logging.getLogger(__name__)
PAGE = 200  # entries of the feed, or records, in one message
VERSIONS = 2000  # (id, version) pairs in one message
GAP = 0.05  # seconds between two reads, so that the changes of a busy cell share transactions
BUDGET = 10.0  # seconds for one message


class Follower:
    """Follows one cell. Several may follow the same one: copies are ordered by version, the cursor moves once."""

    def __init__(self, database: Database, cell: str, conductor: Conductor, *, deadline: float = 300.0) -> None:
        self._database = database
        self._deadline = deadline  # seconds that a server given up by the cell has to find another
        self._cell = cell
        self._conductor = conductor
        self._not_before = clock.monotonic()

    def read(self) -> bool:
        """Take in one page; True when there is more to read. Raises Unreachable."""
        clock.sleep(max(0.0, self._not_before - clock.monotonic()))
        self._not_before = clock.monotonic() + GAP
        with self._database.read() as connection:
            cursor = cells.get_cell(connection, self._cell).feed_cursor
        page = self._conductor.list_feed(_context(), cursor, PAGE)
        if cursor > page.newest or cursor + 1 < page.oldest:
            LOG.warning("the feed no longer has what comes next", extra={"cell": self._cell, "cursor": cursor})
            self._resync()
            _move(self._database, self._cell, cursor, page.newest)
            return True
        if not page.entries:
            return False
        last = max(entry.sequence for entry in page.entries)
        records = [entry.record for entry in page.entries]
        _take_in(self._database, self._cell, records, self._deadline, cursor, last)
        return last < page.newest

    def _resync(self) -> None:
        """Compare (id, version) pairs, a range of ids at a time, and fetch what differs."""
        after = ""
        while True:
            theirs = dict(self._conductor.list_versions(_context(), after, VERSIONS))
            until = max(theirs) if len(theirs) == VERSIONS else None
            with self._database.read() as connection:
                ours = dict(index.list_versions(connection, self._cell, after, until))
            ids = sorted(theirs.keys() | ours.keys())
            for page in _pages([i for i in ids if theirs.get(i, -1) != ours.get(i, -1)]):
                records = self._conductor.get_servers(_context(), page)
                _take_in_compared(self._database, self._cell, page, records, self._deadline)
            if until is None:
                return
            after = until


class Nudges:
    """What a cell may say on its queue: answers the Router's verbs by waking the follower."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def feed_grew(self, context: RequestContext, newest: int) -> None:
        self._wake()


def _context() -> RequestContext:
    return service_context(BUDGET)


def _pages(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), PAGE):
        yield ids[start : start + PAGE]


def _newest(cell: str, records: Iterable[ServerRecord]) -> list[ServerRecord]:
    """One record a server, the newest; none of servers that the cell only holds or held."""
    newest: dict[str, ServerRecord] = {}
    for record in records:
        if record.held or record.generation == 0:
            continue
        known = newest.get(record.id)
        if known is None or known.version < record.version:
            newest[record.id] = record
    return [replace(record, cell=cell) for record in newest.values()]


def _store(connection: Connection, cell: str, records: Sequence[ServerRecord], deadline: float) -> None:
    """Servers that the cell has given up go back to wait for another; of the others the copies are kept."""
    newest = _newest(cell, records)
    for record in newest:
        if record.given_up:
            intents.take_back(connection, record, deadline=deadline)
    copies = [record for record in newest if not record.given_up]
    intents.find_placed(connection, copies, deadline=deadline)
    index.upsert(connection, copies)


@retried
def _take_in(
    database: Database, cell: str, records: Sequence[ServerRecord], deadline: float, before: int, after: int
) -> None:
    with database.write() as connection:
        _store(connection, cell, records, deadline)
        cells.move_cursor(connection, cell, before=before, after=after)


@retried
def _take_in_compared(
    database: Database, cell: str, asked: Sequence[str], records: Sequence[ServerRecord], deadline: float
) -> None:
    """Take in records, and forget servers the cell does not know, unless they are still on their way to it."""
    with database.write() as connection:
        _store(connection, cell, records, deadline)
        unknown = set(asked) - {record.id for record in records}
        index.mark_deleted(connection, sorted(unknown - intents.list_unsettled(connection, unknown)))


@retried
def _move(database: Database, cell: str, before: int, after: int) -> bool:
    with database.write() as connection:
        return cells.move_cursor(connection, cell, before=before, after=after)
