"""Held servers: stored once their claims are won; confirmed into runs, given up, or expired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cell.conductor.placement.claiming import Store, Won
from cell.conductor.workflows import REGISTRY
from cellcloud.context import RequestContext
from cellcloud.db import claims, feed, runs, servers
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model.operations import Operation
from cellcloud.model.placement_messages import ConfirmAnswer
from cellcloud.model.run import Lease, LeasedRun, NewRun, OperationRequest
from cellcloud.model.server import ServerRecord


def hold(seconds: float) -> Store:
    """Return what stores the winners as held for so long."""

    def store(connection: Connection, won: Sequence[Won], decision: int) -> Sequence[ServerRecord]:
        placed = [(one.spec, one.host, one.zone) for one in won]
        return servers.insert_held(connection, placed, hold_seconds=seconds, decision=decision)

    return store


@retried
def confirm(
    database: Database,
    context: RequestContext,
    server_ids: Sequence[str],
    lease: Lease | None = None,
    *,
    holds: Mapping[str, int] | None = None,
    placements: Mapping[str, int] | None = None,
) -> tuple[list[ConfirmAnswer], list[tuple[LeasedRun, ServerRecord]]]:
    """Begin the create runs of held servers. One that is already running answers "settled" again.

    With a lease the new runs are its owner's to move; they are returned with their servers. ``holds``: the versions at
    which they were held, where not 1; ``placements``: the numbers of their placements, where not 0.
    """
    workflow = REGISTRY[Operation.CREATE]
    with database.write() as connection:
        task_state = workflow.steps[0].task_state
        records = servers.confirm_held(connection, server_ids, task_state, holds or {}, placements or {})
        begun = runs.insert(
            connection,
            [
                NewRun(
                    server_id=record.id,
                    operation=Operation.CREATE,
                    generation=record.generation,
                    asked=OperationRequest(
                        request_id=record.spec.request_id or context.request_id,
                        user_id=record.spec.user_id,
                        project_id=record.spec.project_id,
                    ),
                    deadline=workflow.deadline,
                    host=record.host or "",
                    trail=workflow.trail(0),
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
        claims.release_all(connection, dropped)
    return dropped


def expire_holds(database: Database) -> int:
    """Give up every hold whose time is over; returns how many."""
    with database.read() as connection:
        expired = servers.list_expired_holds(connection)
    return len(release(database, expired)) if expired else 0
