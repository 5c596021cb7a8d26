"""Rows of the embedded volume service: volumes, and the tasks that their cells have not answered yet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.listing import ALL, Columns, Condition, Page, has_pair, rows_of
from cellcloud.db.volume_schema import volume_snapshots, volume_tasks, volume_types, volumes
from cellcloud.model import codec
from cellcloud.model.block_storage import BlockVolume, VolumeTask

_TAKEN_SECONDS = 30.0  # longer than anybody takes a task
_FIELDS = tuple(each.name for each in fields(BlockVolume) if each.name in volumes.c)


def pairs_of(column: sa.ColumnElement[Any]) -> Any:
    """Conditions on a JSON object of texts: every one of the (key, value) pairs."""

    def test(condition: Condition) -> sa.ColumnElement[bool]:
        return sa.and_(sa.true(), *(has_pair(column, key, value) for key, value in condition.values))

    return test


_TYPE_NAME = sa.select(volume_types.c.name).where(volume_types.c.id == volumes.c.type_id).scalar_subquery()
COLUMNS: Columns = {
    **{name: volumes.c[name] for name in _FIELDS if name not in ("metadata", "image_metadata")},
    **{name: sa.func.coalesce(volumes.c[name], "") for name in ("name", "description", "snapshot_id", "source_volid")},
    "updated_at": sa.func.coalesce(volumes.c.updated_at, volumes.c.created_at),
    "volume_type": _TYPE_NAME,
    "metadata": pairs_of(volumes.c.metadata),
    "glance_metadata": pairs_of(volumes.c.image_metadata),
}
_BY_ID = sa.select(volumes).where(volumes.c.id == sa.bindparam("volume_id"))
_LOCKED = _BY_ID.with_for_update()


def volume_of(row: Any) -> BlockVolume:
    """Return the volume of a row."""
    return BlockVolume(**{name: row._mapping[name] for name in _FIELDS})


def find_volume(
    c: Connection, volume_id: str, *, project_id: str | None = None, lock: bool = False
) -> BlockVolume | None:
    """Return a volume; None where there is none of that project. ``lock`` keeps the row until the transaction ends."""
    row = c.execute(_LOCKED if lock else _BY_ID, {"volume_id": volume_id}).first()
    if row is None or project_id not in (None, row.project_id):
        return None
    return volume_of(row)


def get_volume(c: Connection, volume_id: str, *, project_id: str | None = None, lock: bool = False) -> BlockVolume:
    """Return a volume as ``find_volume`` does. Raises NotFound."""
    found = find_volume(c, volume_id, project_id=project_id, lock=lock)
    if found is None:
        raise errors.NotFound(f"Volume {volume_id[:64]} could not be found.")
    return found


def list_volumes(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[BlockVolume]:
    """Return volumes of a project; None: of all. Raises NotFound for the page's marker."""
    query = sa.select(volumes)
    if project_id is not None:
        query = query.where(volumes.c.project_id == project_id)
    return [volume_of(row) for row in rows_of(c, query, volumes.c.id, COLUMNS, page)]


def count_volumes(c: Connection, *, project_id: str | None, page: Page) -> tuple[int, int]:
    """Return how many volumes the page's conditions hold for, and their GiB."""
    query = sa.select(volumes.c.id)
    if project_id is not None:
        query = query.where(volumes.c.project_id == project_id)
    every = Page(where=page.where)
    ids = [row.id for row in rows_of(c, query, volumes.c.id, COLUMNS, every)]
    return len(ids), sizes_of(c, ids)


def sizes_of(c: Connection, ids: Sequence[str]) -> int:
    """Return the GiB of these volumes together."""
    total = 0
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        total += int(c.execute(sa.select(sa.func.sum(volumes.c.size)).where(volumes.c.id.in_(some))).scalar() or 0)
    return total


def list_metadata(c: Connection, *, project_id: str | None) -> list[Mapping[str, str]]:
    """Return the metadata of every volume of a project; None: of all."""
    query = sa.select(volumes.c.metadata)
    if project_id is not None:
        query = query.where(volumes.c.project_id == project_id)
    return list(c.execute(query).scalars())


