"""Rows of the embedded image service."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import quotas
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.image_schema import image_members, images
from cellcloud.db.listing import ALL, Columns, Page, has_pair, items_of, rows_of
from cellcloud.model.image import RESERVED, Image

COLUMNS: Columns = {
    **{name: images.c[name] for name in ("id", "name", "owner", "status", "visibility", "protected")},
    **{name: images.c[name] for name in ("min_ram", "min_disk", "created_at", "updated_at")},
    **{name: sa.func.coalesce(images.c[name], "") for name in ("disk_format", "container_format")},
    **{name: sa.func.coalesce(images.c[name], "") for name in ("checksum", "os_hash_value")},
    "size": sa.func.coalesce(images.c.size, 0),
    "os_hidden": images.c.os_hidden,
    "tag": items_of(images.c.tags),
    "properties": lambda wanted: sa.and_(
        sa.true(), *(has_pair(images.c.properties, key, value) for key, value in wanted.values)
    ),
}
TOO_MANY_BYTES = "The images of the project would have more bytes than it may have."
_TAKEN = "An image with that id exists already."
_UNSET: dict[str, Any] = {"disk_format": "", "container_format": "", "size": 0}


def insert_image(c: Connection, image: Image, *, most: int = quotas.UNLIMITED) -> None:
    """Store a new image; times are the database's. Raises Conflict for an id in use, TooLarge when its owner has
    ``most``."""
    if find_image(c, image.id) is not None:
        raise errors.Conflict(_TAKEN)
    check_count(c, image.owner, most)
    times = {"created_at": utc_now(), "updated_at": utc_now()}
    try:
        c.execute(images.insert().values(**_columns(image), **times, id=image.id, status=image.status))
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(_TAKEN) from error


def check_count(c: Connection, owner: str, most: int) -> None:
    """Check that a project may have one more image; nobody else may ask until this transaction ends. Raises TooLarge
    when it has ``most``."""
    have = sa.select(sa.func.count()).select_from(images).where(images.c.owner == owner)
    if most != quotas.UNLIMITED and not quotas.fits(c, owner, "image_count_total", have, 1, most):
        raise errors.TooLarge(f"The project has {most} images and may have no more.")


def check_size(c: Connection, owner: str, size: int, most: int) -> None:
    """Check that the images of a project may have ``size`` bytes more. Raises TooLarge when those would come to more
    than ``most``."""
    if most != quotas.UNLIMITED and not quotas.fits(c, owner, "image_size_total", _sizes(owner), size, most):
        raise errors.TooLarge(TOO_MANY_BYTES)


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
    member_status: str | None = "accepted",
) -> list[Image]:
    """Images that the project may list: its own and the public ones, those it is a member of with that status ("all":
    any, None: not even those), and those of a community where the page asks for a visibility; an administrator's are
    all. Hidden ones where the page asks for such. Raises NotFound for the page's marker."""
    asked = {condition.name for condition in page.where}
    query = sa.select(images)
    if "os_hidden" not in asked:
        query = query.where(sa.not_(images.c.os_hidden))
    if not is_admin:
        community = images.c.visibility == "community" if "visibility" in asked else sa.false()
        mine = (images.c.owner == project_id) | (images.c.visibility == "public") | community
        query = query.where(mine | _shared_with(project_id, member_status) if member_status is not None else mine)
    return [_image(row._mapping) for row in rows_of(c, query, images.c.id, COLUMNS, page)]


def _shared_with(project_id: str, status: str) -> sa.ColumnElement[bool]:
    mine = [image_members.c.member_id == project_id]
    if status != "all":
        mine.append(image_members.c.status == status)
    offered = sa.select(image_members.c.image_id).where(*mine)
    return sa.and_(images.c.visibility == "shared", images.c.id.in_(offered))


def update_image(c: Connection, image: Image) -> None:
    """Write what a user may change; the caller has locked the row."""
    query = images.update().where(images.c.id == image.id)
    c.execute(query.values(**_columns(image), updated_at=utc_now()))


def note(c: Connection, image: Image, properties: Mapping[str, str]) -> None:
    """Let an image have these of the properties that only the service sets, and no others."""
    own = {name: value for name, value in image.properties.items() if not name.startswith(RESERVED)}
    c.execute(images.update().where(images.c.id == image.id).values(properties={**own, **properties}))


def move_status(c: Connection, image_id: str, before: str, after: str, facts: Mapping[str, Any] | None = None) -> bool:
    """Compare and swap an image's status, and write what is known of its bytes; False when it was not ``before``."""
    query = images.update().where(images.c.id == image_id, images.c.status == before)
    return c.execute(query.values(status=after, updated_at=utc_now(), **(facts or {}))).rowcount > 0


def size_of_all(c: Connection, owner: str) -> int:
    """Bytes of all images of a project."""
    return int(c.execute(_sizes(owner)).scalar_one())


def usage_of(c: Connection, owner: str) -> dict[str, int]:
    """Return by Glance's names what a project has: sizes in MiB, begun ones count."""
    query = sa.select(images.c.status, sa.func.count().label("number"), sa.func.sum(images.c.size).label("size"))
    rows = c.execute(query.where(images.c.owner == owner).group_by(images.c.status)).all()
    coming = [row for row in rows if row.status in ("saving", "uploading", "importing")]

    def mebibytes(some: Iterable[sa.Row[Any]]) -> int:
        return -(-sum(int(row.size or 0) for row in some) // (1 << 20))

    return {
        "image_size_total": mebibytes(rows),
        "image_stage_total": mebibytes(coming),
        "image_count_total": sum(row.number for row in rows),
        "image_count_uploading": sum(row.number for row in coming),
    }


def _sizes(owner: str) -> sa.Select[int]:
    return sa.select(sa.func.coalesce(sa.func.sum(images.c.size), 0)).where(images.c.owner == owner)


def stage(c: Connection, image: Image, size: int, *, most: int) -> bool:
    """Note that bytes wait to be imported, where the image is still being uploaded. Raises TooLarge as
    ``check_size``."""
    return _keep(c, image, image.status, {"size": size}, most)


def activate(c: Connection, image: Image, known: Mapping[str, Any], *, most: int) -> bool:
    """Let an image have its bytes, where it is still being uploaded or imported. Raises TooLarge as ``check_size``."""
    return _keep(c, image, "active", known, most)


def _keep(c: Connection, image: Image, status: str, known: Mapping[str, Any], most: int) -> bool:
    now = find_image(c, image.id, lock=True)
    if now is None or now.status != image.status:
        return False
    check_size(c, now.owner, int(known["size"]) - now.size, most)
    return move_status(c, image.id, image.status, status, known)


def take_staged(c: Connection, image_id: str) -> bool:
    """Begin to import what is staged; False where nothing is."""
    query = images.update().where(images.c.id == image_id, images.c.status == "uploading", images.c.size.is_not(None))
    return c.execute(query.values(status="importing", updated_at=utc_now())).rowcount > 0


def delete_image(c: Connection, image_id: str) -> bool:
    """Delete an image that is not protected; False when there is none."""
    free = sa.and_(images.c.id == image_id, sa.not_(images.c.protected))
    c.execute(image_members.delete().where(image_members.c.image_id.in_(sa.select(images.c.id).where(free))))
    return c.execute(images.delete().where(free)).rowcount > 0


def list_under_way(c: Connection, *, older_than: float) -> list[tuple[str, str]]:
    """Images, with their status, whose upload or import began more than so many seconds ago and has not ended."""
    coming = sa.or_(
        images.c.status.in_(("saving", "importing")), sa.and_(images.c.status == "uploading", images.c.size.is_(None))
    )
    query = sa.select(images.c.id, images.c.status).where(coming, images.c.updated_at < utc_after(-older_than))
    return [(row.id, row.status) for row in c.execute(query)]


def list_with_files(c: Connection) -> tuple[set[str], set[str]]:
    """Images that have a file, or may get one at any moment; and those that may have a staged one."""
    some = ("active", "saving", "importing", "deactivated", "uploading")
    rows = c.execute(sa.select(images.c.id, images.c.status).where(images.c.status.in_(some))).all()
    return (
        {row.id for row in rows if row.status != "uploading"},
        {row.id for row in rows if row.status in ("uploading", "importing")},
    )


def _columns(image: Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "owner": image.owner,
        "visibility": image.visibility,
        "protected": image.protected,
        "os_hidden": image.os_hidden,
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
