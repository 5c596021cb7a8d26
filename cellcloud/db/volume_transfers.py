"""Volumes that are on offer to another project."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_now
from cellcloud.db.listing import ALL, Columns, Page, rows_of
from cellcloud.db.volume_schema import volume_transfers
from cellcloud.model.block_storage import Transfer

_FIELDS = ("id", "volume_id", "name", "source_project_id", "no_snapshots", "created_at")
COLUMNS: Columns = {
    **{name: volume_transfers.c[name] for name in _FIELDS if name != "name"},
    "name": sa.func.coalesce(volume_transfers.c.name, ""),
}


def _transfer_of(row: Any) -> Transfer:
    return Transfer(**{name: row._mapping[name] for name in _FIELDS})


def list_transfers(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[Transfer]:
    """Return what a project offers; None: what all do. Raises NotFound for the page's marker."""
    query = sa.select(volume_transfers)
    if project_id is not None:
        query = query.where(volume_transfers.c.source_project_id == project_id)
    return [_transfer_of(row) for row in rows_of(c, query, volume_transfers.c.id, COLUMNS, page)]


def get_transfer(c: Connection, transfer_id: str, *, project_id: str | None = None) -> Transfer:
    """Return an offer. Raises NotFound where there is none of that project."""
    found, _ = get_with_key(c, transfer_id)
    if project_id not in (None, found.source_project_id):
        raise _absent(transfer_id)
    return found


def get_with_key(c: Connection, transfer_id: str, *, lock: bool = False) -> tuple[Transfer, str]:
    """Return an offer and the hash of its key. Raises NotFound."""
    query = sa.select(volume_transfers).where(volume_transfers.c.id == transfer_id)
    row = c.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise _absent(transfer_id)
    return _transfer_of(row), row.key_hash


def insert_transfer(c: Connection, transfer: Transfer, key_hash: str) -> None:
    """Store a new offer; its time is the database's."""
    values = {name: getattr(transfer, name) for name in _FIELDS} | {"created_at": utc_now(), "key_hash": key_hash}
    c.execute(sa.insert(volume_transfers).values(**values))


def delete_transfer(c: Connection, transfer_id: str) -> bool:
    """Forget an offer; False where it is gone."""
    return c.execute(sa.delete(volume_transfers).where(volume_transfers.c.id == transfer_id)).rowcount > 0


def _absent(transfer_id: str) -> errors.NotFound:
    return errors.NotFound(f"Transfer {transfer_id[:64]} could not be found.")
