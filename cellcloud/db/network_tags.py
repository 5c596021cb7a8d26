"""Tags of what the embedded network service has."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_now
from cellcloud.db.network_schema import floating_ips, routers, security_groups
from cellcloud.db.top_schema import networks, ports, subnets

_TABLES = {
    "networks": networks,
    "subnets": subnets,
    "ports": ports,
    "routers": routers,
    "security-groups": security_groups,
    "floatingips": floating_ips,
}
KINDS = tuple(_TABLES)


def find_tags(c: Connection, kind: str, item_id: str, *, lock: bool = False) -> tuple[str, tuple[str, ...]]:
    """Return whose it is, and its tags. ``lock``: nobody else changes it until this transaction ends. Raises
    NotFound."""
    table = _TABLES[kind]
    query = sa.select(table.c.project_id, table.c.tags).where(table.c.id == item_id)
    row = c.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise errors.NotFound(f"Resource {item_id[:64]} of {kind} could not be found.")
    return row.project_id, tuple(row.tags)


def set_tags(c: Connection, kind: str, item_id: str, tags: Sequence[str]) -> None:
    """Give it these tags and no others."""
    table = _TABLES[kind]
    changed = {"tags": list(tags), "revision": table.c.revision + 1, "updated_at": utc_now()}
    c.execute(table.update().where(table.c.id == item_id).values(changed))
