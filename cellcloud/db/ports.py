"""Ports and their addresses. Keys decide races: one address once, one port per request of a server."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import database_incarnations, network_quota_usages
from cellcloud.db.engine import racing, utc_now
from cellcloud.db.listing import ALL, Columns, Condition, Page, Test, items_of, rows_of
from cellcloud.db.network_quota_usages import Bounds, addresses_of
from cellcloud.db.network_versions import raise_versions
from cellcloud.db.networks import stamp, subnet_of
from cellcloud.db.security_groups import bind_groups, bind_other_groups, ensure_default_group
from cellcloud.db.top_schema import networks, port_addresses, ports, subnets
from cellcloud.model.network import FixedIp, NewPort, Port, PortRecord, Subnet
from cellcloud.model.subnet_arithmetic import Pool, containing, fixed_ip

MAC_PREFIX = "fa:16:3e"
_MOST_AT_ONCE = 1000
LAST = (1 << 63) - 1
"""After every placement."""


# Statements of every create and delete are built once: building costs more than running them.
_JOINED = (
    sa.select(
        ports,
        networks.c.name.label("network_name"),
        networks.c.mtu,
        port_addresses.c.subnet_id,
        port_addresses.c.ip_address,
        subnets.c.cidr,
        subnets.c.gateway_ip,
        subnets.c.dns_nameservers,
        subnets.c.enable_dhcp,
    )
    .join(networks, networks.c.id == ports.c.network_id)
    .outerjoin(port_addresses, port_addresses.c.port_id == ports.c.id)
    .outerjoin(subnets, subnets.c.id == port_addresses.c.subnet_id)
    .order_by(ports.c.id, port_addresses.c.ip_address)
)
_BY_ID = _JOINED.where(ports.c.id == sa.bindparam("port_id"))
_BY_IDS = _JOINED.where(ports.c.id.in_(sa.bindparam("port_ids", expanding=True)))
_BY_SERVER = _JOINED.where(ports.c.device_id == sa.bindparam("server_id"))
_BY_INDEX = sa.select(ports.c.id).where(
    ports.c.device_id == sa.bindparam("server_id"), ports.c.device_index == sa.bindparam("index")
)
_NETWORK = sa.select(networks, utc_now().label("now")).where(networks.c.id == sa.bindparam("network_id"))
_SUBNETS = sa.select(subnets).where(subnets.c.network_id == sa.bindparam("network_id")).order_by(subnets.c.created_at)
_COUNT_ON = (
    subnets.update()
    .where(subnets.c.id == sa.bindparam("subnet"))
    .values(next_offset=subnets.c.next_offset + sa.bindparam("step"))
)
_COUNTER = sa.select(subnets.c.next_offset).where(subnets.c.id == sa.bindparam("subnet"))
_HELD = sa.select(port_addresses.c.ip_address).where(
    port_addresses.c.subnet_id == sa.bindparam("subnet"),
    port_addresses.c.ip_address.in_(sa.bindparam("candidates", expanding=True)),
)
_INDEXES = sa.select(ports.c.device_id, ports.c.device_index).where(
    ports.c.device_id.in_(sa.bindparam("server_ids", expanding=True)), ports.c.device_index.is_not(None)
)
_INSERT_PORT, _INSERT_ADDRESS = ports.insert(), port_addresses.insert()
_MINE = (
    ports.c.device_id == sa.bindparam("server_id"),
    ports.c.device_index.is_not(None),
    ports.c.placement <= sa.bindparam("up_to", type_=sa.BigInteger),
)
_OWNED = (
    sa.select(
        ports.c.id,
        ports.c.project_id,
        ports.c.network_id,
        ports.c.security_groups,
        sa.select(sa.func.count())
        .select_from(port_addresses)
        .where(port_addresses.c.port_id == ports.c.id)
        .scalar_subquery()
        .label("addresses"),
    )
    .where(*_MINE, ports.c.owned)
    .order_by(ports.c.id)
    .with_for_update()
)
_LENT = sa.select(ports.c.network_id).where(*_MINE).with_for_update()
_CHANGED: dict[str, Any] = {"updated_at": utc_now(), "revision": ports.c.revision + 1}
_DELETE = ports.delete().where(ports.c.id.in_(sa.bindparam("port_ids", expanding=True)))
_FREE = (
    ports.update()
    .where(*_MINE)
    .values(device_id="", device_index=None, device_owner="", host_id="", **_CHANGED, placement=0)
)


def _addressed(column: sa.ColumnElement[Any], *, part: bool = False) -> Test:
    """Ports with an address whose column has one of the values, or has one in it."""

    def test(condition: Condition) -> sa.ColumnElement[bool]:
        ways = [column.contains(v, autoescape=True) if part else column == v for v in condition.values]
        return ports.c.id.in_(sa.select(port_addresses.c.port_id).where(sa.or_(sa.false(), *ways)))

    return test


PORT_COLUMNS: Columns = {
    **{name: ports.c[name] for name in ("id", "name", "project_id", "network_id", "device_id", "device_owner")},
    **{name: ports.c[name] for name in ("mac_address", "admin_state_up", "description", "created_at", "updated_at")},
    "tenant_id": ports.c.project_id,
    "binding:host_id": ports.c.host_id,
    "binding:vnic_type": sa.literal("normal"),
    "status": sa.case((ports.c.host_id == "", "DOWN"), else_="ACTIVE"),
    "security_groups": items_of(ports.c.security_groups),
    "tags": items_of(ports.c.tags),
    "revision_number": ports.c.revision,
    "ip_address": _addressed(port_addresses.c.ip_address),
    "ip_address_substr": _addressed(port_addresses.c.ip_address, part=True),
    "subnet_id": _addressed(port_addresses.c.subnet_id),
}


def list_ports(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[PortRecord]:
    """Ports with their addresses, by id unless the page says otherwise. ``project_id``: only its own; None: all.
    Raises NotFound for the page's marker."""
    query = sa.select(ports.c.id)
    if project_id is not None:
        query = query.where(ports.c.project_id == project_id)
    ids = [row.id for row in rows_of(c, query, ports.c.id, PORT_COLUMNS, page)]
    found = (
        {record.port.id: record for record in _records(c.execute(_JOINED.where(ports.c.id.in_(ids))))} if ids else {}
    )
    return [found[port_id] for port_id in ids]


