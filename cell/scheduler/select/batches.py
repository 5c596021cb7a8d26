"""Answers a batch of servers from a state: what it was chosen from, who goes where, and what the shadow would say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from cell.scheduler.policy import group_member_counts
from cell.scheduler.request import scheduling_request as requests
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select.filter_and_weigh import Selection
from cell.scheduler.select.hosts import select_hosts
from cell.scheduler.state.host_table import HostTable
from cell.scheduler.state.scheduler_state import Pending, SchedulerState, policy_of
from cellcloud import errors
from cellcloud.model import hints
from cellcloud.model.allocation import Allocation
from cellcloud.model.decision import Move, RankAnswer, RankBatch, Shape
from cellcloud.model.no_valid_host_message import RefusedGroup
from cellcloud.model.placement_messages import Destination
from cellcloud.model.scheduling_policy import SchedulingPolicy

ReasonsOf = Callable[[HostTable, SchedulingRequest, SchedulingPolicy], tuple[RefusedGroup, ...]]
"""Why no host fits a request: what explains is handed in, so that what selects does not depend on it."""


def _no_reasons(_table: HostTable, _request: SchedulingRequest, _policy: SchedulingPolicy) -> tuple[RefusedGroup, ...]:
    return ()


@dataclass(slots=True)
class _Answer:
    """An answer under way: tables of what many servers share, and the numbers of each."""

    places: dict[int, int] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)
    ranked: list[tuple[int, ...]] = field(default_factory=list)
    refused: list[dict[str, int]] = field(default_factory=list)
    reasons: list[tuple[RefusedGroup, ...]] = field(default_factory=list)
    why: list[int] = field(default_factory=list)
    holdings: list[Allocation] = field(default_factory=list)
    takes: list[int] = field(default_factory=list)
    shadowed: dict[int, str] = field(default_factory=dict)
    malformed: dict[int, str] = field(default_factory=dict)
    chosen: dict[int, tuple[str, Pending]] = field(default_factory=dict)


def answer_batch(
    state: SchedulerState, batch: RankBatch, number: int, *, now: float, reasons_of: ReasonsOf = _no_reasons
) -> RankAnswer:
    """Rank hosts for each server. The best one's room is pending in the state, under the batch's number."""
    for claim_id, _, _ in batch.servers:
        state.drop(claim_id)
    basis = state.basis()
    answer = select_batch(state, batch, reasons_of)
    state.note(number, answer.chosen, now=now, count=sum(1 for places in answer.ranked if places))
    return RankAnswer(
        batch=number,
        basis=basis,
        hosts=tuple(answer.hosts),
        zones=tuple(answer.zones),
        ranked=tuple(answer.ranked),
        refused=tuple(answer.refused),
        reasons=tuple(answer.reasons),
        why=tuple(answer.why),
        shadowed=answer.shadowed,
        malformed=answer.malformed,
        holdings=tuple(answer.holdings),
        takes=tuple(answer.takes),
    )


def prepare(batch: RankBatch, policy: SchedulingPolicy) -> None:
    """Read what the shapes of a batch say before anybody has to wait for it: what is read, and what is refused, is
    remembered, and found again by ``answer_batch``."""
    for shape in batch.shapes:
        with suppress(errors.Invalid):
            request_of(shape, policy)


def undo(state: SchedulerState, batch: RankBatch) -> None:
    """Give up all that a batch chose."""
    for claim_id, _, _ in batch.servers:
        state.drop(claim_id)


def select_batch(state: SchedulerState, batch: RankBatch, reasons_of: ReasonsOf = _no_reasons) -> _Answer:
    """Select hosts for each server from the state's table, pending for nobody yet."""
    answer = _Answer()
    shadow = None if state.shadow is None else policy_of(state.shadow)
    kinds = [_Kind(shape, state.policy, reasons_of) for shape in batch.shapes]
    for members in _groups(batch):
        excluded = tuple(dict.fromkeys(host for one in members for host in batch.exclude.get(one[0], ())))
        _select_together(state, answer, kinds[members[0][1]], members, excluded, batch.moves, shadow)
    return answer


class _Kind:
    """A shape of the batch, its request made ready once. ``malformed``: what is wrong with it."""

    def __init__(self, shape: Shape, policy: SchedulingPolicy, reasons_of: ReasonsOf) -> None:
        self._reasons_of = reasons_of
        self.resources = shape.resources
        self.malformed = ""
        self.request: SchedulingRequest | None = None
        self._reasons: tuple[dict[str, int], tuple[RefusedGroup, ...]] | None = None
        try:
            self.request = request_of(shape, policy)
        except errors.Invalid as error:
            self.malformed = error.message

    def reasons(
        self, table: HostTable, request: SchedulingRequest, policy: SchedulingPolicy, refused: dict[str, int]
    ) -> tuple[RefusedGroup, ...]:
        """Return why no host fits; worked out once for servers that are refused alike."""
        if self._reasons is None or self._reasons[0] != refused:
            self._reasons = (refused, self._reasons_of(table, request, policy))
        return self._reasons[1]


def _groups(batch: RankBatch) -> Iterator[Sequence[tuple[str, int, int]]]:
    first = 0
    for size in batch.together or (1,) * len(batch.servers):
        yield batch.servers[first : first + size]
        first += size


