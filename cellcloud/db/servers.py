"""A cell's servers. Every change grows the version by one in the statement that makes it."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import errors
from cellcloud.db import bulk, database_incarnations, user_data
from cellcloud.db.cell_schema import runs, servers
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model import codec, large_fields, migration
from cellcloud.model.database_incarnation import LEAP, count_in_one
from cellcloud.model.migration import Migration, MigrationStatus
from cellcloud.model.network import Port
from cellcloud.model.observed_guests import GuestDescription
from cellcloud.model.run import OperationRequest
from cellcloud.model.server import ServerChanges, ServerFault, ServerRecord, ServerSpec
from cellcloud.model.volume import AttachedVolume
from cellcloud.server_states import TaskState, VmState

_HOLD = sa.select(utc_now(), utc_after(sa.bindparam("seconds", type_=sa.Float)))
_HELD_COLUMNS = (
    *("id", "project_id", "user_id", "host", "availability_zone", "spec", "ports"),
    *("held", "delete_requested", "locked", "deleted", "decision", "group_id"),
    *("user_data_id", "hints_id", "large_fields_id"),
    *("version", "generation", "vm_state", "task_state", "power_state"),
    *("created_at", "updated_at", "hold_until"),
)
_NOW = sa.select(utc_now())


def records_of(connection: Connection, rows: Iterable[Row[Any]]) -> list[ServerRecord]:
    """Return the models of rows."""
    return user_data.attach_fields(connection, user_data.CELL, [_record(row) for row in rows])


def _record(row: Row[Any]) -> ServerRecord:
    return ServerRecord(
        spec=codec.from_plain(row.spec, ServerSpec),
        version=row.version,
        generation=row.generation,
        vm_state=row.vm_state,
        task_state=row.task_state,
        power_state=row.power_state,
        held=row.held,
        host=row.host,
        node=row.host,
        availability_zone=row.availability_zone,
        ports=tuple(codec.from_plain(row.ports, list[Port])),
        fault=codec.from_plain(row.fault, ServerFault) if row.fault else None,
        locked=row.locked,
        locked_by=row.locked_by or "",
        locked_reason=row.locked_reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
        launched_at=row.launched_at,
        terminated_at=row.terminated_at,
        deleted=row.deleted,
        placement=row.placement,
        migrations=tuple(codec.from_plain(row.migrations, list[Migration])) if row.migrations else (),
        volumes=tuple(codec.from_plain(row.volumes, list[AttachedVolume])) if row.volumes else (),
    )


def insert_held(
    connection: Connection,
    placed: Sequence[tuple[ServerSpec, str, str]],
    *,
    hold_seconds: float,
    decision: int | None = None,
) -> list[ServerRecord]:
    """Store servers as held: (spec, host, zone) each, and the batch of decisions that placed them; returns their
    records. Raises Exists."""
    if not placed:
        return []
    specs = user_data.keep(connection, user_data.CELL, [spec for spec, _, _ in placed], fields=True)
    placed = [(spec, host, zone) for spec, (_, host, zone) in zip(specs, placed, strict=True)]
    now, until = connection.execute(_HOLD, {"seconds": hold_seconds}).one()
    shared = (1, 0, VmState.BUILDING.value, TaskState.SCHEDULING.value, 0)
    times = (now.replace(tzinfo=None), now.replace(tzinfo=None), until.replace(tzinfo=None))
    stored = [(large_fields.as_stored(spec), host, zone) for spec, host, zone in placed]
    rows = [
        (
            spec.id,
            spec.project_id,
            spec.user_id,
            host,
            zone,
            msgspec.json.encode(spec).decode(),
            "[]",
            *(True, False, False, False, decision, _group_id(spec)),
            *(spec.user_data_id or None, spec.hints_id or None, spec.large_fields_id or None),
            *shared,
            *times,
        )
        for spec, host, zone in stored
    ]
    bulk.insert(connection, servers, _HELD_COLUMNS, rows)
    return [
        ServerRecord(
            spec=spec,
            version=1,
            generation=0,
            vm_state=VmState.BUILDING,
            task_state=TaskState.SCHEDULING,
            held=True,
            host=host,
            node=host,
            availability_zone=zone,
            created_at=now,
            updated_at=now,
        )
        for spec, host, zone in placed
    ]


_BY_ID = sa.select(servers).where(servers.c.id.in_(sa.bindparam("ids", expanding=True)))


def list_by_id(connection: Connection, server_ids: Sequence[str]) -> list[ServerRecord]:
    """Return the servers' records, deleted ones too; unknown ids are left out."""
    if not server_ids:
        return []
    return records_of(connection, connection.execute(_BY_ID, {"ids": list(server_ids)}))


