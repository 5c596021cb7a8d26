"""The top's index: the newest known record of each server, written only by newer versions.

A row belongs to one cell from the moment its placement is recorded; until then (cell "") the top writes it itself and
leaves its version at 0. Copies from any other cell are not taken.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection, Row

from cellcloud.db import database_incarnations, migrations, quotas, server_groups, server_terms, user_data, user_quotas
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.top_schema import server_index
from cellcloud.model import large_fields
from cellcloud.model.flavor import Flavor
from cellcloud.model.server import ServerFault, ServerRecord
from cellcloud.model.volume import Volumes, without_connections
from cellcloud.server_states import TaskState, VmState

CHUNK = 500
LOST = "The records of this server were lost."
LOST_DETAILS = (
    "Its cell's database was put back to a time before it: see 'cellctl doctor check' and 'cellctl guest list'."
)
_RECORD = msgspec.json.Decoder(ServerRecord)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NOW = sa.select(utc_now())
_COUNTED = tuple(server_index.c[name] for name in ("quota_cores", "quota_ram", "quota_asked_at"))
RAW_RECORD = sa.type_coerce(server_index.c.record, sa.Text).label("raw_record")


# ---- writing ---------------------------------------------------------------------------------------------------------
def insert_records(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Add servers just accepted (version 0, no cell yet), or found in a cell without having a row."""
    if records:
        connection.execute(sa.insert(server_index), [_row_of(record) | _counted_for(record) for record in records])
        server_terms.add(connection, records)


def upsert(connection: Connection, records: Iterable[ServerRecord], *, force: bool = False, adopt: bool = False) -> int:
    """Take cells' copies (``record.cell``) where they are newer, or with ``force`` as they are; give back the quota of
    servers that are gone, and count those that are back.

    Copies of servers that belong to another cell, or to another project or user than they say, are left out; so are
    servers without a row, unless with ``adopt`` they are known to be the cell's. Returns how many copies were newer
    than what was known.
    """
    newest: dict[str, ServerRecord] = {}
    for record in records:
        if record.id not in newest or newest[record.id].version < record.version:
            newest[record.id] = record
    taken = 0
    for ids in _chunks(sorted(newest)):
        known = {row.id: row for row in connection.execute(_known(ids))}
        fresh = [newest[i] for i in ids if i in known and _is_newer(known[i], newest[i], force=force)]
        if fresh and force:
            _forget_versions(connection, fresh)
        if fresh:
            resized = _lock_resized(connection, fresh, known)
            _take(connection, fresh)
            server_terms.renew(connection, user_data.attach_fields(connection, user_data.TOP, fresh))
            migrations.note(connection, fresh)
            for before, cost in resized:
                count_as(connection, before, cost)
        back = [one for one in fresh if not known[one.id].quota_held and not (one.deleted or one.is_soft_deleted)]
        _count_again(connection, back)
        if adopt:
            _adopt(connection, [newest[i] for i in ids if i not in known])
        give_back_quota(connection, [record.id for record in fresh if record.deleted or record.is_soft_deleted])
        taken += len(fresh)
    return taken


def current_time(connection: Connection) -> dt.datetime:
    """Return the database's clock, as a value for many rows."""
    return connection.execute(_NOW).scalar_one()


def mark_tasks(connection: Connection, records: Sequence[ServerRecord], task_state: str) -> None:
    """Show a task state before the cells have told of it: a cell's next copy wins. The caller holds the rows."""
    rows = [
        {
            "which_id": record.id,
            "new_record": _stored(replace(record, task_state=task_state)),
            "new_task_state": task_state,
        }
        for record in sorted(records, key=lambda each: each.id)
    ]
    if rows:
        connection.execute(_TASK, rows)


