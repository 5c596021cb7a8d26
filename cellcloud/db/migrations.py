"""The top's index of servers' moves: what their records have told of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import errors
from cellcloud.db.engine import racing
from cellcloud.db.top_schema import migrations
from cellcloud.model import codec
from cellcloud.model.migration import Migration
from cellcloud.model.server import ServerRecord

_KNOWN = sa.select(migrations.c.uuid, migrations.c.updated_at, migrations.c.record).where(
    migrations.c.uuid.in_(sa.bindparam("uuids", expanding=True))
)
_CHANGING = ("status", "destination", "updated_at", "version", "record")
_UPDATE = (
    sa.update(migrations)
    .where(migrations.c.uuid == sa.bindparam("which"), migrations.c.version < sa.bindparam("new_version"))
    .values({name: sa.bindparam(f"new_{name}", type_=migrations.c[name].type) for name in _CHANGING})
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedMigration:
    """A migration as the API shows it. ``number``: its id there."""

    number: int
    server_id: str
    migration: Migration


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationQuery:
    """``equal``: column -> values, any of which will do. ``host``: the source or the destination. ``since``,
    ``before``: when it changed last. ``marker``: the uuid of the one before the page."""

    equal: Mapping[str, Sequence[str]] = field(default_factory=dict)
    host: Sequence[str] = ()
    since: dt.datetime | None = None
    before: dt.datetime | None = None
    limit: int = 1000
    marker: str | None = None


def note(connection: Connection, records: Sequence[ServerRecord]) -> None:
    """Take in what newer records of servers tell of their moves, which are over with their server, though a host may
    still have to clean up. Raises LostRace where another was first to."""
    told = {
        one.id: (record, replace(one, status=one.ended) if record.deleted else one)
        for record in records
        for one in record.migrations
    }
    if not told:
        return
    known = {row.uuid: row.record for row in connection.execute(_KNOWN, {"uuids": sorted(told)})}
    new = [_row(*told[uuid]) for uuid in sorted(told.keys() - known.keys())]
    if new:
        with racing():
            connection.execute(sa.insert(migrations), new)
    rows = [_row(*told[uuid]) for uuid in sorted(known) if known[uuid] != codec.to_plain(told[uuid][1])]
    changes = [{"which": row["uuid"], **{f"new_{name}": row[name] for name in _CHANGING}} for row in rows]
    if changes:
        connection.execute(_UPDATE, changes)


def _row(record: ServerRecord, one: Migration) -> dict[str, Any]:
    return {
        "uuid": one.id,
        "server_id": record.id,
        "type": one.type,
        "status": one.status,
        "source": one.source,
        "destination": one.destination,
        "user_id": one.user_id,
        "project_id": one.project_id,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
        "version": record.version,
        "record": codec.to_plain(one),
    }


def list_page(connection: Connection, query: MigrationQuery) -> list[NumberedMigration]:
    """Return the newest first. Raises Invalid for a marker that is no migration."""
    columns = migrations.c
    wanted = list(_conditions(query))
    if query.marker is not None:
        place = sa.select(columns.created_at, columns.id).where(columns.uuid == query.marker)
        row = connection.execute(place).one_or_none()
        if row is None:
            raise errors.Invalid(f"Marker {query.marker} could not be found.")
        older = sa.and_(columns.created_at == row.created_at, columns.id < row.id)
        wanted.append(sa.or_(columns.created_at < row.created_at, older))
    newest = sa.select(migrations).where(*wanted).order_by(columns.created_at.desc(), columns.id.desc())
    return [_numbered(row) for row in connection.execute(newest.limit(query.limit))]


def find_of_server(connection: Connection, server_id: str, number: int) -> NumberedMigration | None:
    """Return a server's migration by its number."""
    mine = (migrations.c.server_id == server_id, migrations.c.id == number)
    row = connection.execute(sa.select(migrations).where(*mine)).one_or_none()
    return None if row is None else _numbered(row)


def _conditions(query: MigrationQuery) -> Iterator[sa.ColumnElement[bool]]:
    for name, values in query.equal.items():
        yield migrations.c[name].in_(values)
    if query.host:
        yield sa.or_(migrations.c.source.in_(query.host), migrations.c.destination.in_(query.host))
    changed = sa.func.coalesce(migrations.c.updated_at, migrations.c.created_at)
    if query.since is not None:
        yield changed >= query.since
    if query.before is not None:
        yield changed <= query.before


def _numbered(row: Row[Any]) -> NumberedMigration:
    migration: Migration = codec.from_plain(row.record, Migration)
    return NumberedMigration(number=row.id, server_id=row.server_id, migration=migration)