def get_port(c: Connection, project_id: str | None, port_id: str) -> PortRecord:
    """Return a port. Raises NotFound, the same for another project's port."""
    for record in _records(c.execute(_BY_ID, {"port_id": port_id})):
        if project_id in (None, record.port.project_id):
            return record
    raise errors.NotFound(f"Port {port_id[:64]} could not be found.")


def find_ports(c: Connection, port_ids: Collection[str]) -> dict[str, PortRecord]:
    """By id, of those that there are: anybody's."""
    return {each.port.id: each for each in _records(c.execute(_BY_IDS, {"port_ids": sorted(port_ids)}))}


def list_ports_of_device(c: Connection, project_id: str | None, device_id: str) -> list[PortRecord]:
    """Every port that names the device, whoever wrote it there."""
    found = _records(c.execute(_BY_SERVER, {"server_id": device_id}))
    return [record for record in found if project_id in (None, record.port.project_id)]


def ports_of_server(c: Connection, server_id: str) -> dict[int, PortRecord]:
    """Index of the server's request -> the port that answers it, in order."""
    found = list_ports_of_device(c, None, server_id)
    indexed = {record.device_index: record for record in found if record.device_index is not None}
    return dict(sorted(indexed.items()))


def ports_of_servers(c: Connection, server_ids: Sequence[str]) -> dict[str, list[PortRecord]]:
    """Server -> the ports that answer its requests, in their order."""
    found: dict[str, dict[int, PortRecord]] = {server_id: {} for server_id in server_ids}
    for record in _records(c.execute(_JOINED.where(ports.c.device_id.in_(sorted(found))))):
        if record.device_index is not None:
            found[record.port.device_id][record.device_index] = record
    return {server_id: [indexed[index] for index in sorted(indexed)] for server_id, indexed in found.items()}


def list_indexes(c: Connection, server_ids: Collection[str]) -> set[tuple[str, int]]:
    """(server, index) of requests that a port answers already."""
    rows = c.execute(_INDEXES, {"server_ids": list(server_ids)})
    return {(row.device_id, row.device_index) for row in rows}


def find_by_index(c: Connection, server_id: str, index: int) -> str | None:
    """Return the port that answers that request of a server."""
    return c.execute(_BY_INDEX, {"server_id": server_id, "index": index}).scalar_one_or_none()


