"""Answers a batch of servers from a view: what it was chosen from, who goes where, and what the shadow would say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cell.scheduler import request as requests
from cell.scheduler.choice import Choice
from cell.scheduler.request import Request
from cell.scheduler.select import decide
from cell.scheduler.snapshot import Share, Snapshot, share_of
from cell.scheduler.view import Pending, View, parsed
from cellcloud import errors
from cellcloud.model.change import Holding
from cellcloud.model.decision import RankAnswer, RankBatch, Shape
from cellcloud.model.placement import Destination
from cellcloud.model.policy import Policy


@dataclass(slots=True)
class _Answer:
    """An answer under way: tables of what many servers share, and the numbers of each."""

    hosts: dict[str, int] = field(default_factory=dict)
    zones: list[str] = field(default_factory=list)
    ranked: list[tuple[int, ...]] = field(default_factory=list)
    refused: list[dict[str, int]] = field(default_factory=list)
    why: list[int] = field(default_factory=list)
    holdings: list[Holding] = field(default_factory=list)
    takes: list[int] = field(default_factory=list)
    shadowed: dict[int, str] = field(default_factory=dict)
    malformed: dict[int, str] = field(default_factory=dict)
    chosen: dict[int, tuple[str, Pending]] = field(default_factory=dict)


def rank(view: View, batch: RankBatch, number: int, *, now: float) -> RankAnswer:
    """Rank hosts for each server. The best one's room is pending in the view, under the batch's number."""
    for server_id, _, _ in batch.servers:
        view.drop(server_id)
    basis = view.basis()
    answer = choose(view, batch)
    view.note(number, answer.chosen, now=now)
    return RankAnswer(
        batch=number,
        basis=basis,
        hosts=tuple(answer.hosts),
        zones=tuple(answer.zones),
        ranked=tuple(answer.ranked),
        refused=tuple(answer.refused),
        why=tuple(answer.why),
        shadowed=answer.shadowed,
        malformed=answer.malformed,
        holdings=tuple(answer.holdings),
        takes=tuple(answer.takes),
    )


def undo(view: View, batch: RankBatch) -> None:
    """Give up all that a batch chose."""
    for server_id, _, _ in batch.servers:
        view.drop(server_id)


def choose(view: View, batch: RankBatch) -> _Answer:
    """Hosts for each server, taken from the view's snapshot, pending for nobody yet."""
    answer = _Answer()
    shadow = None if view.shadow is None else parsed(view.shadow)
    for members in _groups(batch):
        shape = batch.shapes[members[0][1]]
        excluded = tuple(dict.fromkeys(host for one in members for host in batch.exclude.get(one[0], ())))
        _choose_together(view, answer, shape, members, excluded, shadow)
    return answer


def _groups(batch: RankBatch) -> Iterator[Sequence[tuple[str, int, int]]]:
    first = 0
    for size in batch.together or (1,) * len(batch.servers):
        yield batch.servers[first : first + size]
        first += size


def _choose_together(
    view: View,
    answer: _Answer,
    shape: Shape,
    members: Sequence[tuple[str, int, int]],
    excluded: tuple[str, ...],
    shadow: Policy | None,
) -> None:
    """Hosts for the servers of one request; when not all fit, for as many as do."""
    snapshot = view.snapshot
    try:
        request = _request(shape, [one[0] for one in members], excluded)
        known = any(snapshot.hosts_of.get(server_id) for server_id in request.servers)
        choice = Choice() if known else _decide(view, answer, request, members[0][2], shadow)
    except errors.Invalid as error:
        for _ in members:
            answer.malformed[len(answer.ranked)] = error.message
            _refuse(answer, {})
        return
    if choice.hosts:
        props = {name: str(value) for name, value in shape.image_properties.items()}
        for server_id, places in zip(request.servers, choice.hosts, strict=True):
            _accept(snapshot, answer, server_id, places, props)
    elif len(members) > 1:
        for one in members:
            _choose_together(view, answer, shape, [one], excluded, shadow)
    elif known:
        _repeat(snapshot, answer, shape, request.servers[0])
    else:
        _refuse(answer, choice.refused)


