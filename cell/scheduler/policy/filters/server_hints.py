"""A server may be asked onto another host than certain servers, or onto a host with one of them.

Source: Nova's DifferentHostFilter and SameHostFilter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_table import HostTable


class ServerHintFilter:
    """``servers`` reads the hint; hosts that have one of them pass if ``wanted``, else those that have none."""

    once = True
    on_rebuild = False

    def __init__(self, name: str, servers: Callable[[SchedulingRequest], tuple[str, ...]], *, wanted: bool) -> None:
        self.name, self._servers, self._wanted = name, servers, wanted

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return bool(self._servers(request))

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        servers = self._servers(request)
        if not servers:
            return np.ones(len(places), dtype=np.bool_)
        found = np.full(len(table), not self._wanted)
        for server_id in servers:
            found[list(table.hosts_of.get(server_id, ()))] = self._wanted
        return found[places]

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        servers = self._servers(request)
        there = [server_id for server_id in servers if server_id in table.hosted[position]]
        if not servers or bool(there) == self._wanted:
            return None
        return HostRefusal("has none of the servers asked for" if self._wanted else f"has server {there[0]}")


FILTERS = (
    ServerHintFilter("DifferentHostFilter", lambda request: request.different_host, wanted=False),
    ServerHintFilter("SameHostFilter", lambda request: request.same_host, wanted=True),
)
