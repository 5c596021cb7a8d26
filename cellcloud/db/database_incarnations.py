"""Which history a database tells: an id that changes when it was put back to an earlier state.

Both trees have the table, with one row. In a cell, what orders copies and commands begins anew far above what anybody
can have seen: versions, generations and the sequences of feed and change log, whose entries go. So each follower finds
a gap, reads the whole, and takes it for newer than all it knows. What was under way in a cell and would take something
from a host, or make it anew, is given up: the host may have gone on since, and by its leap the command would pass. A
create goes on, for a guest that is there already is taken for its own, and takes nothing back if it fails.
"""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import cell_schema, runs
from cellcloud.db.engine import racing, utc_after, utc_now
from cellcloud.db.top_schema import cells, intents
from cellcloud.db.top_schema import incarnations as table
from cellcloud.model import codec
from cellcloud.model.database_incarnation import LEAP, Incarnation
from cellcloud.model.operations import Operation
from cellcloud.model.run import RunOutputs
from cellcloud.model.server import ServerFault
from cellcloud.server_states import VmState

GIVEN_UP = (
    *(Operation.RESIZE, Operation.MIGRATE, Operation.CONFIRM_RESIZE, Operation.REVERT_RESIZE, Operation.REBUILD),
    *(Operation.SHELVE, Operation.SHELVE_OFFLOAD, Operation.UNSHELVE),
)
"""Of an incarnation that is over: they destroy what they take for old."""
CREATE_SECONDS = 1800.0
PUT_BACK = "The operation was given up: the database of the server's cell was put back in the midst of it."
_LASTING = (VmState.RESIZED, VmState.SHELVED, VmState.SHELVED_OFFLOADED)  # states that say where a server's disks are
COMPARING_SECONDS = 30.0  # that every cell has to be compared before what it may have is given to others
UNCOMPARED = (
    sa.select(cells.c.name)
    .where(
        cells.c.enabled.is_(True),
        sa.exists().where(
            table.c.number > 1,
            table.c.since > utc_after(-COMPARING_SECONDS),
            table.c.value != cells.c.compared,
        ),
    )
    .order_by(cells.c.name)
)


_LENGTHS = sa.select(
    *(
        sa.select(column).limit(1).scalar_subquery()
        for column in (table.c.value, cell_schema.feed_counter.c.value, cell_schema.change_counter.c.value)
    )
)


def find_lengths(connection: Connection) -> tuple[str, int, int]:
    """Return a cell's incarnation, "" for none yet, and the last sequences of its feed and its change log, all of one
    state of the database."""
    value, feed, changes = connection.execute(_LENGTHS).one()
    return value or "", feed or 0, changes or 0


def find(connection: Connection) -> Incarnation | None:
    """None: the database has none yet."""
    row = connection.execute(sa.select(table.c.value, table.c.number, table.c.since, table.c.reason)).one_or_none()
    return None if row is None else Incarnation(id=row.value, number=row.number, since=row.since, reason=row.reason)


def ensure(connection: Connection) -> Incarnation:
    """Return the present one, made if there is none."""
    found = find(connection)
    if found is None:
        with racing():
            values = {"id": 1, "value": str(uuid.uuid4()), "number": 1, "since": utc_now(), "reason": "first start"}
            connection.execute(sa.insert(table).values(values))
        found = find(connection)
    assert found is not None  # noqa: S101 -- just made
    return found


def begin_in_top(connection: Connection, reason: str, *, known: str = "", least: int = 0) -> Incarnation:
    """Begin another one of the top's database, unless ``known`` is given and not the present one any more; returns the
    present one. Every intent accepted before asks all cells before it is placed, and where none has it, its placement
    has a number above any that was lost. ``least``: the incarnation's number, at least."""
    present = ensure(connection)
    if known in ("", present.id) and _begin(connection, present, reason, least):
        _number_above_lost(connection)
    return ensure(connection)


def notice_in_top(
    connection: Connection, lost_since: dt.datetime, reason: str = "a cell runs what waits for a cell here"
) -> None:
    """Something of the top's database is lost that was stored after ``lost_since``: begin another incarnation, unless
    one has begun since then."""
    if ensure(connection).since < lost_since:
        begin_in_top(connection, reason)


