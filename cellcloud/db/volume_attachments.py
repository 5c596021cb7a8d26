"""Attachments: which server, or host, has which volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.listing import ALL, Columns, Page, rows_of
from cellcloud.db.top_schema import server_index
from cellcloud.db.volume_schema import volume_attachments, volumes
from cellcloud.model.block_storage import Attachment

_FIELDS = tuple(each.name for each in fields(Attachment))
COLUMNS: Columns = {
    **{name: volume_attachments.c[name] for name in ("id", "volume_id", "project_id", "status", "mode", "created_at")},
    "server_id": sa.func.coalesce(volume_attachments.c.server_id, ""),
    "host": sa.func.coalesce(volume_attachments.c.host, ""),
}


def attachment_of(row: Any) -> Attachment:
    """Return the attachment of a row."""
    return Attachment(**{name: row._mapping[name] for name in _FIELDS})


def get_attachment(c: Connection, attachment_id: str, *, project_id: str | None = None) -> Attachment:
    """Return an attachment. Raises NotFound where there is none of that project."""
    row = c.execute(sa.select(volume_attachments).where(volume_attachments.c.id == attachment_id)).first()
    if row is None or project_id not in (None, row.project_id):
        raise errors.NotFound(
            f"Volume attachment could not be found with filter: attachment_id = {attachment_id[:64]}."
        )
    return attachment_of(row)


def list_attachments(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[Attachment]:
    """Return attachments of a project; None: of all. Raises NotFound for the page's marker."""
    query = sa.select(volume_attachments)
    if project_id is not None:
        query = query.where(volume_attachments.c.project_id == project_id)
    return [attachment_of(row) for row in rows_of(c, query, volume_attachments.c.id, COLUMNS, page)]


def list_of(c: Connection, volume_ids: Sequence[str]) -> dict[str, list[Attachment]]:
    """Volume -> its attachments, in the order in which they were made."""
    found: dict[str, list[Attachment]] = {one: [] for one in volume_ids}
    order = (volume_attachments.c.created_at, volume_attachments.c.id)
    for start in range(0, len(volume_ids), 500):
        some = volume_ids[start : start + 500]
        query = sa.select(volume_attachments).where(volume_attachments.c.volume_id.in_(some)).order_by(*order)
        for row in c.execute(query):
            found[row.volume_id].append(attachment_of(row))
    return found


def list_of_server(c: Connection, server_id: str) -> list[Attachment]:
    """Return a server's attachments, in the order in which they were made."""
    mine = sa.select(volume_attachments).where(volume_attachments.c.server_id == server_id)
    ordered = mine.order_by(volume_attachments.c.created_at, volume_attachments.c.id)
    return [attachment_of(row) for row in c.execute(ordered)]


def insert_attachment(c: Connection, attachment: Attachment) -> None:
    """Store a new attachment; its time is the database's."""
    values = {name: getattr(attachment, name) for name in _FIELDS}
    plain = {"connector": dict(attachment.connector), "connection_info": dict(attachment.connection_info)}
    attached = utc_now() if attachment.status == "attached" else None
    values |= {**plain, "created_at": utc_now(), "attached_at": attached}
    c.execute(sa.insert(volume_attachments).values(**values))


def update_attachment(c: Connection, attachment_id: str, changes: Mapping[str, Any]) -> bool:
    """Change an attachment; False where it is gone."""
    values = dict(changes)
    if values.get("status") == "attached":
        values["attached_at"] = utc_now()
    query = sa.update(volume_attachments).where(volume_attachments.c.id == attachment_id)
    return c.execute(query.values(**values)).rowcount > 0


def delete_attachment(c: Connection, attachment_id: str) -> bool:
    """Forget an attachment; False where it is gone."""
    return c.execute(sa.delete(volume_attachments).where(volume_attachments.c.id == attachment_id)).rowcount > 0


def give_to(c: Connection, volume_id: str, project_id: str) -> None:
    """Let a volume's attachments be of another project, as the volume is."""
    mine = volume_attachments.c.volume_id == volume_id
    c.execute(sa.update(volume_attachments).where(mine).values(project_id=project_id))


def list_forlorn(c: Connection, *, limit: int) -> list[tuple[str, str]]:
    """(volume, status) of those that are shown in use and that nobody has."""
    had = sa.exists().where(volume_attachments.c.volume_id == volumes.c.id)
    query = sa.select(volumes.c.id, volumes.c.status).where(volumes.c.status == "in-use", sa.not_(had))
    return [(row.id, row.status) for row in c.execute(query.order_by(volumes.c.id).limit(limit))]


def list_of_deleted(c: Connection, *, limit: int, seconds: float = 0.0) -> list[Attachment]:
    """Return attachments of servers that were deleted more than so many seconds ago."""
    index = server_index.c
    gone = sa.exists().where(
        index.id == volume_attachments.c.server_id,
        index.deleted.is_(True),
        index.deleted_at < utc_after(-seconds),
    )
    query = sa.select(volume_attachments).where(gone).order_by(volume_attachments.c.id).limit(limit)
    return [attachment_of(row) for row in c.execute(query)]


def list_reserved(c: Connection, *, after: str, limit: int, seconds: float) -> list[Attachment]:
    """Return reservations for servers, older than so many seconds, that no host has used, by id from ``after`` on."""
    mine = volume_attachments.c
    query = sa.select(volume_attachments).where(
        mine.status == "reserved",
        mine.host.is_(None),
        mine.server_id.is_not(None),
        mine.created_at < utc_after(-seconds),
        mine.id > after,
    )
    return [attachment_of(row) for row in c.execute(query.order_by(mine.id).limit(limit))]


def list_detaching(c: Connection, *, after: str, limit: int, seconds: float) -> list[Attachment]:
    """Return what servers have of volumes that have been about to be detached for more than so many seconds, by id from
    ``after`` on."""
    mine = volume_attachments.c
    query = sa.select(volume_attachments).where(
        mine.volume_id == volumes.c.id,
        volumes.c.status == "detaching",
        volumes.c.updated_at < utc_after(-seconds),
        mine.server_id.is_not(None),
        mine.id > after,
    )
    return [attachment_of(row) for row in c.execute(query.order_by(mine.id).limit(limit))]


def ids_by_volume(c: Connection, cell: str, host: str) -> dict[str, frozenset[str]]:
    """Volume of a volume service -> its attachments."""
    query = sa.select(volume_attachments.c.id, volume_attachments.c.volume_id).select_from(
        volume_attachments.join(volumes, volumes.c.id == volume_attachments.c.volume_id)
    )
    found: dict[str, set[str]] = {}
    for row in c.execute(query.where(volumes.c.cell == cell, volumes.c.host == host)):
        found.setdefault(row.volume_id, set()).add(row.id)
    return {volume_id: frozenset(ids) for volume_id, ids in found.items()}
