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
    known = [
        of_record(_RECORD.decode(row.raw_record))
        for row in connection.execute(live.order_by(index.project_id, index.id).limit(limit))
    ]
    rows = connection.execute(forgotten.order_by(past.project_id, past.id).limit(limit))
    kept = [ServerUsage(vm_state=VmState.DELETED, **row._mapping) for row in rows]
    return list(islice(heapq.merge(known, kept, key=lambda one: (one.project_id, one.id)), limit))


def _which(columns: Any, project_id: str | None, after: Place | None) -> Sequence[sa.ColumnElement[bool]]:
    wanted: list[sa.ColumnElement[bool]] = [] if project_id is None else [columns.project_id == project_id]
    if after is not None:
        behind = sa.and_(columns.project_id == after[0], columns.id > after[1])
        wanted.append(sa.or_(columns.project_id > after[0], behind))
    return wanted


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