def make_ports(c: Connection, new: Sequence[NewPort], *, project_id: str | None, bounds: Bounds) -> list[PortRecord]:
    """Make ports with their addresses, on networks that the project may use (None: on any); all or none.

    Raises NotFound, Invalid, QuotaExceeded, Conflict with no address left; LostRace where another request was first;
    TryLater while servers may have addresses that the database lost.
    """
    database_incarnations.check_compared(c)
    new = _in_groups(c, new)
    raise_versions(
        c,
        networks={wanted.network_id for wanted in new},
        groups={group_id for wanted in new for group_id in wanted.security_groups or ()},
    )
    records: dict[int, PortRecord] = {}
    for network_id in dict.fromkeys(wanted.network_id for wanted in new):
        network = c.execute(_NETWORK, {"network_id": network_id}).one_or_none()
        if network is None or not (project_id in (None, network.project_id) or network.shared):
            raise errors.NotFound(f"Network {network_id[:64]} could not be found.")
        known = [subnet_of(row) for row in c.execute(_SUBNETS, {"network_id": network.id})]
        here = [place for place, wanted in enumerate(new) if wanted.network_id == network_id]
        _reserve(c, network, known, [new[place] for place in here], bounds)
        chosen = _choose_addresses(c, [new[place] for place in here], known)
        made = [_new_record(new[place], network, ips) for place, ips in zip(here, chosen, strict=True)]
        with racing():
            times = {"created_at": network.now, "updated_at": network.now}
            c.execute(_INSERT_PORT, [_port_values(record) | times for record in made])
            held = [
                {"subnet_id": ip.subnet_id, "ip_address": ip.ip_address, "port_id": record.port.id}
                for record in made
                for ip in record.port.fixed_ips
            ]
            if held:
                c.execute(_INSERT_ADDRESS, held)
        bind_groups(c, {record.port.id: record.port.security_groups for record in made})
        records |= dict(zip(here, made, strict=True))
    return [records[place] for place in range(len(new))]


def take_addresses(c: Connection, subnet: Subnet, count: int, spoken_for: Collection[str] = ()) -> list[str]:
    """Up to ``count`` free addresses, none of those spoken for. Another transaction waits here until this one ends.

    The subnet's counter stands where nothing was handed out yet, so an emptyish subnet costs three statements however
    large it is and however many are taken.
    """
    pool = Pool(subnet)
    c.execute(_COUNT_ON, {"subnet": subnet.id, "step": count})
    start = int(c.execute(_COUNTER, {"subnet": subnet.id}).scalar_one()) - count
    found: list[str] = []
    looked, window = 0, max(8, count)
    while looked < pool.size and len(found) < count:
        candidates = [pool[start + looked + i] for i in range(min(window, pool.size - looked))]
        taken = _held(c, subnet.id, candidates)
        for candidate in candidates:
            looked += 1
            if candidate not in taken and candidate not in spoken_for:
                found.append(candidate)
                if len(found) == count:
                    break
        window = min(window * 4, _MOST_AT_ONCE)
    if looked > count:
        c.execute(_COUNT_ON, {"subnet": subnet.id, "step": looked - count})
    return found


def is_held(c: Connection, subnet_id: str, address: str) -> bool:
    """Return whether a port has that address."""
    return bool(_held(c, subnet_id, [address]))


def bind_port(
    c: Connection, port_id: str, *, server_id: str, index: int, owner: str, host: str, placement: int = 0
) -> bool:
    """Lend a free port to a placement of a server, or say again that it has it; False when another device has it, or a
    later placement."""
    mine = (ports.c.device_id.in_(("", server_id)), ports.c.placement <= placement)
    values = {"device_id": server_id, "device_index": index, "device_owner": owner, "host_id": host}
    query = ports.update().where(ports.c.id == port_id, *mine)
    _raise_of_ports(c, ports.c.id == port_id)
    with racing():
        return c.execute(query.values(placement=placement, **_CHANGED, **values)).rowcount > 0


def update_port(c: Connection, record: PortRecord, changes: dict[str, Any]) -> bool:
    """Change columns while the port is as in the record; False when it is not any more."""
    groups = {*record.port.security_groups, *changes.get("security_groups", ())}
    raise_versions(c, networks={record.port.network_id}, groups=groups)
    with racing():
        changed = c.execute(ports.update().where(*_as_in(record)).values(**_CHANGED, **changes)).rowcount > 0
    if changed and "security_groups" in changes:
        bind_other_groups(c, record.port.id, changes["security_groups"])
    return changed


