"""Runs: operations under way, each a row with a lease. One unfinished run a server, by unique index.

Each lease of a run has a number, one higher than the last. Whatever is stored of a run is stored only while no higher
number was given out, so that a worker whose lease ran out cannot set back what its successor did, even where both are
of one conductor.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import clock, errors
from cellcloud.db import bulk
from cellcloud.db.cell_schema import run_steps, runs, servers
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model import codec
from cellcloud.model.guest_commands import GuestEvent
from cellcloud.model.run import (
    Checkpoint,
    GuestResult,
    Lease,
    LeasedRun,
    NewRun,
    RunArguments,
    RunOutputs,
    RunRecord,
    StepEnd,
    StepRecord,
    StepTime,
)

MOST_MESSAGE, MOST_DETAIL, MOST_OUTPUTS = 2000, 4000, 64 << 10  # characters of a host's answer
_NOW = sa.select(utc_now())
_OVER: dict[str, Any] = {"active": None, "arguments": {}, "finished_at": utc_now()}  # what it was asked with goes
_ENDED_AT_ONCE = _OVER | {"updated_at": utc_now()}
_INSERT = sa.insert(runs).values(
    active=1,
    state="running",
    outputs={},
    events={},
    run_at=utc_now(),
    deadline=utc_after(sa.bindparam("allowed", type_=sa.Float)),
    created_at=utc_now(),
    updated_at=utc_now(),
)
_UNTIL = utc_after(sa.bindparam("seconds", type_=sa.Float))
_INSERT_LEASED = _INSERT.values(lease_owner=sa.bindparam("owner"), lease_until=_UNTIL, attempt=1, lease_number=1)


def insert(connection: Connection, new: Sequence[NewRun], lease: Lease | None = None) -> list[LeasedRun]:
    """Begin runs that are due at once; with a lease they are its owner's from the start, and returned. The unique
    index refuses a second unfinished one of a server."""
    if not new:
        return []
    begun = [_begun(run) for run in new]
    terms = {} if lease is None else {"owner": lease.owner, "seconds": lease.seconds}
    rows = [
        {
            "id": run.id,
            "server_id": run.server_id,
            "operation": run.operation,
            "arguments": codec.to_plain(run.arguments),
            "generation": run.generation,
            "allowed": wanted.deadline,
            "request_id": run.request_id,
            "user_id": run.user_id,
            "project_id": run.project_id,
            "host": wanted.host,
            "trail": wanted.trail,
            "direction": wanted.direction,
            **terms,
        }
        for run, wanted in zip(begun, new, strict=True)
    ]
    connection.execute(_INSERT if lease is None else _INSERT_LEASED, rows)
    return begun if lease else []


def insert_finished(connection: Connection, done: NewRun, failure: str = "") -> None:
    """Record something that was done at once, for those who ask what a server went through. ``failure``: why it was
    not."""
    connection.execute(
        sa.insert(runs).values(
            id=str(uuid.uuid4()),
            server_id=done.server_id,
            active=None,
            operation=done.operation,
            state="failed" if failure else "done",
            message=failure,
            arguments={},
            outputs={},
            events={},
            generation=done.generation,
            run_at=utc_now(),
            deadline=utc_now(),
            request_id=done.asked.request_id,
            user_id=done.asked.user_id,
            project_id=done.asked.project_id,
            host=done.host,
            created_at=utc_now(),
            updated_at=utc_now(),
            finished_at=utc_now(),
        )
    )


def _begun(run: NewRun) -> LeasedRun:
    return LeasedRun(
        id=str(uuid.uuid4()),
        server_id=run.server_id,
        operation=run.operation,
        step=0,
        trail=run.trail,
        direction="do",
        arguments=run.asked.arguments,
        outputs=RunOutputs(),
        events={},
        generation=run.generation,
        attempt=1,
        step_since=None,
        cancel_requested=False,
        overdue=False,
        error="",
        message="",
        detail="",
        request_id=run.asked.request_id,
        user_id=run.asked.user_id,
        project_id=run.asked.project_id,
        lease_number=1,
    )


_FREE = sa.or_(runs.c.lease_until.is_(None), runs.c.lease_until < utc_now())
_DUE = (
    sa.select(runs.c.id)
    .where(
        runs.c.active == 1,
        runs.c.run_at <= utc_now(),
        _FREE,
        runs.c.id.not_in(sa.bindparam("busy", expanding=True)),
    )
    .order_by(runs.c.run_at)
    .limit(sa.bindparam("most", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)
_LEASE = (
    sa.update(runs)
    .where(runs.c.id.in_(sa.bindparam("ids", expanding=True)), runs.c.active == 1, _FREE)
    .values(
        lease_owner=sa.bindparam("owner"),
        lease_until=_UNTIL,
        lease_number=runs.c.lease_number + 1,
        attempt=runs.c.attempt + 1,
    )
)
_OVERDUE = (runs.c.deadline < utc_now()).label("overdue")
_MINE = sa.select(runs, _OVERDUE).where(
    runs.c.id.in_(sa.bindparam("ids", expanding=True)), runs.c.lease_owner == sa.bindparam("owner"), runs.c.active == 1
)


_ANY_DUE = sa.select(runs.c.id).where(runs.c.active == 1, runs.c.run_at <= utc_now(), _FREE).limit(1)


def is_any_due(connection: Connection) -> bool:
    """Return whether the time of any run has come that nobody holds."""
    return connection.execute(_ANY_DUE).first() is not None


def lease_due(connection: Connection, lease: Lease, *, limit: int) -> list[LeasedRun]:
    """Take up to ``limit`` runs whose time has come and that nobody holds. Each counts one more attempt."""
    ids = [row.id for row in connection.execute(_DUE, {"most": limit, "busy": sorted(lease.busy)})]
    if not ids:
        return []
    connection.execute(_LEASE, {"ids": ids, "owner": lease.owner, "seconds": lease.seconds})
    return [_leased(row) for row in connection.execute(_MINE, {"ids": ids, "owner": lease.owner})]


def _leased(row: Row[Any]) -> LeasedRun:
    return LeasedRun(
        id=row.id,
        server_id=row.server_id,
        operation=row.operation,
        step=row.step,
        trail=row.trail,
        direction=row.direction,
        arguments=codec.from_plain(row.arguments, RunArguments),
        outputs=codec.from_plain(row.outputs, RunOutputs),
        events=_results(row.events),
        generation=row.generation,
        attempt=row.attempt,
        step_since=row.step_since,
        cancel_requested=row.cancel_requested,
        overdue=bool(row.overdue),
        error=row.error,
        message=row.message,
        detail=row.detail,
        request_id=row.request_id,
        user_id=row.user_id,
        project_id=row.project_id,
        lease_number=row.lease_number,
    )


def _results(events: object) -> dict[str, GuestResult]:
    return codec.from_plain(events, dict[str, GuestResult])


_LEASED = (
    sa.select(runs.c.id, runs.c.lease_number, runs.c.events, runs.c.cancel_requested)
    .where(
        runs.c.id.in_(sa.bindparam("ids", expanding=True)),
        runs.c.lease_owner == sa.bindparam("owner"),
        runs.c.active == 1,
    )
    .order_by(runs.c.id)
    .with_for_update()
)


def list_leased(
    connection: Connection, held: Mapping[str, int], owner: str
) -> dict[str, tuple[dict[str, GuestResult], bool]]:
    """Run -> (events, cancel requested) as they are now, of those that the owner still holds by the lease of that
    number; locked until the transaction ends. ``held``: run -> lease number."""
    rows = connection.execute(_LEASED, {"ids": sorted(held), "owner": owner})
    return {row.id: (_results(row.events), row.cancel_requested) for row in rows if row.lease_number == held[row.id]}


def lock_leased(connection: Connection, run: LeasedRun) -> bool:
    """Lock a run until the transaction ends; False when it is over or its lease went to another."""
    held = sa.select(runs.c.id).where(runs.c.id == run.id, runs.c.active == 1, runs.c.lease_number == run.lease_number)
    return connection.execute(held.with_for_update()).first() is not None


_STORED = (
    "step",
    "trail",
    "direction",
    "generation",
    "outputs",
    "events",
    "attempt",
    "step_since",
    "error",
    "message",
    "detail",
)
_CHECKPOINT = (
    sa.update(runs)
    .where(runs.c.id == sa.bindparam("run"), runs.c.lease_number <= sa.bindparam("new_lease_number"))
    .values(
        {name: sa.bindparam(f"new_{name}", type_=runs.c[name].type) for name in _STORED}
        | {"lease_number": sa.bindparam("new_lease_number"), "updated_at": utc_now()}
    )
)
_WAITING = _CHECKPOINT.values(
    run_at=utc_after(sa.bindparam("wait", type_=sa.Float)), lease_owner=None, lease_until=None
)
_ENDING = _CHECKPOINT.values(**_OVER, state=sa.bindparam("new_state"), lease_owner=None, lease_until=None)


def save(connection: Connection, made: Sequence[Checkpoint], ends: Sequence[StepEnd] = ()) -> None:
    """Store the state of many runs, each while nobody has a later lease of it, and the steps that they have ended."""
    if not made:
        return
    now, monotonic = connection.execute(_NOW).scalar_one(), clock.monotonic()
    for statement, group in (
        (_CHECKPOINT, [one for one in made if one.wait is None and not one.finished]),
        (_WAITING, [one for one in made if one.wait is not None and not one.finished]),
        (_ENDING, [one for one in made if one.finished]),
    ):
        if group:
            connection.execute(statement, [_state(one, now, monotonic) for one in group])
    _record_steps(connection, ends, now, monotonic)


def _state(made: Checkpoint, now: dt.datetime, monotonic: float) -> dict[str, Any]:
    run = made.run
    values: dict[str, Any] = {
        "run": run.id,
        "new_step": run.step,
        "new_trail": run.trail,
        "new_direction": run.direction,
        "new_generation": run.generation,
        "new_outputs": codec.to_plain(run.outputs),
        "new_events": codec.to_plain(run.events),
        "new_attempt": run.attempt,
        "new_step_since": made.step_time.at(now, monotonic) if made.step_time else None,
        "new_error": run.error,
        "new_message": run.message,
        "new_detail": run.detail,
        "new_lease_number": run.lease_number,
    }
    if made.finished:
        values["new_state"] = made.finished
    elif made.wait is not None:
        values["wait"] = made.wait
    return values


def begin_try(connection: Connection, run: LeasedRun, host: str) -> bool:
    """Give a run its next generation and host, and forget the results of the last; False when its lease went to
    another."""
    changed = connection.execute(
        sa.update(runs)
        .where(
            runs.c.id == run.id,
            runs.c.active == 1,
            runs.c.lease_number == run.lease_number,
            runs.c.generation == run.generation,
        )
        .values(generation=runs.c.generation + 1, events={}, host=host)
    )
    return changed.rowcount == 1


def renew(connection: Connection, lease: Lease, held: Mapping[str, int]) -> None:
    """Hold on to runs that are being worked on: run -> number of the lease they are held by."""
    numbered = sa.tuple_(runs.c.id, runs.c.lease_number).in_(sorted(held.items()))
    connection.execute(
        sa.update(runs)
        .where(numbered, runs.c.lease_owner == lease.owner, runs.c.active == 1)
        .values(lease_until=utc_after(lease.seconds))
    )


_ENDED = ("run_id", "step", "direction", "outcome", "attempt", "message", "started_at", "finished_at")


def _record_steps(connection: Connection, ends: Sequence[StepEnd], now: dt.datetime, monotonic: float) -> None:
    """Another end of the same step and direction replaces the first."""
    newest = {(one.run_id, one.step, one.direction): one for one in ends}
    rows = [
        (*key, one.outcome, one.attempt, one.message[:2000], *_times(one, now, monotonic))
        for key, one in newest.items()
    ]
    bulk.insert(connection, run_steps, _ENDED, rows, replace=True)


def _times(end: StepEnd, now: dt.datetime, monotonic: float) -> tuple[dt.datetime, dt.datetime]:
    began, ended = end.step_time.at(now, monotonic), StepTime(began=end.ended).at(now, monotonic)
    return min(began, ended).replace(tzinfo=None), ended.replace(tzinfo=None)


_FOR_EVENTS = (
    sa.select(runs, _OVERDUE, _FREE.label("free"))
    .where(runs.c.id.in_(sa.bindparam("ids", expanding=True)), runs.c.active == 1)
    .order_by(runs.c.id)
    .with_for_update()
)
_ADD_EVENTS = (
    sa.update(runs)
    .where(runs.c.id == sa.bindparam("run"))
    .values(events=sa.bindparam("new_events", type_=runs.c.events.type), run_at=utc_now())
)


def _result(event: GuestEvent) -> GuestResult:
    """Return what is kept of what a host says, however much it is."""
    if sum(map(len, (*event.outputs, *event.outputs.values()))) > MOST_OUTPUTS:
        return GuestResult(error="HostRefused", message="The host has answered with more than is taken.")
    return GuestResult(
        error=event.known_error,
        message=event.message[:MOST_MESSAGE],
        detail=event.detail[:MOST_DETAIL],
        power_state=event.power_state,
        outputs=event.outputs,
    )


def add_events(
    connection: Connection, events: Sequence[GuestEvent], terms: Lease | None = None
) -> tuple[list[LeasedRun], bool]:
    """Store hosts' results for their runs and make those due; stale ones are dropped.

    Returns (runs to be moved in this transaction, whether others are due). With ``terms`` the runs that nobody holds,
    and that its owner is not busy with, are taken: returned with their results, which are not stored; the caller saves
    them before the transaction ends.
    """
    ids = sorted({event.run_id for event in events})
    if not ids:
        return [], False
    known = {row.id: row for row in connection.execute(_FOR_EVENTS, {"ids": ids})}
    results = {run_id: _results(row.events) for run_id, row in known.items()}
    woken: dict[str, None] = {}
    for event in events:
        row = known.get(event.run_id)
        if row is None or event.generation != row.generation or event.step in results[event.run_id]:
            continue
        results[event.run_id][event.step] = _result(event)
        woken[event.run_id] = None
    free = [run_id for run_id in woken if terms is not None and known[run_id].free and run_id not in terms.busy]
    others = [run_id for run_id in woken if run_id not in free]
    if others:
        connection.execute(
            _ADD_EVENTS, [{"run": run_id, "new_events": codec.to_plain(results[run_id])} for run_id in others]
        )
    taken = [_leased(known[run_id]) for run_id in free]
    return [
        replace(run, events=results[run.id], attempt=run.attempt + 1, lease_number=run.lease_number + 1)
        for run in taken
    ], bool(others)


def lease(connection: Connection, terms: Lease, run_ids: Sequence[str]) -> None:
    """Take runs that nobody holds; each counts one more attempt."""
    if run_ids:
        connection.execute(_LEASE, {"ids": list(run_ids), "owner": terms.owner, "seconds": terms.seconds})


def cancel(connection: Connection, server_ids: Sequence[str]) -> None:
    """Ask the servers' unfinished runs to turn round."""
    if server_ids:
        connection.execute(
            sa.update(runs)
            .where(runs.c.server_id.in_(server_ids), runs.c.active == 1)
            .values(cancel_requested=True, run_at=utc_now())
        )


