"""User data, large scheduler hints and other large fields: kept once for all servers of a project that have the same,
beside their records, which are copied at every change. A record has their ids; user data and hints go to whoever
starts, places or shows the guest, the other fields to whoever reads the record.

Initial passwords are kept beside records too, for a day: they are told to the guest that is built, and to nobody else.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db import bulk, cell_schema, top_schema
from cellcloud.db.engine import utc_after
from cellcloud.model import hints, large_fields
from cellcloud.model.large_fields import id_of
from cellcloud.model.server import ServerRecord, ServerSpec

LARGE = 1 << 10  # bytes of hints that are kept apart; smaller ones cost less in the record than by an id
PRUNED_AT_ONCE = 500
TOP, CELL = top_schema.user_data, cell_schema.user_data
_IDS = ("user_data_id", "hints_id", "large_fields_id")
_USERS = {
    "top": [top_schema.server_index.c[name] for name in _IDS],
    "cell": [cell_schema.servers.c[name] for name in _IDS],
}


def ids_of(spec: ServerSpec) -> set[str]:
    """Return the ids of what is kept beside a record with this spec and may be told."""
    return {spec.kept_as, *(getattr(spec, name) for name in _IDS)} - {""}


def keep(
    connection: Connection, table: sa.Table, specs: Sequence[ServerSpec], *, fields: bool = False
) -> list[ServerSpec]:
    """Store the texts that come with specs; returns the specs with their ids instead. ``fields``: the specs are those
    of new servers, whose other large fields are stored too; these are left in the specs."""
    texts: dict[str, str] = {}
    kept = []
    for spec in specs:
        text_id, pass_id = spec.user_data_id, spec.admin_pass_id
        if spec.user_data is not None:
            text_id = id_of(spec.project_id, spec.user_data)
            texts[text_id] = spec.user_data
        if spec.admin_pass:
            pass_id = secrets.token_hex(32)  # tells nothing of a word that may be guessed
            texts[pass_id] = spec.admin_pass
        hints_id, left = spec.hints_id, spec.scheduler_hints
        given = msgspec.json.encode(left).decode()
        if len(given) >= LARGE:
            hints_id = id_of(spec.project_id, given)
            texts[hints_id] = given
            left = {name: value for name, value in left.items() if name == hints.GROUP}
        without = replace(spec, user_data=None, admin_pass="", scheduler_hints=left, placed=None)
        fields_id = spec.kept_as
        if fields:
            of_fields = large_fields.text_of(spec)
            fields_id = id_of(spec.project_id, of_fields) if len(of_fields) >= large_fields.LARGE else ""
            texts |= {fields_id: of_fields} if fields_id else {}
        without = replace(without, user_data_id=text_id, admin_pass_id=pass_id, hints_id=hints_id)
        kept.append(replace(without, kept_as=fields_id))
    store(connection, table, texts)
    return kept


def keep_password(connection: Connection, password: str) -> str:
    """Store a password for a guest of the cell; its id."""
    pass_id = secrets.token_hex(32)
    store(connection, CELL, {pass_id: password})
    return pass_id


def store(connection: Connection, table: sa.Table, texts: Mapping[str, str]) -> None:
    """Keep texts by id, as used now."""
    if texts:
        bulk.insert(connection, table, ("id", "text"), sorted(texts.items()), at=("used_at",), replace=True)


def attach(
    connection: Connection, table: sa.Table, specs: Sequence[ServerSpec], *, passwords: bool = False
) -> list[ServerSpec]:
    """Return the specs with their user data and hints again; with ``passwords`` for whoever builds the guest, and
    nobody else."""
    ids = {one for spec in specs for one in (spec.user_data_id, spec.hints_id)}
    texts = find(connection, table, ids | {spec.admin_pass_id for spec in specs if passwords})
    return [
        replace(
            _with_hints(spec, texts),
            user_data=texts.get(spec.user_data_id, spec.user_data),
            admin_pass=texts.get(spec.admin_pass_id, spec.admin_pass),
        )
        for spec in specs
    ]


def attach_hints(connection: Connection, table: sa.Table, specs: Sequence[ServerSpec]) -> list[ServerSpec]:
    """Return the specs with all their scheduler hints."""
    texts = find(connection, table, {spec.hints_id for spec in specs})
    return [_with_hints(spec, texts) for spec in specs] if texts else list(specs)


def attach_fields(connection: Connection, table: sa.Table, records: Sequence[ServerRecord]) -> list[ServerRecord]:
    """Return records as they are stored with the large fields of their specs."""
    texts = find(connection, table, {record.spec.large_fields_id for record in records})
    return [replace(one, spec=_with_fields(one.spec, texts)) for one in records] if texts else list(records)


def _with_fields(spec: ServerSpec, texts: Mapping[str, str]) -> ServerSpec:
    if spec.large_fields_id not in texts:
        return spec
    return large_fields.with_text(spec, texts[spec.large_fields_id])


def _with_hints(spec: ServerSpec, texts: Mapping[str, str]) -> ServerSpec:
    if spec.hints_id not in texts:
        return spec
    return replace(spec, scheduler_hints=msgspec.json.decode(texts[spec.hints_id]), hints_id="")


def find(connection: Connection, table: sa.Table, ids: Iterable[str]) -> Mapping[str, str]:
    """Id -> text, of those that are there."""
    wanted: Collection[str] = {one for one in ids if one}
    if not wanted:
        return {}
    rows = connection.execute(sa.select(table.c.id, table.c.text).where(table.c.id.in_(wanted)))
    return {row.id: row.text for row in rows}


def list_missing(connection: Connection, table: sa.Table, ids: Collection[str]) -> list[str]:
    """Those of the ids of which there is no text."""
    known = connection.execute(sa.select(table.c.id).where(table.c.id.in_(ids))).scalars()
    return sorted(set(ids) - set(known))


def find_of_servers(connection: Connection, ids: Collection[str]) -> Mapping[str, str]:
    """Id -> text, of what a cell's servers have but their initial passwords, which are nobody's to read."""
    has = sa.or_(*(sa.exists().where(user == CELL.c.id) for user in _USERS["cell"]))
    rows = connection.execute(sa.select(CELL.c.id, CELL.c.text).where(CELL.c.id.in_(ids), has))
    return {row.id: row.text for row in rows}


def prune(connection: Connection, table: sa.Table, *, seconds: float) -> int:
    """Forget some of the texts that no server has, and that none was given for so many seconds; returns how many."""
    users = _USERS["top" if table is TOP else "cell"]
    old = [table.c.used_at < utc_after(-seconds), *(sa.not_(sa.exists().where(user == table.c.id)) for user in users)]
    some = connection.execute(sa.select(table.c.id).where(*old).limit(PRUNED_AT_ONCE)).scalars().all()
    return connection.execute(sa.delete(table).where(table.c.id.in_(some), *old)).rowcount if some else 0


def list_lost(connection: Connection) -> list[str]:
    """Return the servers of a cell that have the id of a text which is not there."""
    lost = [
        sa.and_(user.is_not(None), sa.not_(sa.exists().where(CELL.c.id == user).correlate(cell_schema.servers)))
        for user in _USERS["cell"]
    ]
    servers = cell_schema.servers.c
    return list(connection.execute(sa.select(servers.id).where(servers.deleted.is_(False), sa.or_(*lost))).scalars())