def move_ports(c: Connection, server_id: str, host: str, placement: int = 0) -> int:
    """Bind a server's ports to the host of a placement, but those of later ones; returns how many."""
    query = ports.update().where(*_MINE).values(host_id=host, placement=sa.bindparam("mine"), **_CHANGED)
    _raise_of_ports(c, ports.c.device_id == server_id)
    return c.execute(query, {"server_id": server_id, "up_to": placement, "mine": placement}).rowcount


def release_ports(c: Connection, server_id: str, placement: int = LAST) -> None:
    """Delete the ports made for a server, and free those that it was lent, but those of placements after this one."""
    mine = {"server_id": server_id, "up_to": placement}
    owned = c.execute(_OWNED, mine).all()
    if owned:
        c.execute(_DELETE, {"port_ids": [row.id for row in owned]})
        for project_id, network_id in sorted({(row.project_id, row.network_id) for row in owned}):
            there = [row for row in owned if (row.project_id, row.network_id) == (project_id, network_id)]
            addresses = sum(row.addresses for row in there)
            network_quota_usages.release_ports(c, project_id, network_id, ports=len(there), addresses=addresses)
    lent = c.execute(_LENT, mine).scalars().all()
    groups = {group_id for row in owned for group_id in row.security_groups}
    raise_versions(c, networks={*(row.network_id for row in owned), *lent}, groups=groups)
    if lent:
        c.execute(_FREE, mine)


def delete_ports(c: Connection, records: Sequence[PortRecord]) -> bool:
    """Delete ports with their addresses while they are as in the records; False, and the caller must roll back, when
    one is not any more. What they used is counted down once for all of a project on a network."""
    for record in records:
        if not c.execute(ports.delete().where(*_as_in(record))).rowcount:
            return False
    raise_versions(
        c,
        networks={record.port.network_id for record in records},
        groups={group_id for record in records for group_id in record.port.security_groups},
    )
    whose = {(record.port.project_id, record.port.network_id) for record in records}
    for project_id, network_id in sorted(whose):
        there = [
            each.port for each in records if (each.port.project_id, each.port.network_id) == (project_id, network_id)
        ]
        addresses = sum(len(port.fixed_ips) for port in there)
        network_quota_usages.release_ports(c, project_id, network_id, ports=len(there), addresses=addresses)
    return True


def _in_groups(c: Connection, new: Sequence[NewPort]) -> list[NewPort]:
    """Put ports that name no group into the default ones of their projects."""
    unnamed = {wanted.project_id for wanted in new if wanted.security_groups is None}
    default = {project_id: ensure_default_group(c, project_id) for project_id in sorted(unnamed)}
    return [
        replace(wanted, security_groups=(default[wanted.project_id],)) if wanted.security_groups is None else wanted
        for wanted in new
    ]


def _raise_of_ports(c: Connection, which: sa.ColumnElement[bool]) -> None:
    raise_versions(c, networks=c.execute(sa.select(ports.c.network_id).where(which)).scalars().all())


def _as_in(record: PortRecord) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        ports.c.id == record.port.id,
        ports.c.device_id == record.port.device_id,
        ports.c.device_index.is_not_distinct_from(record.device_index),
        ports.c.revision == record.revision,
    )


