"""Reserve and confirm: a cell's half of placing a server.

``reserve`` schedules, claims and holds; ``confirm`` turns a held server into a run. Both are idempotent by server id,
so the top may repeat them as often as messages get lost. A hold nobody confirms expires and gives its claim back; the
server may be held again then, at a higher version.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.context import RequestContext, service_context
from cellcloud.db import changes, claims, decisions, feed, runs, servers
from cellcloud.db.bulk import Exists
from cellcloud.db.claims import Wanted
from cellcloud.db.engine import Connection, Database, LostRace, retried
from cellcloud.db.runs import Lease, LeasedRun
from cellcloud.gathering import MOST_BYTES
from cellcloud.lifecycle import Operation
from cellcloud.model import codec
from cellcloud.model.change import Changes
from cellcloud.model.decision import Conflict, DecisionBatch, Outcome, RankAnswer, RankBatch, Shape, shape_of
from cellcloud.model.placement import ConfirmAnswer, ReserveAnswer
from cellcloud.model.refusal import NO_HOST, is_for_now
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.rpc.scheduler import Scheduler

ROUNDS = 4
MOVE_BUDGET = 8.0  # seconds a scheduler has to name another host
TOGETHER = 4096  # servers in one question to the scheduler and one transaction; and
LONG = 16  # so many count one for which the scheduler looks at host after host: milliseconds, and a call has its end
LOOKED_AT = ("hw:", "pci_passthrough:", "hw_numa", "hw_cpu", "hw_mem", "hw_pci")
"""Extra specs and image properties of guests with places on NUMA cells or devices begin so."""
AT_ONCE = 2  # such batches: one is ranked while another is stored; and one more
MANY = 1024  # where so many servers wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One server to place, the request it belongs to, and the hosts it does not go to."""

    spec: ServerSpec
    request_id: str
    exclude: tuple[str, ...] = ()


class Won(NamedTuple):
    """A server whose claim is made in the same transaction, and where."""

    spec: ServerSpec
    host: str
    zone: str


# What else the transaction of some claims stores: (connection, who wins, the number of the batch of decisions). It may
# be given up and tried again with others.
Store = Callable[[Connection, Sequence[Won], int], Sequence[ServerRecord]]


class Placer:
    """Reserves for many threads: what gathers while others are under way shares a question and a transaction."""

    def __init__(self, database: Database, scheduler: Scheduler, *, store: Store) -> None:
        self._database = database
        self._scheduler = scheduler
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[tuple[RequestContext, list[Asked], Future[list[ReserveAnswer]]]] = []
        self._size = 0
        self._leaders = 0

    def reserve(self, context: RequestContext, specs: Sequence[ServerSpec]) -> list[ReserveAnswer]:
        """One answer a spec, in order."""
        return self.place(
            context, [Asked(spec=spec, request_id=spec.request_id or context.request_id) for spec in specs]
        )

    def place(self, context: RequestContext, asked: list[Asked]) -> list[ReserveAnswer]:
        """One answer each, in order."""
        future: Future[list[ReserveAnswer]] = Future()
        with self._lock:
            self._waiting.append((context, asked, future))
            self._size += len(asked)
            leads = self._leaders < AT_ONCE + (self._size >= MANY)
            self._leaders += leads
        while leads:
            with self._lock:
                batch = self._take()
                if not batch:
                    self._leaders -= 1
                    break
            self._place(batch)
        return future.result()

    def _take(self) -> list[tuple[RequestContext, list[Asked], Future[list[ReserveAnswer]]]]:
        count, size = 0, 0
        for _, asked, _ in self._waiting:
            mine = sum(_weight(one.spec) for one in asked)
            if count and size + mine > TOGETHER:
                break
            count, size = count + 1, size + mine
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._size -= sum(len(asked) for _, asked, _ in taken)
        return taken

    def _place(self, batch: list[tuple[RequestContext, list[Asked], Future[list[ReserveAnswer]]]]) -> None:
        asked = [one for _, some, _ in batch for one in some]
        try:
            context = max((context for context, _, _ in batch), key=lambda each: each.budget)
            answers = place(self._database, self._scheduler, context, asked, store=self._store)
        except BaseException as error:  # noqa: BLE001 -- each waiting thread raises it
            if len(batch) == 1:
                batch[0][2].set_exception(error)
                return
            for one in batch:  # what is wrong with one must not fail the others
                self._place([one])
            return
        for _, some, future in batch:
            future.set_result([answers[one.spec.id] for one in some])


