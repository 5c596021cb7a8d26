"""What a cell has to offer, in work that does not grow with its servers: what hosts give is counted where they are
claimed, and the claims are followed by the change log. Between two changes nothing is read twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from cellcloud.db import claims, hosts, runs, scheduler_change_log
from cellcloud.db.engine import Connection, Database
from cellcloud.model.host import Room
from cellcloud.model.placement_messages import CellDigest

PAGE = 500  # entries of the log read at once
RELOAD = 5_000  # entries behind from which counting anew is less work


class Digests:
    """One conductor's. Safe to use from several threads; those that come together share an answer."""

    def __init__(self, database: Database, cell: str) -> None:
        self._database = database
        self._cell = cell
        self._lock = threading.Lock()
        self._sequence = -1
        self._claims = 0
        self._made: CellDigest | None = None

    def get(self) -> CellDigest:
        """Return what the cell can still take: free room per host, joint over the classes. A host is up as the change
        log has it."""
        with self._lock, self._database.read_as_one() as connection:
            newest = scheduler_change_log.get_newest(connection)
            active = runs.count_active(connection)
            if self._made is None or newest != self._sequence:
                self._follow(connection, newest)
                self._made = _summed(self._cell, hosts.list_room(connection), self._claims)
                self._sequence = newest
            made = self._made
        return made if made.running_runs == active else replace(made, running_runs=active)

    def _follow(self, connection: Connection, newest: int) -> None:
        """Bring the number of servers that hold claims up to that change."""
        behind = newest - self._sequence
        if self._sequence < 0 or not 0 <= behind <= RELOAD:
            self._claims = claims.count_own(connection)
            return
        after, change = self._sequence, 0
        while after < newest:
            page = scheduler_change_log.list_after(connection, after, PAGE)
            if page.oldest > after + 1 or not page.entries:  # pruned, or of another history
                self._claims = claims.count_own(connection)
                return
            for entry in page.entries:
                made = entry.changes
                change += sum(made.is_own(one) for one, _, _ in made.claimed)
                change -= sum(made.is_own(one) for one, _, _ in made.released)
            after = page.entries[-1].sequence
        self._claims += change


def _summed(cell: str, rooms: Iterable[Room], held: int) -> CellDigest:
    buckets: Counter[tuple[int, int, int]] = Counter()
    zones: set[str] = set()
    total = up = 0
    for room in rooms:
        total += 1
        zones.add(room.zone)
        if room.usable:
            up += 1
            vcpus, memory, disk = (_down_to_power(room.free.get(name, 0)) for name in ("VCPU", "MEMORY_MB", "DISK_GB"))
            buckets[vcpus, memory, disk] += 1
    return CellDigest(
        cell=cell,
        hosts_total=total,
        hosts_up=up,
        buckets=tuple((*key, count) for key, count in sorted(buckets.items())),
        zones=tuple(sorted(zones)),
        servers=held,
    )


def _down_to_power(amount: int) -> int:
    return 0 if amount <= 0 else 1 << (amount.bit_length() - 1)
