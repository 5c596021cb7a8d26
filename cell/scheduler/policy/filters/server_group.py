"""Members of a server group stay together, or apart. Source: Nova's ServerGroupAffinityFilter and
ServerGroupAntiAffinityFilter; the soft policies only weigh."""

from __future__ import annotations

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy import group_member_counts
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.server_group import AFFINITY, ANTI_AFFINITY


class AffinityFilter:
    """Hosts that have members, once there are any."""

    name = "ServerGroupAffinityFilter"
    once = False
    on_rebuild = False

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return request.group is not None and request.group.policy == AFFINITY

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        wanted = _with_members(table, request, context)
        if wanted is None:
            return np.ones(len(places), dtype=np.bool_)
        found = np.zeros(len(table), dtype=np.bool_)
        found[list(wanted)] = True
        return found[places]

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        wanted = _with_members(table, request, context)
        if wanted is None or position in wanted:
            return None
        return HostRefusal("has no member of the server group, which is to stay together")


def _with_members(table: HostTable, request: SchedulingRequest, context: FilterContext) -> set[int] | None:
    """Where the other members of a group that stays together are; None where there are none, or none are to be."""
    group = request.group
    if group is None or group.policy != AFFINITY:
        return None
    there = set(group_member_counts.members_at(table, group, but=context.server_id))
    if not group.hosts and not there:
        return None
    return there.union(*(table.positions.of(host) for host in group.hosts))


class AntiAffinityFilter:
    """Hosts with fewer members than the group allows, or with this very server."""

    name = "ServerGroupAntiAffinityFilter"
    once = False
    on_rebuild = False

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return request.group is not None and request.group.policy == ANTI_AFFINITY

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        found = np.ones(len(table), dtype=np.bool_)
        group = request.group
        if group is None or group.policy != ANTI_AFFINITY:
            return found[places]
        for position, count in group_member_counts.members_at(table, group).items():
            found[position] = count < group.max_server_per_host or context.server_id in table.hosted[position]
        if group.max_server_per_host <= 0:
            found[:] = False
        return found[places]

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        group = request.group
        if group is None or group.policy != ANTI_AFFINITY or context.server_id in table.hosted[position]:
            return None
        count = group_member_counts.count_at(table, group, position)
        if count < group.max_server_per_host:
            return None
        return HostRefusal("place for a member of the server group", 1, group.max_server_per_host - count)


FILTERS = (AffinityFilter(), AntiAffinityFilter())
