"""Routers and their interfaces. Keys decide races: a router has one port on a subnet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.listing import ALL, Columns, Page, items_of, rows_of
from cellcloud.db.network_schema import router_interfaces, routers
from cellcloud.db.networks import stamp
from cellcloud.db.ports import find_ports
from cellcloud.db.top_schema import ports
from cellcloud.model.network import PortRecord
from cellcloud.model.router import VirtualRouter

ROUTER_COLUMNS: Columns = {
    **{name: routers.c[name] for name in ("id", "name", "project_id", "description", "admin_state_up")},
    **{name: routers.c[name] for name in ("created_at", "updated_at")},
    "tenant_id": routers.c.project_id,
    "status": sa.literal("ACTIVE"),
    "tags": items_of(routers.c.tags),
    "revision_number": routers.c.revision,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterInterface:
    """The port that a router has on a subnet."""

    router_id: str
    subnet_id: str
    network_id: str
    port_id: str


def list_routers(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[VirtualRouter]:
    """Routers, by id unless the page says otherwise. ``project_id``: only its own; None: all. Raises NotFound for the
    page's marker."""
    query = sa.select(routers)
    if project_id is not None:
        query = query.where(routers.c.project_id == project_id)
    rows = rows_of(c, query, routers.c.id, ROUTER_COLUMNS, page)
    gateways = find_ports(c, {row.gateway_port_id for row in rows if row.gateway_port_id})
    return [_router(row, gateways.get(row.gateway_port_id)) for row in rows]


def get_router(c: Connection, project_id: str | None, router_id: str) -> VirtualRouter:
    """Return a router. Raises NotFound, the same for another project's."""
    found = list_routers(c, project_id=project_id, page=Page.of(id=[router_id]))
    if not found:
        raise errors.NotFound(f"Router {router_id[:64]} could not be found")
    return found[0]


def list_interfaces(
    c: Connection, *, routers: Collection[str] | None = None, networks: Collection[str] | None = None
) -> list[RouterInterface]:
    """Interfaces of these routers, or on these networks; None: of all."""
    query = sa.select(router_interfaces, ports.c.network_id).join(ports, ports.c.id == router_interfaces.c.port_id)
    if routers is not None:
        query = query.where(router_interfaces.c.router_id.in_(sorted(routers)))
    if networks is not None:
        query = query.where(ports.c.network_id.in_(sorted(networks)))
    order: Sequence[Any] = (router_interfaces.c.router_id, router_interfaces.c.subnet_id)
    return [RouterInterface(**row) for row in c.execute(query.order_by(*order)).mappings()]


def _router(row: Any, gateway: PortRecord | None) -> VirtualRouter:
    return VirtualRouter(
        id=row.id,
        name=row.name,
        project_id=row.project_id,
        description=row.description,
        admin_state_up=row.admin_state_up,
        gateway_network_id=row.gateway_network_id,
        gateway_port_id=row.gateway_port_id,
        gateway_ips=gateway.port.fixed_ips if gateway is not None else (),
        enable_snat=row.enable_snat,
        routes=tuple((destination, hop) for destination, hop in row.routes),
        tags=tuple(row.tags),
        revision=row.revision,
        version=row.version,
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )
