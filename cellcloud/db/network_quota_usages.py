"""What a project has of the embedded network service: a counter each, moved by conditional updates in the transaction
that changes it. The first of its kind counts what is there already. A project's own limit stands beside its counter.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import LostRace, racing
from cellcloud.db.network_schema import (
    floating_ips,
    network_rbac_policies,
    routers,
    security_group_rules,
    security_groups,
)
from cellcloud.db.top_schema import network_usages, networks, port_addresses, ports, subnets

UNLIMITED = -1
TABLES = {
    "network": networks,
    "subnet": subnets,
    "port": ports,
    "security_group": security_groups,
    "security_group_rule": security_group_rules,
    "router": routers,
    "floatingip": floating_ips,
    "rbac_policy": network_rbac_policies,
}
_OF_NETWORK = "addresses of "

_MINE = (
    network_usages.c.project_id == sa.bindparam("which_project"),
    network_usages.c.resource == sa.bindparam("which_resource"),
)
_LIMIT = sa.func.coalesce(network_usages.c.hard_limit, sa.bindparam("limit", type_=sa.BigInteger))
_FITS = sa.or_(_LIMIT == UNLIMITED, network_usages.c.used + sa.bindparam("amount") <= _LIMIT)
_RESERVE = sa.update(network_usages).where(*_MINE, _FITS).values(used=network_usages.c.used + sa.bindparam("amount"))
_RELEASE = sa.update(network_usages).where(*_MINE).values(used=network_usages.c.used - sa.bindparam("amount"))
_ON_NETWORK = (
    network_usages.c.project_id == sa.bindparam("which_project"),
    network_usages.c.resource.in_(["port", sa.bindparam("which_addresses")]),
)
_GIVEN_BACK = sa.case((network_usages.c.resource == "port", sa.bindparam("ports")), else_=sa.bindparam("addresses"))
_RELEASE_PORTS = sa.update(network_usages).where(*_ON_NETWORK).values(used=network_usages.c.used - _GIVEN_BACK)
_TAKEN = sa.case((network_usages.c.resource == "port", sa.bindparam("amount")), else_=sa.bindparam("addresses"))
_RESERVE_PORTS = (
    sa.update(network_usages)
    .where(*_ON_NETWORK, sa.or_(network_usages.c.resource != "port", _FITS))
    .values(used=network_usages.c.used + _TAKEN)
)
_BEGUN = sa.select(network_usages.c.resource).where(*_ON_NETWORK)
_FOUND = sa.select(network_usages.c.used, network_usages.c.hard_limit).where(*_MINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many ports a project may have, and what percentage of the addresses of a network that another shares."""

    ports: int = UNLIMITED
    shared_percent: int = 100


def addresses_of(network_id: str) -> str:
    """Return the resource that a project's addresses of a network are."""
    return f"{_OF_NETWORK}{network_id}"


def reserve(c: Connection, project_id: str, resource: str, amount: int, limit: int) -> bool:
    """Count up if that stays within the limit, the project's own where it has one. False: it does not, and the caller
    must roll back.
    """
    which = {"which_project": project_id, "which_resource": resource}
    values = which | {"amount": amount, "limit": limit}
    if c.execute(_RESERVE, values).rowcount:
        return True
    _begin(c, project_id, resource)  # or somebody else has just begun
    return c.execute(_RESERVE, values).rowcount > 0


def reserve_ports(c: Connection, project_id: str, network_id: str, *, ports: int, addresses: int, limit: int) -> bool:
    """Count up ports of a project, if they stay within the limit, and their addresses of the network, which has none.
    False: they do not, and the caller must roll back."""
    on_network = addresses_of(network_id)
    values = {"which_project": project_id, "which_addresses": on_network, "amount": ports, "limit": limit}
    moved = c.execute(_RESERVE_PORTS, values | {"addresses": addresses}).rowcount
    if moved == 2:
        return True
    begun = set(c.execute(_BEGUN, values).scalars()) if moved else set()
    if begun == {"port"}:
        return reserve(c, project_id, on_network, addresses, UNLIMITED)
    if not reserve(c, project_id, "port", ports, limit):
        return False
    if len(begun) == 2:
        raise LostRace("The project's ports are being counted by another request; try again shortly.")
    return bool(moved) or reserve(c, project_id, on_network, addresses, UNLIMITED)


def release(c: Connection, project_id: str, resource: str, amount: int) -> None:
    """Count down."""
    values = {"which_project": project_id, "which_resource": resource, "amount": amount}
    c.execute(_RELEASE, values)


def release_ports(c: Connection, project_id: str, network_id: str, *, ports: int, addresses: int) -> None:
    """Count down that many ports of a project and their addresses of the network."""
    which = {"which_project": project_id, "which_addresses": addresses_of(network_id)}
    c.execute(_RELEASE_PORTS, which | {"ports": ports, "addresses": addresses})


def exceeded(*resources: str, why: str = "") -> errors.QuotaExceeded:
    """Return the error in Neutron's words."""
    return errors.QuotaExceeded(f"Quota exceeded for resources: {list(resources)}.{' ' + why if why else ''}")


def forget_network(c: Connection, network_id: str) -> None:
    """Drop what was counted of a network that is deleted."""
    c.execute(sa.delete(network_usages).where(network_usages.c.resource == addresses_of(network_id)))


def find(c: Connection, project_id: str, resource: str) -> tuple[int, int | None]:
    """Return what is counted now, and the project's own limit if it has one."""
    row = c.execute(_FOUND, {"which_project": project_id, "which_resource": resource}).one_or_none()
    return (_count(c, project_id, resource), None) if row is None else (row.used, row.hard_limit)


def set_limit(c: Connection, project_id: str, resource: str, limit: int | None) -> None:
    """Give a project a limit of its own; None: the default again."""
    _begin(c, project_id, resource)
    mine = {"which_project": project_id, "which_resource": resource}
    c.execute(sa.update(network_usages).where(*_MINE).values(hard_limit=limit), mine)


def list_limited(c: Connection) -> list[str]:
    """Projects with a limit of their own."""
    query = sa.select(network_usages.c.project_id).where(network_usages.c.hard_limit.is_not(None)).distinct()
    return list(c.execute(query.order_by(network_usages.c.project_id)).scalars())


def recount(c: Connection) -> list[tuple[str, str, int, int]]:
    """(project, resource, counted, what there is) of every counter that is wrong."""
    actual: dict[tuple[str, str], int] = {}
    for resource, table in TABLES.items():
        query = sa.select(table.c.project_id, sa.func.count().label("number")).group_by(table.c.project_id)
        actual |= {(row.project_id, resource): row.number for row in c.execute(query)}
    held = port_addresses.join(ports, ports.c.id == port_addresses.c.port_id)
    whose = (ports.c.project_id, ports.c.network_id)
    for row in c.execute(sa.select(*whose, sa.func.count().label("number")).select_from(held).group_by(*whose)):
        actual[row.project_id, addresses_of(row.network_id)] = row.number
    rows = c.execute(sa.select(network_usages).order_by(network_usages.c.project_id, network_usages.c.resource))
    found = [(row.project_id, row.resource, row.used, actual.get((row.project_id, row.resource), 0)) for row in rows]
    return [each for each in found if each[2] != each[3]]


def mend(c: Connection, project_id: str, resource: str) -> None:
    """Let a counter be what there is: whoever changes that waits for it."""
    which = {"which_project": project_id, "which_resource": resource}
    c.execute(_RELEASE, which | {"amount": 0})
    mine = sa.update(network_usages).where(*_MINE).values(used=_count(c, project_id, resource))
    c.execute(mine, which)


def _begin(c: Connection, project_id: str, resource: str) -> None:
    """Begin to count, unless that was begun before."""
    if c.execute(_FOUND, {"which_project": project_id, "which_resource": resource}).first() is None:
        with racing():
            counted = _count(c, project_id, resource)
            c.execute(sa.insert(network_usages).values(project_id=project_id, resource=resource, used=counted))


def _count(c: Connection, project_id: str, resource: str) -> int:
    if resource in TABLES:
        table = TABLES[resource]
        query = sa.select(sa.func.count()).select_from(table).where(table.c.project_id == project_id)
    else:
        network_id = resource.removeprefix(_OF_NETWORK)
        query = (
            sa.select(sa.func.count())
            .select_from(port_addresses.join(ports, ports.c.id == port_addresses.c.port_id))
            .where(ports.c.project_id == project_id, ports.c.network_id == network_id)
        )
    return int(c.execute(query).scalar_one())