def unplace(connection: Connection, server_id: str, cell: str) -> None:
    """Note that a server that ``cell`` had is in no cell again, and waits for one."""
    record = _lock(connection, server_id)
    if record is None or record.deleted or record.cell != cell:
        return
    waiting = replace(
        record,
        cell="",
        version=0,
        vm_state=VmState.BUILDING,
        task_state=TaskState.SCHEDULING,
        host=None,
        node=None,
        ports=(),
        fault=None,
    )
    _write(connection, [waiting])


def place(connection: Connection, server_id: str, cell: str) -> None:
    """Say that ``cell`` has a server, whatever was known of it: its next copy counts."""
    values = {"cell": cell, "version": 0}
    connection.execute(sa.update(server_index).where(server_index.c.id == server_id).values(**values))


def mark_lost(connection: Connection, server_ids: Collection[str], cell: str) -> None:
    """Servers that their cell knows no more since its database was put back: in ERROR, until any copy comes of them."""
    fault = ServerFault(code=500, message=LOST, created=current_time(connection), details=LOST_DETAILS)
    mine = [record for record in lock_records(connection, server_ids).values() if record.cell == cell]
    lost = [replace(each, vm_state=VmState.ERROR, task_state=None, fault=fault, version=0) for each in mine]
    _write(connection, lost)


def mark_deleted(connection: Connection, server_ids: Collection[str]) -> None:
    """Servers that no cell has, or none any more: deleted, their quota given back. Idempotent."""
    now = current_time(connection)
    gone = [
        replace(record, vm_state=VmState.DELETED, task_state=None, deleted=True, terminated_at=now, updated_at=now)
        for record in lock_records(connection, server_ids).values()
    ]
    _write(connection, gone)
    give_back_quota(connection, server_ids)


def give_back_quota(connection: Connection, server_ids: Collection[str]) -> None:
    """Count down what deleted servers, and those that wait for their reclaim, still hold; each is given back once, by
    the row that says so."""
    if not server_ids:
        return
    soft = sa.and_(server_index.c.vm_state == VmState.SOFT_DELETED, server_index.c.task_state.is_(None))
    over = sa.or_(server_index.c.deleted.is_(True), soft)
    held = (server_index.c.id.in_(server_ids), over, server_index.c.quota_held.is_(True))
    columns = ("id", "project_id", "user_id", "quota_cores", "quota_ram")
    rows = connection.execute(
        sa.select(*(server_index.c[name] for name in columns), RAW_RECORD).where(*held).with_for_update()
    ).all()
    if not rows:
        return
    ids = [row.id for row in rows]
    connection.execute(sa.update(server_index).where(server_index.c.id.in_(ids)).values(quota_held=False))
    totals: dict[str, Counter[str]] = {}
    of_users: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        cost = _counted(row) or quotas.cost_of_record(_RECORD.decode(row.raw_record))
        totals.setdefault(row.project_id, Counter()).update(cost)
        of_users.setdefault((row.project_id, row.user_id), Counter()).subtract(cost)
    for project_id in sorted(totals):
        quotas.release(connection, project_id, totals[project_id])
    for (project_id, user_id), amounts in sorted(of_users.items()):
        user_quotas.count(connection, project_id, user_id, amounts)


def hold_quota(connection: Connection, record: ServerRecord, limits: Mapping[str, int]) -> bool | None:
    """Count a soft-deleted server that is to come back. None: it is counted. False, and nothing may be kept: that goes
    beyond ``limits`` of its project, or its user's."""
    mine = (server_index.c.id == record.id, server_index.c.quota_held.is_(False))
    counted = {"quota_held": True, "quota_cores": None, "quota_ram": None}
    if not connection.execute(sa.update(server_index).where(*mine).values(**counted)).rowcount:
        return None
    spec, cost = record.spec, quotas.cost_of_record(record)
    fits = quotas.reserve(connection, spec.project_id, cost, limits)
    return user_quotas.count(connection, spec.project_id, spec.user_id, cost) and fits


