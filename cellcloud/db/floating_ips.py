"""Floating IPs. A key decides races: an address of a port has one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import network_quota_usages
from cellcloud.db.engine import racing, utc_now
from cellcloud.db.listing import ALL, Columns, Page, items_of, rows_of
from cellcloud.db.network_schema import floating_ips
from cellcloud.db.networks import stamp
from cellcloud.model.router import FloatingIp

_COLUMNS = (
    "id", "project_id", "description", "floating_network_id", "floating_ip_address", "floating_port_id", "port_id",
    "fixed_ip_address", "router_id", "dns_name", "dns_domain", "revision",
)  # fmt: skip
_FORWARDED = sa.select(
    floating_ips.c.port_id, floating_ips.c.fixed_ip_address, floating_ips.c.floating_ip_address
).where(floating_ips.c.port_id.in_(sa.bindparam("ids", expanding=True)))
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


def list_forwarded(c: Connection, port_ids: Collection[str]) -> dict[tuple[str, str], str]:
    """Return (port, its fixed address) -> the floating IP that is forwarded to it."""
    return {(row.port_id, row.fixed_ip_address): row[2] for row in c.execute(_FORWARDED, {"ids": sorted(port_ids)})}


def get_floating_ip(c: Connection, project_id: str | None, floating_ip_id: str) -> FloatingIp:
    """Return a floating IP. Raises NotFound, the same for another project's."""
    found = list_floating_ips(c, project_id=project_id, page=Page.of(id=[floating_ip_id]))
    if not found:
        raise errors.NotFound(f"Floating IP {floating_ip_id[:64]} could not be found")
    return found[0]


def insert_floating_ip(c: Connection, floating: FloatingIp, *, limit: int) -> None:
    """``limit``: of its project's floating IPs. Raises QuotaExceeded."""
    if not network_quota_usages.reserve(c, floating.project_id, "floatingip", 1, limit):
        raise network_quota_usages.exceeded("floatingip")
    values = {name: getattr(floating, name) for name in _COLUMNS if name != "revision"}
    c.execute(floating_ips.insert().values(created_at=utc_now(), updated_at=utc_now(), **values))


def update_floating_ip(c: Connection, floating: FloatingIp, changes: Mapping[str, Any]) -> bool:
    """Change columns while it is as in the record; False when it is not any more. Raises LostRace where another one is
    forwarded to the same address just now."""
    mine = floating_ips.update().where(floating_ips.c.id == floating.id, floating_ips.c.revision == floating.revision)
    with racing():
        return (
            c.execute(mine.values(updated_at=utc_now(), revision=floating_ips.c.revision + 1, **changes)).rowcount > 0
        )


def delete_floating_ip(c: Connection, floating: FloatingIp) -> bool:
    """Delete it while it is as in the record; False when it is not any more."""
    mine = (floating_ips.c.id == floating.id, floating_ips.c.revision == floating.revision)
    if not c.execute(floating_ips.delete().where(*mine)).rowcount:
        return False
    network_quota_usages.release(c, floating.project_id, "floatingip", 1)
    return True


def find_forwarded(c: Connection, **equal: Any) -> FloatingIp | None:
    """Return one that is forwarded, by columns, if there is one."""
    which = [floating_ips.c[name] == value for name, value in equal.items()]
    row = c.execute(sa.select(floating_ips).where(floating_ips.c.port_id.is_not(None), *which).limit(1)).first()
    return None if row is None else _floating_ip(row)


def _floating_ip(row: Any) -> FloatingIp:
    return FloatingIp(
        **{name: getattr(row, name) for name in _COLUMNS},
        tags=tuple(row.tags),
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )
