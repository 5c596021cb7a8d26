"""Reads the cell's hosts through the conductor: the only I/O of choosing a host."""

from __future__ import annotations

import threading

from cell.scheduler import snapshot
from cell.scheduler.snapshot import Snapshot
from cellcloud import clock, errors
from cellcloud.context import RequestContext, service_context
from cellcloud.rpc.conductor import Conductor

IDLE_SECONDS = 30.0
IDLE_INTERVAL = 10.0


class Hosts:
    """The newest columns. They are shared by every request until the next read, so that choices add up."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self._reading = threading.Lock()
        self._newest: Snapshot | None = None
        self._read_at = float("-inf")
        self._asked_at = float("-inf")

    def newest(self, context: RequestContext, *, max_age: float) -> Snapshot:
        """Columns whose reading began at most ``max_age`` seconds ago; those who wait share one reading.

        When no conductor answers: older ones, but for a ``max_age`` of 0; else raises Unreachable.
        """
        self._asked_at = begun = clock.monotonic()
        with self._reading:
            newest = self._newest
            if newest is not None and self._read_at >= begun - max_age:
                return newest
            try:
                return self._read(context)
            except errors.TryLater:
                if newest is None or not max_age:
                    raise
                return newest

    def keep_fresh(self) -> None:
        """Read again; seldom while nobody asks."""
        now = clock.monotonic()
        if now - self._asked_at < IDLE_SECONDS or now - self._read_at > IDLE_INTERVAL:
            with self._reading:
                self._read(service_context())

    def _read(self, context: RequestContext) -> Snapshot:
        begun = clock.monotonic()
        newest = snapshot.build(self._conductor.list_host_states(context))
        self._newest, self._read_at = newest, begun
        return newest