def _decide(view: View, answer: _Answer, request: Request, seed: int, shadow: Policy | None) -> Choice:
    """The active policy's choice, which is taken; what the shadow's would have been is noted where it differs."""
    snapshot = view.snapshot
    other = None
    if shadow is not None:
        other = decide(snapshot, request, shadow, seed)
        for server_id in request.servers[: len(other.hosts)]:
            snapshot.release(server_id)
    choice = decide(snapshot, request, view.policy, seed)
    if other is not None and (choice.hosts or len(request.servers) == 1):
        for number in range(len(request.servers)):
            mine = choice.hosts[number][0] if choice.hosts else None
            its = other.hosts[number][0] if other.hosts else None
            if mine != its:
                host = "" if its is None else snapshot.states[its].host
                answer.shadowed[len(answer.ranked) + number] = host
    return choice


def _request(shape: Shape, servers: Sequence[str], excluded: tuple[str, ...]) -> Request:
    return requests.make(
        servers=servers,
        project_id=shape.project_id,
        flavor=shape.flavor,
        image_id=shape.image_id,
        disk_format=shape.disk_format,
        image_properties=shape.image_properties,
        zone=shape.zone,
        hints=shape.hints,
        pci_requests=shape.pci_requests,
        claimed=shape.resources,
        alternates=max(shape.alternates, 0),
        group=shape.group,
        ignore_hosts=excluded,
        destination=Destination(host=shape.host) if shape.host else None,
    )


def _accept(
    snapshot: Snapshot, answer: _Answer, server_id: str, places: Sequence[int], props: Mapping[str, str]
) -> None:
    share = snapshot.share_of_server(server_id)
    holding = _holding(share, props)
    if not answer.holdings or answer.holdings[-1] != holding:
        answer.holdings.append(holding)
    host = snapshot.states[places[0]].host
    answer.chosen[len(answer.ranked)] = (server_id, Pending(host, answer.holdings[-1]))
    others = places if share.placed is None else places[:1]  # what it would take elsewhere is another thing
    _append(snapshot, answer, [snapshot.states[place].host for place in others])
    answer.takes.append(len(answer.holdings) - 1)


def _repeat(snapshot: Snapshot, answer: _Answer, shape: Shape, server_id: str) -> None:
    """A server that has its claim is where it is."""
    _append(snapshot, answer, [snapshot.states[min(snapshot.hosts_of[server_id])].host])
    answer.holdings.append(Holding(resources=shape.resources))
    answer.takes.append(len(answer.holdings) - 1)


def _append(snapshot: Snapshot, answer: _Answer, hosts: Sequence[str]) -> None:
    numbers = []
    for host in hosts:
        if host not in answer.hosts:
            answer.hosts[host] = len(answer.hosts)
            answer.zones.append(snapshot.states[snapshot.positions_of[host][0]].zone)
        numbers.append(answer.hosts[host])
    answer.ranked.append(tuple(numbers))
    answer.why.append(-1)


def _refuse(answer: _Answer, refused: dict[str, int]) -> None:
    if not answer.refused or answer.refused[-1] != refused:
        answer.refused.append(refused)
    answer.ranked.append(())
    answer.why.append(len(answer.refused) - 1)
    answer.takes.append(-1)


def _holding(share: Share, props: Mapping[str, str]) -> Holding:
    """What the log will say of a share, in as few words as it takes."""
    said = Holding(
        resources={name: amount for name, amount in share.resources.items() if amount},
        image_props=dict(props),
        placed=share.placed,
        building=share.building,
    )
    follows = share_of(said)
    return replace(
        said,
        memory_mb=None if share.memory_mb == follows.memory_mb else share.memory_mb,
        disk_mb=None if share.disk_mb == follows.disk_mb else share.disk_mb,
        vcpus=None if share.vcpus == follows.vcpus else share.vcpus,
    )
