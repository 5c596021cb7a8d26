"""Images that hosts are still to fetch into their caches, ahead of the servers that will need them: a row a host."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud.db import bulk
from cellcloud.db.cell_schema import hosts, image_cachings
from cellcloud.db.engine import LostRace, utc_after
from cellcloud.model import codec
from cellcloud.model.image import Image

_ANY = sa.select(image_cachings.c.host).limit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCaching:
    """What one host is still to fetch, and for which request."""

    host: str
    images: tuple[Image, ...]
    request_id: str


def ask(connection: Connection, names: Collection[str], images: Sequence[Image], request_id: str) -> list[str]:
    """Have hosts fetch images beside those that they are to fetch already; returns the hosts that are up, which do it.
    Raises LostRace."""
    query = sa.select(hosts.c.host).where(hosts.c.host.in_(sorted(names)), hosts.c.up.is_(True))
    living = sorted(connection.execute(query).scalars())
    wanted = {image.id: image for image in images}
    known = _lock(connection, living)
    for row in known:
        both = {image.id: image for image in _images(row)} | wanted
        _set(connection, row.host, list(both.values()))
    there = {row.host for row in known}
    text = msgspec.json.encode(list(wanted.values())).decode()
    new = [(host, text, request_id, 0) for host in living if host not in there]
    try:
        bulk.insert(connection, image_cachings, ("host", "images", "request_id", "begun"), new, at=("asked_at",))
    except bulk.Exists as error:
        raise LostRace("The same hosts were asked to cache images by another request.") from error
    return living


def is_any_asked(connection: Connection) -> bool:
    """Return whether any host is still to fetch an image."""
    return connection.execute(_ANY).first() is not None


def begin_some(connection: Connection, most: int) -> tuple[list[ImageCaching], list[ImageCaching]]:
    """Return what hosts are at, at most so many of them at once, and what is given up because its host is away."""
    rows = _lock(connection)
    living = set(connection.execute(sa.select(hosts.c.host).where(hosts.c.up.is_(True))).scalars())
    away = [row for row in rows if row.host not in living]
    if away:
        _forget(connection, [row.host for row in away])
    mine = sorted((row for row in rows if row.host in living), key=lambda row: (-row.begun, row.asked_at, row.host))
    at_work = mine[:most]
    begun = [row.host for row in at_work if not row.begun]
    if begun:
        connection.execute(sa.update(image_cachings).where(image_cachings.c.host.in_(begun)).values(begun=1))
    return [_caching(row) for row in at_work], [_caching(row) for row in away]


def finish(connection: Connection, host: str, image_ids: Collection[str]) -> set[str]:
    """Note images that the host is done with; returns those that nobody had noted before."""
    for row in _lock(connection, [host]):
        left = [image for image in _images(row) if image.id not in image_ids]
        if left:
            _set(connection, host, left)
        else:
            _forget(connection, [host])
        return {image.id for image in _images(row)} & set(image_ids)
    return set()


def expire(connection: Connection, seconds: float) -> list[str]:
    """Give up what was asked for longer ago than that; returns the hosts."""
    late = sa.select(image_cachings.c.host).where(image_cachings.c.asked_at < utc_after(-seconds))
    found = list(connection.execute(late).scalars())
    if found:
        _forget(connection, found)
    return found


def _lock(connection: Connection, names: Sequence[str] | None = None) -> Sequence[Row[Any]]:
    query = sa.select(image_cachings).order_by(image_cachings.c.host).with_for_update()
    return connection.execute(query if names is None else query.where(image_cachings.c.host.in_(names))).all()


def _set(connection: Connection, host: str, images: Sequence[Image]) -> None:
    values = {"images": codec.to_plain(list(images))}
    connection.execute(sa.update(image_cachings).where(image_cachings.c.host == host).values(values))


def _forget(connection: Connection, names: Sequence[str]) -> None:
    connection.execute(sa.delete(image_cachings).where(image_cachings.c.host.in_(names)))


def _images(row: Row[Any]) -> list[Image]:
    return [codec.from_plain(one, Image) for one in row.images]


def _caching(row: Row[Any]) -> ImageCaching:
    return ImageCaching(host=row.host, images=tuple(_images(row)), request_id=row.request_id)
