"""Choosing hosts: no I/O, no clock. The same columns, requests, policy and seeds give the same answers."""

from __future__ import annotations

from collections.abc import Sequence

from cell.scheduler.policy.compiled_policy import compile_policy
from cell.scheduler.request import scheduling_request as requests_
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select import kernel_index
from cell.scheduler.select.filter_and_weigh import Selection
from cell.scheduler.state.host_table import HostTable
from cellcloud import errors
from cellcloud.model import hints
from cellcloud.model.placement import SelectAnswer, SelectRequest
from cellcloud.model.policy import DEFAULT, Policy


def select(table: HostTable, requests: Sequence[SelectRequest], policy: Policy = DEFAULT) -> list[SelectAnswer]:
    """Rank hosts for each request. The best one's room is taken from ``table`` before the next request looks.

    A malformed request gets an answer that says so, and harms no other.
    """
    return [_answer(table, request, policy) for request in requests]


def select_hosts(
    table: HostTable, request: SchedulingRequest, policy: Policy = DEFAULT, seed: int = 0, servers: Sequence[str] = ()
) -> Selection:
    """Hosts for all servers of one request (or for those given instead), or for none. What they take is noted in
    ``table``."""
    return kernel_index.select_hosts(table, request, compile_policy(policy), seed, servers)


def _answer(table: HostTable, asked: SelectRequest, policy: Policy) -> SelectAnswer:
    try:
        hints.check_obeyed(asked.spec.scheduler_hints, policy.filters)
        request = requests_.from_select(asked, policy.options.pci_alias)
        requests_.check_obeyed(request.shape, policy.filters)
        selection = select_hosts(table, request, policy, asked.seed)
    except errors.Invalid as error:
        return SelectAnswer(server_id=asked.server_id, malformed=error.message)
    if not selection.hosts:
        return SelectAnswer(server_id=asked.server_id, refused=selection.refused)
    return SelectAnswer(
        server_id=asked.server_id, hosts=tuple(table.states[place].host for place in selection.hosts[0])
    )
