"""The ports of networks as hosts are told of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.top_schema import port_addresses, ports
from cellcloud.model.network_plan import PlannedPort
from cellcloud.model.router import ROUTER_INTERFACE

_OF_NETWORKS = (
    sa.select(
        ports.c.id,
        ports.c.network_id,
        ports.c.mac_address,
        ports.c.host_id,
        ports.c.device_id,
        ports.c.device_owner,
        ports.c.security_groups,
        ports.c.allowed_address_pairs,
        ports.c.port_security_enabled,
        ports.c.admin_state_up,
        port_addresses.c.subnet_id,
        port_addresses.c.ip_address,
    )
    .outerjoin(port_addresses, port_addresses.c.port_id == ports.c.id)
    .where(ports.c.network_id.in_(sa.bindparam("networks", expanding=True)))
    .where(sa.or_(ports.c.host_id != "", ports.c.device_owner == ROUTER_INTERFACE))
    .order_by(ports.c.id, port_addresses.c.ip_address)
)


def list_planned_ports(
    c: Connection, networks: Collection[str], routers: Mapping[str, str]
) -> dict[str, list[PlannedPort]]:
    """Return the ports of each network that some host has. ``routers``: router -> the host that has it."""
    rows: dict[str, list[Any]] = {}
    for row in c.execute(_OF_NETWORKS, {"networks": sorted(networks)}).all():
        rows.setdefault(row[0], []).append(row)
    found: dict[str, list[PlannedPort]] = {}
    for of_one in rows.values():
        _, network, mac, host, device, owner, groups, pairs, is_secure, is_up, _, _ = of_one[0]
        if owner == ROUTER_INTERFACE:
            host = routers.get(device, "")
        if host:
            port = PlannedPort(
                id=of_one[0][0],
                mac_address=mac.lower(),
                addresses=tuple((row[10], row[11]) for row in of_one if row[11] is not None),
                host=host,
                groups=tuple(groups),
                pairs=tuple((of.lower(), address) for address, of in pairs),
                port_security=is_secure,
                admin_state_up=is_up,
            )
            found.setdefault(network, []).append(port)
    return found
