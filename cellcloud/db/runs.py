"""Runs: operations under way, each a row with a lease. One unfinished run a server, by unique index."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import errors
from cellcloud.db.cell_schema import run_steps, runs, servers
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model.guest import GuestEvent
from cellcloud.model.run import RunRecord, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What a run begins with. ``generation`` is the one its server has just been given."""

    server_id: str
    operation: str
    generation: int
    request_id: str
    user_id: str
    project_id: str
    arguments: Mapping[str, object]
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedRun:
    """A run that this owner may move. ``overdue``: its deadline has passed by the database's clock."""

    id: str
    server_id: str
    operation: str
    step: int
    direction: str
    arguments: dict[str, Any]
    outputs: dict[str, Any]
    events: dict[str, Any]
    generation: int
    attempt: int
    cancel_requested: bool
    overdue: bool
    error: str
    message: str
    detail: str
    request_id: str
    user_id: str
    project_id: str


def insert(connection: Connection, new: Sequence[NewRun]) -> list[str]:
    """Begin runs that are due at once. The unique index refuses a second unfinished one of a server."""
    ids = [str(uuid.uuid4()) for _ in new]
    for run_id, run in zip(ids, new, strict=True):
        connection.execute(
            sa.insert(runs).values(
                id=run_id,
                server_id=run.server_id,
                active=1,
                operation=run.operation,
                state="running",
                arguments=dict(run.arguments),
                outputs={},
                events={},
                generation=run.generation,
                run_at=utc_now(),
                deadline=utc_after(run.deadline),
                request_id=run.request_id,
                user_id=run.user_id,
                project_id=run.project_id,
                created_at=utc_now(),
                updated_at=utc_now(),
            )
        )
    return ids


