"""Choosing hosts: no I/O, no clock. The same columns, requests, policy and seeds give the same answers."""

from __future__ import annotations

from collections.abc import Sequence

from cell.scheduler.policy.plan import plan_of
from cell.scheduler.request import request as requests_
from cell.scheduler.request.request import Request
from cell.scheduler.select import indexed
from cell.scheduler.select.choice import Choice
from cell.scheduler.state.snapshot import Snapshot
from cellcloud import errors
from cellcloud.model import hints
from cellcloud.model.placement import SelectAnswer, SelectRequest
from cellcloud.model.policy import DEFAULT, Policy


def select(snapshot: Snapshot, requests: Sequence[SelectRequest], policy: Policy = DEFAULT) -> list[SelectAnswer]:
    """Rank hosts for each request. The best one's room is taken from ``snapshot`` before the next request looks.

    A malformed request gets an answer that says so, and harms no other.
    """
    return [_answer(snapshot, request, policy) for request in requests]


def decide(
    snapshot: Snapshot, request: Request, policy: Policy = DEFAULT, seed: int = 0, servers: Sequence[str] = ()
) -> Choice:
    """Hosts for all servers of one request (or for those given instead), or for none. What they take is noted in
    ``snapshot``."""
    return indexed.decide(snapshot, request, plan_of(policy), seed, servers)


def _answer(snapshot: Snapshot, asked: SelectRequest, policy: Policy) -> SelectAnswer:
    try:
        hints.check_obeyed(asked.spec.scheduler_hints, policy.filters)
        request = requests_.from_select(asked, policy.options.pci_alias)
        requests_.check_obeyed(request.shape, policy.filters)
        choice = decide(snapshot, request, policy, asked.seed)
    except errors.Invalid as error:
        return SelectAnswer(server_id=asked.server_id, malformed=error.message)
    if not choice.hosts:
        return SelectAnswer(server_id=asked.server_id, refused=choice.refused)
    return SelectAnswer(
        server_id=asked.server_id, hosts=tuple(snapshot.states[place].host for place in choice.hosts[0])
    )