def get(connection: Connection, server_id: str, *, lock: bool = False) -> ServerRecord:
    """Return a server's record. Raises NotFound for unknown and deleted servers. ``lock`` keeps the row until the
    transaction ends."""
    query = sa.select(servers).where(servers.c.id == server_id, servers.c.deleted.is_(False))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise errors.NotFound(f"Instance {server_id} could not be found.")
    return records_of(connection, [row])[0]


def lock_living(connection: Connection, server_ids: Collection[str]) -> dict[str, ServerRecord]:
    """Those of the servers that are not deleted, by id, locked until the transaction ends."""
    mine = (servers.c.id.in_(sorted(server_ids)), servers.c.deleted.is_(False))
    rows = connection.execute(sa.select(servers).where(*mine).order_by(servers.c.id).with_for_update())
    return {record.id: record for record in records_of(connection, rows)}


def begin_operations(connection: Connection, server_ids: Sequence[str], task_state: str | None) -> list[ServerRecord]:
    """Give servers their next generation and a task state, unless they are deleted. The caller holds their rows."""
    if not server_ids:
        return []
    connection.execute(
        sa.update(servers)
        .where(servers.c.id.in_(server_ids), servers.c.deleted.is_(False))
        .values(
            generation=servers.c.generation + 1,
            task_state=task_state,
            version=servers.c.version + 1,
            updated_at=utc_now(),
        )
    )
    return [record for record in list_by_id(connection, server_ids) if not record.deleted]


def list_on(connection: Connection, host: str) -> list[ServerRecord]:
    """Servers on a host, held ones and deleted ones left out."""
    mine = (servers.c.host == host, servers.c.deleted.is_(False), servers.c.held.is_(False))
    return records_of(connection, connection.execute(sa.select(servers).where(*mine)))


def change(
    connection: Connection, server_id: str, changes: ServerChanges, *, seen: ServerRecord | None = None
) -> ServerRecord | None:
    """Change a server's record; None where there is none any more, or it is not what was ``seen`` of it."""
    guards = () if seen is None else (servers.c.generation == seen.generation, servers.c.version == seen.version)
    names, timed = _names(changes)
    columns = _columns(changes, names) | dict.fromkeys(timed, utc_now())
    if isinstance(changes.spec, ServerSpec):
        columns["group_id"] = _group_id(changes.spec)
    return _set(connection, server_id, columns, *guards)


def _set(
    connection: Connection, server_id: str, columns: Mapping[str, Any], *guards: sa.ColumnElement[bool]
) -> ServerRecord | None:
    changed = connection.execute(
        sa.update(servers)
        .where(servers.c.id == server_id, servers.c.deleted.is_(False), *guards)
        .values(version=servers.c.version + 1, updated_at=utc_now(), **columns)
    )
    if changed.rowcount != 1:
        return None
    return records_of(connection, connection.execute(sa.select(servers).where(servers.c.id == server_id)))[0]


_RAISE = (
    sa.update(servers)
    .where(
        servers.c.id == sa.bindparam("server"),
        servers.c.deleted.is_(False),
        servers.c.generation == sa.bindparam("before"),
    )
    .values(generation=sa.bindparam("to"))
)


def raise_to(connection: Connection, generations: Mapping[str, int]) -> None:
    """Give servers the generation that their runs have come to by turning round."""
    raised = [{"server": one, "before": to - 1, "to": to} for one, to in sorted(generations.items())]
    if raised:
        connection.execute(_RAISE, raised)


