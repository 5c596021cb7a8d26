"""The top's outbox: accepted requests that no cell has taken yet. Each step is a conditional update."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import clock
from cellcloud.context import RequestContext, service_context
from cellcloud.db import database_incarnations, user_data
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.server_index import unplace, upsert
from cellcloud.db.top_schema import intents, server_index
from cellcloud.model import codec
from cellcloud.model.intent import Intent, IntentKind, IntentState, Refusal
from cellcloud.model.no_valid_host_message import NO_HOST
from cellcloud.model.server import ServerFault, ServerRecord
from cellcloud.server_states import VmState

_RECORD = msgspec.json.Decoder(ServerRecord)
_WHOLE = sa.select(
    intents,
    (intents.c.deadline <= utc_now()).label("late"),
    sa.type_coerce(server_index.c.record, sa.Text).label("raw_record"),
).join_from(intents, server_index, intents.c.server_id == server_index.c.id, isouter=True)
UNFINISHED = (IntentState.PENDING, IntentState.RECORDED)


_NOW = sa.select(utc_now())
_INSERT = sa.insert(intents)


def make_intent(
    kind: IntentKind, server_id: str, context: RequestContext, *, cell: str = "", record: ServerRecord | None = None
) -> Intent:
    """Return an intent that is not written yet."""
    return Intent(
        id=str(uuid.uuid4()),
        kind=kind,
        server_id=server_id,
        cell=cell,
        request_id=context.request_id,
        context=context.to_wire(),
        record=record,
    )


def add_intents(
    connection: Connection,
    made: Sequence[Intent],
    *,
    owner: str,
    lease: float,
    deadline: float,
    now: dt.datetime | None = None,
) -> None:
    """Write intents, leased to ``owner`` for ``lease`` seconds. ``now``: the database's time, where it is known."""
    if not made:
        return
    # Plain values, so that a batch is one statement on every database.
    now = now or connection.execute(_NOW).scalar_one()
    times = {
        "lease_owner": owner,
        "lease_until": now + dt.timedelta(seconds=lease),
        "deadline": now + dt.timedelta(seconds=deadline),
        "created_at": now,
        "updated_at": now,
    }
    connection.execute(
        _INSERT,
        [
            {
                "id": one.id,
                "kind": one.kind,
                "server_id": one.server_id,
                "state": one.state,
                "cell": one.cell,
                "request_id": one.request_id,
                "context": one.context,
                **times,
            }
            for one in made
        ],
    )


def _intents(connection: Connection, rows: Iterable[Row[Any]]) -> list[Intent]:
    """Return the models of rows, with whole records."""
    found = [_intent(row) for row in rows]
    records = user_data.attach_fields(connection, user_data.TOP, [one.record for one in found if one.record])
    whole = {record.id: record for record in records}
    return [replace(one, record=whole.get(one.server_id)) for one in found]


def _intent(row: Row[Any]) -> Intent:
    return Intent(
        id=row.id,
        kind=row.kind,
        server_id=row.server_id,
        state=row.state,
        cell=row.cell,
        request_id=row.request_id,
        context=row.context,
        refusals={name: codec.from_plain(value, Refusal) for name, value in (row.refusals or {}).items()},
        attempts=row.attempts,
        hold=row.hold,
        placement=row.placement,
        late=bool(row.late),
        created_at=row.created_at,
        updated_at=row.updated_at,
        record=_RECORD.decode(row.raw_record) if row.raw_record is not None else None,
    )


_IDS = intents.c.id.in_(sa.bindparam("ids", expanding=True))
_UNFINISHED_OF = _WHOLE.where(_IDS, intents.c.state.in_(UNFINISHED)).order_by(intents.c.created_at, intents.c.id)
_RECORD_PLACEMENT = (
    sa.update(intents)
    .where(_IDS, intents.c.kind == IntentKind.CREATE, intents.c.state == IntentState.PENDING)
    .values(state=IntentState.RECORDED, cell=sa.bindparam("which_cell"), updated_at=utc_now())
)
_RECORDED = sa.select(intents.c.id, intents.c.server_id, intents.c.placement).where(
    _IDS, intents.c.cell == sa.bindparam("which_cell"), intents.c.state == IntentState.RECORDED
)
_INDEX_PLACEMENT = (
    sa.update(server_index)
    .where(server_index.c.id.in_(sa.bindparam("server_ids", expanding=True)), server_index.c.cell == "")
    .values(cell=sa.bindparam("which_cell"), version=0)
)
_ANSWERED = sa.case((intents.c.kind == IntentKind.CREATE, IntentState.RECORDED), else_=IntentState.PENDING)
_SETTLE = (
    sa.update(intents)
    .where(_IDS, intents.c.state == _ANSWERED)
    .values(state=IntentState.SETTLED, lease_owner=None, lease_until=None, updated_at=utc_now())
)


