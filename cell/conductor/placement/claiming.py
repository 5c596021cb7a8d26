"""Place servers: ask the scheduler, claim the best candidates, and store what goes with the claims, in one transaction.

Whoever loses a race tries its next candidate, then asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from cellcloud.context import RequestContext
from cellcloud.db import claims, decisions, group_members, scheduler_change_log, servers, user_data
from cellcloud.db.bulk import Exists
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Connection, Database, LostRace, retried
from cellcloud.db.group_members import GroupClaims
from cellcloud.model.change_log import Changes
from cellcloud.model.decision import ClaimConflict, DecisionBatch, Move, Outcome, RankAnswer, RankBatch, Shape, shape_of
from cellcloud.model.no_valid_host_message import NO_HOST, is_for_now
from cellcloud.model.placement_messages import PlacedGroup, ReserveAnswer
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.model.server_group import FILTERS
from cellcloud.rpc.scheduler import Scheduler

ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest:
    """One server to place, the request it belongs to, and the hosts it does not go to.

    ``migration_id``: which migration claims a host for a server that has one, "": it is placed for the first time.
    ``same_host``: it may stay where it has its claim, and takes room there twice.
    """

    spec: ServerSpec
    request_id: str
    exclude: tuple[str, ...] = ()
    migration_id: str = ""
    same_host: bool = False

    @property
    def claim_id(self) -> str:
        """Under which it takes room."""
        return self.migration_id or self.spec.id


class Won(NamedTuple):
    """A server whose claim is made in the same transaction, and the zone it is in then."""

    spec: ServerSpec
    claim: Claim
    zone: str

    @property
    def host(self) -> str:
        """Where it is made."""
        return self.claim.host


# What else the transaction of some claims stores: (connection, who wins, the number of the batch of decisions). It may
# be given up and tried again with others.
Store = Callable[[Connection, Sequence[Won], int], Sequence[ServerRecord]]


def place(
    database: Database,
    scheduler: Scheduler,
    context: RequestContext,
    asked: Iterable[PlacementRequest],
    *,
    store: Store,
    at_least: int = 0,
) -> dict[str, ReserveAnswer]:
    """Return an answer for each claim by its id: in one question to the scheduler and one transaction, if nobody loses.

    ``at_least``: the change that the scheduler must have read.
    """
    waiting = {one.claim_id: one for one in _with_hints(database, list(asked))}
    groups = GroupClaims({one.spec.id: one.spec.group for one in waiting.values() if one.spec.group is not None})
    answers: dict[str, ReserveAnswer] = {}
    for _ in range(ROUNDS):
        if not waiting:
            break
        placed, unsettled, newest = _placed_groups(database, list(waiting.values()))
        batch = _question(list(waiting.values()), placed, max(at_least, newest))
        ranked = scheduler.rank(context, batch)
        made, at_least = _claim(database, list(waiting.values()), batch, ranked, store, groups, unsettled)
        answers |= made
        waiting = {one: each for one, each in waiting.items() if one not in made}
    for claim_id, one in waiting.items():
        detail = "others took the room on every host that was tried"
        outcome = "later" if one.spec.group is not None and one.spec.group.strict else "refused"
        answers[claim_id] = ReserveAnswer(server_id=one.spec.id, outcome=outcome, reason=NO_HOST, detail=detail)
    return answers


def _placed_groups(
    database: Database, asked: Sequence[PlacementRequest]
) -> tuple[dict[str, PlacedGroup], set[str], int]:
    """Return the groups of the servers as choosing sees them, the servers themselves among the members, so that each
    sees where those before it go; the claims for servers of whose group another is held, which may be in vain; and the
    change up to which schedulers must have read to know where the others are."""
    wanted = {one.spec.group.id: one.spec.group for one in asked if one.spec.group is not None}
    if not wanted:
        return {}, set(), 0
    with database.read() as connection:
        members = group_members.list_hosts(connection, wanted)
        held = group_members.list_held(connection, wanted)
        newest = scheduler_change_log.get_newest(connection)
    unsettled = set()
    for one in asked:
        if one.spec.group is not None:
            members[one.spec.group.id].setdefault(one.spec.id, set())
            if held[one.spec.group.id] - {one.spec.id}:
                unsettled.add(one.claim_id)
    return {group.id: PlacedGroup.of(group, members[group.id]) for group in wanted.values()}, unsettled, newest


def _with_hints(database: Database, asked: list[PlacementRequest]) -> list[PlacementRequest]:
    if not any(one.spec.hints_id for one in asked):
        return asked
    with database.read() as connection:
        specs = user_data.attach_hints(connection, user_data.CELL, [one.spec for one in asked])
    return [replace(one, spec=spec) for one, spec in zip(asked, specs, strict=True)]


def _question(asked: Sequence[PlacementRequest], groups: Mapping[str, PlacedGroup], at_least: int) -> RankBatch:
    """Servers that are alike share a shape."""
    numbers: dict[object, int] = {}
    shapes: list[Shape] = []
    servers_asked = []
    together: list[int] = []
    last: object = None
    for one in asked:
        spec = one.spec
        key = _kind(spec)
        if key not in numbers:
            numbers[key] = len(shapes)
            shape = shape_of(spec)
            shapes.append(shape if spec.group is None else replace(shape, group=groups[spec.group.id]))
        mates = (numbers[key], one.request_id, one.migration_id)
        if mates == last:
            together[-1] += 1
        else:
            together.append(1)
        last = mates
        claim_id = one.claim_id
        servers_asked.append((claim_id, numbers[key], int(claim_id[:8] + claim_id[9:13], 16)))
    return RankBatch(
        shapes=tuple(shapes),
        servers=tuple(servers_asked),
        together=tuple(together),
        exclude={one.claim_id: one.exclude for one in asked if one.exclude},
        moves={
            one.migration_id: Move(server_id=one.spec.id, same_host=one.same_host) for one in asked if one.migration_id
        },
        at_least=at_least,
    )


def _kind(spec: ServerSpec) -> object:
    flavor, image = spec.flavor, spec.image
    return (
        (flavor.id, flavor.name, flavor.vcpus, flavor.memory_mb, flavor.root_gb, flavor.ephemeral_gb, flavor.swap_mb),
        tuple(flavor.extra_specs.items()),
        (image.id, image.disk_format, tuple(image.properties.items())),
        (spec.project_id, spec.availability_zone, spec.host, spec.group and spec.group.id),
        msgspec.json.encode(spec.scheduler_hints) if spec.scheduler_hints else None,
    )


@retried
def _claim(
    database: Database,
    asked: Sequence[PlacementRequest],
    batch: RankBatch,
    ranked: RankAnswer,
    store: Store,
    groups: GroupClaims,
    unsettled: Collection[str],
) -> tuple[dict[str, ReserveAnswer], int]:
    """Claim the best candidate of each, then the next best of those that lost, and store what else goes with it.

    Returns answers for all but those that lost every race, and the change that has what they lost to.
    """
    work = _Claiming(asked, batch, ranked, store, groups, unsettled)
    try:
        return work.run(database, judged=False)
    except claims.Lost:
        return work.run(database, judged=True)
    except Exists:
        work.look_up(database)
    try:
        return work.run(database, judged=True)
    except Exists as error:
        raise LostRace("The same servers are being placed by another message; try again shortly.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What a batch stores once it is known who won. ``noted``: servers whose records do not name the batch."""

    winners: Sequence[Won]
    decision: DecisionBatch
    noted: Sequence[str]
    log: Changes


