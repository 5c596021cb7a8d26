"""The volume services of the cells, as they last described themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import utc_after, utc_now
from cellcloud.db.volume_schema import volume_hosts
from cellcloud.model.block_storage import VolumeHost

SILENT_SECONDS = 30.0  # after which a service counts as down


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """A volume service, whether it is heard, and what operators have said of it."""

    host: VolumeHost
    up: bool
    enabled: bool
    disabled_reason: str | None
    frozen: bool
    last_seen: dt.datetime


def note(c: Connection, host: VolumeHost) -> None:
    """Keep what a service says of itself now."""
    mine = (volume_hosts.c.cell == host.cell, volume_hosts.c.host == host.host)
    values: dict[str, Any] = {"zone": host.zone, "total_gb": host.total_gb, "free_gb": host.free_gb}
    values["last_seen"] = utc_now()
    if not c.execute(sa.update(volume_hosts).where(*mine).values(**values)).rowcount:
        c.execute(sa.insert(volume_hosts).values(cell=host.cell, host=host.host, enabled=True, **values))


def list_hosts(c: Connection) -> list[KnownHost]:
    """Return every volume service, by cell and name."""
    query = sa.select(volume_hosts, (volume_hosts.c.last_seen > utc_after(-SILENT_SECONDS)).label("up"))
    return [
        KnownHost(
            host=VolumeHost(host=row.host, zone=row.zone, total_gb=row.total_gb, free_gb=row.free_gb, cell=row.cell),
            up=bool(row.up),
            enabled=row.enabled,
            disabled_reason=row.disabled_reason,
            frozen=row.frozen,
            last_seen=row.last_seen,
        )
        for row in c.execute(query.order_by(volume_hosts.c.cell, volume_hosts.c.host))
    ]


def set_host(c: Connection, host: str, changes: Mapping[str, Any]) -> bool:
    """Write what an operator says of a service; False where there is none of that name."""
    return c.execute(sa.update(volume_hosts).where(volume_hosts.c.host == host).values(**changes)).rowcount > 0
