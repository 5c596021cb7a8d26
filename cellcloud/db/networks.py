"""Networks and subnets of the embedded network service."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import network_quota_usages, network_sharing
from cellcloud.db.engine import racing, utc_now
from cellcloud.db.listing import ALL, Columns, Page, items_of, rows_of
from cellcloud.db.network_schema import routers
from cellcloud.db.network_versions import raise_versions
from cellcloud.db.top_schema import networks, port_addresses, ports, subnets
from cellcloud.model.network import Network, Subnet
from cellcloud.model.network_sharing import EXTERNAL, SHARED
from cellcloud.model.router import ROUTER_INTERFACE
from cellcloud.model.subnet_arithmetic import is_automatic

LAST_SEGMENT = (1 << 24) - 1
"""The greatest VXLAN network identifier."""
_TABLES = {"network": networks, "subnet": subnets}
_NETWORK = (
    "id", "name", "project_id", "shared", "admin_state_up", "mtu", "description", "external", "is_default",
    "port_security_enabled", "dns_domain",
)  # fmt: skip
_FOR_EVERYBODY = ("shared", "external")
_SUBNET = (
    "id", "name", "network_id", "project_id", "cidr", "gateway_ip", "enable_dhcp", "dns_nameservers",
    "allocation_pools", "description", "ip_version", "ipv6_ra_mode", "ipv6_address_mode", "host_routes",
)  # fmt: skip


@contextmanager
def _referenced(message: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(message) from error


# ---- networks ------------------------------------------------------------------------------------------------------
NETWORK_COLUMNS: Columns = {
    **{name: networks.c[name] for name in ("id", "name", "project_id", "shared", "admin_state_up", "mtu")},
    **{name: networks.c[name] for name in ("description", "created_at", "updated_at")},
    "tenant_id": networks.c.project_id,
    "status": sa.literal("ACTIVE"),
    "router:external": networks.c.external,
    "tags": items_of(networks.c.tags),
    "revision_number": networks.c.revision,
}


def list_networks(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[Network]:
    """Networks, by id unless the page says otherwise. ``project_id``: only its own and those that it is let use, which
    are shared for it; None: all. Raises NotFound for the page's marker."""
    shared = _shared_with(project_id)
    query, columns = sa.select(networks, shared.label("is_shared")), {**NETWORK_COLUMNS, "shared": shared}
    if project_id is not None:
        outer = networks.c.id.in_(network_sharing.given_to(project_id, EXTERNAL))
        query = query.where(usable_by(project_id) | outer)
    rows = rows_of(c, query, networks.c.id, columns, page)
    pairs = sa.select(subnets.c.network_id, subnets.c.id).where(subnets.c.network_id.in_([row.id for row in rows]))
    of: dict[str, list[str]] = {}
    for network_id, subnet_id in c.execute(pairs.order_by(subnets.c.created_at)) if rows else ():
        of.setdefault(network_id, []).append(subnet_id)
    return [
        Network(
            **{name: getattr(row, name) for name in _NETWORK} | {"shared": bool(row.is_shared)},
            subnet_ids=tuple(of.get(row.id, ())),
            segmentation_id=row.segmentation_id,
            tags=tuple(row.tags),
            revision=row.revision,
            version=row.version,
            created_at=stamp(row.created_at),
            updated_at=stamp(row.updated_at),
        )
        for row in rows
    ]


