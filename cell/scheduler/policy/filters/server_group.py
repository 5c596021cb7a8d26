"""Members of a server group stay together, or apart. Source: Nova's ServerGroupAffinityFilter and
ServerGroupAntiAffinityFilter; the soft policies only weigh."""

from __future__ import annotations

import numpy as np

from cell.scheduler.policy import server_groups
from cell.scheduler.policy.filters.rule import Context
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.snapshot import Flags, Places, Snapshot


class AffinityFilter:
    """Hosts that have members, once there are any."""

    name = "ServerGroupAffinityFilter"
    once = False
    on_rebuild = False

    def applies(self, request: Request, context: Context) -> bool:
        return request.group is not None and request.group.policy == server_groups.AFFINITY

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        group = request.group
        if group is None or group.policy != server_groups.AFFINITY or not group.hosts:
            return np.ones(len(places), dtype=np.bool_)
        found = np.zeros(len(snapshot), dtype=np.bool_)
        for host in group.hosts:
            found[list(snapshot.positions_of.get(host, ()))] = True
        return found[places]

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        group = request.group
        if group is None or group.policy != server_groups.AFFINITY or not group.hosts:
            return None
        there = snapshot.states[position].host in group.hosts
        return None if there else Refusal("has no member of the server group, which is to stay together")


class AntiAffinityFilter:
    """Hosts with fewer members than the group allows, or with this very server."""

    name = "ServerGroupAntiAffinityFilter"
    once = False
    on_rebuild = False

    def applies(self, request: Request, context: Context) -> bool:
        return request.group is not None and request.group.policy == server_groups.ANTI_AFFINITY

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        found = np.ones(len(snapshot), dtype=np.bool_)
        group = request.group
        if group is None or group.policy != server_groups.ANTI_AFFINITY:
            return found[places]
        for position, count in server_groups.members_at(snapshot, group).items():
            found[position] = count < group.max_server_per_host or context.server_id in snapshot.hosted[position]
        if group.max_server_per_host <= 0:
            found[:] = False
        return found[places]

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        group = request.group
        if (
            group is None
            or group.policy != server_groups.ANTI_AFFINITY
            or context.server_id in snapshot.hosted[position]
        ):
            return None
        count = server_groups.count_at(snapshot, group, position)
        if count < group.max_server_per_host:
            return None
        return Refusal("place for a member of the server group", 1, group.max_server_per_host - count)


FILTERS = (AffinityFilter(), AntiAffinityFilter())
