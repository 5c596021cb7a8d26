"""Heartbeat rows of a cell's services."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db import failure_detector_grace_period
from cellcloud.db.cell_schema import services
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model.host import ServiceRecord


def beat(connection: Connection, binary: str, host: str) -> None:
    """Record that the service lives."""
    changed = connection.execute(
        sa.update(services).where(services.c.binary == binary, services.c.host == host).values(last_seen=utc_now())
    )
    if changed.rowcount == 0:
        connection.execute(
            sa.insert(services).values(
                id=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{binary}.{host}")),
                binary=binary,
                host=host,
                zone="internal",
                created_at=utc_now(),
                last_seen=utc_now(),
            )
        )


def remove(connection: Connection, service_id: str) -> bool:
    """Forget a service; False when there is none of that id. One that lives reports again."""
    return connection.execute(sa.delete(services).where(services.c.id == service_id)).rowcount == 1


def list_all(connection: Connection, *, down_time: float) -> list[ServiceRecord]:
    """Every service that has ever reported, hosts' compute services left out."""
    lately = services.c.last_seen > utc_after(-down_time)
    up = sa.or_(lately, sa.not_(failure_detector_grace_period.has_listened(down_time))).label("up")
    rows = connection.execute(sa.select(services, up).order_by(services.c.binary, services.c.host))
    return [
        ServiceRecord(
            id=row.id,
            binary=row.binary,
            host=row.host,
            zone=row.zone,
            up=bool(row.up),
            created_at=row.created_at,
            last_seen=row.last_seen,
        )
        for row in rows
    ]