def reserve(
    database: Database,
    scheduler: Scheduler,
    context: RequestContext,
    specs: Sequence[ServerSpec],
    *,
    hold_seconds: float,
) -> list[ReserveAnswer]:
    """One answer a spec, in order."""
    return Placer(database, scheduler, store=hold(hold_seconds)).reserve(context, specs)


def place(
    database: Database,
    scheduler: Scheduler,
    context: RequestContext,
    asked: Iterable[Asked],
    *,
    store: Store,
    at_least: int = 0,
) -> dict[str, ReserveAnswer]:
    """An answer for each server by id: in one question to the scheduler and one transaction, if nobody loses.

    ``at_least``: the change that the scheduler must have read.
    """
    waiting = {one.spec.id: one for one in asked}
    answers: dict[str, ReserveAnswer] = {}
    for _ in range(ROUNDS):
        if not waiting:
            break
        batch = _question(list(waiting.values()), at_least)
        ranked = scheduler.rank(context, batch)
        made, at_least = _claim(database, list(waiting.values()), batch, ranked, store)
        answers |= made
        waiting = {one: each for one, each in waiting.items() if one not in made}
    for server_id in waiting:
        detail = "others took the room on every host that was tried"
        answers[server_id] = ReserveAnswer(server_id=server_id, outcome="refused", reason=NO_HOST, detail=detail)
    return answers


def hold(seconds: float) -> Store:
    """Stores the winners as held for so long."""

    def store(connection: Connection, won: Sequence[Won], decision: int) -> Sequence[ServerRecord]:
        placed = [(one.spec, one.host, one.zone) for one in won]
        return servers.insert_held(connection, placed, hold_seconds=seconds, decision=decision)

    return store


def place_elsewhere(
    database: Database, scheduler: Scheduler, run: LeasedRun, spec: ServerSpec, exclude: Sequence[str]
) -> ServerRecord:
    """Claim another host for a run's server, which holds none; the record with that host and the next generation.

    Raises NoValidHost, TryLater, and Stale when the run's lease went to another.
    """

    def store(connection: Connection, won: Sequence[Won], decision: int) -> Sequence[ServerRecord]:
        if not won:
            return ()
        ((_, host, zone),) = won
        decisions.keep_last(connection, spec.id)
        changed = {"host": host, "availability_zone": zone, "decision": decision}
        record = runs.begin_try(connection, run) and servers.begin_try(connection, spec.id, run.generation, changed)
        if not record:
            raise errors.Stale("The lease of this run went to another conductor.", detail=run.id)
        return (record,)

    with database.read() as connection:
        newest = changes.get_newest(connection)
    asked = Asked(spec=spec, request_id=run.request_id, exclude=tuple(exclude))
    context = service_context(MOVE_BUDGET)
    answer = place(database, scheduler, context, [asked], store=store, at_least=newest)[spec.id]
    if answer.outcome == "later":
        raise errors.TryLater(answer.reason, detail=answer.detail)
    if answer.record is None:
        raise errors.NoValidHost(answer.reason, detail=answer.detail)
    return answer.record


