"""Images and hosts that the policy names belong together. Source: Nova's IsolatedHostsFilter."""

from __future__ import annotations

import numpy as np

from cell.scheduler.policy.filters.rule import Context
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.snapshot import Flags, Places, Snapshot
from cellcloud.model.policy import Options


class IsolatedHostsFilter:
    """An isolated image goes to isolated hosts only; others stay away from these, unless the policy lets them."""

    name = "IsolatedHostsFilter"
    once = True
    on_rebuild = True

    def applies(self, request: Request, context: Context) -> bool:
        return bool(context.options.isolated_hosts or context.options.isolated_images)

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        options = context.options
        found = np.full(len(snapshot), _refuse(options, request.shape.image_id, isolated=False) is None)
        verdict = _refuse(options, request.shape.image_id, isolated=True) is None
        for host in options.isolated_hosts:
            found[list(snapshot.positions_of.get(host, ()))] = verdict
        return found[places]

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        isolated = snapshot.states[position].host in context.options.isolated_hosts
        return _refuse(context.options, request.shape.image_id, isolated=isolated)


def _refuse(options: Options, image_id: str | None, *, isolated: bool) -> Refusal | None:
    restricted = options.restrict_isolated_hosts_to_isolated_images
    image_isolated = image_id in options.isolated_images
    if isolated and restricted and not image_isolated:
        return Refusal("is kept for isolated images")
    if image_isolated and not isolated:
        return Refusal("is not among the hosts for isolated images")
    return None


FILTER = IsolatedHostsFilter()
