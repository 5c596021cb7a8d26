"""Reserve for many threads: what gathers while others are under way shares a question and a transaction."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from cell.conductor.placement.claiming import PlacementRequest, Store, place
from cell.conductor.placement.reservation_confirmation import hold
from cellcloud.batching import MOST_BYTES, Batcher
from cellcloud.context import RequestContext
from cellcloud.db.engine import Database
from cellcloud.model import codec
from cellcloud.model.placement_messages import ReserveAnswer
from cellcloud.model.server import ServerSpec
from cellcloud.rpc.scheduler import Scheduler

TOGETHER = 4096  # servers in one question to the scheduler and one transaction; and
LONG = 16  # so many count one for which the scheduler looks at host after host: milliseconds, and a call has its end
LOOKED_AT = ("hw:", "pci_passthrough:", "hw_numa", "hw_cpu", "hw_mem", "hw_pci")
"""Extra specs and image properties of guests with places on NUMA cells or devices begin so."""
AT_ONCE = 2  # such batches: one is ranked while another is stored; and one more
MANY = 1024  # where so many wait

_Call = tuple[RequestContext, list[PlacementRequest]]


class Placer:
    """Reserves for many threads: those that come while others are under way share a question and a transaction."""

    def __init__(self, database: Database, scheduler: Scheduler, *, store: Store) -> None:
        self._place: Batcher[_Call, list[ReserveAnswer]] = Batcher(
            functools.partial(_place_all, database, scheduler, store),
            name="placements",
            weigh=lambda call: sum(_weight(one.spec) for one in call[1]),
            most=TOGETHER,
            leaders=AT_ONCE,
            crowd=MANY,
            linger=0.0,
        )

    def reserve(self, context: RequestContext, specs: Sequence[ServerSpec]) -> list[ReserveAnswer]:
        """One answer a spec, in order."""
        return self.place(
            context, [PlacementRequest(spec=spec, request_id=spec.request_id or context.request_id) for spec in specs]
        )

    def place(self, context: RequestContext, asked: list[PlacementRequest]) -> list[ReserveAnswer]:
        """One answer each, in order."""
        return self._place((context, asked))


def _place_all(
    database: Database, scheduler: Scheduler, store: Store, calls: Sequence[_Call]
) -> list[list[ReserveAnswer]]:
    context = max((context for context, _ in calls), key=lambda each: each.budget)
    asked = [one for _, some in calls for one in some]
    answers = place(database, scheduler, context, asked, store=store)
    return [[answers[one.spec.id] for one in some] for _, some in calls]


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
    """Return how many of TOGETHER it counts for; as many as make up a message of hints are asked together."""
    if not _takes_long(spec):
        return 1
    return max(LONG, codec.wire_size(spec.scheduler_hints) * TOGETHER // MOST_BYTES)


def _takes_long(spec: ServerSpec) -> bool:
    """Return whether the scheduler has no index for such a request."""
    named = spec.scheduler_hints or spec.host
    return bool(named) or any(one.startswith(LOOKED_AT) for one in (*spec.flavor.extra_specs, *spec.image.properties))
