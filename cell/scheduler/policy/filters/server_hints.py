"""A server may be asked onto another host than certain servers, or onto a host with one of them.

Source: Nova's DifferentHostFilter and SameHostFilter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cell.scheduler.policy.filters.rule import Context
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.snapshot import Flags, Places, Snapshot


class ServerHintFilter:
    """``servers`` reads the hint; hosts that have one of them pass if ``wanted``, else those that have none."""

    once = True
    on_rebuild = False

    def __init__(self, name: str, servers: Callable[[Request], tuple[str, ...]], *, wanted: bool) -> None:
        self.name, self._servers, self._wanted = name, servers, wanted

    def applies(self, request: Request, context: Context) -> bool:
        return bool(self._servers(request))

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        servers = self._servers(request)
        if not servers:
            return np.ones(len(places), dtype=np.bool_)
        found = np.full(len(snapshot), not self._wanted)
        for server_id in servers:
            found[list(snapshot.hosts_of.get(server_id, ()))] = self._wanted
        return found[places]

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        servers = self._servers(request)
        there = [server_id for server_id in servers if server_id in snapshot.hosted[position]]
        if not servers or bool(there) == self._wanted:
            return None
        return Refusal("has none of the servers asked for" if self._wanted else f"has server {there[0]}")


FILTERS = (
    ServerHintFilter("DifferentHostFilter", lambda request: request.different_host, wanted=False),
    ServerHintFilter("SameHostFilter", lambda request: request.same_host, wanted=True),
)
