"""What the hosts have to tell the cell: kept until a conductor has taken it, in order for each guest.

Kept in memory only: after a restart the conductor sends its unanswered commands again, and the guests are compared
with the records.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter, deque

from cellcloud import errors, metrics
from cellcloud.batching import portions
from cellcloud.context import service_context
from cellcloud.model import codec
from cellcloud.model.guest_commands import GuestEvent
from cellcloud.rpc.conductor import Conductor
from cellcloud.service import Loop

LOG = logging.getLogger(__name__)
BATCH = 200
RETRY_SECONDS = 0.5
TRIES = 5
LAST_SECONDS = 2.0


class ReportQueue:
    """Everything that waits goes in one message. An event that a conductor cannot digest is given up after a while:
    its command will be repeated."""

    def __init__(self, conductor: Conductor, host: str = "") -> None:
        self._conductor = conductor
        self._lock = threading.Lock()
        self._waiting: deque[GuestEvent] = deque()
        self._tries: Counter[int] = Counter()
        metrics.REPORTS.labels(host).set_function(lambda: float(len(self._waiting)))
        self._loop = Loop("report_queue", RETRY_SECONDS, self.deliver)

    def start(self) -> None:
        """Begin to deliver."""
        self._loop.start()

    def stop(self) -> None:
        """Try once more to deliver what is left."""
        self._loop.stop()
        try:
            while self.deliver(LAST_SECONDS):
                continue
        except errors.TryLater as error:
            LOG.warning("events not delivered", extra={"count": len(self._waiting), "why": error.message})

    def check(self) -> str:
        """ "ok", or why events wait."""
        return self._loop.check()

    def post(self, event: GuestEvent) -> None:
        """Take an event; returns at once."""
        with self._lock:
            self._waiting.append(event)
        self._loop.wake()

    def deliver(self, seconds: float = 10.0) -> bool:
        """Send what waits; True when there is more. Raises TryLater when no conductor answers."""
        with self._lock:
            batch = next(portions(list(itertools.islice(self._waiting, BATCH)), codec.wire_size), [])
        if not batch:
            return False
        try:
            self._conductor.report_events(service_context(seconds), batch)
        except errors.TryLater:
            raise
        except errors.CellcloudError:
            return self._deliver_singly(batch)
        return self._forget(batch)

    def _deliver_singly(self, batch: list[GuestEvent]) -> bool:
        """Find out on which event of the batch a conductor choked, and keep those behind it of the same guest."""
        done: list[GuestEvent] = []
        held: set[str] = set()
        for event in batch:
            if event.server_id in held:
                continue
            try:
                self._conductor.report_events(service_context(), [event])
            except errors.TryLater:
                break
            except errors.CellcloudError as error:
                self._tries[id(event)] += 1
                if self._tries[id(event)] < TRIES:
                    held.add(event.server_id)
                    continue
                LOG.error("event given up", extra={"server": event.server_id, "why": error.message})
            done.append(event)
        more = self._forget(done)
        if held:
            raise errors.Busy("A conductor cannot take an event.", detail=", ".join(sorted(held))[:200])
        return more

    def _forget(self, done: list[GuestEvent]) -> bool:
        gone = {id(event) for event in done}
        with self._lock:
            self._waiting = deque(event for event in self._waiting if id(event) not in gone)
            for key in gone:
                del self._tries[key]
            return bool(self._waiting)