def _weight(spec: ServerSpec) -> int:
    """How many of TOGETHER it counts for; as many as make up a message of hints are asked together."""
    if not _takes_long(spec):
        return 1
    return max(LONG, codec.wire_size(spec.scheduler_hints) * TOGETHER // MOST_BYTES)


def _takes_long(spec: ServerSpec) -> bool:
    """Whether the scheduler has no index for such a request."""
    named = spec.scheduler_hints or spec.host
    return bool(named) or any(one.startswith(LOOKED_AT) for one in (*spec.flavor.extra_specs, *spec.image.properties))


def _question(asked: Sequence[Asked], at_least: int) -> RankBatch:
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
            shapes.append(shape_of(spec))
        mates = (numbers[key], one.request_id)
        if mates == last:
            together[-1] += 1
        else:
            together.append(1)
        last = mates
        servers_asked.append((spec.id, numbers[key], int(spec.id[:8] + spec.id[9:13], 16)))
    return RankBatch(
        shapes=tuple(shapes),
        servers=tuple(servers_asked),
        together=tuple(together),
        exclude={one.spec.id: one.exclude for one in asked if one.exclude},
        at_least=at_least,
    )


def _kind(spec: ServerSpec) -> object:
    flavor, image = spec.flavor, spec.image
    return (
        (flavor.id, flavor.name, flavor.vcpus, flavor.memory_mb, flavor.root_gb, flavor.ephemeral_gb, flavor.swap_mb),
        tuple(flavor.extra_specs.items()),
        (image.id, image.disk_format, tuple(image.properties.items())),
        (spec.project_id, spec.availability_zone, spec.host),
        msgspec.json.encode(spec.scheduler_hints) if spec.scheduler_hints else None,
    )


@retried
def _claim(
    database: Database, asked: Sequence[Asked], batch: RankBatch, ranked: RankAnswer, store: Store
) -> tuple[dict[str, ReserveAnswer], int]:
    """Claim the best candidate of each, then the next best of those that lost, and store what else goes with it.

    Returns answers for all but those that lost every race, and the change that has what they lost to.
    """
    work = _Claiming(asked, batch, ranked, store)
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
    """What a batch stores once it is known who won."""

    winners: Sequence[Won]
    decision: DecisionBatch
    unplaced: Sequence[str]
    log: Changes


@dataclass(slots=True)
class _Claiming:
    """The transaction of a batch. ``known``: servers that were stored before; ``expired``: the version at which each
    server is held that was held before, and whose hold is over."""

    asked: Sequence[Asked]
    batch: RankBatch
    ranked: RankAnswer
    store: Store
    known: dict[str, ServerRecord] = field(default_factory=dict)
    expired: dict[str, int] = field(default_factory=dict)

    def look_up(self, database: Database) -> None:
        """Find out which of the servers are stored already."""
        with database.read() as connection:
            found = servers.list_by_id(connection, [one.spec.id for one in self.asked])
        never = [record for record in found if record.deleted and record.generation == 0]
        self.expired = {record.id: record.version + 1 for record in never}
        self.known = {record.id: record for record in found if record.id not in self.expired}

    def run(self, database: Database, *, judged: bool) -> tuple[dict[str, ReserveAnswer], int]:
        """Raises claims.Lost unless ``judged``, Exists when a server is known already."""
        wanted = self._wanted(judged=judged)
        if not judged:  # before anything is locked
            made = self._made(wanted, {item.server_id: item for item in wanted}, {})
        with database.write() as connection:
            if judged:
                made = self._made(wanted, *claims.claim_judged(connection, wanted))
            servers.forget_expired(connection, list(self.expired))
            records = self.store(connection, made.winners, self.ranked.batch)
            records = servers.renumber(connection, records, self.expired)
            decisions.insert(connection, made.decision, made.unplaced)
            if not judged:
                claims.claim_all(connection, wanted)
            changes.append(connection, made.log)
            newest = changes.get_newest(connection) if made.log.dropped else 0
        answers = {record.id: _answer_for(record) for record in (*self.known.values(), *records)} | self._refusals()
        ids = (one.spec.id for one in made.winners if one.spec.id not in answers)
        return answers | {each: ReserveAnswer(server_id=each, outcome="held") for each in ids}, newest

    def _made(
        self, wanted: Sequence[Wanted], won: Mapping[str, Wanted], lost: Mapping[str, Sequence[Conflict]]
    ) -> _Made:
        dropped = [item.server_id for item in wanted if item.server_id not in won]
        return _Made(
            winners=self._winners(won),
            decision=_decision(self.asked, self.batch, self.ranked, won, lost),
            unplaced=[one.spec.id for one in self.asked if one.spec.id not in won and one.spec.id not in self.known],
            log=claims.log(claimed=list(won.values()), dropped=[*dropped, *self.known]),
        )

    def _wanted(self, *, judged: bool) -> list[Wanted]:
        """With the hosts to try next, for those who are judged."""
        hosts, holdings, known = self.ranked.hosts, self.ranked.holdings, self.known
        return [
            Wanted(
                one.spec.id,
                hosts[places[0]],
                holding=holdings[number],
                others=tuple([hosts[place] for place in places[1:]]) if judged else (),
            )
            for one, places, number in zip(self.asked, self.ranked.ranked, self.ranked.takes, strict=True)
            if places and one.spec.id not in known
        ]

    def _winners(self, won: Mapping[str, Wanted]) -> list[Won]:
        zones = dict(zip(self.ranked.hosts, self.ranked.zones, strict=True))
        mine = ((one.spec, won[one.spec.id].host) for one in self.asked if one.spec.id in won)
        return [Won(spec, host, zones[host]) for spec, host in mine]

    def _refusals(self) -> dict[str, ReserveAnswer]:
        return {
            one.spec.id: _refusal(one.spec.id, position, self.ranked)
            for position, one in enumerate(self.asked)
            if not self.ranked.ranked[position] and one.spec.id not in self.known
        }


def _decision(
    asked: Sequence[Asked],
    batch: RankBatch,
    ranked: RankAnswer,
    won: Mapping[str, Wanted],
    lost: Mapping[str, Sequence[Conflict]],
) -> DecisionBatch:
    requests = tuple(dict.fromkeys(one.request_id for one in asked))
    numbers = {request_id: number for number, request_id in enumerate(requests)}
    outcomes = {}
    if lost or len(won) < len(asked):
        for position, one in enumerate(asked):
            claim = won.get(one.spec.id)
            races = tuple(lost.get(one.spec.id, ()))
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


def _refusal(server_id: str, position: int, ranked: RankAnswer) -> ReserveAnswer:
    number = ranked.why[position] if ranked.why else -1
    refused = ranked.refused[number] if number >= 0 else {}
    malformed, reasons = ranked.malformed.get(position, ""), ranked.reasons_of(position)
    for_now = not malformed and (is_for_now(reasons) if refused or reasons else True)
    told = [f"{one.reason.filter} refused {one.count}: the nearest {one.reason.text}" for one in reasons]
    counted = [f"{name} refused {count}" for name, count in sorted(refused.items()) if count]
    return ReserveAnswer(
        server_id=server_id,
        outcome="later" if for_now else "refused",
        reason=f"{NO_HOST} {malformed}".strip(),
        detail="; ".join(told) or ", ".join(counted),
        reasons=reasons,
    )


@retried
def confirm(
    database: Database,
    context: RequestContext,
    server_ids: Sequence[str],
    lease: Lease | None = None,
    *,
    holds: Mapping[str, int] | None = None,
) -> tuple[list[ConfirmAnswer], list[tuple[LeasedRun, ServerRecord]]]:
    """Begin the create runs of held servers. One that is already running answers "settled" again.

    With a lease the new runs are its owner's to move; they are returned with their servers. ``holds``: the versions at
    which they were held, where not 1.
    """
    workflow = REGISTRY[Operation.CREATE]
    with database.write() as connection:
        records = servers.confirm_held(connection, server_ids, workflow.steps[0].task_state, holds or {})
        begun = runs.insert(
            connection,
            [
                runs.NewRun(
                    server_id=record.id,
                    operation=Operation.CREATE,
                    generation=record.generation,
                    request_id=record.spec.request_id or context.request_id,
                    user_id=record.spec.user_id,
                    project_id=record.spec.project_id,
                    arguments={},
                    deadline=workflow.deadline,
                )
                for record in records
            ],
            lease,
        )
        turned = {record.id for record in records}
        others = servers.list_by_id(connection, [one for one in server_ids if one not in turned])
        feed.append(connection, records)
    found = {record.id: record for record in (*records, *others)}
    answers = [_confirmed(server_id, found.get(server_id)) for server_id in server_ids]
    return answers, [(run, found[run.server_id]) for run in begun]


def _confirmed(server_id: str, record: ServerRecord | None) -> ConfirmAnswer:
    if record is not None and not (record.deleted or record.held):
        return ConfirmAnswer(server_id=server_id, outcome="settled", record=record)
    fault = record.fault if record is not None and record.given_up else None
    if fault is None:
        over = record if record is not None and record.deleted and record.generation else None
        return ConfirmAnswer(server_id=server_id, outcome="gone", record=over)
    return ConfirmAnswer(server_id=server_id, outcome="gone", reason=fault.message, detail=fault.details)


@retried
def release(database: Database, server_ids: Sequence[str]) -> list[str]:
    """Give up holds; returns the ids that were held."""
    with database.write() as connection:
        dropped = servers.drop_held(connection, server_ids)
        claims.release(connection, dropped)
    return dropped


def expire_holds(database: Database) -> int:
    """Give up every hold whose time is over; returns how many."""
    with database.read() as connection:
        expired = servers.list_expired_holds(connection)
    return len(release(database, expired)) if expired else 0
