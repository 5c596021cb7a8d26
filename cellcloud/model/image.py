"""Image: the reference to an image's bytes that travels with a server."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """As the image service shows it. ``size`` and ``virtual_size`` in bytes, ``min_ram`` MiB, ``min_disk`` GiB.

    ``os_hash_value`` is the SHA-512 of the bytes; hosts verify it at each cache fill.
    """

    id: str
    name: str = ""
    status: str = "active"
    disk_format: str = "raw"
    container_format: str = "bare"
    size: int = 0
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    min_ram: int = 0
    min_disk: int = 0
    visibility: str = "private"
    owner: str = ""
    protected: bool = False
    os_hidden: bool = False
    properties: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    created_at: str = ""
    updated_at: str = ""


def new_image_id() -> str:
    """Return an id that no image has."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageQuery:
    """Which images to list: those with all that is given. ``owner``: of that project alone. ``after``: the id of the
    image before the page. ``limit`` None: all."""

    name: str | None = None
    status: str | None = None
    min_ram: int | None = None
    min_disk: int | None = None
    changed_since: dt.datetime | None = None
    owner: str | None = None
    properties: tuple[tuple[str, str], ...] = ()
    after: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMember:
    """A project that a shared image is offered to. ``status``: pending, accepted or rejected."""

    image_id: str
    member_id: str
    status: str
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTask:
    """An import. ``input``: what was asked for; ``owner``: the project that did; ``message``: why it failed."""

    id: str
    image_id: str
    type: str
    status: str
    owner: str
    user_id: str
    request_id: str
    input: dict[str, Any]
    result: dict[str, Any] | None = None
    message: str = ""
    created_at: dt.datetime
    updated_at: dt.datetime


RESERVED = "os_glance"
"""How properties begin that only the image service sets."""
MAPPING = "block_device_mapping"
"""A property: the disks that servers of an image have. One made of a server on volumes has no bytes, but these."""
FETCHING = "fetching"  # what a host says of an image that it does not have yet
ATTRIBUTES = frozenset(Image.__dataclass_fields__) - {"properties"}
"""What every image has: no property is called so."""
