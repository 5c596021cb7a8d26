"""Following a cell: its feed, read from a cursor, into the index; and a resync when the cursor fell off the feed.

A cell's database may fall back, to a backup or to a standby that lacked the last commits. That shows in its
incarnation, in a feed that ends before the cursor, or in another entry where the cursor stands, which is read again
each time. From then on the index shows what the cell has, whatever was newer before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cellcloud import clock, metrics
from cellcloud.batching import in_full
from cellcloud.context import RequestContext, service_context
from cellcloud.db import cells, intents, port_rollback_recovery, server_index
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model.cell import Cell, FeedEntry, FeedPage
from cellcloud.model.cell_assignment_hmac import Proofs
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor
from top_api.user_data_recovery import fetch_user_data

LOG = logging.getLogger(__name__)
PAGE = 200  # entries of the feed, or records, in one message
VERSIONS = 2000  # (id, version) pairs in one message
GAP = 0.05  # seconds between two reads, so that the changes of a busy cell share transactions
END = 1 << 62  # behind every entry
BUDGET = 10.0  # seconds for one message


class FeedFollower:
    """Follows one cell. Several may follow the same one: copies are ordered by version, the cursor moves once."""

    def __init__(
        self, database: Database, cell: str, conductor: Conductor, *, deadline: float = 300.0, key: str = ""
    ) -> None:
        """``key``: of the top's placements."""
        self._database = database
        self._terms = Terms(deadline=deadline, proofs=Proofs(key))
        self._cell = cell
        self._conductor = conductor
        self._not_before = clock.monotonic()

    def read(self) -> bool:
        """Take in one page; True when there is more to read. Raises Unreachable."""
        clock.sleep(max(0.0, self._not_before - clock.monotonic()))
        self._not_before = clock.monotonic() + GAP
        with self._database.read() as connection:
            known, present = cells.get_followed(connection, self._cell)
        cursor = known.feed_cursor
        page = self._conductor.list_feed(_context(), max(0, cursor - 1), PAGE + 1)
        metrics.FEED_LAG.labels(self._cell).set(max(0, page.newest - cursor))
        changed = "" not in (known.incarnation, page.incarnation) and known.incarnation != page.incarnation
        if changed or _differs(known, page):
            self._start_over(page, changed=changed)
            return True
        if cursor + 1 < page.oldest:
            LOG.warning("the feed no longer has what comes next", extra={"cell": self._cell, "cursor": cursor})
            self._resync()
            _move(self._database, self._cell, page)
            return True
        entries = [entry for entry in page.entries if entry.sequence > cursor]
        if not entries:
            if known.incarnation != page.incarnation:
                _move(self._database, self._cell, replace(page, newest=cursor), mark=known.feed_mark)
            if present and known.compared != present:
                self._compare(present)
            return False
        last = max(entries, key=lambda entry: entry.sequence)
        records = [entry.record for entry in entries]
        self._fetch_user_data(records)
        _take_in(self._database, self._cell, records, self._terms, cursor, last, page.incarnation)
        return last.sequence < page.newest

    def _start_over(self, page: FeedPage, *, changed: bool) -> None:
        """Take the cell's truth for the newest. ``changed``: the cell knows that it has fallen back."""
        LOG.error("the cell's database was put back", extra={"cell": self._cell, "known": changed})
        if not changed:
            try:
                self._conductor.begin_incarnation(_context(), page.incarnation, "its feed was seen further by the top")
            except Exception:  # an older conductor's, perhaps: what the cell has is the truth all the same
                LOG.exception("no incarnation could be begun", extra={"cell": self._cell})
        page = self._conductor.list_feed(_context(), END, 1)
        self._resync(force=True)
        _move(self._database, self._cell, page)

    def _compare(self, present: str) -> None:
        """After the top's own database fell back, and what the feed still has was read: compare all, and give servers
        back the ports that were lost with it. Addresses of servers that turn out to be gone may be those of servers in
        any cell, one that was compared before too."""
        self._resync()
        _release_ports(self._database)
        with self._database.read() as connection:
            names = [cell.name for cell in cells.list_cells(connection)]
        for name in names:
            after: str | None = ""
            while after is not None:
                after = _store_ports(self._database, name, after)
        _note_compared(self._database, self._cell, present)

    def _resync(self, *, force: bool = False) -> None:
        """Compare (id, version) pairs, a range of ids at a time, and fetch what differs; with ``force`` everything."""
        after = ""
        while True:
            theirs = dict(self._conductor.list_versions(_context(), after, VERSIONS))
            until = max(theirs) if len(theirs) == VERSIONS else None
            with self._database.read() as connection:
                ours = dict(server_index.list_versions(connection, self._cell, after, until))
            ids = sorted(theirs.keys() | ours.keys())
            for page in _pages([i for i in ids if force or theirs.get(i, -1) != ours.get(i, -1)]):
                records = in_full(self._get, page, key_of=str, answers=lambda record: record.id)
                self._fetch_user_data(records)
                _take_in_compared(self._database, self._cell, page, records, self._terms, force=force)
            if until is None:
                return
            after = until

    def _fetch_user_data(self, records: Sequence[ServerRecord]) -> None:
        fetch_user_data(self._database, self._conductor, _context(), records)

    def _get(self, ids: list[str]) -> list[ServerRecord]:
        return self._conductor.get_servers(_context(), ids, partly=True)


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


