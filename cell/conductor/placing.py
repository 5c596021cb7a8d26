"""Reserve and confirm: a cell's half of placing a server.

``reserve`` schedules, claims and holds; ``confirm`` turns a held server into a run. Both are idempotent by server id,
so the top may repeat them as often as messages get lost. A hold nobody confirms expires and gives its claim back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cell.conductor.workflows import REGISTRY
from cellcloud.context import RequestContext
from cellcloud.db import claims, decisions, feed, hosts, runs, servers
from cellcloud.db.claims import Wanted
from cellcloud.db.engine import Database, retried
from cellcloud.lifecycle import Operation
from cellcloud.model.placement import ConfirmAnswer, ReserveAnswer, SelectAnswer, SelectRequest
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.rpc.scheduler import Scheduler

ROUNDS = 4
NO_HOST = "No valid host was found."


@dataclass(slots=True)
class _Candidate:
    """A server on its way to a host: what the scheduler answered, and who refused it so far."""

    spec: ServerSpec
    answer: SelectAnswer
    next: int = 0
    tried: tuple[str, ...] = ()


def reserve(
    database: Database,
    scheduler: Scheduler,
    context: RequestContext,
    specs: Sequence[ServerSpec],
    *,
    hold_seconds: float,
) -> list[ReserveAnswer]:
    """One answer a spec, in order."""
    answers = _known(database, [spec.id for spec in specs])
    waiting = {spec.id: spec for spec in specs if spec.id not in answers}
    last_answers: dict[str, SelectAnswer] = {}
    for turn in range(ROUNDS):
        if not waiting:
            break
        fresh = turn > 0
        chosen = _select(scheduler, context, list(waiting.values()), fresh=fresh)
        last_answers |= chosen
        held = _hold(database, context, list(waiting.values()), chosen, hold_seconds)
        for answer in held:
            answers[answer.server_id] = answer
            del waiting[answer.server_id]
        if fresh and not any(chosen[server_id].hosts for server_id in waiting):
            break
    for server_id in waiting:
        answers[server_id] = _refusal(last_answers[server_id])
    return [answers[spec.id] for spec in specs]


def _known(database: Database, server_ids: Sequence[str]) -> dict[str, ReserveAnswer]:
    with database.read() as connection:
        found = servers.list_by_id(connection, server_ids)
    return {record.id: _answer_for(record) for record in found}


def _answer_for(record: ServerRecord) -> ReserveAnswer:
    outcome = "gone" if record.deleted else "held" if record.held else "settled"
    return ReserveAnswer(server_id=record.id, outcome=outcome, record=record)


def _refusal(answer: SelectAnswer) -> ReserveAnswer:
    detail = ", ".join(f"{name} refused {count}" for name, count in sorted(answer.refused.items()) if count)
    return ReserveAnswer(server_id=answer.server_id, outcome="refused", reason=NO_HOST, detail=detail)


def _select(
    scheduler: Scheduler, context: RequestContext, specs: Sequence[ServerSpec], *, fresh: bool
) -> dict[str, SelectAnswer]:
    requests = [
        SelectRequest(
            server_id=spec.id,
            resources=spec.flavor.resources(),
            spec=replace(spec, user_data=None),
            seed=int(spec.id.replace("-", "")[:12], 16),
        )
        for spec in specs
    ]
    return {answer.server_id: answer for answer in scheduler.select(context, requests, fresh)}


@retried
def _hold(
    database: Database,
    context: RequestContext,
    specs: Sequence[ServerSpec],
    chosen: dict[str, SelectAnswer],
    hold_seconds: float,
) -> list[ReserveAnswer]:
    """Claim the best candidate of each, then the next best of those that lost, and store the winners as held."""
    with database.write() as connection:
        ids = [spec.id for spec in specs]
        already = {record.id: record for record in servers.list_by_id(connection, ids)}
        racing = [_Candidate(spec, chosen[spec.id]) for spec in specs if spec.id not in already]
        placed: list[tuple[ServerSpec, str]] = []
        while racing := [one for one in racing if one.next < len(one.answer.hosts)]:
            wanted = [
                Wanted(server_id=one.spec.id, host=one.answer.hosts[one.next], resources=one.spec.flavor.resources())
                for one in racing
            ]
            lost = claims.claim(connection, wanted)
            placed.extend((one.spec, one.answer.hosts[one.next]) for one in racing if one.spec.id not in lost)
            racing = [one for one in racing if one.spec.id in lost]
            for one in racing:
                one.next += 1
        if placed:
            zones = hosts.list_zones(connection)
            servers.insert_held(
                connection, [(spec, host, zones.get(host, "")) for spec, host in placed], hold_seconds=hold_seconds
            )
        winners = {spec.id: host for spec, host in placed}
        decisions.insert(
            connection,
            [(chosen[spec.id], context.request_id, winners.get(spec.id)) for spec in specs if spec.id not in already],
        )
        records = servers.list_by_id(connection, [*already, *winners])
    return [_answer_for(record) for record in records]


@retried
def confirm(database: Database, context: RequestContext, server_ids: Sequence[str]) -> list[ConfirmAnswer]:
    """Begin the create runs of held servers. One that is already running answers "settled" again."""
    workflow = REGISTRY[Operation.CREATE]
    with database.write() as connection:
        records = servers.confirm_held(connection, server_ids, workflow.steps[0].task_state)
        runs.insert(
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
        )
        turned = {record.id for record in records}
        others = servers.list_by_id(connection, [one for one in server_ids if one not in turned])
        feed.append(connection, records)
    found = {record.id: record for record in (*records, *others)}
    return [_confirmed(server_id, found.get(server_id)) for server_id in server_ids]


def _confirmed(server_id: str, record: ServerRecord | None) -> ConfirmAnswer:
    gone = record is None or record.deleted or record.held
    return ConfirmAnswer(server_id=server_id, outcome="gone" if gone else "settled", record=None if gone else record)


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