def check_compared(connection: Connection) -> None:
    """Raise TryLater while the top's database, which fell back a moment ago, may not know yet what its cells have."""
    waiting = connection.execute(UNCOMPARED).scalars().all()
    if waiting:
        raise errors.TryLater(
            "The database was put back; what the cells have is being read.", detail=", ".join(waiting)
        )


def list_uncompared(connection: Connection) -> list[str]:
    """Return the cells that were not compared since the top's database fell back."""
    fell = sa.exists().where(table.c.number > 1, table.c.value != cells.c.compared)
    return list(connection.execute(sa.select(cells.c.name).where(fell).order_by(cells.c.name)).scalars())


def begin_in_cell(connection: Connection, known: str, reason: str, *, least: int = 0) -> Incarnation:
    """Begin another one of a cell's database, unless ``known`` is not the present one any more; returns the present
    one. ``least``: its number, at least, for numbers of an incarnation that the database has forgotten are in use."""
    before = ensure(connection)
    if before.id == known and _begin(connection, before, reason, least):
        _give_up(connection)
        _carry_on(connection)
        _leap(connection, LEAP * (ensure(connection).number - before.number))
    return ensure(connection)


def _begin(connection: Connection, present: Incarnation, reason: str, least: int) -> bool:
    number = max(present.number + 1, least)
    values = {"value": str(uuid.uuid4()), "number": number, "since": utc_now(), "reason": reason[:255]}
    return connection.execute(sa.update(table).where(table.c.value == present.id).values(values)).rowcount == 1


def _number_above_lost(connection: Connection) -> None:
    now: dt.datetime = connection.execute(sa.select(utc_now())).scalar_one()
    number = int(now.timestamp() * 1000)  # see ``intents.next_placement``
    older = (intents.c.state == "pending", intents.c.kind == "create", intents.c.placement < number)
    connection.execute(sa.update(intents).where(*older).values(placement=number))


def _give_up(connection: Connection) -> None:
    """End what was under way, unless a delete waits for its end: that goes on, and takes all away."""
    servers, active = cell_schema.servers, cell_schema.runs.c
    waiting = sa.select(active.server_id).join(servers, servers.c.id == active.server_id)
    waiting = waiting.where(active.active == 1, active.operation.in_(GIVEN_UP), servers.c.delete_requested.is_(False))
    now: dt.datetime = connection.execute(sa.select(utc_now())).scalar_one()
    fault = codec.to_plain(ServerFault(code=500, message=PUT_BACK, created=now))
    for server_id in connection.execute(waiting.order_by(active.server_id)).scalars().all():
        runs.retire(connection, server_id, PUT_BACK)
        mine = sa.update(servers).where(servers.c.id == server_id)
        connection.execute(mine.values(task_state=None))
        lost = mine.where(servers.c.vm_state.not_in(_LASTING))
        connection.execute(lost.values(vm_state=VmState.ERROR, fault=fault))


def _carry_on(connection: Connection) -> None:
    """Let creates go on from where they stood, with their whole time before them."""
    active = cell_schema.runs.c
    mine = sa.select(active.id, active.outputs).where(active.active == 1, active.operation == Operation.CREATE)
    for run in connection.execute(mine.where(active.direction == "do").order_by(active.id)).all():
        outputs: RunOutputs = codec.from_plain(run.outputs, RunOutputs)
        outputs = structs.replace(outputs, put_back=True)
        one = sa.update(cell_schema.runs).where(active.id == run.id)
        connection.execute(one.values(outputs=codec.to_plain(outputs), deadline=utc_after(CREATE_SECONDS)))


def _leap(connection: Connection, far: int) -> None:
    servers, runs = cell_schema.servers, cell_schema.runs
    connection.execute(sa.update(servers).values(version=servers.c.version + far))
    living = (servers.c.generation > 0, servers.c.deleted.is_(False))  # what is deleted commands nothing any more
    connection.execute(sa.update(servers).where(*living).values(generation=servers.c.generation + far))
    connection.execute(sa.update(runs).values(generation=runs.c.generation + far))
    connection.execute(sa.delete(cell_schema.console_tokens))
    for counter, log in (
        (cell_schema.feed_counter, cell_schema.feed),
        (cell_schema.change_counter, cell_schema.changes),
    ):
        connection.execute(sa.update(counter).values(value=counter.c.value + far))
        connection.execute(sa.delete(log))
    connection.execute(sa.update(cell_schema.feed_counter).values(size=0))