def insert_volume(c: Connection, volume: BlockVolume) -> None:
    """Store a new volume; times are the database's."""
    values = {name: getattr(volume, name) for name in _FIELDS}
    values |= {"metadata": dict(volume.metadata), "created_at": utc_now(), "updated_at": None, "reason": ""}
    c.execute(sa.insert(volumes).values(**values))


def update_volume(c: Connection, volume_id: str, changes: Mapping[str, Any], *, of: Collection[str] = ()) -> bool:
    """Change a volume; False where it is not there, or has none of the statuses ``of``."""
    query = sa.update(volumes).where(volumes.c.id == volume_id)
    if of:
        query = query.where(volumes.c.status.in_(list(of)))
    return c.execute(query.values(**changes, updated_at=utc_now())).rowcount > 0


def delete_volume(c: Connection, volume_id: str) -> bool:
    """Forget a volume; False where it is gone."""
    return c.execute(sa.delete(volumes).where(volumes.c.id == volume_id)).rowcount > 0


def pin_volume(c: Connection, volume: BlockVolume) -> None:
    """Let a volume, whose row is locked, stay where it is for ever: somebody uses what it holds."""
    if volume.movable:
        c.execute(sa.update(volumes).where(volumes.c.id == volume.id).values(movable=False))


def next_generation(c: Connection, volume_id: str) -> int:
    """Count a change of a volume's content or connections; the caller has locked the row."""
    c.execute(sa.update(volumes).where(volumes.c.id == volume_id).values(generation=volumes.c.generation + 1))
    return int(c.execute(sa.select(volumes.c.generation).where(volumes.c.id == volume_id)).scalar_one())


def list_on(c: Connection, cell: str, host: str) -> list[BlockVolume]:
    """Return the volumes of a volume service."""
    query = sa.select(volumes).where(volumes.c.cell == cell, volumes.c.host == host)
    return [volume_of(row) for row in c.execute(query)]


def size_by_host(c: Connection) -> dict[tuple[str, str], int]:
    """(cell, host) -> GiB that its volumes may come to."""
    whose = (volumes.c.cell, volumes.c.host)
    query = sa.select(*whose, sa.func.sum(volumes.c.size).label("size")).group_by(*whose)
    return {(row.cell, row.host): int(row.size) for row in c.execute(query)}


def totals_on(c: Connection, cell: str, host: str) -> dict[str, tuple[int, int, int, int]]:
    """Project -> volumes, their GiB, snapshots and their GiB, of a volume service."""
    mine = (volumes.c.cell == cell, volumes.c.host == host)
    columns = (volumes.c.project_id, sa.func.count().label("number"), sa.func.sum(volumes.c.size).label("size"))
    found = {
        row.project_id: (row.number, int(row.size), 0, 0)
        for row in c.execute(sa.select(*columns).where(*mine).group_by(volumes.c.project_id))
    }
    taken = volume_snapshots.join(volumes, volumes.c.id == volume_snapshots.c.volume_id)
    whose = volume_snapshots.c.project_id
    counted = (whose, sa.func.count().label("number"), sa.func.sum(volume_snapshots.c.size).label("size"))
    for row in c.execute(sa.select(*counted).select_from(taken).where(*mine).group_by(whose)):
        number, size, *_ = found.get(row.project_id, (0, 0, 0, 0))
        found[row.project_id] = (number, size, row.number, int(row.size))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedVolume:
    """A volume of which a task failed, why, and when it was seen last."""

    id: str
    reason: str
    at: dt.datetime


def list_failed(c: Connection, project_id: str) -> list[FailedVolume]:
    """Return the volumes of a project of which a task failed, at most a thousand."""
    query = sa.select(volumes).where(volumes.c.project_id == project_id, volumes.c.reason != "")
    rows = c.execute(query.order_by(volumes.c.created_at.desc(), volumes.c.id).limit(1000))
    return [FailedVolume(id=row.id, reason=row.reason, at=row.updated_at or row.created_at) for row in rows]


# ---- tasks -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTask:
    """``cell`` "": nobody has been chosen yet. ``age``: whether it is older than it may be while it is refused."""

    task: VolumeTask
    cell: str
    host: str
    age: bool