def list_intents(connection: Connection, ids: Collection[str]) -> list[Intent]:
    """Return the unfinished ones among ``ids``, oldest first, each with its server's record."""
    return _intents(connection, connection.execute(_UNFINISHED_OF, {"ids": list(ids)}))


def find_intent(connection: Connection, server_id: str, kind: IntentKind) -> Intent | None:
    """Return a server's intent of that kind, finished or not."""
    found = connection.execute(_WHOLE.where(intents.c.server_id == server_id, intents.c.kind == kind))
    return next(iter(_intents(connection, found)), None)


def list_free(connection: Connection, limit: int) -> list[str]:
    """Ids of unfinished intents whose lease has run out, longest first."""
    found = connection.execute(
        sa.select(intents.c.id).where(*_free()).order_by(intents.c.lease_until).limit(limit)
    ).scalars()
    return list(found)


def begin_leases(connection: Connection, ids: Sequence[str], owner: str, *, seconds: float) -> list[str]:
    """Take free intents over; returns the ids that nobody else took first."""
    return [
        intent_id
        for intent_id in ids
        if connection.execute(
            sa.update(intents)
            .where(intents.c.id == intent_id, *_free())
            .values(lease_owner=owner, lease_until=utc_after(seconds))
        ).rowcount
    ]


def _free() -> tuple[sa.ColumnElement[bool], ...]:
    ended = sa.or_(intents.c.lease_until.is_(None), intents.c.lease_until <= utc_now())
    return intents.c.state.in_(UNFINISHED), ended


def postpone(connection: Connection, ids: Collection[str], seconds: float) -> None:
    """Give leases back: anybody may take these intents up again after ``seconds``."""
    connection.execute(
        sa.update(intents)
        .where(intents.c.id.in_(ids), intents.c.state.in_(UNFINISHED))
        .values(lease_owner=None, lease_until=utc_after(seconds), updated_at=utc_now())
    )


def hasten(connection: Connection) -> int:
    """Make what was postponed free at once; returns how many."""
    waiting = (intents.c.state.in_(UNFINISHED), intents.c.lease_owner.is_(None), intents.c.lease_until > utc_now())
    return connection.execute(sa.update(intents).where(*waiting).values(lease_until=utc_now())).rowcount


