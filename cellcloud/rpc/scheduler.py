"""The scheduler's verbs."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.decision import RankAnswer, RankBatch
from cellcloud.model.placement import SelectAnswer, SelectRequest
from cellcloud.rpc.interface import call, cast


class Scheduler(Protocol):
    @call(timeout=8.0)
    def select(self, context: RequestContext, requests: list[SelectRequest], fresh: bool) -> list[SelectAnswer]:
        """Rank hosts for each request, each seeing the room the ones before it take.

        ``fresh``: read the hosts' figures first, because an earlier answer lost its race.
        """
        ...

    @call(timeout=8.0)
    def rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
        """Rank hosts for many servers, best first; the best one's room counts as taken until the change log says
        what became of it. Nobody is refused on figures that were read before the call."""
        ...

    @cast(fanout=True)
    def log_grew(self, context: RequestContext, newest: int) -> None:
        """The change log has entries up to ``newest``: something that idle schedulers should know soon."""
        ...