def retire(connection: Connection, server_id: str, message: str) -> None:
    """End the server's unfinished run as it is, its lease too: whoever works on it finds that it has lost it."""
    connection.execute(
        sa.update(runs)
        .where(runs.c.server_id == server_id, runs.c.active == 1)
        .values(
            **_ENDED_AT_ONCE,
            state="failed",
            error="Conflict",
            message=message,
            lease_owner=None,
            lease_until=None,
            lease_number=runs.c.lease_number + 1,
        )
    )


def expire(connection: Connection, server_id: str) -> None:
    """Let the deadline of the server's unfinished run be now: unless it can only go forward, it is undone."""
    mine = (runs.c.server_id == server_id, runs.c.active == 1)
    connection.execute(sa.update(runs).where(*mine).values(deadline=utc_now(), run_at=utc_now()))


def wake_on(connection: Connection, hosts: Sequence[str]) -> None:
    """Make the unfinished runs of servers on these hosts due: what they wait for may have come about."""
    if hosts:
        there = sa.select(servers.c.id).where(servers.c.host.in_(hosts))
        mine = (runs.c.active == 1, runs.c.run_at > utc_now(), runs.c.server_id.in_(there))
        connection.execute(sa.update(runs).where(*mine).values(run_at=utc_now()))


def list_operations(connection: Connection, server_ids: Sequence[str]) -> dict[str, str]:
    """Server -> the operation of its unfinished run, where it has one."""
    mine = (runs.c.server_id.in_(server_ids), runs.c.active == 1)
    return {
        row.server_id: row.operation
        for row in connection.execute(sa.select(runs.c.server_id, runs.c.operation).where(*mine))
    }