def lease_due(connection: Connection, owner: str, *, limit: int, seconds: float) -> list[LeasedRun]:
    """Take up to ``limit`` runs whose time has come and that nobody holds. Each counts one more attempt."""
    free = sa.or_(runs.c.lease_until.is_(None), runs.c.lease_until < utc_now())
    query = (
        sa.select(runs.c.id)
        .where(runs.c.active == 1, runs.c.run_at <= utc_now(), free)
        .order_by(runs.c.run_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [row.id for row in connection.execute(query)]
    if not ids:
        return []
    connection.execute(
        sa.update(runs)
        .where(runs.c.id.in_(ids), runs.c.active == 1, free)
        .values(lease_owner=owner, lease_until=utc_after(seconds), attempt=runs.c.attempt + 1)
    )
    overdue = (runs.c.deadline < utc_now()).label("overdue")
    rows = connection.execute(
        sa.select(runs, overdue).where(runs.c.id.in_(ids), runs.c.lease_owner == owner, runs.c.active == 1)
    )
    return [_leased(row) for row in rows]


def _leased(row: Row[Any]) -> LeasedRun:
    return LeasedRun(
        id=row.id,
        server_id=row.server_id,
        operation=row.operation,
        step=row.step,
        direction=row.direction,
        arguments=row.arguments,
        outputs=row.outputs,
        events=row.events,
        generation=row.generation,
        attempt=row.attempt,
        cancel_requested=row.cancel_requested,
        overdue=bool(row.overdue),
        error=row.error,
        message=row.message,
        detail=row.detail,
        request_id=row.request_id,
        user_id=row.user_id,
        project_id=row.project_id,
    )


def get_leased(connection: Connection, run_id: str, owner: str) -> LeasedRun:
    """The run as it is now, locked until the transaction ends. Raises Stale when the lease went to another."""
    overdue = (runs.c.deadline < utc_now()).label("overdue")
    row = connection.execute(
        sa.select(runs, overdue)
        .where(runs.c.id == run_id, runs.c.lease_owner == owner, runs.c.active == 1)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise errors.Stale("The lease of this run went to another conductor.")
    return _leased(row)


def save(connection: Connection, run_id: str, values: Mapping[str, Any], *, wait: float | None) -> None:
    """Store progress. ``wait`` seconds until the run is due again, giving the lease back; None keeps the lease."""
    ready = dict(values)
    if wait is not None:
        ready |= {"run_at": utc_after(wait), "lease_owner": None, "lease_until": None}
    connection.execute(sa.update(runs).where(runs.c.id == run_id).values(updated_at=utc_now(), **ready))


def renew(connection: Connection, owner: str, run_ids: Sequence[str], seconds: float) -> None:
    """Hold on to runs that are being worked on."""
    connection.execute(
        sa.update(runs)
        .where(runs.c.id.in_(run_ids), runs.c.lease_owner == owner, runs.c.active == 1)
        .values(lease_until=utc_after(seconds))
    )


def finish(connection: Connection, run_id: str, state: str) -> None:
    """End the run; its server may begin another."""
    connection.execute(
        sa.update(runs)
        .where(runs.c.id == run_id)
        .values(
            active=None,
            state=state,
            finished_at=utc_now(),
            updated_at=utc_now(),
            lease_owner=None,
            lease_until=None,
        )
    )


def record_step(
    connection: Connection, run_id: str, step: str, direction: str, *, outcome: str, attempt: int, message: str = ""
) -> None:
    """Note a step's end; a second end of the same step and direction replaces the first."""
    key = (run_steps.c.run_id == run_id, run_steps.c.step == step, run_steps.c.direction == direction)
    values = {"outcome": outcome, "attempt": attempt, "message": message[:2000], "finished_at": utc_now()}
    if connection.execute(sa.update(run_steps).where(*key).values(**values)).rowcount == 0:
        connection.execute(
            sa.insert(run_steps).values(run_id=run_id, step=step, direction=direction, started_at=utc_now(), **values)
        )


def add_events(connection: Connection, events: Sequence[GuestEvent]) -> list[str]:
    """Store hosts' words for their runs and make those due; stale ones are dropped. Returns the runs woken."""
    woken: list[str] = []
    for event in events:
        row = connection.execute(
            sa.select(runs.c.events, runs.c.generation)
            .where(runs.c.id == event.run_id, runs.c.active == 1)
            .with_for_update()
        ).one_or_none()
        if row is None or event.generation != row.generation or event.step in row.events:
            continue
        word = {
            "error": event.error,
            "message": event.message,
            "detail": event.detail,
            "power_state": event.power_state,
            "outputs": event.outputs,
        }
        connection.execute(
            sa.update(runs)
            .where(runs.c.id == event.run_id, runs.c.active == 1)
            .values(events={**row.events, event.step: word}, run_at=utc_now())
        )
        woken.append(event.run_id)
    return woken


def cancel(connection: Connection, server_id: str) -> bool:
    """Ask the server's unfinished run to turn round; False when there is none."""
    changed = connection.execute(
        sa.update(runs)
        .where(runs.c.server_id == server_id, runs.c.active == 1)
        .values(cancel_requested=True, run_at=utc_now())
    )
    return changed.rowcount == 1


def find_active(connection: Connection, server_id: str) -> str | None:
    """The operation of the server's unfinished run."""
    return connection.execute(
        sa.select(runs.c.operation).where(runs.c.server_id == server_id, runs.c.active == 1)
    ).scalar_one_or_none()


def list_active_servers(connection: Connection, host: str) -> set[str]:
    """Ids of servers on a host that have an unfinished run."""
    rows = connection.execute(
        sa.select(runs.c.server_id)
        .join(servers, servers.c.id == runs.c.server_id)
        .where(runs.c.active == 1, servers.c.host == host)
    )
    return {row.server_id for row in rows}


def _record(row: Row[Any], steps: tuple[StepRecord, ...] = ()) -> RunRecord:
    return RunRecord(
        id=row.id,
        server_id=row.server_id,
        operation=row.operation,
        state=row.state,
        step=str(row.step),
        direction=row.direction,
        attempt=row.attempt,
        request_id=row.request_id,
        user_id=row.user_id,
        project_id=row.project_id,
        generation=row.generation,
        cancel_requested=row.cancel_requested,
        error=row.error,
        message=row.message,
        lease_owner=row.lease_owner,
        run_at=row.run_at,
        deadline=row.deadline,
        created_at=row.created_at,
        finished_at=row.finished_at,
        steps=steps,
    )


def list_runs(
    connection: Connection, *, server_id: str | None = None, unfinished: bool = False, limit: int = 500
) -> list[RunRecord]:
    """Newest first."""
    query = sa.select(runs).order_by(runs.c.created_at.desc()).limit(limit)
    if server_id is not None:
        query = query.where(runs.c.server_id == server_id)
    if unfinished:
        query = query.where(runs.c.active == 1)
    rows = connection.execute(query).all()
    steps = _steps_of(connection, [row.id for row in rows]) if server_id is not None else {}
    return [_record(row, steps.get(row.id, ())) for row in rows]


def get(connection: Connection, run_id: str) -> RunRecord:
    """By run id or request id, with its steps. Raises NotFound."""
    row = connection.execute(
        sa.select(runs).where(sa.or_(runs.c.id == run_id, runs.c.request_id == run_id)).limit(1)
    ).one_or_none()
    if row is None:
        raise errors.NotFound(f"Operation {run_id} could not be found.")
    return _record(row, _steps_of(connection, [row.id]).get(row.id, ()))


def _steps_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, tuple[StepRecord, ...]]:
    found: dict[str, tuple[StepRecord, ...]] = {}
    rows = connection.execute(
        sa.select(run_steps).where(run_steps.c.run_id.in_(run_ids)).order_by(run_steps.c.finished_at)
    )
    for row in rows:
        step = StepRecord(
            step=row.step,
            direction=row.direction,
            outcome=row.outcome,
            attempt=row.attempt,
            started_at=row.started_at,
            finished_at=row.finished_at,
            message=row.message,
            outputs=row.outputs or {},
        )
        found[row.run_id] = (*found.get(row.run_id, ()), step)
    return found


def list_overdue(connection: Connection, seconds: float) -> list[RunRecord]:
    """Unfinished runs whose deadline passed more than ``seconds`` ago."""
    rows = connection.execute(sa.select(runs).where(runs.c.active == 1, runs.c.deadline < utc_after(-seconds)))
    return [_record(row) for row in rows]


def count_active(connection: Connection) -> int:
    """Unfinished runs."""
    query = sa.select(sa.func.count()).select_from(runs).where(runs.c.active == 1)
    return int(connection.execute(query).scalar_one())
