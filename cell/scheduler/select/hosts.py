"""Selecting hosts: no I/O, no clock. The same table, requests, policy and seeds give the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cell.scheduler.policy.compiled_policy import compile_policy
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select.filter_and_weigh import Selection, select_stepwise
from cell.scheduler.select.kernel_index import index_of
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.scheduling_policy import DEFAULT, SchedulingPolicy


def select_hosts(
    table: HostTable,
    request: SchedulingRequest,
    policy: SchedulingPolicy = DEFAULT,
    seed: int = 0,
    servers: Sequence[str] = (),
) -> Selection:
    """Select hosts for all servers of one request, or for none, and note in ``table`` what they take.

    The index of the kernel answers where it can. ``servers``: for whom, if not for those that the request names; a copy
    of it costs as much as the selection. ``seed`` decides where the policy wants chance.
    """
    compiled = compile_policy(policy)
    found = index_of(table, compiled).select(request, seed, servers)
    if found is not None:
        return found
    return select_stepwise(table, replace(request, servers=tuple(servers)) if servers else request, compiled, seed)
