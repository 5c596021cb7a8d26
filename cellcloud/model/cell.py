"""Cell: a shard as the top knows it, and pages of its feed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cellcloud.model.placement_messages import CellDigest
from cellcloud.model.server import ServerRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """``health``: up | down | unknown, judged by the router. The transport URL stays in the database layer.

    ``feed_cursor``: how far its feed was read, ``feed_mark`` the entry there, ``incarnation`` its database's then,
    ``compared`` the top's when all of the cell was last compared.
    """

    name: str
    enabled: bool = True
    health: str = "unknown"
    reason: str = ""
    last_seen: dt.datetime | None = None
    digest: CellDigest | None = None
    digest_at: dt.datetime | None = None
    feed_cursor: int = 0
    feed_mark: str = ""
    incarnation: str = ""
    compared: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEntry:
    """One change, with the server as it was after it."""

    sequence: int
    record: ServerRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPage:
    """``oldest`` is the first sequence still kept: a cursor below it must resync. ``newest`` is the last one.

    ``incarnation``: of the cell's database.
    """

    entries: tuple[FeedEntry, ...]
    oldest: int
    newest: int
    incarnation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing ``doctor check`` found. ``severity``: ok | warning | error."""

    check: str
    severity: str
    subject: str
    text: str
    remedy: str = ""
