"""User data: kept once for all servers of a project that have the same, beside their records, which are copied at every
change. A record has its id; the text goes to whoever starts or shows the guest."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db import bulk, cell_schema, top_schema
from cellcloud.db.engine import utc_after
from cellcloud.model.server import ServerSpec

TOP, CELL = top_schema.user_data, cell_schema.user_data
_USERS = {"top": top_schema.server_index.c.user_data_id, "cell": cell_schema.servers.c.user_data_id}


def keep(connection: Connection, table: sa.Table, specs: Sequence[ServerSpec]) -> list[ServerSpec]:
    """Store the texts that come with specs; returns the specs with their ids instead."""
    texts: dict[str, str] = {}
    kept = []
    for spec in specs:
        if spec.user_data is not None:
            text_id = _id_of(spec.project_id, spec.user_data)
            texts[text_id] = spec.user_data
            kept.append(replace(spec, user_data=None, user_data_id=text_id))
        else:
            kept.append(spec)
    if texts:
        bulk.insert(connection, table, ("id", "text"), sorted(texts.items()), at=("used_at",), replace=True)
    return kept


def attach(connection: Connection, table: sa.Table, specs: Sequence[ServerSpec]) -> list[ServerSpec]:
    """The specs with their texts again."""
    texts = find(connection, table, {spec.user_data_id for spec in specs if spec.user_data is None})
    return [
        replace(spec, user_data=texts[spec.user_data_id])
        if spec.user_data is None and spec.user_data_id in texts
        else spec
        for spec in specs
    ]


def find(connection: Connection, table: sa.Table, ids: Iterable[str]) -> Mapping[str, str]:
    """Id -> text, of those that are there."""
    wanted: Collection[str] = {one for one in ids if one}
    if not wanted:
        return {}
    rows = connection.execute(sa.select(table.c.id, table.c.text).where(table.c.id.in_(wanted)))
    return {row.id: row.text for row in rows}


def prune(connection: Connection, table: sa.Table, *, seconds: float) -> int:
    """Forget texts that no server has, and that none was given for so many seconds."""
    user = _USERS["top" if table is TOP else "cell"]
    unused = sa.not_(sa.exists().where(user == table.c.id))
    return connection.execute(sa.delete(table).where(table.c.used_at < utc_after(-seconds), unused)).rowcount


def _id_of(project_id: str, text: str) -> str:
    return hashlib.sha256(f"{project_id}\n{text}".encode()).hexdigest()