def _differs(known: Cell, page: FeedPage) -> bool:
    """Return whether the feed is not the one that was followed."""
    if known.feed_cursor > page.newest:
        return True
    at_cursor = [_mark_of(entry) for entry in page.entries if entry.sequence == known.feed_cursor]
    return bool(known.feed_mark and at_cursor) and known.feed_mark not in at_cursor


def _mark_of(entry: FeedEntry) -> str:
    """Return what tells an entry from another in its place."""
    changed = entry.record.updated_at
    return f"{entry.record.id} {entry.record.version} {changed.isoformat() if changed else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """``deadline``: seconds that a server given up by the cell has to find another. ``proofs``: what the top knows its
    placements by when it knows nothing else of them."""

    deadline: float
    proofs: Proofs


def _store(
    connection: Connection, cell: str, records: Sequence[ServerRecord], terms: Terms, *, force: bool = False
) -> None:
    """Servers that the cell has given up go back to wait for another; of the others the copies are kept. What a cell
    tells of servers that were never placed there is left out."""
    deadline = terms.deadline
    told = _newest(cell, records)
    known = server_index.cells_of(connection, [record.id for record in told])
    newest = [record for record in told if known.get(record.id) == cell or terms.proofs.holds(record.spec, cell)]
    if len(newest) < len(told):
        ours = {record.id for record in newest}
        strangers = [record.id for record in told if record.id not in ours]
        LOG.warning("a cell tells of servers that were not placed there", extra={"cell": cell, "servers": strangers})
    for record in newest:
        if record.given_up:
            intents.take_back(connection, record, deadline=deadline)
    copies = [record for record in newest if not record.given_up]
    intents.find_placed(connection, copies, deadline=deadline)
    server_index.upsert(connection, copies, force=force, adopt=True)


@retried
def _take_in(
    database: Database,
    cell: str,
    records: Sequence[ServerRecord],
    terms: Terms,
    before: int,
    last: FeedEntry,
    incarnation: str,
) -> None:
    with database.write() as connection:
        _store(connection, cell, records, terms)
        mark = _mark_of(last)
        cells.move_cursor(connection, cell, before=before, after=last.sequence, mark=mark, incarnation=incarnation)


@retried
def _take_in_compared(
    database: Database,
    cell: str,
    asked: Sequence[str],
    records: Sequence[ServerRecord],
    terms: Terms,
    *,
    force: bool,
) -> None:
    """Take in records, and forget servers the cell does not know, unless they are still on their way to it. With
    ``force`` they may have been made since the state to which it was put back: they are shown as lost."""
    with database.write() as connection:
        _store(connection, cell, records, terms, force=force)
        unknown = set(asked) - {record.id for record in records}
        unknown -= intents.list_unsettled(connection, unknown)
        if force:
            server_index.mark_lost(connection, sorted(unknown), cell)
        else:
            server_index.mark_deleted(connection, sorted(unknown))


@retried
def _release_ports(database: Database) -> None:
    with database.write() as connection:
        for server_id in port_rollback_recovery.release_left(connection):
            LOG.warning("ports of a server that is gone were released", extra={"server": server_id})


@retried
def _store_ports(database: Database, cell: str, after: str) -> str | None:
    """Store the ports of a page of the cell's servers; returns the last one's id, None after the last page."""
    with database.write() as connection:
        records = server_index.list_in_cell(connection, cell, after, PAGE)
        for port_id in port_rollback_recovery.store_again(connection, records):
            LOG.error("a server's port cannot be stored again", extra={"cell": cell, "port": port_id})
        return records[-1].id if len(records) == PAGE else None


@retried
def _note_compared(database: Database, cell: str, incarnation: str) -> None:
    with database.write() as connection:
        cells.note_compared(connection, cell, incarnation)


@retried
def _move(database: Database, cell: str, page: FeedPage, *, mark: str = "") -> None:
    with database.write() as connection:
        cells.move_cursor(connection, cell, after=page.newest, mark=mark, incarnation=page.incarnation)