def put_task(c: Connection, task: VolumeTask, cell: str, host: str, *, hold: float = 0.0) -> None:
    """Have a task done, in place of what was still to be done about the same thing, but not in the first ``hold``
    seconds."""
    values = {
        "volume_id": task.volume_id,
        "cell": cell,
        "host": host,
        "task": codec.to_plain(task),
        "lease_until": utc_after(hold),
        "created_at": utc_now(),
    }
    if not c.execute(sa.update(volume_tasks).where(volume_tasks.c.id == task.id).values(**values)).rowcount:
        c.execute(sa.insert(volume_tasks).values(id=task.id, **values))


def lease_tasks(c: Connection, cell: str, *, most: int, seconds: float, old_after: float) -> list[WaitingTask]:
    """Take the tasks of a cell that nobody has, for so many seconds; the longest waiting first."""
    free = sa.select(volume_tasks.c.id).where(volume_tasks.c.cell == cell, volume_tasks.c.lease_until <= utc_now())
    ids = list(c.execute(free.order_by(volume_tasks.c.lease_until).limit(most)).scalars())
    if not ids:
        return []
    mine = [one for one in ids if _lease(c, one, seconds)]
    query = sa.select(volume_tasks, (volume_tasks.c.created_at < utc_after(-old_after)).label("age"))
    rows = c.execute(query.where(volume_tasks.c.id.in_(mine)))
    return [
        WaitingTask(task=codec.from_plain(row.task, VolumeTask), cell=row.cell, host=row.host, age=bool(row.age))
        for row in rows
    ]


def _lease(c: Connection, task_id: str, seconds: float) -> bool:
    free = (volume_tasks.c.id == task_id, volume_tasks.c.lease_until <= utc_now())
    return c.execute(sa.update(volume_tasks).where(*free).values(lease_until=utc_after(seconds))).rowcount > 0


def has_free_tasks(c: Connection, cell: str) -> bool:
    """Return whether anything is to be done in a cell that nobody is at."""
    free = (volume_tasks.c.cell == cell, volume_tasks.c.lease_until <= utc_now())
    return c.execute(sa.select(volume_tasks.c.id).where(*free).limit(1)).first() is not None


def postpone_task(c: Connection, task: VolumeTask, seconds: float) -> None:
    """Leave a task alone for so long."""
    c.execute(sa.update(volume_tasks).where(volume_tasks.c.id == task.id).values(lease_until=utc_after(seconds)))


def place_task(c: Connection, task: VolumeTask, cell: str, host: str, zone: str) -> None:
    """Let a new volume be of that volume service."""
    placed = {"cell": cell, "host": host}
    c.execute(sa.update(volumes).where(volumes.c.id == task.volume_id).values(**placed, availability_zone=zone))
    values = {**placed, "lease_until": utc_now()}
    c.execute(sa.update(volume_tasks).where(volume_tasks.c.volume_id == task.volume_id).values(**values))


def end_task(c: Connection, task: VolumeTask) -> bool:
    """Forget a task; False where another one has taken its place."""
    row = c.execute(sa.select(volume_tasks.c.task).where(volume_tasks.c.id == task.id).with_for_update()).first()
    if row is None or codec.from_plain(row.task, VolumeTask) != task:
        return False
    c.execute(sa.delete(volume_tasks).where(volume_tasks.c.id == task.id))
    return True


def find_held_task(c: Connection, task_id: str) -> VolumeTask | None:
    """Return a task that is held back, and that nobody will take yet."""
    held = (volume_tasks.c.id == task_id, volume_tasks.c.lease_until > utc_after(_TAKEN_SECONDS))
    row = c.execute(sa.select(volume_tasks.c.task).where(*held).with_for_update()).first()
    return codec.from_plain(row.task, VolumeTask) if row is not None else None


def drop_tasks(c: Connection, volume: BlockVolume) -> None:
    """Forget whatever was still to be done about a volume and what it has, where it is."""
    cell = volume.cell if volume.host else ""
    mine = (volume_tasks.c.volume_id == volume.id, volume_tasks.c.cell == cell, volume_tasks.c.host == volume.host)
    c.execute(sa.delete(volume_tasks).where(*mine))


def list_task_ids(c: Connection) -> set[str]:
    """Return what still waits for a cell: volumes, and what they have."""
    found = c.execute(sa.select(volume_tasks.c.id, volume_tasks.c.volume_id))
    return {each for row in found for each in row}