@dataclass(slots=True)
class _Claiming:
    """The transaction of a batch. ``known``: servers that were stored before; ``expired``: the version at which each
    server is held that was held before, and whose hold is over."""

    asked: Sequence[PlacementRequest]
    batch: RankBatch
    ranked: RankAnswer
    store: Store
    groups: GroupClaims
    unsettled: Collection[str]
    known: dict[str, ServerRecord] = field(default_factory=dict)
    expired: dict[str, int] = field(default_factory=dict)

    def look_up(self, database: Database) -> None:
        """Find out which of the servers are stored already."""
        with database.read() as connection:
            found = servers.list_by_id(connection, [one.spec.id for one in self.asked if not one.migration_id])
        never = [record for record in found if record.deleted and record.generation == 0]
        self.expired = {record.id: record.version + 1 for record in never}
        self.known = {record.id: record for record in found if record.id not in self.expired}

    def run(self, database: Database, *, judged: bool) -> tuple[dict[str, ReserveAnswer], int]:
        """Claim hosts for the servers in one transaction. Raises claims.Lost unless ``judged``, Exists when a server is
        known already."""
        wanted = self._wanted(judged=judged)
        if not judged:  # before anything is locked
            made = self._made(wanted, {item.id: item for item in wanted}, {})
        with database.write() as connection:
            claims.lock_own(connection, [one.spec.id for one in self.asked if one.migration_id])
            self.groups.lock(connection)
            if judged:
                made = self._made(wanted, *claims.claim_judged(connection, wanted, admit=self.groups.admit))
            elif any(self.groups.admit(item, item.host) for item in wanted):
                raise claims.Lost("Another member of the server group was faster.")
            servers.forget_expired(connection, list(self.expired))
            records = self.store(connection, made.winners, self.ranked.batch)
            records = servers.renumber(connection, records, self.expired)
            decisions.insert(connection, made.decision, made.noted)
            if not judged:
                claims.claim_all(connection, wanted)
            scheduler_change_log.append(connection, made.log)
            newest = scheduler_change_log.get_newest(connection) if made.log.dropped else 0
        answers = {record.id: _answer_for(record) for record in (*self.known.values(), *records)} | self._refusals()
        others = [one for one in made.winners if one.claim.id not in answers]
        answers |= {one.claim.id: ReserveAnswer(server_id=one.spec.id, outcome="held") for one in others}
        return answers, newest

    def _made(
        self, wanted: Sequence[Claim], won: Mapping[str, Claim], lost: Mapping[str, Sequence[ClaimConflict]]
    ) -> _Made:
        dropped = [item.id for item in wanted if item.id not in won]
        return _Made(
            winners=self._winners(won),
            decision=_decision(self.asked, self.batch, self.ranked, won, lost),
            noted=[
                one.spec.id
                for one in self.asked
                if one.migration_id or (one.spec.id not in won and one.spec.id not in self.known)
            ],
            log=claims.log(claimed=list(won.values()), dropped=[*dropped, *self.known]),
        )

    def _wanted(self, *, judged: bool) -> list[Claim]:
        """With the hosts to try next, for those who are judged."""
        hosts, holdings, known = self.ranked.hosts, self.ranked.holdings, self.known
        return [
            Claim(
                one.claim_id,
                one.spec.id,
                hosts[places[0]],
                holdings[number],
                tuple([hosts[place] for place in places[1:]]) if judged else (),
            )
            for one, places, number in zip(self.asked, self.ranked.ranked, self.ranked.takes, strict=True)
            if places and one.claim_id not in known
        ]

    def _winners(self, won: Mapping[str, Claim]) -> list[Won]:
        zones = dict(zip(self.ranked.hosts, self.ranked.zones, strict=True))
        mine = ((one.spec, won[one.claim_id]) for one in self.asked if one.claim_id in won)
        return [Won(spec, claim, zones[claim.host]) for spec, claim in mine]

    def _refusals(self) -> dict[str, ReserveAnswer]:
        return {
            one.claim_id: _refusal(one.spec.id, position, self.ranked, unsettled=one.claim_id in self.unsettled)
            for position, one in enumerate(self.asked)
            if not self.ranked.ranked[position] and one.claim_id not in self.known
        }


