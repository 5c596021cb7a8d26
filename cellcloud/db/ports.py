"""Ports and their addresses. Keys decide races: one address once, one port per request of a server."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import LostRace, utc_now
from cellcloud.db.networks import Where, list_networks, list_subnets, page, stamp
from cellcloud.db.top_schema import networks, port_addresses, ports, subnets
from cellcloud.model.network import FixedIp, Network, NewPort, Port, PortRecord, Subnet
from cellcloud.model.subnet import Pool, containing, fixed_ip

MAC_PREFIX = "fa:16:3e"
_MOST_AT_ONCE = 1000


def list_ports(
    c: Connection,
    *,
    project_id: str | None,
    where: Where,
    address: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> list[PortRecord]:
    """Ports by id, with their addresses. ``project_id``: only its own; None: all. ``address``: those that have it."""
    query = page(ports, where, after, limit)
    if project_id is not None:
        query = query.where(ports.c.project_id == project_id)
    if address is not None:
        having = sa.select(port_addresses.c.port_id).where(port_addresses.c.ip_address == address)
        query = query.where(ports.c.id.in_(having))
    chosen = query.subquery()
    joined = (
        sa.select(
            chosen,
            networks.c.name.label("network_name"),
            networks.c.mtu,
            port_addresses.c.subnet_id,
            port_addresses.c.ip_address,
            subnets.c.cidr,
            subnets.c.gateway_ip,
            subnets.c.dns_nameservers,
        )
        .join(networks, networks.c.id == chosen.c.network_id)
        .outerjoin(port_addresses, port_addresses.c.port_id == chosen.c.id)
        .outerjoin(subnets, subnets.c.id == port_addresses.c.subnet_id)
        .order_by(chosen.c.id, port_addresses.c.ip_address)
    )
    found: dict[str, list[Any]] = {}
    for row in c.execute(joined):
        found.setdefault(row.id, []).append(row)
    return [_record(rows) for rows in found.values()]


def get_port(c: Connection, project_id: str | None, port_id: str) -> PortRecord:
    """Raises NotFound, the same for another project's port."""
    found = list_ports(c, project_id=project_id, where={"id": [port_id]})
    if not found:
        raise errors.NotFound(f"Port {port_id[:64]} could not be found.")
    return found[0]


def ports_of_server(c: Connection, server_id: str) -> dict[int, PortRecord]:
    """Index of the server's request -> the port that answers it, in order."""
    found = list_ports(c, project_id=None, where={"device_id": [server_id]})
    indexed = {record.device_index: record for record in found if record.device_index is not None}
    return dict(sorted(indexed.items()))


def make_ports(c: Connection, new: Sequence[NewPort], *, project_id: str | None) -> list[PortRecord]:
    """Make ports with their addresses, on networks that the project may use (None: on any).

    Raises NotFound, Invalid, Conflict with no address left; LostRace where another request was first.
    """
    if not new:
        return []
    ids = list({wanted.network_id for wanted in new})
    known = {network.id: network for network in list_networks(c, project_id=project_id, where={"id": ids})}
    of: dict[str, list[Subnet]] = {}
    for subnet in list_subnets(c, project_id=None, where={"network_id": ids}):
        of.setdefault(subnet.network_id, []).append(subnet)
    records = []
    for wanted in new:
        network = known.get(wanted.network_id)
        if network is None:
            raise errors.NotFound(f"Network {wanted.network_id[:64]} could not be found.")
        record = _new_record(wanted, network, _choose_addresses(c, wanted, of.get(network.id, [])))
        _insert_port(c, record)
        records.append(record)
    return records


def take_address(c: Connection, subnet: Subnet) -> str | None:
    """A free address, or None. Another transaction waits here until this one ends.

    The subnet's counter stands where nothing was handed out yet, so an emptyish subnet costs three statements however
    large it is.
    """
    mine, pool = subnets.c.id == subnet.id, Pool(subnet)
    c.execute(subnets.update().where(mine).values(next_offset=subnets.c.next_offset + 1))
    start = int(c.execute(sa.select(subnets.c.next_offset).where(mine)).scalar_one()) - 1
    looked, window = 0, 8
    while looked < pool.size:
        candidates = [pool[start + looked + i] for i in range(min(window, pool.size - looked))]
        taken = _held(c, subnet.id, candidates)
        for position, candidate in enumerate(candidates):
            if candidate not in taken:
                if looked + position:
                    c.execute(subnets.update().where(mine).values(next_offset=start + looked + position + 1))
                return candidate
        looked += len(candidates)
        window = min(window * 4, _MOST_AT_ONCE)
    return None


def is_held(c: Connection, subnet_id: str, address: str) -> bool:
    """Whether a port has that address."""
    return bool(_held(c, subnet_id, [address]))


def bind_port(c: Connection, port_id: str, *, server_id: str, index: int, owner: str, host: str) -> bool:
    """Lend a free port to a server, or say again that it has it; False when another device has it."""
    query = ports.update().where(ports.c.id == port_id, ports.c.device_id.in_(("", server_id)))
    values = {"device_id": server_id, "device_index": index, "device_owner": owner, "host_id": host}
    with _racing():
        return c.execute(query.values(updated_at=utc_now(), **values)).rowcount > 0


def update_port(c: Connection, port_id: str, device_id: str, changes: dict[str, Any]) -> bool:
    """Change columns while the port belongs to that device ("": to none); False when it does not."""
    query = ports.update().where(ports.c.id == port_id, ports.c.device_id == device_id)
    with _racing():
        return c.execute(query.values(updated_at=utc_now(), **changes)).rowcount > 0


