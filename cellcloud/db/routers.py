"""Routers and their interfaces. Keys decide races: a router has one port on a subnet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import network_quota_usages
from cellcloud.db.engine import racing, utc_now
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


def find_interface(
    c: Connection, router_id: str, *, subnet_id: str | None, port_id: str | None
) -> RouterInterface | None:
    """Return the first of a router's interfaces with that subnet and that port; None of either: any."""
    for one in list_interfaces(c, routers=[router_id]):
        if subnet_id in (None, one.subnet_id) and port_id in (None, one.port_id):
            return one
    return None


def insert_router(c: Connection, router: VirtualRouter, *, limit: int) -> None:
    """``limit``: of its project's routers. Raises QuotaExceeded."""
    if not network_quota_usages.reserve(c, router.project_id, "router", 1, limit):
        raise network_quota_usages.exceeded("router")
    names = ("id", "name", "project_id", "description", "admin_state_up", "enable_snat")
    values = {name: getattr(router, name) for name in names}
    c.execute(routers.insert().values(created_at=utc_now(), updated_at=utc_now(), **values))


def update_router(c: Connection, router_id: str, changes: Mapping[str, Any]) -> None:
    """Change columns of a router. Whoever else changes it waits until this transaction ends."""
    counted = {"revision": routers.c.revision + 1, "version": routers.c.version + 1}
    c.execute(routers.update().where(routers.c.id == router_id).values(updated_at=utc_now(), **counted, **changes))


def delete_router(c: Connection, router: VirtualRouter) -> None:
    """Delete a router, which has no ports any more. Raises Conflict where it has."""
    try:
        gone = c.execute(routers.delete().where(routers.c.id == router.id)).rowcount
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(f"Router {router.id} still has ports") from error
    if gone:
        network_quota_usages.release(c, router.project_id, "router", 1)


def insert_interfaces(c: Connection, router_id: str, port_id: str, subnet_ids: Sequence[str]) -> None:
    """Note that a port is the router's on these subnets. Raises LostRace where another is just now."""
    with racing():
        pairs = [{"router_id": router_id, "subnet_id": subnet_id, "port_id": port_id} for subnet_id in subnet_ids]
        c.execute(router_interfaces.insert(), pairs)


def find_route_out(c: Connection, subnet_id: str, external_network_id: str) -> str | None:
    """Return the router that leads from a subnet to an external network, if there is one."""
    query = (
        sa.select(routers.c.id)
        .join(router_interfaces, router_interfaces.c.router_id == routers.c.id)
        .where(router_interfaces.c.subnet_id == subnet_id, routers.c.gateway_network_id == external_network_id)
    )
    return c.execute(query.order_by(routers.c.id).limit(1)).scalar_one_or_none()


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