def _hold_quota(connection: Connection, record: ServerRecord) -> None:
    """Count a server that there is, whatever the limits."""
    spec, cost = record.spec, quotas.cost_of_record(record)
    quotas.reserve(connection, spec.project_id, cost, {})
    user_quotas.count(connection, spec.project_id, spec.user_id, cost)


def _counted_for(record: ServerRecord) -> dict[str, int]:
    cost = quotas.cost_of_record(record)
    return {"quota_cores": cost["cores"], "quota_ram": cost["ram"]}


def _counted(row: Any) -> dict[str, int] | None:
    """Return what a row says that its server is counted for, if it says so."""
    if row.quota_cores is None or row.quota_ram is None:
        return None
    return {"cores": row.quota_cores, "instances": 1, "ram": row.quota_ram}


def count_as(
    connection: Connection, record: ServerRecord, cost: Mapping[str, int], limits: Mapping[str, int] | None = None
) -> bool:
    """Let a server be counted for this much, as of now. ``record``: as the index has it, or had it when it was counted
    last; the caller holds the row. False, and nothing may be kept, where that goes beyond ``limits`` of its project, or
    beyond its user's; without limits it is always done."""
    mine = server_index.c.id == record.id
    columns = (server_index.c.quota_cores, server_index.c.quota_ram, server_index.c.quota_held)
    row = connection.execute(sa.select(*columns).where(mine)).one_or_none()
    if row is None or not row.quota_held:
        return True
    before = _counted(row) or quotas.cost_of_record(record)
    more = {name: cost[name] - before[name] for name in cost}
    values = {"quota_cores": cost["cores"], "quota_ram": cost["ram"]}
    connection.execute(sa.update(server_index).where(mine).values(**values))
    if not any(more.values()):
        return True
    spec, bounds = record.spec, {name: limit for name, limit in (limits or {}).items() if more.get(name, 0) > 0}
    fits = quotas.reserve(connection, spec.project_id, more, bounds)
    return (user_quotas.count(connection, spec.project_id, spec.user_id, more) and fits) or limits is None


def _lock_resized(
    connection: Connection, fresh: Sequence[ServerRecord], known: Mapping[str, Row[Any]]
) -> list[tuple[ServerRecord, dict[str, int]]]:
    """Of these newer copies those that come to something else than was counted, with what: as they were, locked. Only a
    move changes that. While a resize is asked for, no copy that does not tell of it lets the server count for less."""
    found = []
    moved = (one for one in fresh if (one.migrations or known[one.id].quota_asked_at) and not one.deleted)
    for record in sorted(moved, key=lambda one: one.id):
        cost = quotas.cost_of_record(record)
        if _counted(known[record.id]) == cost and known[record.id].quota_asked_at is None:
            continue
        before = _lock(connection, record.id)
        if before is not None and not before.deleted and before.version < record.version:
            found.append((before, _settle_asked(connection, record, cost)))
    return found


def _settle_asked(connection: Connection, record: ServerRecord, cost: Mapping[str, int]) -> dict[str, int]:
    """Return what a copy lets its server count for: no less than a resize that was asked for, unless it tells of it."""
    mine = server_index.c.id == record.id
    row = connection.execute(sa.select(*_COUNTED).where(mine)).one()
    if row.quota_asked_at is None:
        return dict(cost)
    most = quotas.larger(cost, _counted(row) or cost)
    if record.migration is not None and most == cost:
        connection.execute(sa.update(server_index).where(mine).values(quota_asked_at=None))
    return most


def begin_asking(
    connection: Connection, record: ServerRecord, cost: Mapping[str, int], limits: Mapping[str, int]
) -> tuple[bool, dt.datetime] | None:
    """Count a server for a resize that its cell is about to be asked for, on top of those that it was asked for before.
    Returns whether there are none of these, and when this was; None, and nothing may be kept, where that goes beyond
    the limits. The caller holds the row."""
    mine = server_index.c.id == record.id
    row = connection.execute(sa.select(*_COUNTED, utc_now().label("now")).where(mine)).one()
    before = row.quota_asked_at
    asked_at = row.now if before is None else max(row.now, before + dt.timedelta(milliseconds=1))
    if not count_as(connection, record, quotas.larger(cost, _counted(row) or cost), limits):
        return None
    connection.execute(sa.update(server_index).where(mine).values(quota_asked_at=asked_at))
    return before is None, asked_at


