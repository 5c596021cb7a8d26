"""Aggregates: named sets of hosts with metadata, which administrators make at the top. Each cell is given a copy of
all of them with its own hosts; a version that grows with every change says whether the copy is the newest."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import racing, utc_now
from cellcloud.db.top_schema import aggregate_hosts, aggregates, aggregates_version, cells, server_index
from cellcloud.model.host import Aggregate

ZONE = "availability_zone"
LEAP = 1 << 32  # versions; in microseconds more than an hour


def list_all(connection: Connection, *, cell: str | None = None) -> list[Aggregate]:
    """Return every aggregate by id, with its hosts in all cells, or in the one."""
    mine = () if cell is None else (aggregate_hosts.c.cell == cell,)
    hosts: dict[int, list[str]] = {}
    query = sa.select(aggregate_hosts.c.aggregate_id, aggregate_hosts.c.host).where(*mine)
    for row in connection.execute(query.order_by(aggregate_hosts.c.host)):
        hosts.setdefault(row.aggregate_id, []).append(row.host)
    rows = connection.execute(sa.select(aggregates).order_by(aggregates.c.id))
    return [_aggregate(row, hosts.get(row.id, ())) for row in rows]


def get(connection: Connection, aggregate_id: int) -> Aggregate:
    """Return an aggregate. Raises NotFound."""
    row = connection.execute(sa.select(aggregates).where(aggregates.c.id == aggregate_id)).one_or_none()
    if row is None:
        raise errors.NotFound(f"Aggregate {aggregate_id} could not be found.")
    mine = aggregate_hosts.c.aggregate_id == aggregate_id
    query = sa.select(aggregate_hosts.c.host).where(mine).order_by(aggregate_hosts.c.host)
    return _aggregate(row, connection.execute(query).scalars())


def create(connection: Connection, name: str, zone: str | None) -> Aggregate:
    """Make one without hosts. Raises Conflict when the name is taken."""
    begin_change(connection)
    _check_name(connection, name)
    values = {"uuid": str(uuid.uuid4()), "name": name, "metadata": {ZONE: zone} if zone else {}}
    with racing():
        connection.execute(sa.insert(aggregates).values(**values, created_at=utc_now()))
    made = connection.execute(sa.select(aggregates.c.id).where(aggregates.c.name == name)).scalar_one()
    return get(connection, made)


def rename(connection: Connection, aggregate_id: int, name: str) -> None:
    """Give an aggregate another name. Raises NotFound; Conflict when the name is another's."""
    begin_change(connection)
    if get(connection, aggregate_id).name == name:
        return
    _check_name(connection, name)
    _set(connection, aggregate_id, name=name)


def set_metadata(connection: Connection, aggregate_id: int, changes: Mapping[str, str | None]) -> None:
    """Set keys, and forget those that are None. Raises NotFound."""
    begin_change(connection)
    merged = {**get(connection, aggregate_id).metadata, **changes}
    _set(connection, aggregate_id, metadata={key: value for key, value in merged.items() if value is not None})


def delete(connection: Connection, aggregate_id: int) -> None:
    """Delete an aggregate. Raises NotFound; Invalid while it has hosts."""
    begin_change(connection)
    if get(connection, aggregate_id).hosts:
        raise errors.Invalid(f"Cannot delete aggregate {aggregate_id}: Host aggregate is not empty.")
    connection.execute(sa.delete(aggregates).where(aggregates.c.id == aggregate_id))


def add_host(connection: Connection, aggregate_id: int, host: str, cell: str) -> None:
    """Add a host to an aggregate. Raises NotFound; Conflict when it is there already."""
    begin_change(connection)
    if host in get(connection, aggregate_id).hosts:
        raise errors.Conflict(f"Aggregate {aggregate_id} already has host {host}.")
    connection.execute(sa.insert(aggregate_hosts).values(aggregate_id=aggregate_id, host=host, cell=cell))
    _set(connection, aggregate_id)


def remove_host(connection: Connection, aggregate_id: int, host: str) -> None:
    """Take a host out of an aggregate. Raises NotFound when the aggregate or the host in it is not there."""
    begin_change(connection)
    mine = (aggregate_hosts.c.aggregate_id == aggregate_id, aggregate_hosts.c.host == host)
    get(connection, aggregate_id)
    if connection.execute(sa.delete(aggregate_hosts).where(*mine)).rowcount == 0:
        raise errors.NotFound(f"Cannot remove host {host} in aggregate {aggregate_id}")
    _set(connection, aggregate_id)


def forget_host(connection: Connection, host: str, cell: str) -> None:
    """Take a host that there is no more out of every aggregate."""
    begin_change(connection)
    mine = (aggregate_hosts.c.host == host, aggregate_hosts.c.cell == cell)
    connection.execute(sa.delete(aggregate_hosts).where(*mine))


