"""Floating IPs. A key decides races: an address of a port has one."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.listing import ALL, Columns, Page, items_of, rows_of
from cellcloud.db.network_schema import floating_ips
from cellcloud.db.networks import stamp
from cellcloud.model.router import FloatingIp

_COLUMNS = (
    "id", "project_id", "description", "floating_network_id", "floating_ip_address", "floating_port_id", "port_id",
    "fixed_ip_address", "router_id", "dns_name", "dns_domain", "revision",
)  # fmt: skip
FLOATING_IP_COLUMNS: Columns = {
    **{name: floating_ips.c[name] for name in ("id", "project_id", "description", "floating_network_id")},
    **{name: floating_ips.c[name] for name in ("floating_ip_address", "created_at", "updated_at")},
    **{name: sa.func.coalesce(floating_ips.c[name], "") for name in ("port_id", "fixed_ip_address", "router_id")},
    "tenant_id": floating_ips.c.project_id,
    "status": sa.case((floating_ips.c.port_id.is_(None), "DOWN"), else_="ACTIVE"),
    "tags": items_of(floating_ips.c.tags),
    "revision_number": floating_ips.c.revision,
}


def list_floating_ips(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[FloatingIp]:
    """Floating IPs, by id unless the page says otherwise. ``project_id``: only its own; None: all. Raises NotFound for
    the page's marker."""
    query = sa.select(floating_ips)
    if project_id is not None:
        query = query.where(floating_ips.c.project_id == project_id)
    return [_floating_ip(row) for row in rows_of(c, query, floating_ips.c.id, FLOATING_IP_COLUMNS, page)]


def get_floating_ip(c: Connection, project_id: str | None, floating_ip_id: str) -> FloatingIp:
    """Return a floating IP. Raises NotFound, the same for another project's."""
    found = list_floating_ips(c, project_id=project_id, page=Page.of(id=[floating_ip_id]))
    if not found:
        raise errors.NotFound(f"Floating IP {floating_ip_id[:64]} could not be found")
    return found[0]


def _floating_ip(row: Any) -> FloatingIp:
    return FloatingIp(
        **{name: getattr(row, name) for name in _COLUMNS},
        tags=tuple(row.tags),
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )
