"""Networks and subnets of the embedded network service."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_now
from cellcloud.db.top_schema import networks, port_addresses, ports, subnets
from cellcloud.model.network import Network, Subnet

Where = Mapping[str, Sequence[Any]]  # column -> accepted values
_TABLES = {"network": networks, "subnet": subnets}
_NETWORK = ("id", "name", "project_id", "shared", "admin_state_up", "mtu", "description")
_SUBNET = (
    "id", "name", "network_id", "project_id", "cidr", "gateway_ip", "enable_dhcp", "dns_nameservers",
    "allocation_pools", "description",
)  # fmt: skip


@contextmanager
def _referenced(message: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(message) from error


# ---- networks ------------------------------------------------------------------------------------------------------
def list_networks(
    c: Connection, *, project_id: str | None, where: Where, after: str | None = None, limit: int | None = None
) -> list[Network]:
    """Networks by id. ``project_id``: only its own and the shared ones; None: all."""
    query = page(networks, where, after, limit)
    if project_id is not None:
        query = query.where((networks.c.project_id == project_id) | networks.c.shared)
    rows = c.execute(query).all()
    pairs = sa.select(subnets.c.network_id, subnets.c.id).where(subnets.c.network_id.in_([row.id for row in rows]))
    of: dict[str, list[str]] = {}
    for network_id, subnet_id in c.execute(pairs.order_by(subnets.c.created_at)) if rows else ():
        of.setdefault(network_id, []).append(subnet_id)
    return [
        Network(
            id=row.id,
            name=row.name,
            project_id=row.project_id,
            shared=row.shared,
            admin_state_up=row.admin_state_up,
            mtu=row.mtu,
            description=row.description,
            subnet_ids=tuple(of.get(row.id, ())),
            created_at=stamp(row.created_at),
            updated_at=stamp(row.updated_at),
        )
        for row in rows
    ]


_USABLE = (
    sa.select(networks.c.id)
    .where(
        (networks.c.project_id == sa.bindparam("project")) | networks.c.shared,
        networks.c.id.in_(sa.select(subnets.c.network_id)),
    )
    .order_by(networks.c.id)
)


def list_usable_networks(c: Connection, project_id: str) -> list[str]:
    """Ids of networks with a subnet that the project may put servers on."""
    return list(c.execute(_USABLE, {"project": project_id}).scalars())


def get_network(c: Connection, project_id: str | None, network_id: str) -> Network:
    """Raises NotFound, the same for another project's network."""
    found = list_networks(c, project_id=project_id, where={"id": [network_id]})
    if not found:
        raise errors.NotFound(f"Network {network_id[:64]} could not be found.")
    return found[0]


def insert_network(c: Connection, network: Network) -> None:
    values = {name: getattr(network, name) for name in _NETWORK}
    c.execute(networks.insert().values(created_at=utc_now(), updated_at=utc_now(), **values))


def update_row(c: Connection, kind: str, row_id: str, changes: Mapping[str, Any]) -> bool:
    """Change columns of a network, subnet or port; False when there is none."""
    query = _TABLES[kind].update().where(_TABLES[kind].c.id == row_id)
    return c.execute(query.values(updated_at=utc_now(), **changes)).rowcount > 0


def is_used_by_others(c: Connection, network: Network) -> bool:
    """Whether ports of other projects than its own are on the network."""
    theirs = (ports.c.network_id == network.id, ports.c.project_id != network.project_id)
    return c.execute(sa.select(ports.c.id).where(*theirs).limit(1)).first() is not None


def delete_network(c: Connection, network_id: str) -> None:
    """Delete the network with its subnets. Raises Conflict with ports on it."""
    with _referenced(f"Unable to complete operation on network {network_id}. There are one or more ports in use."):
        if c.execute(sa.select(ports.c.id).where(ports.c.network_id == network_id).limit(1)).first():
            raise errors.Conflict(f"Unable to complete operation on network {network_id}. There are ports in use.")
        c.execute(subnets.delete().where(subnets.c.network_id == network_id))
        c.execute(networks.delete().where(networks.c.id == network_id))


# ---- subnets -------------------------------------------------------------------------------------------------------
def list_subnets(
    c: Connection, *, project_id: str | None, where: Where, after: str | None = None, limit: int | None = None
) -> list[Subnet]:
    """Subnets by id. ``project_id``: only its own and those of shared networks; None: all."""
    query = page(subnets, where, after, limit)
    if project_id is not None:
        shared = sa.select(networks.c.id).where((networks.c.project_id == project_id) | networks.c.shared)
        query = query.where((subnets.c.project_id == project_id) | subnets.c.network_id.in_(shared))
    return [subnet_of(row) for row in c.execute(query)]


def get_subnet(c: Connection, project_id: str | None, subnet_id: str) -> Subnet:
    """Raises NotFound, the same for a subnet of another project's network."""
    found = list_subnets(c, project_id=project_id, where={"id": [subnet_id]})
    if not found:
        raise errors.NotFound(f"Subnet {subnet_id[:64]} could not be found.")
    return found[0]


def insert_subnet(c: Connection, subnet: Subnet) -> None:
    """Raises Conflict where it overlaps another subnet: hosts tell networks apart by address."""
    c.execute(sa.select(networks.c.id).order_by(networks.c.id).with_for_update())  # one at a time
    wanted = ipaddress.ip_network(subnet.cidr)
    for (cidr,) in c.execute(sa.select(subnets.c.cidr)):
        if wanted.overlaps(ipaddress.ip_network(cidr)):
            raise errors.Conflict(f"The range {subnet.cidr} overlaps another subnet's.")
    values = {name: getattr(subnet, name) for name in _SUBNET}
    c.execute(subnets.insert().values(created_at=utc_now(), updated_at=utc_now(), next_offset=0, **values))


def delete_subnet(c: Connection, subnet_id: str) -> None:
    """Raises Conflict with addresses in use."""
    message = f"Unable to complete operation on subnet {subnet_id}: One or more ports have an IP allocation from it."
    with _referenced(message):
        if c.execute(
            sa.select(port_addresses.c.port_id).where(port_addresses.c.subnet_id == subnet_id).limit(1)
        ).first():
            raise errors.Conflict(message)
        c.execute(subnets.delete().where(subnets.c.id == subnet_id))


def subnet_of(row: Any) -> Subnet:
    """The record of a row."""
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
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )


def page(table: sa.Table, where: Where, after: str | None, limit: int | None) -> sa.Select[Any]:
    """Rows by id whose columns have accepted values, after an id."""
    query = sa.select(table).where(*(table.c[name].in_(list(values)) for name, values in where.items()))
    if after is not None:
        query = query.where(table.c.id > after)
    return query.order_by(table.c.id).limit(limit)


def stamp(when: dt.datetime) -> str:
    """As Neutron writes times."""
    return f"{when:%Y-%m-%dT%H:%M:%S}Z"