def _reserve(c: Connection, network: Any, known: Sequence[Subnet], new: Sequence[NewPort], bounds: Bounds) -> None:
    """Count ports and addresses against their projects' limits. Raises QuotaExceeded."""
    size = sum(Pool(subnet).size for subnet in known)
    share = max(1, size * bounds.shared_percent // 100)
    for project_id in sorted({wanted.project_id for wanted in new}):
        mine = [wanted for wanted in new if wanted.project_id == project_id]
        if not network_quota_usages.reserve(c, project_id, "port", len(mine), bounds.ports):
            raise network_quota_usages.exceeded("port")
        addresses = sum(bool(known) if each.addresses is None else len(each.addresses) for each in mine)
        limit = share if network.shared and network.project_id != project_id else network_quota_usages.UNLIMITED
        if not network_quota_usages.reserve(c, project_id, addresses_of(network.id), addresses, limit):
            why = f"One project may have {share} of the {size} addresses of the shared network {network.id}."
            raise network_quota_usages.exceeded("port", why=why)


def _choose_addresses(c: Connection, new: Sequence[NewPort], known: Sequence[Subnet]) -> list[tuple[FixedIp, ...]]:
    """Choose the addresses of each port: the wanted ones first, so that none of them is given to a port that takes
    any."""
    chosen: list[list[FixedIp | None]] = []
    mine: dict[str, set[str]] = {subnet.id: set() for subnet in known}
    free: dict[tuple[str, ...], list[tuple[int, int]]] = {}  # subnets to choose from -> (port, place) to fill
    for number, wanted in enumerate(new):
        asked = ((None, None),) if wanted.addresses is None and known else wanted.addresses or ()
        chosen.append([None] * len(asked))
        for place, (subnet_id, address) in enumerate(asked):
            fitting = [subnet for subnet in known if subnet_id in (None, subnet.id)]
            if subnet_id is not None and not fitting:
                raise errors.Invalid(f"Subnet {subnet_id} is none of the port's network.")
            if address is None:
                free.setdefault(tuple(subnet.id for subnet in fitting), []).append((number, place))
                continue
            subnet = containing(fitting, address)
            if address in mine[subnet.id] or is_held(c, subnet.id, address):
                raise errors.Conflict(f"IP address {address} already allocated in subnet {subnet.id}.")
            mine[subnet.id].add(address)
            chosen[number][place] = fixed_ip(subnet, address)
    for subnet_ids, places in free.items():
        fitting = [subnet for subnet in known if subnet.id in subnet_ids]
        for (number, place), ip in zip(places, _any_addresses(c, fitting, len(places), mine), strict=True):
            chosen[number][place] = ip
    return [tuple(ip for ip in of_port if ip is not None) for of_port in chosen]


def _any_addresses(c: Connection, known: Sequence[Subnet], count: int, mine: dict[str, set[str]]) -> list[FixedIp]:
    """Choose that many addresses of any of the subnets; ``mine``, subnet -> addresses, are taken by this
    transaction."""
    found: list[FixedIp] = []
    for subnet in known:
        if len(found) < count:
            fresh = take_addresses(c, subnet, count - len(found), mine[subnet.id])
            mine[subnet.id].update(fresh)
            found += [fixed_ip(subnet, address) for address in fresh]
    if len(found) < count:
        network = known[0].network_id if known else ""
        raise errors.Conflict(f"No more IP addresses available on network {network}.")
    return found


def _held(c: Connection, subnet_id: str, candidates: Sequence[str]) -> set[str]:
    return set(c.execute(_HELD, {"subnet": subnet_id, "candidates": candidates}).scalars())


def _new_mac() -> str:
    return ":".join([MAC_PREFIX, *(f"{byte:02x}" for byte in secrets.token_bytes(3))])


def _new_record(wanted: NewPort, network: Any, addresses: tuple[FixedIp, ...]) -> PortRecord:
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
        security_groups=wanted.security_groups or (),
        port_security_enabled=wanted.port_security_enabled,
        allowed_address_pairs=wanted.allowed_address_pairs,
        dns_name=wanted.dns_name,
    )
    return PortRecord(
        port=port,
        name=wanted.name,
        description=wanted.description,
        device_owner=wanted.device_owner,
        device_index=wanted.device_index,
        placement=wanted.placement,
        admin_state_up=wanted.admin_state_up,
        extra_dhcp_opts=wanted.extra_dhcp_opts,
        created_at=stamp(network.now),
        updated_at=stamp(network.now),
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
        "placement": record.placement,
        "owned": port.owned,
        "mac_address": port.mac_address,
        "host_id": port.host_id,
        "admin_state_up": record.admin_state_up,
        "security_groups": list(port.security_groups),
        "port_security_enabled": port.port_security_enabled,
        "allowed_address_pairs": port.allowed_address_pairs,
        "extra_dhcp_opts": record.extra_dhcp_opts,
        "dns_name": port.dns_name,
        "description": record.description,
    }


def _records(rows: Iterable[Any]) -> list[PortRecord]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.id, []).append(row)
    return [_record(of_one) for of_one in found.values()]


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
                enable_dhcp=r.enable_dhcp,
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
        port_security_enabled=row.port_security_enabled,
        allowed_address_pairs=tuple((address, mac) for address, mac in row.allowed_address_pairs),
        dns_name=row.dns_name,
    )
    return PortRecord(
        port=port,
        name=row.name,
        description=row.description,
        device_owner=row.device_owner,
        device_index=row.device_index,
        placement=row.placement,
        revision=row.revision,
        admin_state_up=row.admin_state_up,
        extra_dhcp_opts=tuple((name, value, version) for name, value, version in row.extra_dhcp_opts),
        tags=tuple(row.tags),
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )
