"""Reserve for many threads: what gathers while others are under way shares a question and a transaction."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from cell.conductor.placement.claiming import PlacementRequest, Store, place
from cell.conductor.placement.held_servers import hold
from cellcloud.batching import MOST_BYTES
from cellcloud.context import RequestContext
from cellcloud.db.engine import Database
from cellcloud.model import codec
from cellcloud.model.placement import ReserveAnswer
from cellcloud.model.server import ServerSpec
from cellcloud.rpc.scheduler import Scheduler

TOGETHER = 4096  # servers in one question to the scheduler and one transaction; and
LONG = 16  # so many count one for which the scheduler looks at host after host: milliseconds, and a call has its end
LOOKED_AT = ("hw:", "pci_passthrough:", "hw_numa", "hw_cpu", "hw_mem", "hw_pci")
"""Extra specs and image properties of guests with places on NUMA cells or devices begin so."""
AT_ONCE = 2  # such batches: one is ranked while another is stored; and one more
MANY = 1024  # where so many servers wait


class Placer:
    """Reserves for many threads: what gathers while others are under way shares a question and a transaction."""

    def __init__(self, database: Database, scheduler: Scheduler, *, store: Store) -> None:
        self._database = database
        self._scheduler = scheduler
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[tuple[RequestContext, list[PlacementRequest], Future[list[ReserveAnswer]]]] = []
        self._size = 0
        self._leaders = 0

    def reserve(self, context: RequestContext, specs: Sequence[ServerSpec]) -> list[ReserveAnswer]:
        """One answer a spec, in order."""
        return self.place(
            context, [PlacementRequest(spec=spec, request_id=spec.request_id or context.request_id) for spec in specs]
        )

    def place(self, context: RequestContext, asked: list[PlacementRequest]) -> list[ReserveAnswer]:
        """One answer each, in order."""
        future: Future[list[ReserveAnswer]] = Future()
        with self._lock:
            self._waiting.append((context, asked, future))
            self._size += len(asked)
            leads = self._leaders < AT_ONCE + (self._size >= MANY)
            self._leaders += leads
        while leads:
            with self._lock:
                batch = self._take()
                if not batch:
                    self._leaders -= 1
                    break
            self._place(batch)
        return future.result()

    def _take(self) -> list[tuple[RequestContext, list[PlacementRequest], Future[list[ReserveAnswer]]]]:
        count, size = 0, 0
        for _, asked, _ in self._waiting:
            mine = sum(_weight(one.spec) for one in asked)
            if count and size + mine > TOGETHER:
                break
            count, size = count + 1, size + mine
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._size -= sum(len(asked) for _, asked, _ in taken)
        return taken

    def _place(self, batch: list[tuple[RequestContext, list[PlacementRequest], Future[list[ReserveAnswer]]]]) -> None:
        asked = [one for _, some, _ in batch for one in some]
        try:
            context = max((context for context, _, _ in batch), key=lambda each: each.budget)
            answers = place(self._database, self._scheduler, context, asked, store=self._store)
        except BaseException as error:  # noqa: BLE001 -- each waiting thread raises it
            if len(batch) == 1:
                batch[0][2].set_exception(error)
                return
            for one in batch:  # what is wrong with one must not fail the others
                self._place([one])
            return
        for _, some, future in batch:
            future.set_result([answers[one.spec.id] for one in some])


def reserve(
    database: Database,
    scheduler: Scheduler,
    context: RequestContext,
    specs: Sequence[ServerSpec],
    *,
    hold_seconds: float,
) -> list[ReserveAnswer]:
    """One answer a spec, in order."""
    return Placer(database, scheduler, store=hold(hold_seconds)).reserve(context, specs)


def _weight(spec: ServerSpec) -> int:
    """How many of TOGETHER it counts for; as many as make up a message of hints are asked together."""
    if not _takes_long(spec):
        return 1
    return max(LONG, codec.wire_size(spec.scheduler_hints) * TOGETHER // MOST_BYTES)


def _takes_long(spec: ServerSpec) -> bool:
    """Whether the scheduler has no index for such a request."""
    named = spec.scheduler_hints or spec.host
    return bool(named) or any(one.startswith(LOOKED_AT) for one in (*spec.flavor.extra_specs, *spec.image.properties))
