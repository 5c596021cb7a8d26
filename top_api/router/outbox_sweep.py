"""The sweep: takes over intents whose dispatcher died or gave them back, and forgets those long done."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cellcloud import metrics
from cellcloud.db import intents, retention, server_index, user_data
from cellcloud.db.engine import Database, retried
from top_api.dispatch.outbox_dispatcher import MOST, OutboxDispatcher

DAY = 86400.0
ASKED_SECONDS = 60.0  # after which no cell takes up what it was asked for

LOG = logging.getLogger(__name__)


class Sweep:
    """``take_over`` and ``prune`` are the bodies of two loops. A lease lasts ``lease`` seconds."""

    def __init__(
        self,
        database: Database,
        dispatcher: OutboxDispatcher,
        *,
        lease: float,
        deleted_days: float = 30.0,
        keys_days: float = 30.0,
        usage_days: float = 400.0,
        before_judging: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_judging = before_judging
        self._days = {"deleted_days": deleted_days, "keys_days": keys_days, "usage_days": usage_days}
        self._database = database
        self._dispatcher = dispatcher
        self._lease = lease

    def take_over(self) -> bool:
        """Lease what is free and deliver it; True when more may be waiting."""
        self._before_judging()
        ids = _begin_leases(self._database, self._dispatcher.owner, self._lease)
        self._dispatcher.deliver(ids)
        return len(ids) == MOST

    def forget_asked(self) -> None:
        """Count servers for what they are, whose cells were asked for a resize and have begun none."""
        _forget_asked(self._database)

    def renew_terms(self) -> bool:
        """Let servers be found by what an older service has written of them; True when more may be left."""
        return _renew_terms(self._database) == server_index.CHUNK

    def measure(self) -> None:
        """Set the figures of what no cell has settled."""
        with self._database.read() as connection:
            found = intents.measure(connection)
        for kind, (count, age) in found.items():
            metrics.INTENTS.labels(kind).set(count)
            metrics.INTENT_AGE.labels(kind).set(age)

    def purge(self) -> bool:
        """Forget what is over for longer than it is kept; True when there may be more."""
        gone = {table: count for table, count in retention.purge_top(self._database, **self._days).items() if count}
        if gone:
            LOG.info("old rows forgotten", extra={"rows": gone})
        return max(gone.values(), default=0) >= retention.AT_ONCE

    def prune(self) -> bool:
        """Forget intents finished more than a day ago, and user data of no server; True when more may be left."""
        return _prune(self._database) > 0


@retried
def _begin_leases(database: Database, owner: str, seconds: float) -> list[str]:
    with database.read() as connection:
        free = intents.list_free(connection, MOST)
    if not free:
        return []
    with database.write() as connection:
        return intents.begin_leases(connection, free, owner, seconds=seconds)


@retried
def _forget_asked(database: Database) -> None:
    with database.read() as connection:
        ids = server_index.list_asked(connection, ASKED_SECONDS)
    if ids:
        with database.write() as connection:
            server_index.forget_asked(connection, ids)


@retried
def _renew_terms(database: Database) -> int:
    with database.read() as connection:
        if not server_index.are_terms_stale(connection):
            return 0
    with database.write() as connection:
        return server_index.renew_terms(connection)


@retried
def _prune(database: Database) -> int:
    with database.write() as connection:
        texts = retention.note("user_data", user_data.prune(connection, user_data.TOP, seconds=DAY))
        return retention.note("intents", intents.prune(connection, seconds=DAY)) + texts