def usable_by(project_id: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """Networks that a project may put ports on: its own, those of everybody, and those that policies give it."""
    return sa.or_(networks.c.project_id == project_id, _shared_with(project_id))


def _shared_with(project_id: str | sa.BindParameter[str] | None) -> sa.ColumnElement[bool]:
    if project_id is None:
        return networks.c.shared
    return networks.c.shared | networks.c.id.in_(network_sharing.given_to(project_id, SHARED))


_USABLE = (
    sa.select(networks.c.id)
    .where(
        usable_by(sa.bindparam("project")),
        networks.c.id.in_(sa.select(subnets.c.network_id)),
    )
    .order_by(networks.c.id)
)


def list_usable_networks(c: Connection, project_id: str) -> list[str]:
    """Ids of networks with a subnet that the project may put servers on."""
    return list(c.execute(_USABLE, {"project": project_id}).scalars())


def get_network(c: Connection, project_id: str | None, network_id: str) -> Network:
    """Return a network. Raises NotFound, the same for another project's network."""
    found = list_networks(c, project_id=project_id, page=Page.of(id=[network_id]))
    if not found:
        raise errors.NotFound(f"Network {network_id[:64]} could not be found.")
    return found[0]


def insert_network(c: Connection, network: Network, *, limit: int) -> None:
    """``limit``: of its project's networks. Raises QuotaExceeded."""
    if not network_quota_usages.reserve(c, network.project_id, "network", 1, limit):
        raise network_quota_usages.exceeded("network")
    values = {name: getattr(network, name) for name in _NETWORK}
    if network.segmentation_id is not None:
        known = sa.select(networks.c.id).where(networks.c.segmentation_id == network.segmentation_id)
        if c.execute(known).first():
            raise errors.Conflict(f"Unable to create the network. The tunnel ID {network.segmentation_id} is in use.")
    values["segmentation_id"] = network.segmentation_id or secrets.randbelow(LAST_SEGMENT) + 1
    with racing():  # for the number; another try takes another one
        c.execute(networks.insert().values(created_at=utc_now(), updated_at=utc_now(), **values))
    open_for = {name: True for name in _FOR_EVERYBODY if values[name]}
    network_sharing.set_for_everybody(c, network.id, network.project_id, open_for)


def update_row(c: Connection, kind: str, row_id: str, changes: Mapping[str, Any]) -> bool:
    """Change columns of a network or subnet; False when there is none."""
    table = _TABLES[kind]
    touched = sa.select(table.c.id if kind == "network" else table.c.network_id).where(table.c.id == row_id)
    raise_versions(c, networks=c.execute(touched).scalars().all())
    query = table.update().where(table.c.id == row_id)
    return c.execute(query.values(updated_at=utc_now(), revision=table.c.revision + 1, **changes)).rowcount > 0


def has_gateways(c: Connection, network_id: str) -> bool:
    """Return whether routers lead to the network."""
    found = sa.select(routers.c.id).where(routers.c.gateway_network_id == network_id).limit(1)
    return c.execute(found).first() is not None


def delete_network(c: Connection, network_id: str) -> None:
    """Delete the network with its subnets. Raises Conflict with ports on it."""
    still = "There are one or more ports still in use on the network."
    message = f"Unable to complete operation on network {network_id}. {still}"
    with _referenced(message):
        if c.execute(sa.select(ports.c.id).where(ports.c.network_id == network_id).limit(1)).first():
            raise errors.Conflict(message)
        own = (subnets.c.network_id == network_id,)
        for subnet in c.execute(sa.select(subnets.c.id, subnets.c.project_id).where(*own).order_by(subnets.c.id)).all():
            _delete_counted(c, subnets, "subnet", subnet)
        project = sa.select(networks.c.id, networks.c.project_id).where(networks.c.id == network_id)
        for network in c.execute(project).all():
            network_sharing.delete_policies_of(c, network_id)
            _delete_counted(c, networks, "network", network)
        network_quota_usages.forget_network(c, network_id)


def _delete_counted(c: Connection, table: sa.Table, resource: str, row: Any) -> None:
    if c.execute(table.delete().where(table.c.id == row.id)).rowcount:
        network_quota_usages.release(c, row.project_id, resource, 1)


# ---- subnets -------------------------------------------------------------------------------------------------------
SUBNET_COLUMNS: Columns = {
    **{name: subnets.c[name] for name in ("id", "name", "project_id", "network_id", "cidr", "enable_dhcp")},
    **{name: subnets.c[name] for name in ("description", "created_at", "updated_at")},
    "tenant_id": subnets.c.project_id,
    "gateway_ip": sa.func.coalesce(subnets.c.gateway_ip, ""),
    "ip_version": subnets.c.ip_version,
    "tags": items_of(subnets.c.tags),
    "revision_number": subnets.c.revision,
    "shared": subnets.c.network_id.in_(sa.select(networks.c.id).where(networks.c.shared)),
    # What subnets have none of: no value selects any.
    **dict.fromkeys(("subnetpool_id", "segment_id"), sa.literal("")),
    **{name: sa.func.coalesce(subnets.c[name], "") for name in ("ipv6_ra_mode", "ipv6_address_mode")},
}


def list_subnets(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[Subnet]:
    """Subnets, by id unless the page says otherwise. ``project_id``: only its own and those of shared networks; None:
    all. Raises NotFound for the page's marker."""
    query = sa.select(subnets)
    if project_id is not None:
        shared = sa.select(networks.c.id).where(usable_by(project_id))
        query = query.where((subnets.c.project_id == project_id) | subnets.c.network_id.in_(shared))
    return [subnet_of(row) for row in rows_of(c, query, subnets.c.id, SUBNET_COLUMNS, page)]


def get_subnet(c: Connection, project_id: str | None, subnet_id: str) -> Subnet:
    """Return a subnet. Raises NotFound, the same for a subnet of another project's network."""
    found = list_subnets(c, project_id=project_id, page=Page.of(id=[subnet_id]))
    if not found:
        raise errors.NotFound(f"Subnet {subnet_id[:64]} could not be found.")
    return found[0]


def insert_subnet(c: Connection, subnet: Subnet, *, limit: int) -> None:
    """``limit``: of its project's subnets. Raises QuotaExceeded, Invalid where it overlaps another subnet of its
    network: other networks may have the same range.
    """
    if not network_quota_usages.reserve(c, subnet.project_id, "subnet", 1, limit):
        raise network_quota_usages.exceeded("subnet")
    raise_versions(c, networks=[subnet.network_id])  # so one at a time
    wanted = ipaddress.ip_network(subnet.cidr)
    for (cidr,) in c.execute(sa.select(subnets.c.cidr).where(subnets.c.network_id == subnet.network_id)):
        if wanted.overlaps(ipaddress.ip_network(cidr)):
            raise errors.Invalid(
                f"Invalid input for operation: Requested subnet with cidr: {subnet.cidr} for network: "
                f"{subnet.network_id} overlaps with another subnet."
            )
    values = {name: getattr(subnet, name) for name in _SUBNET}
    c.execute(subnets.insert().values(created_at=utc_now(), updated_at=utc_now(), next_offset=0, **values))


def is_router_address(c: Connection, subnet_id: str, address: str) -> bool:
    """Return whether a router has that address of the subnet."""
    held = sa.select(port_addresses.c.port_id).join(ports, ports.c.id == port_addresses.c.port_id)
    mine = (port_addresses.c.subnet_id == subnet_id, port_addresses.c.ip_address == address)
    return c.execute(held.where(*mine, ports.c.device_owner == ROUTER_INTERFACE)).first() is not None


def is_in_use(c: Connection, subnet_id: str) -> bool:
    """Return whether ports have addresses of the subnet."""
    held = sa.select(port_addresses.c.port_id).where(port_addresses.c.subnet_id == subnet_id).limit(1)
    return c.execute(held).first() is not None


def count_held(c: Connection, subnet_ids: Sequence[str]) -> dict[str, int]:
    """Return how many addresses of each of these subnets ports have; 0 is left out."""
    column = port_addresses.c.subnet_id
    held = sa.select(column, sa.func.count()).where(column.in_(subnet_ids)).group_by(column)
    return dict(c.execute(held).all()) if subnet_ids else {}


def delete_subnet(c: Connection, subnet_id: str) -> None:
    """Delete a subnet. Raises Conflict with addresses in use."""
    message = f"Unable to complete operation on subnet {subnet_id}: One or more ports have an IP allocation from it."
    with _referenced(message):
        _free_automatic(c, subnet_id)
        if is_in_use(c, subnet_id):
            raise errors.Conflict(message)
        columns = (subnets.c.id, subnets.c.project_id, subnets.c.network_id)
        for subnet in c.execute(sa.select(*columns).where(subnets.c.id == subnet_id)).all():
            raise_versions(c, networks=[subnet.network_id])
            _delete_counted(c, subnets, "subnet", subnet)


def _free_automatic(c: Connection, subnet_id: str) -> None:
    """Let go the addresses that guests, but no routers, made themselves in a subnet."""
    row = c.execute(sa.select(subnets).where(subnets.c.id == subnet_id)).one_or_none()
    if row is None or not is_automatic(subnet_of(row)):
        return
    routed = ports.c.device_owner.startswith("network:router_")
    held = sa.select(ports.c.id, ports.c.project_id, ports.c.network_id)
    held = held.join(port_addresses, port_addresses.c.port_id == ports.c.id)
    guests = c.execute(held.where(port_addresses.c.subnet_id == subnet_id, sa.not_(routed))).all()
    mine = port_addresses.c.port_id.in_([each.id for each in guests])
    c.execute(port_addresses.delete().where(port_addresses.c.subnet_id == subnet_id, mine))
    for project_id in sorted({each.project_id for each in guests}):
        gone = sum(each.project_id == project_id for each in guests)
        network_quota_usages.release_ports(c, project_id, row.network_id, ports=0, addresses=gone)


def subnet_of(row: Any) -> Subnet:
    """Return the record of a row."""
    return Subnet(
        id=row.id,
        network_id=row.network_id,
        cidr=row.cidr,
        name=row.name,
        project_id=row.project_id,
        gateway_ip=row.gateway_ip,
        enable_dhcp=row.enable_dhcp,
        dns_nameservers=tuple(row.dns_nameservers),
        allocation_pools=tuple((first, last) for first, last in row.allocation_pools),
        description=row.description,
        ip_version=row.ip_version,
        ipv6_ra_mode=row.ipv6_ra_mode,
        ipv6_address_mode=row.ipv6_address_mode,
        host_routes=tuple((destination, hop) for destination, hop in row.host_routes),
        tags=tuple(row.tags),
        revision=row.revision,
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )


def stamp(when: dt.datetime) -> str:
    """As Neutron writes times."""
    return f"{when:%Y-%m-%dT%H:%M:%S}Z"