def move_ports(c: Connection, server_id: str, host: str) -> None:
    """Bind all of a server's ports to a host."""
    query = ports.update().where(ports.c.device_id == server_id, ports.c.device_index.is_not(None))
    c.execute(query.values(host_id=host, updated_at=utc_now()))


def release_ports(c: Connection, server_id: str) -> None:
    """Delete the ports made for a server, and free those that it was lent."""
    mine = (ports.c.device_id == server_id) & ports.c.device_index.is_not(None)
    c.execute(ports.delete().where(mine, ports.c.owned))
    free = {"device_id": "", "device_index": None, "device_owner": "", "host_id": "", "updated_at": utc_now()}
    c.execute(ports.update().where(mine).values(**free))


def delete_port(c: Connection, port_id: str) -> bool:
    """Delete a port with its addresses; False when there is none."""
    return c.execute(ports.delete().where(ports.c.id == port_id)).rowcount > 0


def _insert_port(c: Connection, record: PortRecord) -> None:
    held = [
        {"subnet_id": ip.subnet_id, "ip_address": ip.ip_address, "port_id": record.port.id}
        for ip in record.port.fixed_ips
    ]
    with _racing():
        c.execute(ports.insert().values(created_at=utc_now(), updated_at=utc_now(), **_port_values(record)))
        if held:
            c.execute(port_addresses.insert(), held)


@contextmanager
def _racing() -> Iterator[None]:
    """A key in use means that another request came first: the caller's whole transaction may be run again."""
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise LostRace(str(error.orig)) from error


def _choose_addresses(c: Connection, wanted: NewPort, known: Sequence[Subnet]) -> tuple[FixedIp, ...]:
    if wanted.addresses is None:
        return (_any_address(c, wanted.network_id, known),) if known else ()
    chosen: list[FixedIp] = []
    for subnet_id, address in wanted.addresses:
        fitting = [subnet for subnet in known if subnet_id in (None, subnet.id)]
        if address is None:
            chosen.append(_any_address(c, wanted.network_id, fitting))
            continue
        subnet = containing(fitting, address)
        if is_held(c, subnet.id, address) or any(ip.ip_address == address for ip in chosen):
            raise errors.Conflict(f"IP address {address} already allocated in subnet {subnet.id}.")
        chosen.append(fixed_ip(subnet, address))
    return tuple(chosen)


def _any_address(c: Connection, network_id: str, known: Sequence[Subnet]) -> FixedIp:
    for subnet in known:
        address = take_address(c, subnet)
        if address is not None:
            return fixed_ip(subnet, address)
    raise errors.Conflict(f"No more IP addresses available on network {network_id}.")


def _held(c: Connection, subnet_id: str, candidates: Sequence[str]) -> set[str]:
    taken = port_addresses.c
    query = sa.select(taken.ip_address).where(taken.subnet_id == subnet_id, taken.ip_address.in_(candidates))
    return set(c.execute(query).scalars())


def _new_mac() -> str:
    return ":".join([MAC_PREFIX, *(f"{byte:02x}" for byte in secrets.token_bytes(3))])


def _new_record(wanted: NewPort, network: Network, addresses: tuple[FixedIp, ...]) -> PortRecord:
    port = Port(
        id=str(uuid.uuid4()),
        network_id=network.id,
        network_name=network.name,
        mac_address=wanted.mac_address or _new_mac(),
        fixed_ips=addresses,
        mtu=network.mtu,
        owned=wanted.owned,
        device_id=wanted.device_id,
        project_id=wanted.project_id,
        host_id=wanted.host_id,
        security_groups=wanted.security_groups,
    )
    return PortRecord(
        port=port,
        name=wanted.name,
        description=wanted.description,
        device_owner=wanted.device_owner,
        device_index=wanted.device_index,
        admin_state_up=wanted.admin_state_up,
    )


def _port_values(record: PortRecord) -> dict[str, Any]:
    port = record.port
    return {
        "id": port.id,
        "name": record.name,
        "network_id": port.network_id,
        "project_id": port.project_id,
        "device_id": port.device_id,
        "device_owner": record.device_owner,
        "device_index": record.device_index,
        "owned": port.owned,
        "mac_address": port.mac_address,
        "host_id": port.host_id,
        "admin_state_up": record.admin_state_up,
        "security_groups": list(port.security_groups),
        "description": record.description,
    }


def _record(rows: Sequence[Any]) -> PortRecord:
    row = rows[0]
    port = Port(
        id=row.id,
        network_id=row.network_id,
        network_name=row.network_name,
        mac_address=row.mac_address,
        fixed_ips=tuple(
            FixedIp(
                ip_address=r.ip_address,
                subnet_id=r.subnet_id,
                cidr=r.cidr,
                gateway_ip=r.gateway_ip,
                dns_nameservers=tuple(r.dns_nameservers),
            )
            for r in rows
            if r.ip_address is not None
        ),
        mtu=row.mtu,
        owned=row.owned,
        device_id=row.device_id,
        project_id=row.project_id,
        host_id=row.host_id,
        security_groups=tuple(row.security_groups),
    )
    return PortRecord(
        port=port,
        name=row.name,
        description=row.description,
        device_owner=row.device_owner,
        device_index=row.device_index,
        admin_state_up=row.admin_state_up,
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )
