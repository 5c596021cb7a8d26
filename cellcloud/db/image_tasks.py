"""Rows of the imports of the embedded image service."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.image_schema import image_tasks, images
from cellcloud.db.listing import Columns, Page, rows_of
from cellcloud.model.image import ImageTask

COLUMNS: Columns = {name: image_tasks.c[name] for name in ("id", "type", "status", "created_at", "updated_at")}
_RUNNING = ("pending", "processing")


def insert(c: Connection, task: ImageTask) -> None:
    """Store a task that is to begin; times are the database's."""
    values = {name: getattr(task, name) for name in image_tasks.c.keys() if not name.endswith("_at")}  # noqa: SIM118
    c.execute(image_tasks.insert().values(**values, created_at=utc_now(), updated_at=utc_now()))


def begin(c: Connection, task_id: str) -> None:
    """Note that a task is at work."""
    mine = (image_tasks.c.id == task_id, image_tasks.c.status == "pending")
    c.execute(image_tasks.update().where(*mine).values(status="processing", updated_at=utc_now()))


def end(c: Connection, task_id: str, status: str, result: Mapping[str, Any] | None = None, message: str = "") -> None:
    """Note how a task ended, once."""
    mine = (image_tasks.c.id == task_id, image_tasks.c.status.in_(_RUNNING))
    values = {"status": status, "result": result, "message": message[:255], "updated_at": utc_now()}
    c.execute(image_tasks.update().where(*mine).values(**values))


def find(c: Connection, task_id: str) -> ImageTask | None:
    """Return a task."""
    row = c.execute(sa.select(image_tasks).where(image_tasks.c.id == task_id)).one_or_none()
    return None if row is None else ImageTask(**row._mapping)


def list_tasks(c: Connection, page: Page) -> list[ImageTask]:
    """Return a page of all tasks. Raises NotFound for its marker."""
    return [ImageTask(**row._mapping) for row in rows_of(c, sa.select(image_tasks), image_tasks.c.id, COLUMNS, page)]


def list_of_image(c: Connection, image_id: str, *, owner: str | None, most: int) -> list[ImageTask]:
    """Return what was done to an image, the last first. ``owner``: by that project alone."""
    mine = sa.select(image_tasks).where(image_tasks.c.image_id == image_id)
    if owner is not None:
        mine = mine.where(image_tasks.c.owner == owner)
    rows = c.execute(mine.order_by(image_tasks.c.created_at.desc(), image_tasks.c.id).limit(most))
    return [ImageTask(**row._mapping) for row in rows]


def list_left(c: Connection, live: Container[str], *, older_than: float) -> list[tuple[ImageTask, str]]:
    """Return tasks that nobody is at any more, with what their images are now ("" where those are gone): none of an
    image in ``live``."""
    left = (image_tasks.c.status.in_(_RUNNING), image_tasks.c.updated_at < utc_after(-older_than))
    joined = image_tasks.outerjoin(images, images.c.id == image_tasks.c.image_id)
    query = sa.select(image_tasks, images.c.status.label("image_status")).select_from(joined).where(*left)
    found = []
    for row in c.execute(query).mappings():
        values = {name: row[name] for name in ImageTask.__dataclass_fields__}
        if row["image_id"] not in live:
            found.append((ImageTask(**values), row["image_status"] or ""))
    return found


def delete_old(c: Connection, *, older_than: float) -> None:
    """Forget tasks that ended more than so many seconds ago."""
    old = sa.and_(sa.not_(image_tasks.c.status.in_(_RUNNING)), image_tasks.c.updated_at < utc_after(-older_than))
    if c.execute(sa.select(image_tasks.c.id).where(old).limit(1)).first() is not None:
        c.execute(image_tasks.delete().where(old))