def begin_try(
    connection: Connection, server_id: str, generation: int, *, host: str, zone: str, decision: int
) -> ServerRecord | None:
    """Give a server that is on no host one, and its next generation; None when it is not what it was."""
    guards = (servers.c.generation == generation, servers.c.host.is_(None))
    placed = {"host": host, "availability_zone": zone, "decision": decision}
    return _set(connection, server_id, {**placed, "generation": servers.c.generation + 1}, *guards)


def _group_id(spec: ServerSpec) -> str | None:
    return None if spec.group is None else spec.group.id


def _names(changes: ServerChanges) -> tuple[frozenset[str], frozenset[str]]:
    """Return the columns that get a value, and those that get the database's time."""
    times = (
        ("launched_at", changes.launched),
        ("terminated_at", changes.terminated),
        ("soft_deleted_at", changes.soft_deleted),
        ("unconfirmed_since", changes.unconfirmed is True),
        ("shelved_at", changes.shelved is True),
    )
    waits = {"unconfirmed_since": changes.unconfirmed, "shelved_at": changes.shelved}
    forgotten = {name for name, whether in waits.items() if whether is False}
    with_spec = {"user_data_id", "large_fields_id"} if isinstance(changes.spec, ServerSpec) else set()
    return frozenset(changes.given()) | forgotten | with_spec, frozenset(name for name, wanted in times if wanted)


def _columns(changes: ServerChanges, names: Collection[str]) -> dict[str, Any]:
    columns = {name: _plain(name, getattr(changes, name, None)) for name in names}  # None: of a time, to be forgotten
    if isinstance(changes.spec, ServerSpec):
        stored = large_fields.as_stored(changes.spec)
        columns["spec"] = codec.to_plain(stored)
        columns["user_data_id"] = stored.user_data_id or None
        columns["large_fields_id"] = stored.large_fields_id or None
    return columns


_MODELS = frozenset({"spec", "ports", "fault", "migrations", "volumes"})


def _plain(name: str, value: Any) -> Any:
    return (
        codec.to_plain(value)
        if name in ("spec", "ports", "fault", "migrations", "volumes") and value is not None
        else value
    )


def forget_expired(connection: Connection, server_ids: Sequence[str]) -> None:
    """Delete the rows of servers whose hold is over and that were never confirmed."""
    if server_ids:
        never = (servers.c.deleted.is_(True), servers.c.generation == 0)
        connection.execute(sa.delete(servers).where(servers.c.id.in_(server_ids), *never))


def renumber(
    connection: Connection, records: Sequence[ServerRecord], versions: Mapping[str, int]
) -> Sequence[ServerRecord]:
    """Give those of the servers just stored that have been held before the version that follows; returns all."""
    for server_id in sorted(versions.keys() & {record.id for record in records}):
        which = sa.update(servers).where(servers.c.id == server_id)
        connection.execute(which.values(version=versions[server_id]))
    return [replace(record, version=versions.get(record.id, record.version)) for record in records]


def confirm_held(
    connection: Connection,
    server_ids: Sequence[str],
    task_state: str | None,
    versions: Mapping[str, int],
    placements: Mapping[str, int] | None = None,
) -> list[ServerRecord]:
    """Turn held servers whose hold has not expired into servers of their own, at generation 1; returns them.

    Only those held at the version that ``versions`` has for them, or else at 1. ``placements``: the numbers of their
    placements, where not 0.
    """
    held = (servers.c.held.is_(True), servers.c.deleted.is_(False), servers.c.hold_until > utc_now())
    query = sa.select(servers.c.id, servers.c.version).where(servers.c.id.in_(server_ids), *held)
    rows = connection.execute(query.order_by(servers.c.id).with_for_update())
    turned = [row.id for row in rows if row.version == versions.get(row.id, 1)]
    numbered: dict[int, list[str]] = {}
    for server_id in turned:
        numbered.setdefault((placements or {}).get(server_id, 0), []).append(server_id)
    for placement, ids in sorted(numbered.items()):
        connection.execute(
            sa.update(servers)
            .where(servers.c.id.in_(ids))
            .values(
                held=False,
                hold_until=None,
                generation=1,
                task_state=task_state,
                placement=placement,
                version=servers.c.version + 1,
                updated_at=utc_now(),
            )
        )
    return list_by_id(connection, turned)


