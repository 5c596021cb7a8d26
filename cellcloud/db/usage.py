"""What servers used in a time, by their records in the index and, of those forgotten there, by what is kept of them."""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.top_schema import past_servers, server_index
from cellcloud.model.server import ServerRecord
from cellcloud.model.usage import ServerUsage
from cellcloud.server_states import VmState

_RECORD = msgspec.json.Decoder(ServerRecord)
_raw_record = sa.type_coerce(server_index.c.record, sa.Text).label("raw_record")
Place = tuple[str, str]  # project and id, by which usages are ordered


def list_usages(
    connection: Connection,
    begin: dt.datetime,
    end: dt.datetime,
    *,
    project_id: str | None,
    after: Place | None,
    limit: int,
) -> list[ServerUsage]:
    """Servers that ran at some time between the two, of that project (None: of all), by project and id."""
    index, past = server_index.c, past_servers.c
    ended = sa.func.coalesce(index.deleted_at, index.updated_at)
    lived = (index.launched_at < end, sa.or_(index.deleted.is_(False), ended > begin))
    live = sa.select(_raw_record, index.cell).where(*lived, *_which(index, project_id, after))
    gone = (past.launched_at < end, past.terminated_at > begin)
    forgotten = sa.select(past_servers).where(*gone, *_which(past, project_id, after))
    for dialect in ("mysql", "mariadb"):  # which would else sort all that live
        live = live.with_hint(server_index, "FORCE INDEX (ix_server_index_usage)", dialect)
    known = [
        of_record(_RECORD.decode(row.raw_record))
        for row in connection.execute(live.order_by(*_order(index, project_id)).limit(limit))
    ]
    rows = connection.execute(forgotten.order_by(*_order(past, project_id)).limit(limit))
    return list(islice(heapq.merge(known, map(_of_row, rows), key=lambda one: (one.project_id, one.id)), limit))


def _order(columns: Any, project_id: str | None) -> Sequence[sa.ColumnElement[Any]]:
    """Return what orders servers, without what all have alike: MariaDB would sort them by it."""
    return [columns.project_id, columns.id] if project_id is None else [columns.id]


def _which(columns: Any, project_id: str | None, after: Place | None) -> Sequence[sa.ColumnElement[bool]]:
    wanted: list[sa.ColumnElement[bool]] = [] if project_id is None else [columns.project_id == project_id]
    if after is not None:
        behind = sa.and_(columns.project_id == after[0], columns.id > after[1])
        wanted += [columns.project_id >= after[0], sa.or_(columns.project_id > after[0], behind)]
    return wanted


def find_places(connection: Connection, begin: dt.datetime, end: dt.datetime, *, project_id: str | None) -> list[Place]:
    """Return the places of all servers that ran at some time between the two, in order: those that there are, and those
    that ended since, by indexes of each. What ended before that is not looked at."""
    index, past = server_index.c, past_servers.c
    gone = index.deleted == sa.true()
    kinds: list[tuple[Any, ...]] = [
        (index, index.deleted == sa.false()),
        (index, gone, index.deleted_at > begin),
        (index, gone, index.deleted_at.is_(None), index.updated_at > begin),
        (past, past.terminated_at > begin),
    ]
    selects = [
        sa.select(columns.project_id, columns.id).where(
            *conditions, columns.launched_at < end, *_which(columns, project_id, None)
        )
        for columns, *conditions in kinds
    ]
    return sorted({(row.project_id, row.id) for row in connection.execute(sa.union_all(*selects))})


def list_of(connection: Connection, places: Sequence[Place]) -> list[ServerUsage]:
    """Return these servers in their order, but for those of which nothing is told any more."""
    ids = [server_id for _, server_id in places]
    known = connection.execute(sa.select(_raw_record).where(server_index.c.id.in_(ids))).scalars().all()
    found = {one.id: one for one in (of_record(_RECORD.decode(text)) for text in known)}
    if len(found) < len(ids):  # the index has forgotten the others, some since their places were found
        rows = connection.execute(
            sa.select(past_servers).where(past_servers.c.id.in_([i for i in ids if i not in found]))
        )
        found |= {one.id: one for one in map(_of_row, rows)}
    return [found[server_id] for server_id in ids if server_id in found]


def _of_row(row: sa.Row[Any]) -> ServerUsage:
    return ServerUsage(vm_state=VmState.DELETED, **row._mapping)


def find_place(connection: Connection, server_id: str, project_id: str | None) -> Place | None:
    """Return the place of a server in the order; None for one that there is not, or is not the project's."""
    for table in (server_index, past_servers):
        row = connection.execute(sa.select(table.c.project_id).where(table.c.id == server_id)).one_or_none()
        if row is not None and project_id in (None, row.project_id):
            return row.project_id, server_id
    return None


def of_record(record: ServerRecord) -> ServerUsage:
    """Return what a record tells of its server's use."""
    flavor = record.spec.flavor
    ended = record.terminated_at or (record.updated_at if record.deleted else None)
    return ServerUsage(
        id=record.id,
        project_id=record.spec.project_id,
        name=record.spec.name,
        flavor=flavor.name,
        vcpus=flavor.vcpus,
        memory_mb=flavor.memory_mb,
        disk_gb=flavor.root_gb + flavor.ephemeral_gb,
        vm_state=record.vm_state,
        launched_at=record.launched_at,
        terminated_at=ended,
    )


def keep(connection: Connection, ids: Sequence[str]) -> None:
    """Keep what is told of the use of servers that the index is about to forget."""
    ran = (server_index.c.id.in_(ids), server_index.c.launched_at.is_not(None))
    rows = connection.execute(sa.select(_raw_record).where(*ran)).scalars()
    usages = [of_record(_RECORD.decode(row)) for row in rows]
    values = [
        {column.name: getattr(one, column.name) for column in past_servers.c}
        for one in usages
        if one.launched_at is not None and one.terminated_at is not None
    ]
    connection.execute(sa.delete(past_servers).where(past_servers.c.id.in_(ids)))
    if values:
        connection.execute(sa.insert(past_servers), values)
