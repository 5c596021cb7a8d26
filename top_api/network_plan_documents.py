"""Make documents once for all cells: several want those of a network that spans them at about the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

from cellcloud import clock
from cellcloud.db.engine import Database
from cellcloud.model.network_plan import GivenPlan
from top_api.network_plans import Needs, make_plans

KEPT_SECONDS = 1.0


class PlanDocuments:
    """Safe to use from several threads: who wants what another one makes waits for it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._made: dict[str, tuple[float, GivenPlan]] = {}  # key -> when, for no hosts

    def get(self, needs: Needs, keys: Iterable[str]) -> list[GivenPlan]:
        """Return the documents of these keys that there are, of the versions needed or later ones, for the hosts that
        need them."""
        wanted = list(keys)
        with self._lock:
            now = clock.monotonic()
            self._made = {key: kept for key, kept in self._made.items() if now - kept[0] < KEPT_SECONDS}
            lacking = [key for key in wanted if key not in self._made or self._made[key][1].version < needs[key][0]]
            if lacking:
                with self._database.read_as_one() as connection:
                    made = make_plans(connection, lacking)
                self._made |= {one.key: (now, one) for one in made}
                gone = set(lacking) - {one.key for one in made}
                wanted = [key for key in wanted if key not in gone]
            found = [self._made[key][1] for key in wanted]
        return [replace(one, hosts=needs[one.key][1]) for one in found]