def record_placements(
    connection: Connection, ids: Collection[str], cell: str, *, holds: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Commit that ``cell`` has these servers: pending -> recorded, in one statement. ``holds``: intent -> the version
    at which the cell holds its server, where not 1.

    Returns those that are recorded in that cell now, with the numbers of their placements; the others were cancelled or
    recorded elsewhere. The index takes the cell's copies from version 1 on, whatever was written before.
    """
    wanted = {"ids": list(ids), "which_cell": cell}
    changed = connection.execute(_RECORD_PLACEMENT, wanted)
    rows = connection.execute(_RECORDED, wanted).all()
    for intent_id in sorted({row.id for row in rows} & (holds or {}).keys()):
        hold = (holds or {})[intent_id]
        mine = (intents.c.id == intent_id, intents.c.state == IntentState.RECORDED, intents.c.hold < hold)
        connection.execute(sa.update(intents).where(*mine).values(hold=hold))
    if changed.rowcount:
        connection.execute(_INDEX_PLACEMENT, {"server_ids": [row.server_id for row in rows], "which_cell": cell})
    return {row.id: row.placement for row in rows}


def next_placement(connection: Connection, last: int) -> int:
    """Return the number of a placement that comes after the ``last``: the database's time in milliseconds, so that it
    is also higher than those given out in a history that the database lost."""
    now: dt.datetime = connection.execute(_NOW).scalar_one()
    return max(last + 1, int(now.timestamp() * 1000))


def settle(connection: Connection, ids: Collection[str], cell: str | None = None) -> None:
    """Mark intents done: ``cell`` has answered for them, and they are still its own. None: whichever has them."""
    settling = _SETTLE if cell is None else _SETTLE.where(intents.c.cell == cell)
    connection.execute(settling, {"ids": list(ids)})


def reopen(connection: Connection, intent: Intent, refusal: Refusal, *, deadline: float | None = None) -> bool:
    """Turn recorded or settled -> pending, because the cell has the server no more, once for each cell; with
    ``deadline`` seconds from now, if given. False when it was deleted, or held anew, meanwhile.

    The row is locked by the first statement, so that a delete (``stop_creates``) comes wholly before or after.
    """
    placed = intents.c.state.in_((IntentState.RECORDED, IntentState.SETTLED))
    changed = connection.execute(
        sa.update(intents)
        .where(intents.c.id == intent.id, placed, intents.c.cell == intent.cell, intents.c.hold == intent.hold)
        .values(
            state=IntentState.PENDING,
            cell="",
            hold=1,
            attempts=intents.c.attempts + 1,
            placement=next_placement(connection, intent.placement),
            refusals=codec.to_plain(intent.refusals | {intent.cell: refusal}),
            deadline=intents.c.deadline if deadline is None else utc_after(deadline),
            updated_at=utc_now(),
        )
    )
    if changed.rowcount == 0:
        return False
    deletes = sa.exists().where(intents.c.server_id == intent.server_id, intents.c.kind == IntentKind.DELETE)
    deleted = sa.exists().where(server_index.c.id == intent.server_id, server_index.c.deleted.is_(True))
    if connection.execute(sa.select(sa.or_(deletes, deleted))).scalar():
        finish_pending(connection, intent.id, IntentState.CANCELLED)
        return False
    unplace(connection, intent.server_id, intent.cell)
    return True


def take_back(connection: Connection, given_up: ServerRecord, *, deadline: float) -> None:
    """Take back a server that a cell has given up (``given_up.cell``): it is to be placed in another, or, when
    nothing is known any more of how it was accepted, shown as failed. Idempotent; what another cell has by now is
    not touched."""
    fault = given_up.fault or ServerFault(code=500, message=NO_HOST, created=given_up.terminated_at or clock.now())
    intent = find_intent(connection, given_up.id, IntentKind.CREATE)
    if intent is None:
        failed = replace(given_up, deleted=False, terminated_at=None, vm_state=VmState.ERROR)
        upsert(connection, [failed], adopt=True)
    elif intent.cell == given_up.cell:
        refusal = Refusal(outcome="refused", reason=fault.message, detail=fault.details)
        reopen(connection, intent, refusal, deadline=deadline)


def find_placed(connection: Connection, records: Sequence[ServerRecord], *, deadline: float) -> None:
    """Servers that a cell runs (``record.cell``) and that are in none as far as is known here, since the database fell
    back: they are the cell's. What was deleted here meanwhile is to be deleted there."""
    running = {record.id: record.cell for record in records if not record.deleted and record.cell}
    placements = {record.id: record.placement for record in records}
    create = sa.and_(intents.c.server_id == server_index.c.id, intents.c.kind == IntentKind.CREATE)
    accepted = sa.func.coalesce(intents.c.created_at, server_index.c.created_at, type_=server_index.c.created_at.type)
    unplaced = (
        sa.select(server_index.c.id, server_index.c.deleted, accepted.label("accepted_at"))
        .join_from(server_index, intents, create, isouter=True)
        .where(server_index.c.id.in_(running), server_index.c.cell == "")
    )
    rows = connection.execute(unplaced.order_by(server_index.c.id)).all() if running else ()
    if rows:
        database_incarnations.notice_in_top(connection, min(row.accepted_at for row in rows))
    for row in rows:
        cell = running[row.id]
        if row.deleted:
            wanted = make_intent(IntentKind.DELETE, row.id, service_context(), cell=cell)
            ensure_deletes(connection, [wanted], owner="", lease=0.0, deadline=deadline)
            continue
        mine = (intents.c.server_id == row.id, intents.c.kind == IntentKind.CREATE)
        open_again = (IntentState.PENDING, IntentState.FAILED)
        theirs = placements[row.id]
        connection.execute(
            sa.update(intents)
            .where(*mine, intents.c.state.in_(open_again))
            .values(
                state=IntentState.SETTLED,
                cell=cell,
                placement=sa.case((intents.c.placement < theirs, theirs), else_=intents.c.placement),
                lease_owner=None,
                lease_until=None,
                updated_at=utc_now(),
            )
        )
        connection.execute(_INDEX_PLACEMENT, {"server_ids": [row.id], "which_cell": cell})


def save_refusals(connection: Connection, intent_id: str, refusals: dict[str, Refusal]) -> None:
    """Keep why each cell said no so far."""
    connection.execute(
        sa.update(intents)
        .where(intents.c.id == intent_id, intents.c.state == IntentState.PENDING)
        .values(refusals=codec.to_plain(refusals), updated_at=utc_now())
    )


def finish_pending(connection: Connection, intent_id: str, state: IntentState) -> bool:
    """pending -> ``state`` (failed, cancelled); False when it is pending no more."""
    changed = connection.execute(
        sa.update(intents)
        .where(intents.c.id == intent_id, intents.c.state == IntentState.PENDING)
        .values(state=state, lease_owner=None, lease_until=None, updated_at=utc_now())
    )
    return changed.rowcount == 1


def stop_creates(connection: Connection, server_ids: Collection[str]) -> dict[str, str]:
    """For deletes: cancel the servers' creates that no cell has yet; returns the states the creates are in now.

    The rows are locked until the transaction ends: until then one that a cell has cannot become pending again. What is
    left out has no create any more, it is long settled.
    """
    mine = (intents.c.server_id.in_(sorted(server_ids)), intents.c.kind == IntentKind.CREATE)
    query = sa.select(intents.c.server_id, intents.c.state).where(*mine).order_by(intents.c.server_id)
    states: dict[str, str] = {row.server_id: row.state for row in connection.execute(query.with_for_update())}
    pending = [server_id for server_id, state in states.items() if state == IntentState.PENDING]
    if pending:
        stopped = sa.update(intents).where(*mine, intents.c.state == IntentState.PENDING)
        connection.execute(stopped.values(state=IntentState.CANCELLED, updated_at=utc_now()))
    return states | dict.fromkeys(pending, IntentState.CANCELLED)


def ensure_deletes(
    connection: Connection, wanted: Sequence[Intent], *, owner: str, lease: float, deadline: float
) -> list[Intent]:
    """Return the servers' delete intents, all of one kind, as they are wanted or, for repeated deletes, those that were
    made before, pending again. The caller holds the servers' rows of the index."""
    if not wanted:
        return []
    kinds = {one.kind for one in wanted}
    mine = (intents.c.server_id.in_([one.server_id for one in wanted]), intents.c.kind.in_(kinds))
    before = {
        row.server_id: row.id for row in connection.execute(sa.select(intents.c.id, intents.c.server_id).where(*mine))
    }
    again = [replace(one, id=before[one.server_id]) for one in wanted if one.server_id in before]
    for cell in sorted({one.cell for one in again}):
        ids = sorted(one.id for one in again if one.cell == cell)
        connection.execute(
            sa.update(intents)
            .where(intents.c.id.in_(ids))
            .values(
                state=IntentState.PENDING,
                cell=cell,
                lease_owner=owner,
                lease_until=utc_after(lease),
                updated_at=utc_now(),
            )
        )
    fresh = [one for one in wanted if one.server_id not in before]
    add_intents(connection, fresh, owner=owner, lease=lease, deadline=deadline)
    return [*again, *fresh]


def list_unsettled(connection: Connection, server_ids: Collection[str]) -> set[str]:
    """Those of the servers whose create is not settled in a cell yet."""
    found = connection.execute(
        sa.select(intents.c.server_id).where(
            intents.c.server_id.in_(server_ids),
            intents.c.kind == IntentKind.CREATE,
            intents.c.state.in_(UNFINISHED),
        )
    ).scalars()
    return set(found)


def list_late(connection: Connection, limit: int) -> list[Intent]:
    """Unfinished intents past their deadline, oldest first."""
    rows = connection.execute(
        _WHOLE.where(intents.c.state.in_(UNFINISHED), intents.c.deadline <= utc_now())
        .order_by(intents.c.created_at)
        .limit(limit)
    )
    return _intents(connection, rows)


def measure(connection: Connection) -> dict[str, tuple[int, float]]:
    """Return for each kind how many are unfinished, and the age of the oldest in seconds."""
    oldest = sa.func.min(intents.c.created_at)
    query = sa.select(
        intents.c.kind, sa.func.count().label("unfinished"), oldest.label("oldest"), utc_now().label("now")
    )
    rows = connection.execute(query.where(intents.c.state.in_(UNFINISHED)).group_by(intents.c.kind))
    found = {row.kind: (row.unfinished, (row.now - row.oldest).total_seconds()) for row in rows}
    return {kind.value: found.get(kind, (0, 0.0)) for kind in IntentKind}


def prune(connection: Connection, *, seconds: float, limit: int = 1000) -> int:
    """Forget finished intents older than ``seconds``; returns how many went."""
    old = connection.execute(
        sa.select(intents.c.id)
        .where(intents.c.state.not_in(UNFINISHED), intents.c.updated_at < utc_after(-seconds))
        .limit(limit)
    ).scalars()
    return connection.execute(sa.delete(intents).where(intents.c.id.in_(old.all()))).rowcount