def drop_held(connection: Connection, server_ids: Sequence[str]) -> list[str]:
    """Mark held servers deleted; returns the ids that were still held."""
    held = (servers.c.id.in_(sorted(server_ids)), servers.c.held.is_(True), servers.c.deleted.is_(False))
    rows = connection.execute(sa.select(servers.c.id).where(*held).order_by(servers.c.id).with_for_update())
    dropped = list(rows.scalars())
    if dropped:
        connection.execute(
            sa.update(servers)
            .where(servers.c.id.in_(dropped))
            .values(
                deleted=True,
                held=False,
                host=None,
                vm_state=VmState.DELETED,
                task_state=None,
                terminated_at=utc_now(),
                updated_at=utc_now(),
                version=servers.c.version + 1,
            )
        )
    return dropped


def list_expired_holds(connection: Connection, limit: int = 200) -> list[str]:
    """Ids of held servers that nobody confirmed in time."""
    rows = connection.execute(
        sa.select(servers.c.id)
        .where(servers.c.held.is_(True), servers.c.deleted.is_(False), servers.c.hold_until <= utc_now())
        .limit(limit)
    )
    return [row.id for row in rows]


def list_unconfirmed(connection: Connection, seconds: float, limit: int) -> list[str]:
    """Ids of servers whose moves have waited for so long to be confirmed, the longest first, but those at which
    somebody is at work."""
    busy = sa.exists().where(runs.c.server_id == servers.c.id, runs.c.active == 1)
    waiting = (servers.c.unconfirmed_since <= utc_after(-seconds), servers.c.vm_state == VmState.RESIZED, ~busy)
    query = sa.select(servers.c.id).where(*waiting, servers.c.deleted.is_(False))
    return list(connection.execute(query.order_by(servers.c.unconfirmed_since).limit(limit)).scalars())


def has_offloadable(connection: Connection, seconds: float) -> bool:
    """Return whether any server has been shelved for so long and still has its host."""
    return connection.execute(_OFFLOADABLE.limit(1), {"shelved": -seconds}).first() is not None


def lock_offloadable(connection: Connection, seconds: float, limit: int) -> list[ServerRecord]:
    """Servers that have been shelved for so long and still have their host, and that nothing is done to; locked until
    the transaction ends."""
    query = sa.select(servers).where(*_SHELVED).order_by(servers.c.shelved_at).limit(limit)
    return records_of(connection, connection.execute(query.with_for_update(skip_locked=True), {"shelved": -seconds}))


_SHELVED = (
    servers.c.shelved_at <= utc_after(sa.bindparam("shelved", type_=sa.Float)),
    servers.c.vm_state == VmState.SHELVED,
    servers.c.deleted.is_(False),
    servers.c.task_state.is_(None),
)
_OFFLOADABLE = sa.select(servers.c.id).where(*_SHELVED)


def list_versions(connection: Connection, after_id: str, limit: int) -> list[tuple[str, int]]:
    """(id, version) of confirmed, living servers in order of id."""
    rows = connection.execute(
        sa.select(servers.c.id, servers.c.version)
        .where(servers.c.id > after_id, servers.c.deleted.is_(False), servers.c.held.is_(False))
        .order_by(servers.c.id)
        .limit(limit)
    )
    return [(row.id, row.version) for row in rows]


_DELETES = sa.select(servers.c.id, servers.c.delete_context).where(
    servers.c.id.in_(sa.bindparam("ids", expanding=True)),
    servers.c.delete_requested.is_(True),
    servers.c.deleted.is_(False),
)


_REQUEST_DELETE = (
    sa.update(servers)
    .where(servers.c.id == sa.bindparam("server"), servers.c.deleted.is_(False))
    .values(
        delete_requested=True,
        delete_context=sa.bindparam("asked", type_=servers.c.delete_context.type),
        task_state=sa.bindparam("new_task_state", type_=servers.c.task_state.type),
        version=servers.c.version + 1,
        updated_at=utc_now(),
    )
)


def list_requested_deletes(connection: Connection, server_ids: Sequence[str]) -> dict[str, OperationRequest]:
    """Server -> the delete that waits for its present run to unwind."""
    rows = connection.execute(_DELETES, {"ids": list(server_ids)})
    return {row.id: codec.from_plain(row.delete_context or {}, OperationRequest) for row in rows}


