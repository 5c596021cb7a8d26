"""Rows of the embedded image service."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import quotas
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.listing import ALL, Columns, Page, has_pair, items_of, rows_of
from cellcloud.db.top_schema import images
from cellcloud.model.image import Image

COLUMNS: Columns = {
    **{name: images.c[name] for name in ("id", "name", "owner", "status", "visibility", "protected")},
    **{name: images.c[name] for name in ("min_ram", "min_disk", "created_at", "updated_at")},
    **{name: sa.func.coalesce(images.c[name], "") for name in ("disk_format", "container_format")},
    **{name: sa.func.coalesce(images.c[name], "") for name in ("checksum", "os_hash_value")},
    "size": sa.func.coalesce(images.c.size, 0),
    "os_hidden": sa.false(),
    "tag": items_of(images.c.tags),
    "properties": lambda wanted: sa.and_(
        sa.true(), *(has_pair(images.c.properties, key, value) for key, value in wanted.values)
    ),
}
TOO_MANY_BYTES = "The images of the project would have more bytes than it may have."
_UNSET: dict[str, Any] = {"disk_format": "", "container_format": "", "size": 0}


def insert_image(c: Connection, image: Image, *, most: int = quotas.UNLIMITED) -> None:
    """Store a new image; times are the database's. Raises Conflict for an id in use, TooLarge when its owner has
    ``most``."""
    have = sa.select(sa.func.count()).select_from(images).where(images.c.owner == image.owner)
    if most != quotas.UNLIMITED and not quotas.fits(c, image.owner or "", "image_count_total", have, 1, most):
        raise errors.TooLarge(f"The project has {most} images and may have no more.")
    times = {"created_at": utc_now(), "updated_at": utc_now()}
    try:
        c.execute(images.insert().values(**_columns(image), **times, id=image.id, status=image.status))
    except sa.exc.IntegrityError as error:
        raise errors.Conflict("An image with that id exists already.") from error


_BY_ID = sa.select(images).where(images.c.id == sa.bindparam("image_id"))
_LOCKED = _BY_ID.with_for_update()


def find_image(c: Connection, image_id: str, *, lock: bool = False) -> Image | None:
    """Return the image, whoever owns it. ``lock`` keeps the row until the transaction ends."""
    row = c.execute(_LOCKED if lock else _BY_ID, {"image_id": image_id}).mappings().first()
    return None if row is None else _image(row)


def list_images(
    c: Connection,
    *,
    project_id: str,
    is_admin: bool,
    page: Page = ALL,
) -> list[Image]:
    """Images that the project may list: its own and the public ones, and those of a community where the page asks for
    a visibility; an administrator's are all. Raises NotFound for the page's marker."""
    query = sa.select(images)
    if not is_admin:
        asked = any(condition.name == "visibility" for condition in page.where)
        community = images.c.visibility == "community" if asked else sa.false()
        query = query.where((images.c.owner == project_id) | (images.c.visibility == "public") | community)
    return [_image(row._mapping) for row in rows_of(c, query, images.c.id, COLUMNS, page)]


def update_image(c: Connection, image: Image) -> None:
    """Write what a user may change; the caller has locked the row."""
    query = images.update().where(images.c.id == image.id)
    c.execute(query.values(**_columns(image), updated_at=utc_now()))


def move_status(c: Connection, image_id: str, before: str, after: str, facts: Mapping[str, Any] | None = None) -> bool:
    """Compare and swap an image's status, and write what is known of its bytes; False when it was not ``before``."""
    query = images.update().where(images.c.id == image_id, images.c.status == before)
    return c.execute(query.values(status=after, updated_at=utc_now(), **(facts or {}))).rowcount > 0


def size_of_all(c: Connection, owner: str) -> int:
    """Bytes of all images of a project."""
    return int(c.execute(_sizes(owner)).scalar_one())


def _sizes(owner: str) -> sa.Select[int]:
    return sa.select(sa.func.coalesce(sa.func.sum(images.c.size), 0)).where(images.c.owner == owner)


def activate(c: Connection, image: Image, known: Mapping[str, Any], *, most: int) -> bool:
    """Let an image have its bytes, where it is still being uploaded. Raises TooLarge when those of all its owner's
    images would come to more than ``most``."""
    owner, size = image.owner or "", int(known["size"])
    if most != quotas.UNLIMITED and not quotas.fits(c, owner, "image_size_total", _sizes(owner), size, most):
        raise errors.TooLarge(TOO_MANY_BYTES)
    return move_status(c, image.id, "saving", "active", known)


def delete_image(c: Connection, image_id: str) -> bool:
    """Delete an image that is not protected; False when there is none."""
    query = images.delete().where(images.c.id == image_id, sa.not_(images.c.protected))
    return c.execute(query).rowcount > 0


def list_saving(c: Connection, *, older_than: float) -> list[str]:
    """Images whose upload began more than so many seconds ago and has not ended."""
    query = sa.select(images.c.id).where(images.c.status == "saving", images.c.updated_at < utc_after(-older_than))
    return list(c.execute(query).scalars())


def list_with_bytes(c: Connection) -> set[str]:
    """Images that have a file, or may get one at any moment."""
    return set(c.execute(sa.select(images.c.id).where(images.c.status.in_(("active", "saving")))).scalars())


def _columns(image: Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "owner": image.owner,
        "visibility": image.visibility,
        "protected": image.protected,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "min_ram": image.min_ram,
        "min_disk": image.min_disk,
        "tags": list(image.tags),
        "properties": image.properties,
    }


def _image(row: Mapping[Any, Any]) -> Image:
    values = {name: row[name] for name in images.c.keys()}  # noqa: SIM118 -- a collection of columns, no dict
    values |= {name: unset for name, unset in _UNSET.items() if values[name] is None}
    return Image(
        **values
        | {
            "tags": tuple(values["tags"]),
            "os_hash_algo": "sha512" if values["os_hash_value"] else None,
            "created_at": _stamp(values["created_at"]),
            "updated_at": _stamp(values["updated_at"]),
        }
    )


def _stamp(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