def _select_together(
    state: SchedulerState,
    answer: _Answer,
    kind: _Kind,
    members: Sequence[tuple[str, int, int]],
    excluded: tuple[str, ...],
    moves: Mapping[str, Move],
    shadow: SchedulingPolicy | None,
) -> None:
    """Select hosts for the servers of one request; when not all fit, for as many as do."""
    table = state.table
    if kind.request is None:
        for _ in members:
            answer.malformed[len(answer.ranked)] = kind.malformed
            _refuse(answer, {}, ())
        return
    servers = [one[0] for one in members]
    move = moves.get(servers[0])
    request = asked_for(kind.request, move, excluded, table)
    placed = table.claims.positions_of
    known = any(map(placed, servers)) if moves else any(map(table.hosts_of.get, servers)) and any(map(placed, servers))
    alone = not moves or len(members) == 1 or not any(one in moves for one in servers)
    selection = _decide(state, answer, request, servers, members[0][2], shadow) if alone and not known else Selection()
    if selection.hosts:
        _accept(table, answer, servers, selection.hosts, request)
    elif len(members) > 1:
        for one in members:
            _select_together(state, answer, kind, [one], excluded, moves, shadow)
    elif known:
        _repeat(table, answer, kind, servers[0])
    else:
        request = replace(request, servers=tuple(servers))
        _refuse(answer, selection.refused, kind.reasons(table, request, state.policy, selection.refused))


def asked_for(
    request: SchedulingRequest, move: Move | None, excluded: tuple[str, ...], table: HostTable
) -> SchedulingRequest:
    """Return a request as it is asked for one claim: without the hosts that are excluded, and for a move without those
    that its server has claims on, unless it may stay."""
    if move is not None:
        request = replace(request, moving=move.server_id)
        if not move.same_host:
            home = (table.states[place].host for place in table.hosts_of.get(move.server_id, ()))
            excluded = tuple(dict.fromkeys((*excluded, *home)))
    return replace(request, ignore_hosts=excluded) if excluded else request


def _decide(
    state: SchedulerState,
    answer: _Answer,
    request: SchedulingRequest,
    servers: Sequence[str],
    seed: int,
    shadow: SchedulingPolicy | None,
) -> Selection:
    """Take the active policy's selection; note where what the shadow's would have been differs."""
    table = state.table
    other = None
    if shadow is not None:
        other = select_hosts(table, request, shadow, seed, servers)
        for claim_id in servers[: len(other.hosts)]:
            table.release(claim_id)
    selection = select_hosts(table, request, state.policy, seed, servers)
    if other is not None and (selection.hosts or len(servers) == 1):
        for number in range(len(servers)):
            mine = selection.hosts[number][0] if selection.hosts else None
            its = other.hosts[number][0] if other.hosts else None
            if mine != its:
                host = "" if its is None else table.states[its].host
                answer.shadowed[len(answer.ranked) + number] = host
    return selection


def request_of(shape: Shape, policy: SchedulingPolicy) -> SchedulingRequest:
    """Make a request for servers that are still to be named. Raises Invalid."""
    hints.check_obeyed(shape.hints, policy.filters)
    group_member_counts.check_obeyed(shape.group, policy.filters)
    found = requests.make(
        servers=(),
        project_id=shape.project_id,
        flavor=shape.flavor,
        image_id=shape.image_id,
        disk_format=shape.disk_format,
        image_properties=shape.image_properties,
        zone=shape.zone,
        hints=shape.hints,
        pci_requests=shape.pci_requests,
        pci_alias=policy.options.pci_alias,
        claimed=shape.resources,
        alternates=max(shape.alternates, 0),
        group=shape.group,
        destination=Destination(host=shape.host) if shape.host else None,
        rebuild=shape.rebuild,
    )
    requests.check_obeyed(found.shape, policy.filters)
    return found


def _accept(
    table: HostTable,
    answer: _Answer,
    servers: Sequence[str],
    selections: Sequence[Sequence[int]],
    request: SchedulingRequest,
) -> None:
    states, known, ranked = table.states, answer.places, answer.ranked
    last: Allocation | None = None
    others: tuple[int, ...] = ()  # which the servers of a request mostly share
    numbers: tuple[int, ...] = ()
    for claim_id, places in zip(servers, selections, strict=True):
        allocation = table.allocation_of(claim_id)
        if allocation is not last:
            last = allocation
            known_last = answer.holdings and (answer.holdings[-1] is allocation or answer.holdings[-1] == allocation)
            if not known_last:
                answer.holdings.append(allocation)
        first = places[0]
        # what a server with a place on NUMA cells would take elsewhere is another thing
        rest = tuple(places[1:]) if allocation.placed is None else ()
        for place in (first, *rest) if rest != others else (first,):
            if place not in known:
                known[place] = len(known)
                answer.hosts.append(states[place].host)
                answer.zones.append(states[place].zone)
        if rest != others:
            others, numbers = rest, tuple([known[place] for place in rest])
        if request.shape.rebuild:
            table.release(claim_id)
        else:
            answer.chosen[len(ranked)] = (claim_id, Pending(states[first].host, answer.holdings[-1], request.moving))
        ranked.append((known[first], *numbers))
        answer.takes.append(len(answer.holdings) - 1)
    answer.why += [-1] * len(servers)


def _repeat(table: HostTable, answer: _Answer, kind: _Kind, claim_id: str) -> None:
    """Answer that a claim that is made is where it is."""
    place = min(table.claims.positions_of(claim_id))
    if place not in answer.places:
        answer.places[place] = len(answer.places)
        answer.hosts.append(table.states[place].host)
        answer.zones.append(table.states[place].zone)
    answer.ranked.append((answer.places[place],))
    answer.why.append(-1)
    answer.holdings.append(Allocation(resources=kind.resources))
    answer.takes.append(len(answer.holdings) - 1)


def _refuse(answer: _Answer, refused: dict[str, int], reasons: tuple[RefusedGroup, ...]) -> None:
    if not answer.refused or (answer.refused[-1], answer.reasons[-1]) != (refused, reasons):
        answer.refused.append(refused)
        answer.reasons.append(reasons)
    answer.ranked.append(())
    answer.why.append(len(answer.refused) - 1)
    answer.takes.append(-1)
