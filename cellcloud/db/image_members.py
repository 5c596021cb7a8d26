"""Rows of the projects that images of the embedded image service are shared with."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import quotas
from cellcloud.db.engine import utc_now
from cellcloud.db.image_schema import image_members
from cellcloud.model.image import ImageMember


def insert(c: Connection, image_id: str, member_id: str, *, most: int = quotas.UNLIMITED) -> None:
    """Offer an image to a project. Raises Conflict for one that is a member, TooLarge when the image has ``most``; the
    caller has locked the image's row."""
    have = c.execute(
        sa.select(sa.func.count()).select_from(image_members).where(image_members.c.image_id == image_id)
    ).scalar_one()
    if find(c, image_id, member_id) is not None:
        raise errors.Conflict(f"Member {member_id} is duplicated for image {image_id}")
    if most != quotas.UNLIMITED and have >= most:
        raise errors.TooLarge(
            f"Image member limit exceeded for image {image_id}: The limit has been exceeded on the number of allowed "
            f"image members for this image. Attempted: {have + 1}, Maximum: {most}:"
        )
    times = {"created_at": utc_now(), "updated_at": utc_now()}
    c.execute(image_members.insert().values(image_id=image_id, member_id=member_id, status="pending", **times))


def set_status(c: Connection, image_id: str, member_id: str, status: str) -> bool:
    """Write what a project makes of the offer; False where it has none."""
    query = image_members.update().where(*_key(image_id, member_id)).values(status=status, updated_at=utc_now())
    return c.execute(query).rowcount > 0


def delete(c: Connection, image_id: str, member_id: str) -> bool:
    """Take an offer back; False where there is none."""
    return c.execute(image_members.delete().where(*_key(image_id, member_id))).rowcount > 0


def find(c: Connection, image_id: str, member_id: str) -> ImageMember | None:
    """Return one member of an image."""
    row = c.execute(sa.select(image_members).where(*_key(image_id, member_id))).one_or_none()
    return None if row is None else ImageMember(**row._mapping)


def list_members(c: Connection, image_id: str, *, only: str | None = None) -> list[ImageMember]:
    """Return the members of an image, the first first. ``only``: that project alone."""
    query = sa.select(image_members).where(image_members.c.image_id == image_id)
    if only is not None:
        query = query.where(image_members.c.member_id == only)
    rows = c.execute(query.order_by(image_members.c.created_at, image_members.c.member_id))
    return [ImageMember(**row._mapping) for row in rows]


def _key(image_id: str, member_id: str) -> tuple[Any, ...]:
    return image_members.c.image_id == image_id, image_members.c.member_id == member_id
