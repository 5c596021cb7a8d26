"""Snapshots of volumes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_now
from cellcloud.db.listing import ALL, Columns, Page, rows_of
from cellcloud.db.volume_schema import volume_snapshots, volumes
from cellcloud.db.volumes import pairs_of
from cellcloud.model.block_storage import BlockSnapshot

_FIELDS = tuple(each.name for each in fields(BlockSnapshot))
_ZONE = sa.select(volumes.c.availability_zone).where(volumes.c.id == volume_snapshots.c.volume_id).scalar_subquery()
COLUMNS: Columns = {
    **{name: volume_snapshots.c[name] for name in _FIELDS if name != "metadata"},
    **{name: sa.func.coalesce(volume_snapshots.c[name], "") for name in ("name", "description")},
    "updated_at": sa.func.coalesce(volume_snapshots.c.updated_at, volume_snapshots.c.created_at),
    "metadata": pairs_of(volume_snapshots.c.metadata),
    "availability_zone": _ZONE,
}


def snapshot_of(row: Any) -> BlockSnapshot:
    """Return the snapshot of a row."""
    return BlockSnapshot(**{name: row._mapping[name] for name in _FIELDS})


def get_snapshot(
    c: Connection, snapshot_id: str, *, project_id: str | None = None, lock: bool = False
) -> BlockSnapshot:
    """Return a snapshot. Raises NotFound where there is none of that project."""
    query = sa.select(volume_snapshots).where(volume_snapshots.c.id == snapshot_id)
    row = c.execute(query.with_for_update() if lock else query).first()
    if row is None or project_id not in (None, row.project_id):
        raise errors.NotFound(f"Snapshot {snapshot_id[:64]} could not be found.")
    return snapshot_of(row)


def list_snapshots(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[BlockSnapshot]:
    """Return snapshots of a project; None: of all. Raises NotFound for the page's marker."""
    query = sa.select(volume_snapshots)
    if project_id is not None:
        query = query.where(volume_snapshots.c.project_id == project_id)
    return [snapshot_of(row) for row in rows_of(c, query, volume_snapshots.c.id, COLUMNS, page)]


def count_snapshots(c: Connection, *, project_id: str | None, page: Page) -> int:
    """Return how many snapshots the page's conditions hold for."""
    query = sa.select(volume_snapshots.c.id)
    if project_id is not None:
        query = query.where(volume_snapshots.c.project_id == project_id)
    return len(rows_of(c, query, volume_snapshots.c.id, COLUMNS, Page(where=page.where)))


def list_of_volume(c: Connection, volume_id: str) -> list[BlockSnapshot]:
    """Return a volume's snapshots, the newest first."""
    mine = sa.select(volume_snapshots).where(volume_snapshots.c.volume_id == volume_id)
    newest = mine.order_by(volume_snapshots.c.created_at.desc(), volume_snapshots.c.id.desc())
    return [snapshot_of(row) for row in c.execute(newest)]


def ids_by_volume(c: Connection, cell: str, host: str) -> dict[str, frozenset[str]]:
    """Volume of a volume service -> its snapshots that are whole."""
    query = sa.select(volume_snapshots.c.id, volume_snapshots.c.volume_id).select_from(
        volume_snapshots.join(volumes, volumes.c.id == volume_snapshots.c.volume_id)
    )
    mine = (volumes.c.cell == cell, volumes.c.host == host, volume_snapshots.c.status == "available")
    found: dict[str, set[str]] = {}
    for row in c.execute(query.where(*mine)):
        found.setdefault(row.volume_id, set()).add(row.id)
    return {volume_id: frozenset(ids) for volume_id, ids in found.items()}


def insert_snapshot(c: Connection, snapshot: BlockSnapshot) -> None:
    """Store a new snapshot; times are the database's."""
    values = {name: getattr(snapshot, name) for name in _FIELDS}
    values |= {"metadata": dict(snapshot.metadata), "created_at": utc_now(), "updated_at": None}
    c.execute(sa.insert(volume_snapshots).values(**values))


def update_snapshot(c: Connection, snapshot_id: str, changes: Mapping[str, Any], *, of: Collection[str] = ()) -> bool:
    """Change a snapshot; False where it is not there, or has none of the statuses ``of``."""
    query = sa.update(volume_snapshots).where(volume_snapshots.c.id == snapshot_id)
    if of:
        query = query.where(volume_snapshots.c.status.in_(list(of)))
    return c.execute(query.values(**changes, updated_at=utc_now())).rowcount > 0


def delete_snapshot(c: Connection, snapshot_id: str) -> bool:
    """Forget a snapshot; False where it is gone."""
    return c.execute(sa.delete(volume_snapshots).where(volume_snapshots.c.id == snapshot_id)).rowcount > 0