def end_asking(connection: Connection, record: ServerRecord, asked_at: dt.datetime) -> None:
    """Count a server for what it is, whose cell has refused the only resize that it was asked for, unless another was
    asked for since. The caller holds the row."""
    alone = (server_index.c.id == record.id, server_index.c.quota_asked_at == asked_at)
    if connection.execute(sa.update(server_index).where(*alone).values(quota_asked_at=None)).rowcount:
        count_as(connection, record, quotas.cost_of_record(record))


def list_asked(connection: Connection, seconds: float) -> list[str]:
    """Return ids of some servers of whose resize nothing was told for longer than that."""
    old = server_index.c.quota_asked_at < utc_after(-seconds)
    return list(
        connection.execute(sa.select(server_index.c.id).where(old).order_by(server_index.c.id).limit(100)).scalars()
    )


def forget_asked(connection: Connection, server_ids: Collection[str]) -> None:
    """Let servers count for what their copies say: what their cells were asked for they have not begun."""
    for record in lock_records(connection, server_ids).values():
        count_as(connection, record, quotas.cost_of_record(record))
    mine = server_index.c.id.in_(sorted(server_ids))
    connection.execute(sa.update(server_index).where(mine).values(quota_asked_at=None))


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def _known(ids: Sequence[str]) -> sa.Select[Any]:
    names = ("id", "version", "cell", "deleted", "project_id", "user_id")
    counted = ("quota_held", "quota_cores", "quota_ram", "quota_asked_at")
    return sa.select(*(server_index.c[name] for name in names + counted)).where(server_index.c.id.in_(ids))


def _is_newer(row: Row[Any], record: ServerRecord, *, force: bool) -> bool:
    mine = (record.cell, record.spec.project_id, record.spec.user_id)
    return (row.cell, row.project_id, row.user_id) == mine and bool(force or row.version < record.version)