def find_active(connection: Connection, server_id: str) -> str | None:
    """Return the operation of the server's unfinished run."""
    return connection.execute(
        sa.select(runs.c.operation).where(runs.c.server_id == server_id, runs.c.active == 1)
    ).scalar_one_or_none()


def has_begun(connection: Connection, server_id: str, operation: str, request_id: str) -> bool:
    """Return whether that request has begun that operation of the server already: its answer got lost."""
    mine = (runs.c.server_id == server_id, runs.c.operation == operation, runs.c.request_id == request_id)
    return connection.execute(sa.select(runs.c.id).where(*mine).limit(1)).first() is not None


def list_active(connection: Connection, server_ids: Sequence[str]) -> set[str]:
    """Those of the servers that have an unfinished run."""
    if not server_ids:
        return set()
    rows = connection.execute(sa.select(runs.c.server_id).where(runs.c.server_id.in_(server_ids), runs.c.active == 1))
    return {row.server_id for row in rows}


def list_active_servers(connection: Connection, host: str) -> set[str]:
    """Ids of servers on a host that have an unfinished run."""
    rows = connection.execute(
        sa.select(runs.c.server_id)
        .join(servers, servers.c.id == runs.c.server_id)
        .where(runs.c.active == 1, servers.c.host == host)
    )
    return {row.server_id for row in rows}


def _step_name(row: Row[Any]) -> str:
    """Its number, where a release stored it that does not know names."""
    names = row.trail.split()
    return str(names[-1] if len(names) == row.step + 1 else row.step)


def _record(row: Row[Any], steps: tuple[StepRecord, ...] = ()) -> RunRecord:
    return RunRecord(
        id=row.id,
        server_id=row.server_id,
        operation=row.operation,
        state=row.state,
        step=_step_name(row),
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
        host=row.host,
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


def measure(connection: Connection) -> dict[str, tuple[int, float]]:
    """Return for each operation with unfinished runs how many there are, and the age of the oldest in seconds."""
    oldest = sa.func.min(runs.c.created_at)
    query = sa.select(
        runs.c.operation, sa.func.count().label("unfinished"), oldest.label("oldest"), utc_now().label("now")
    )
    rows = connection.execute(query.where(runs.c.active == 1).group_by(runs.c.operation))
    return {row.operation: (row.unfinished, (row.now - row.oldest).total_seconds()) for row in rows}


def count_active(connection: Connection) -> int:
    """Unfinished runs."""
    query = sa.select(sa.func.count()).select_from(runs).where(runs.c.active == 1)
    return int(connection.execute(query).scalar_one())