def request_deletes(
    connection: Connection,
    records: Sequence[ServerRecord],
    asked: Mapping[str, OperationRequest],
    task_state: TaskState = TaskState.DELETING,
) -> list[ServerRecord]:
    """Note the deletes that wait for servers' present runs to unwind, soft ones for their end. The caller holds the
    rows."""
    if not records:
        return []
    rows = [
        {"server": each.id, "asked": codec.to_plain(asked[each.id]), "new_task_state": task_state.value}
        for each in records
    ]
    connection.execute(_REQUEST_DELETE, rows)
    return list_by_id(connection, [each.id for each in records])


def forget_requested_delete(connection: Connection, server_id: str) -> None:
    """Forget that a delete was asked for: it has begun."""
    connection.execute(
        sa.update(servers).where(servers.c.id == server_id).values(delete_requested=False, delete_context=None)
    )


def list_soft_deleted_on(connection: Connection, host: str) -> set[str]:
    """Ids of servers on a host that are deleted but for their reclaim."""
    mine = (servers.c.host == host, servers.c.vm_state == VmState.SOFT_DELETED, servers.c.deleted.is_(False))
    return set(connection.execute(sa.select(servers.c.id).where(*mine)).scalars())


def lock_reclaimable(connection: Connection, seconds: float, *, limit: int) -> list[ServerRecord]:
    """Servers that have been soft-deleted for longer than that, and that nothing is done to; locked until the
    transaction ends."""
    old = (servers.c.soft_deleted_at < utc_after(-seconds), servers.c.vm_state == VmState.SOFT_DELETED)
    resting = (servers.c.deleted.is_(False), servers.c.task_state.is_(None))
    query = sa.select(servers).where(*old, *resting).order_by(servers.c.soft_deleted_at).limit(limit)
    return records_of(connection, connection.execute(query.with_for_update(skip_locked=True)))


@functools.cache
def _changing(names: frozenset[str], timed: frozenset[str]) -> sa.Update:
    """Return the statement that sets these columns, where the generation is still the given one."""
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=servers.c[name].type) for name in names}
    return (
        sa.update(servers)
        .where(
            servers.c.id == sa.bindparam("server"),
            servers.c.deleted.is_(False),
            servers.c.generation == sa.bindparam("at_generation"),
        )
        .values(version=servers.c.version + 1, updated_at=utc_now(), **values, **dict.fromkeys(timed, utc_now()))
    )


def change_many(connection: Connection, changes: Sequence[tuple[str, int, ServerChanges]]) -> list[ServerRecord]:
    """Change many servers, each where its generation is still the given one; returns those that changed."""
    groups: dict[tuple[frozenset[str], frozenset[str]], list[dict[str, Any]]] = {}
    for server_id, generation, wanted in changes:
        names, timed = _names(wanted)
        row = {f"new_{name}": value for name, value in _columns(wanted, names).items()}
        groups.setdefault((names, timed), []).append(row | {"server": server_id, "at_generation": generation})
    for (names, timed), rows in sorted(groups.items(), key=lambda item: sorted(item[0][0])):
        connection.execute(_changing(names, timed), sorted(rows, key=lambda row: str(row["server"])))
    generations = {server_id: generation for server_id, generation, _ in changes}
    found = list_by_id(connection, list(generations))
    return [record for record in found if record.generation == generations[record.id]]


def _find_older(connection: Connection, described: GuestDescription, host: str) -> ServerRecord | None:
    """Return the living record that a guest on that host has, locked. Raises Conflict unless it has none, or one that
    is older: that says deleted, or that has it elsewhere while nobody is at work on it."""
    server_id, obeyed = described.spec.id, described.state.generation
    rows = connection.execute(sa.select(servers).where(servers.c.id == server_id).with_for_update())
    for record in records_of(connection, rows):
        older = record.generation < obeyed if record.deleted else count_in_one(record.generation) < count_in_one(obeyed)
        if not older or (not record.deleted and (record.held or record.host == host)):
            raise errors.Conflict(f"Instance {server_id} has a record that is no older than the guest.")
        under_way = sa.select(runs.c.operation).where(runs.c.server_id == server_id, runs.c.active == 1)
        if operation := connection.execute(under_way).scalar_one_or_none():
            raise errors.Conflict(f"Instance {server_id} has a {operation} under way: wait for its end.")
        return None if record.deleted else record
    return None