def zones_beside(connection: Connection, aggregate_id: int) -> set[str]:
    """Return the availability zones that other aggregates give to hosts of this one."""
    mine, theirs = aggregate_hosts.alias(), aggregate_hosts.alias()
    shared = sa.exists().where(
        mine.c.aggregate_id == aggregate_id,
        theirs.c.aggregate_id == aggregates.c.id,
        mine.c.host == theirs.c.host,
        mine.c.cell == theirs.c.cell,
    )
    return _zones(connection, aggregate_id, shared)


def zones_of(connection: Connection, host: str, cell: str, *, but: int) -> set[str]:
    """Return the availability zones that aggregates other than ``but`` give to the host."""
    holds = sa.exists().where(
        aggregate_hosts.c.aggregate_id == aggregates.c.id,
        aggregate_hosts.c.host == host,
        aggregate_hosts.c.cell == cell,
    )
    return _zones(connection, but, holds)


def _zones(connection: Connection, but: int, condition: sa.ColumnElement[bool]) -> set[str]:
    found = connection.execute(sa.select(aggregates.c.metadata).where(aggregates.c.id != but, condition)).scalars()
    return {metadata[ZONE] for metadata in found if metadata.get(ZONE)}


def find_cell(connection: Connection, aggregate_id: int, host: str) -> str | None:
    """Return the cell whose host of that name is in the aggregate."""
    mine = (aggregate_hosts.c.aggregate_id == aggregate_id, aggregate_hosts.c.host == host)
    return connection.execute(sa.select(aggregate_hosts.c.cell).where(*mine)).scalar_one_or_none()


def list_hosts(connection: Connection, aggregate_id: int) -> dict[str, list[str]]:
    """Return cell -> the aggregate's hosts in it."""
    found: dict[str, list[str]] = {}
    query = sa.select(aggregate_hosts.c.cell, aggregate_hosts.c.host).where(
        aggregate_hosts.c.aggregate_id == aggregate_id
    )
    for row in connection.execute(query.order_by(aggregate_hosts.c.host)):
        found.setdefault(row.cell, []).append(row.host)
    return found


def has_servers(connection: Connection, aggregate_id: int) -> bool:
    """Return whether the index knows a server on any host of the aggregate."""
    query = (
        sa.select(server_index.c.id)
        .join(
            aggregate_hosts,
            sa.and_(aggregate_hosts.c.host == server_index.c.host, aggregate_hosts.c.cell == server_index.c.cell),
        )
        .where(aggregate_hosts.c.aggregate_id == aggregate_id, server_index.c.deleted.is_(False))
    )
    return connection.execute(query.limit(1)).first() is not None


def count_servers(connection: Connection, host: str, cell: str) -> int:
    """Return how many servers the index knows on the host."""
    living = (server_index.c.host == host, server_index.c.cell == cell, server_index.c.deleted.is_(False))
    return connection.execute(sa.select(sa.func.count()).select_from(server_index).where(*living)).scalar() or 0


# ---- versions and copies ---------------------------------------------------------------------------------------------
def begin_change(connection: Connection, *, leap: bool = False) -> None:
    """Let one change at a time, and give the aggregates the next version: the time in microseconds where that is
    higher, so that it is above what cells have seen even when this database was put back to an earlier state.

    ``leap``: a cell has seen a version above the present one.
    """
    query = sa.select(aggregates_version.c.value, utc_now().label("now")).with_for_update()
    found = connection.execute(query).one_or_none()
    if found is None:
        with racing():
            connection.execute(sa.insert(aggregates_version).values(id=1, value=1))
        return
    version = max(found.value + (LEAP if leap else 1), int(found.now.timestamp() * 1_000_000))
    connection.execute(sa.update(aggregates_version).values(value=version))


def version_of(connection: Connection) -> int:
    """Return the version of all aggregates together; 0 when there never was one."""
    return connection.execute(sa.select(aggregates_version.c.value)).scalar_one_or_none() or 0


def find_given(connection: Connection, cell: str) -> tuple[str, str, int]:
    """Return what marks the copy that the cell was given last, the incarnation of the cell's database, and the version
    of all aggregates together."""
    version = sa.select(aggregates_version.c.value).scalar_subquery()
    query = sa.select(cells.c.aggregates, cells.c.incarnation, version.label("version"))
    row = connection.execute(query.where(cells.c.name == cell)).one()
    return row.aggregates, row.incarnation, row.version or 0


def note_given(connection: Connection, cell: str, mark: str) -> None:
    """Remember what marks the copy that the cell has."""
    connection.execute(sa.update(cells).where(cells.c.name == cell).values(aggregates=mark))


def _check_name(connection: Connection, name: str) -> None:
    if connection.execute(sa.select(aggregates.c.id).where(aggregates.c.name == name)).first() is not None:
        raise errors.Conflict(f"Aggregate {name} already exists.")


def _set(connection: Connection, aggregate_id: int, **values: Any) -> None:
    mine = aggregates.c.id == aggregate_id
    connection.execute(sa.update(aggregates).where(mine).values(**values, updated_at=utc_now()))


def _aggregate(row: Any, hosts: Iterable[str]) -> Aggregate:
    return Aggregate(
        id=row.id,
        uuid=row.uuid,
        name=row.name,
        metadata=row.metadata,
        hosts=tuple(hosts),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