def _decision(
    asked: Sequence[PlacementRequest],
    batch: RankBatch,
    ranked: RankAnswer,
    won: Mapping[str, Claim],
    lost: Mapping[str, Sequence[ClaimConflict]],
) -> DecisionBatch:
    requests = tuple(dict.fromkeys(one.request_id for one in asked))
    numbers = {request_id: number for number, request_id in enumerate(requests)}
    outcomes = {}
    if lost or len(won) < len(asked):
        for position, one in enumerate(asked):
            claim = won.get(one.claim_id)
            races = tuple(lost.get(one.claim_id, ()))
            if races or (claim is None and ranked.ranked[position]):
                outcomes[position] = Outcome(host=None if claim is None else claim.host, conflicts=races)
    return DecisionBatch(
        asked=batch,
        answer=ranked,
        requests=requests,
        request_of=tuple(numbers[one.request_id] for one in asked),
        outcomes=outcomes,
    )


def _answer_for(record: ServerRecord) -> ReserveAnswer:
    if record.given_up and record.fault is not None:
        why = record.fault
        return ReserveAnswer(server_id=record.id, outcome="refused", reason=why.message, detail=why.details)
    outcome = "gone" if record.deleted else "held" if record.held else "settled"
    return ReserveAnswer(server_id=record.id, outcome=outcome, record=record)


def _refusal(server_id: str, position: int, ranked: RankAnswer, *, unsettled: bool) -> ReserveAnswer:
    """``unsettled``: a refusal by its group is none for good."""
    number = ranked.why[position] if ranked.why else -1
    refused = ranked.refused[number] if number >= 0 else {}
    malformed, reasons = ranked.malformed.get(position, ""), ranked.reasons_of(position)
    for_now = not malformed and (is_for_now(reasons) if refused or reasons else True)
    for_now = for_now or (unsettled and not FILTERS.isdisjoint({*refused, *(one.reason.filter for one in reasons)}))
    told = [f"{one.reason.filter} refused {one.count}: the nearest {one.reason.text}" for one in reasons]
    counted = [f"{name} refused {count}" for name, count in sorted(refused.items()) if count]
    return ReserveAnswer(
        server_id=server_id,
        outcome="later" if for_now else "refused",
        reason=f"{NO_HOST} {malformed}".strip(),
        detail="; ".join(told) or ", ".join(counted),
        reasons=reasons,
    )
