"""The scheduler's verbs."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.placement import SelectAnswer, SelectRequest
from cellcloud.rpc.interface import call


class Scheduler(Protocol):
    @call(timeout=8.0)
    def select(self, context: RequestContext, requests: list[SelectRequest], fresh: bool) -> list[SelectAnswer]:
        """Rank hosts for each request, each seeing the room the ones before it take.

        ``fresh``: read the hosts' figures first, because an earlier answer lost its race.
        """
        ...