def adopt(connection: Connection, described: GuestDescription, *, host: str, zone: str, now: VmState) -> ServerRecord:
    """Make the record of a guest, in place of an older one. Raises Conflict.

    Its version is higher than that of any copy that was ever made of the server.
    """
    state = described.state
    known = _find_older(connection, described, host)
    (spec,) = user_data.keep(connection, user_data.CELL, [described.spec], fields=True)
    if known is not None:  # a move changes this much
        spec = replace(known.spec, flavor=spec.flavor, image=spec.image, root_image=spec.root_image, shelved_image=None)
    stored = large_fields.as_stored(spec)
    connection.execute(sa.delete(servers).where(servers.c.id == spec.id))
    time = connection.execute(_NOW).scalar_one()
    version = database_incarnations.ensure(connection).number * LEAP + int(time.timestamp())
    kept: dict[str, Any] = {}
    if known is not None:
        version = max(version, known.version + 1)
        kept = {name: getattr(known, name) for name in ("locked", "locked_by", "locked_reason", "launched_at")}
        moves = known.migrations
        kept["migrations"] = codec.to_plain(
            migration.changed(moves, status=MigrationStatus.ERROR) if known.migration else moves
        )
    values: dict[str, Any] = {
        "id": spec.id,
        "project_id": spec.project_id,
        "user_id": spec.user_id,
        "version": version,
        "generation": max(1, state.generation, known.generation if known else 0),
        "vm_state": now,
        "power_state": state.power_state,
        "host": host,
        "availability_zone": zone,
        "user_data_id": spec.user_data_id or None,
        "hints_id": spec.hints_id or None,
        "large_fields_id": stored.large_fields_id or None,
        "group_id": _group_id(spec),
        "spec": codec.to_plain(stored),
        "ports": codec.to_plain(described.ports),
        "created_at": spec.created_at or time,
        "updated_at": time,
        "launched_at": spec.created_at or time,
    }
    connection.execute(sa.insert(servers).values(**values | kept))
    return list_by_id(connection, [spec.id])[0]


def raise_generations(connection: Connection, host: str, generations: Mapping[str, int]) -> list[ServerRecord]:
    """Take over what a host has obeyed already, of servers on it that fell back behind that; returns their records.

    A run that waits goes on at that generation too: the host refuses what it asks for at an older one. One that is
    being worked on has its turn later.
    """
    free = sa.or_(runs.c.lease_until.is_(None), runs.c.lease_until < utc_now())
    waiting = sa.select(runs.c.id, runs.c.server_id).where(
        runs.c.server_id.in_(sorted(generations)), runs.c.active == 1, free
    )
    resting = {row.server_id: row.id for row in connection.execute(waiting.order_by(runs.c.id).with_for_update())}
    at_work = (runs.c.server_id == servers.c.id, runs.c.active == 1, runs.c.id.not_in(sorted(resting.values())))
    changed = [
        _set(
            connection,
            server_id,
            {"generation": generation},
            servers.c.host == host,
            servers.c.generation < generation,
            sa.not_(sa.exists().where(*at_work)),
        )
        for server_id, generation in sorted(generations.items())
    ]
    raised = [record for record in changed if record is not None]
    for record in raised:
        if record.id in resting:
            values = {"generation": record.generation, "run_at": utc_now()}
            connection.execute(sa.update(runs).where(runs.c.id == resting[record.id]).values(values))
    return raised


def list_stuck(connection: Connection, seconds: float) -> list[tuple[str, str, dt.datetime]]:
    """(id, task state, since) of servers in a task state for longer than ``seconds``."""
    rows = connection.execute(
        sa.select(servers.c.id, servers.c.task_state, servers.c.updated_at).where(
            servers.c.task_state.is_not(None),
            servers.c.deleted.is_(False),
            servers.c.updated_at < utc_after(-seconds),
        )
    )
    return [(row.id, row.task_state, row.updated_at) for row in rows]