def cells_of(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Server -> cell, "" in none yet, of those that have a row."""
    return {row.id: row.cell for row in connection.execute(_known(ids))}


def list_volumes_of(connection: Connection, ids: Collection[str]) -> dict[str, Volumes]:
    """Server -> the volumes that its record has, of those that there are and that are in a cell."""
    index = server_index.c
    found: dict[str, Volumes] = {}
    for some in _chunks(sorted(ids)):
        there = sa.select(index.cell, RAW_RECORD).where(index.id.in_(some), index.deleted.is_(False), index.cell != "")
        for record in records_of(connection, connection.execute(there)):
            found[record.id] = record.volumes
    return found


def cells_of_living(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """Server -> cell, "" in none yet, of those that there are."""
    found = (row for some in _chunks(sorted(ids)) for row in connection.execute(_known(some)))
    return {row.id: row.cell for row in found if not row.deleted}


def _forget_versions(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Let any copy be newer."""
    mine = (server_index.c.id.in_([record.id for record in records]), server_index.c.cell == records[0].cell)
    connection.execute(sa.update(server_index).where(*mine).values(version=-1))


def _count_again(connection: Connection, back: Sequence[ServerRecord]) -> None:
    """Servers that were deleted in a state that their cell's database has left, or soft-deleted: each is counted
    once."""
    for record in sorted(back, key=lambda each: (each.spec.project_id, each.id)):
        mine = (server_index.c.id == record.id, server_index.c.quota_held.is_(False))
        counted = {"quota_held": True, "quota_cores": None, "quota_ram": None}
        if connection.execute(sa.update(server_index).where(*mine).values(**counted)).rowcount:
            _hold_quota(connection, record)


def _stored(record: ServerRecord) -> ServerRecord:
    record = replace(record, volumes=without_connections(record.volumes)) if record.volumes else record
    spec = large_fields.as_stored(record.spec)
    return record if spec is record.spec else replace(record, spec=spec)


def _row_of(record: ServerRecord) -> dict[str, Any]:
    record = _stored(record)
    spec = record.spec
    if spec.created_at and record.created_at != spec.created_at:  # when it was accepted, whatever its cell says
        record = replace(record, created_at=spec.created_at)
    return {
        "id": record.id,
        "cell": record.cell,
        "project_id": spec.project_id,
        "user_id": spec.user_id,
        "version": record.version,
        "name": spec.name,
        "hostname": spec.hostname,
        "vm_state": record.vm_state,
        "task_state": record.task_state,
        "power_state": record.power_state,
        "host": record.host,
        "node": record.node,
        "availability_zone": record.availability_zone,
        "flavor_id": spec.flavor.id,
        "image_id": spec.image.id,
        "key_name": spec.keypair.name if spec.keypair else None,
        "reservation_id": spec.reservation_id,
        "addresses": " ".join(ip.ip_address for port in record.ports for ip in port.fixed_ips),
        "created_at": record.created_at or _EPOCH,
        "updated_at": record.updated_at or record.created_at or _EPOCH,
        "launched_at": record.launched_at,
        "deleted_at": record.terminated_at if record.deleted else None,
        "deleted": record.deleted,
        "user_data_id": spec.user_data_id or None,
        "hints_id": spec.hints_id or None,
        "large_fields_id": spec.large_fields_id or None,
        "group_id": None if spec.group is None else spec.group.id,
        "terms_version": record.version,
        "record": record,
    }


# Nothing changes these but what says so.
_ACCEPTED = frozenset(
    {"id", "project_id", "created_at", "quota_held", "quota_cores", "quota_ram", "quota_asked_at", "terms_stale"},
)
_FIXED = _ACCEPTED | {"cell"}  # no cell's copy changes these
_SORTED = frozenset(column.name for index in server_index.indexes for column in index.columns) - _FIXED


@functools.lru_cache(maxsize=256)
def _guarded(unchanged: frozenset[str] = frozenset()) -> sa.Update:
    """``unchanged``: columns that the update need not set, as they have these values already."""
    older = (
        server_index.c.id == sa.bindparam("which_id"),
        server_index.c.cell == sa.bindparam("which_cell"),
        server_index.c.version < sa.bindparam("new_version"),
    )
    left = {column for column in server_index.c if column.name not in _FIXED | unchanged}
    values = {column: sa.bindparam(f"new_{column.name}", type_=column.type) for column in left}
    return sa.update(server_index).where(*older).values(values)


def _guarded_row(record: ServerRecord) -> dict[str, Any]:
    named = {f"new_{name}": value for name, value in _row_of(record).items() if name not in _FIXED}
    return named | {"which_id": record.id, "which_cell": record.cell}


def _take(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Write copies, each only over an older one of its own cell: in one statement a batch where that is faster."""
    if connection.dialect.name in ("mysql", "mariadb"):
        connection.execute(_GUARDED_IN_ONE, [_row_of(record) for record in records])
    elif connection.dialect.name == "sqlite":
        for unchanged, rows in _by_unchanged(connection, records).items():
            connection.execute(_guarded(unchanged), rows)
    else:
        connection.execute(_guarded(), [_guarded_row(record) for record in records])


def _by_unchanged(
    connection: Connection, records: Sequence[ServerRecord]
) -> dict[frozenset[str], list[dict[str, Any]]]:
    """Rows by the columns that they leave as they are: SQLite writes every index of a column that an update sets,
    whether its value is another one or not. No other connection writes meanwhile."""
    columns = (server_index.c.id, *(server_index.c[name] for name in sorted(_SORTED)))
    mine = sa.select(*columns).where(server_index.c.id.in_([record.id for record in records]))
    known = {row.id: row._mapping for row in connection.execute(mine)}
    found: dict[frozenset[str], list[dict[str, Any]]] = {}
    for record in records:
        row = _guarded_row(record)
        unchanged = frozenset(name for name in _SORTED if row[f"new_{name}"] == known[record.id][name])
        found.setdefault(unchanged, []).append(
            {k: v for k, v in row.items() if k.removeprefix("new_") not in unchanged}
        )
    return found


def _guarded_in_one() -> sa.Insert:
    """MariaDB sends a batch of inserts as one statement, but not one of updates. ``version`` is set last: each
    assignment sees those before it."""
    statement = mysql.insert(server_index)
    newer = sa.and_(server_index.c.cell == statement.inserted.cell, server_index.c.version < statement.inserted.version)
    names = sorted(
        (column.name for column in server_index.c if column.name not in _FIXED), key=lambda n: n == "version"
    )
    return statement.on_duplicate_key_update(
        [(name, sa.func.IF(newer, statement.inserted[name], server_index.c[name])) for name in names]
    )


_GUARDED_IN_ONE = _guarded_in_one()


def _adopt(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Servers of a cell that the top has no row of take their place here, and are counted. Each is proof that the
    database fell back, if nobody has noticed."""
    made: list[dt.datetime] = []
    for record in records:
        if not record.cell or record.deleted or record.held:
            continue
        try:
            with connection.begin_nested():
                insert_records(connection, [record])
        except sa.exc.IntegrityError:
            continue  # another reader of the feed has just done so
        if record.spec.group is not None:
            server_groups.adopt(connection, record.spec.group)
        _hold_quota(connection, record)
        made += [record.created_at] if record.created_at else []
    if made:
        database_incarnations.notice_in_top(connection, min(made), "a cell has a server that is unknown here")


_TASK = (
    sa.update(server_index)
    .where(server_index.c.id == sa.bindparam("which_id"))
    .values(
        record=sa.bindparam("new_record", type_=server_index.c.record.type),
        task_state=sa.bindparam("new_task_state", type_=server_index.c.task_state.type),
    )
)


def lock_records(connection: Connection, server_ids: Collection[str]) -> dict[str, ServerRecord]:
    """Those of the servers that are not deleted, by id, locked until the transaction ends."""
    if not server_ids:
        return {}
    mine = (server_index.c.id.in_(sorted(server_ids)), server_index.c.deleted.is_(False))
    query = sa.select(server_index.c.cell, RAW_RECORD).where(*mine).order_by(server_index.c.id).with_for_update()
    return {record.id: record for record in records_of(connection, connection.execute(query))}


def _lock(connection: Connection, server_id: str) -> ServerRecord | None:
    mine = sa.select(server_index.c.cell, RAW_RECORD).where(server_index.c.id == server_id)
    return next(iter(records_of(connection, connection.execute(mine.with_for_update()))), None)


_WHOLE = (
    sa.update(server_index)
    .where(server_index.c.id == sa.bindparam("which_id"))
    .values(
        {
            column: sa.bindparam(f"new_{column.name}", type_=column.type)
            for column in server_index.c
            if column.name not in _ACCEPTED
        }
    )
)


def _write(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Write the top's own word, whatever the rows say. The caller holds them."""
    rows = [
        {f"new_{name}": value for name, value in _row_of(record).items() if name not in _ACCEPTED}
        | {"which_id": record.id}
        for record in records
    ]
    if rows:
        connection.execute(_WHOLE, rows)
        server_terms.renew(connection, records)


def are_terms_stale(connection: Connection) -> bool:
    """Return whether there are servers whose records an older service has written."""
    stale = sa.select(server_index.c.id).where(server_index.c.terms_stale == 1)
    return connection.execute(stale.limit(1)).first() is not None


def renew_terms(connection: Connection) -> int:
    """Bring the terms of some servers up to date whose records an older service has written; returns of how many."""
    row = server_index.c
    stale = sa.select(row.cell, row.version, RAW_RECORD).where(row.terms_stale == 1).order_by(row.id)
    rows = connection.execute(stale.limit(CHUNK).with_for_update()).all()
    pairs = zip(rows, records_of(connection, rows), strict=True)
    records = [replace(record, version=known.version) for known, record in pairs]
    if records:
        mine = row.id.in_([record.id for record in records])
        connection.execute(sa.update(server_index).where(mine).values(terms_version=server_index.c.version))
        server_terms.renew(connection, records)
    return len(records)


def records_of(connection: Connection, rows: Iterable[Row[Any]]) -> list[ServerRecord]:
    found = []
    for row in rows:
        record = _RECORD.decode(row.raw_record)
        found.append(record if record.cell == row.cell else replace(record, cell=row.cell))
    return user_data.attach_fields(connection, user_data.TOP, found)


# ---- reading ---------------------------------------------------------------------------------------------------------
_FIND = sa.select(server_index.c.cell, server_index.c.project_id, server_index.c.deleted, RAW_RECORD).where(
    server_index.c.id == sa.bindparam("which_id")
)


def find_record(
    connection: Connection, server_id: str, *, project_id: str | None = None, deleted: bool | None = False
) -> ServerRecord | None:
    """One server; of that project only, if given. ``deleted`` None: deleted or not."""
    row = connection.execute(_FIND, {"which_id": server_id}).one_or_none()
    if row is None or project_id not in (None, row.project_id) or deleted not in (None, row.deleted):
        return None
    return records_of(connection, [row])[0]


def list_names_on(connection: Connection, hosts: Collection[tuple[str, str]]) -> list[tuple[str, str, str, str]]:
    """(cell, host, server id, name) of servers not deleted on those (cell, host), the newest first."""
    names = ("cell", "host", "id", "name")
    by_cell: dict[str, list[str]] = {}
    for cell, host in sorted(hosts):
        by_cell.setdefault(cell, []).append(host)
    found: list[tuple[str, str, str, str]] = []
    for cell, theirs in by_cell.items():
        for some in _chunks(theirs):
            mine = (server_index.c.cell == cell, server_index.c.host.in_(some), server_index.c.deleted.is_(False))
            query = sa.select(*(server_index.c[name] for name in names)).where(*mine)
            newest = query.order_by(server_index.c.created_at.desc(), server_index.c.id.desc())
            found += [tuple(row) for row in connection.execute(newest)]
    return found


def list_flavors_on(connection: Connection, cell: str, host: str) -> list[tuple[str, Flavor]]:
    """(project, flavor) of each server not deleted on a host."""
    mine = (server_index.c.cell == cell, server_index.c.host == host, server_index.c.deleted.is_(False))
    records = (_RECORD.decode(text) for text in connection.execute(sa.select(RAW_RECORD).where(*mine)).scalars())
    return [(record.spec.project_id, record.spec.flavor) for record in records]


def list_in_cell(connection: Connection, cell: str, after: str, limit: int) -> list[ServerRecord]:
    """Return a cell's servers not deleted, by id, behind one of them."""
    mine = (server_index.c.cell == cell, server_index.c.deleted.is_(False), server_index.c.id > after)
    wanted = sa.select(server_index.c.cell, RAW_RECORD).where(*mine).order_by(server_index.c.id).limit(limit)
    return records_of(connection, connection.execute(wanted))


def list_versions(connection: Connection, cell: str, after: str, until: str | None) -> list[tuple[str, int]]:
    """(server id, version) of a cell's servers not deleted, by id, with after < id <= until: what a resync compares."""
    mine = [server_index.c.cell == cell, server_index.c.deleted.is_(False), server_index.c.id > after]
    if until is not None:
        mine.append(server_index.c.id <= until)
    rows = connection.execute(
        sa.select(server_index.c.id, server_index.c.version).where(*mine).order_by(server_index.c.id)
    )
    return [(row.id, row.version) for row in rows]
