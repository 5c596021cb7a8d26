"""Images and hosts that the policy names belong together. Source: Nova's IsolatedHostsFilter."""

from __future__ import annotations

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.scheduling_policy import Options


class IsolatedHostsFilter:
    """An isolated image goes to isolated hosts only; others stay away from these, unless the policy lets them."""

    name = "IsolatedHostsFilter"
    once = True
    on_rebuild = True

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return bool(context.options.isolated_hosts or context.options.isolated_images)

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        options = context.options
        found = np.full(len(table), _refuse(options, request.shape.image_id, isolated=False) is None)
        verdict = _refuse(options, request.shape.image_id, isolated=True) is None
        for host in options.isolated_hosts:
            found[list(table.positions.of(host))] = verdict
        return found[places]

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        isolated = table.states[position].host in context.options.isolated_hosts
        return _refuse(context.options, request.shape.image_id, isolated=isolated)


def _refuse(options: Options, image_id: str | None, *, isolated: bool) -> HostRefusal | None:
    restricted = options.restrict_isolated_hosts_to_isolated_images
    image_isolated = image_id in options.isolated_images
    if isolated and restricted and not image_isolated:
        return HostRefusal("is kept for isolated images")
    if image_isolated and not isolated:
        return HostRefusal("is not among the hosts for isolated images")
    return None


FILTER = IsolatedHostsFilter()
