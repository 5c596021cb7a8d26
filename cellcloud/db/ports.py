"""Ports and their addresses. Keys decide races: one address once, one port per request of a server."""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import database_incarnations, network_quota_usages
from cellcloud.db.address_allocation import asked_addresses, choose_addresses
from cellcloud.db.engine import racing, utc_now
from cellcloud.db.listing import ALL, Columns, Condition, Page, Test, items_of, rows_of
from cellcloud.db.network_quota_usages import UNLIMITED, Bounds, addresses_of
from cellcloud.db.network_schema import floating_ips, security_groups
from cellcloud.db.network_versions import raise_versions
from cellcloud.db.networks import stamp, subnet_of, usable_by
from cellcloud.db.security_groups import bind_groups, bind_other_groups, ensure_default_group
from cellcloud.db.top_schema import networks, port_addresses, ports, subnets
from cellcloud.model.network import PLANNED, FixedIp, NewPort, Port, PortRecord, Subnet
from cellcloud.model.router import FLOATING_IP, ROUTER_GATEWAY, ROUTER_INTERFACE
from cellcloud.model.subnet_arithmetic import Pool, from_mac

MAC_PREFIX = "fa:16:3e"
_MOST_COUNTED = 1 << 62  # addresses of a network
LAST = (1 << 63) - 1
"""After every placement."""


# Statements of every create and delete are built once: building costs more than running them.
_JOINED = (
    sa.select(
        ports,
        networks.c.name.label("network_name"),
        networks.c.mtu,
        networks.c.project_id.label("network_project_id"),
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
_NETWORKS = (
    sa.select(
        subnets,
        *(networks.c[name].label(f"network_{name}") for name in ("name", "mtu", "project_id", "shared")),
        networks.c.id.label("on_network"),
        utc_now().label("now"),
    )
    .select_from(networks.outerjoin(subnets, subnets.c.network_id == networks.c.id))
    .where(networks.c.id.in_(sa.bindparam("network_ids", expanding=True)))
    .order_by(subnets.c.created_at)
)
_SETTLING = (
    sa.select(
        networks.c.id,
        networks.c.port_security_enabled,
        security_groups.c.default_of,
        security_groups.c.id.label("default_group"),
        database_incarnations.UNCOMPARED.exists().label("uncompared"),
    )
    .select_from(networks)
    .outerjoin(security_groups, security_groups.c.default_of.in_(sa.bindparam("project_ids", expanding=True)))
    .where(networks.c.id.in_(sa.bindparam("network_ids", expanding=True)))
)
_SUBNETS = sa.select(subnets).where(subnets.c.network_id == sa.bindparam("network_id")).order_by(subnets.c.created_at)
_INDEXES = sa.select(ports.c.device_id, ports.c.device_index).where(
    ports.c.device_id.in_(sa.bindparam("server_ids", expanding=True)), ports.c.device_index.is_not(None)
)
_INSERT_PORT, _INSERT_ADDRESS = ports.insert(), port_addresses.insert()
_MINE = (
    ports.c.device_id == sa.bindparam("server_id"),
    ports.c.device_index.is_not(None),
    ports.c.placement <= sa.bindparam("up_to", type_=sa.BigInteger),
)
_OR_ONE = ports.c.id == sa.func.coalesce(sa.bindparam("only", type_=sa.String), ports.c.id)
_RELEASED = (
    sa.select(
        ports.c.id,
        ports.c.project_id,
        ports.c.network_id,
        ports.c.security_groups,
        ports.c.owned,
        sa.select(sa.func.count())
        .select_from(port_addresses)
        .where(port_addresses.c.port_id == ports.c.id)
        .scalar_subquery()
        .label("addresses"),
    )
    .where(*_MINE, _OR_ONE)
    .order_by(ports.c.id)
    .with_for_update()
)
_FORWARDED = sa.select(floating_ips.c.id, floating_ips.c.router_id).where(
    floating_ips.c.port_id.in_(sa.bindparam("port_ids", expanding=True))
)
_CHANGED: dict[str, Any] = {"updated_at": utc_now(), "revision": ports.c.revision + 1}
_DELETE = ports.delete().where(ports.c.id.in_(sa.bindparam("port_ids", expanding=True)))
_FREE = (
    ports.update()
    .where(*_MINE, _OR_ONE)
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
    "status": sa.case(
        (ports.c.device_owner == FLOATING_IP, "N/A"),
        (sa.not_(ports.c.admin_state_up), "DOWN"),
        (ports.c.device_owner.in_((ROUTER_INTERFACE, ROUTER_GATEWAY)), "ACTIVE"),
        (ports.c.host_id == "", "DOWN"),
        else_="ACTIVE",
    ),
    "security_groups": items_of(ports.c.security_groups),
    "tags": items_of(ports.c.tags),
    "revision_number": ports.c.revision,
    "ip_address": _addressed(port_addresses.c.ip_address),
    "ip_address_substr": _addressed(port_addresses.c.ip_address, part=True),
    "subnet_id": _addressed(port_addresses.c.subnet_id),
}


def list_ports(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[PortRecord]:
    """Ports with their addresses, by id unless the page says otherwise. ``project_id``: only its own and those on its
    networks; None: all. Raises NotFound for the page's marker."""
    query = sa.select(ports.c.id)
    if project_id is not None:
        on_own = ports.c.network_id.in_(sa.select(networks.c.id).where(networks.c.project_id == project_id))
        query = query.where((ports.c.project_id == project_id) | on_own)
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


def see_port(c: Connection, project_id: str | None, port_id: str) -> PortRecord:
    """Return a port of the project or on a network of its own; None: any. Raises NotFound."""
    record = get_port(c, None, port_id)
    if project_id not in (None, record.port.project_id, record.network_project_id):
        raise errors.NotFound(f"Port {port_id[:64]} could not be found.")
    return record


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
    new = _settled(c, new)
    raise_versions(
        c,
        networks={wanted.network_id for wanted in new},
        groups={group_id for wanted in new for group_id in wanted.security_groups or ()},
    )
    known = _find_networks(c, {wanted.network_id for wanted in new})
    records: dict[int, PortRecord] = {}
    for network_id in dict.fromkeys(wanted.network_id for wanted in new):
        network = known.get(network_id)
        if network is None or not (project_id is None or _is_usable(c, network, project_id)):
            raise errors.NotFound(f"Network {network_id[:64]} could not be found.")
        here = [place for place, wanted in enumerate(new) if wanted.network_id == network_id]
        mine = [new[place] for place in here]
        _reserve(c, network, mine, bounds)
        chosen = choose_addresses(c, mine, network.subnets, network.offsets)
        made = [_new_record(wanted, network, ips) for wanted, ips in zip(mine, chosen, strict=True)]
        records |= dict(zip(here, made, strict=True))
    times = [known[wanted.network_id].now for wanted in new]
    _insert(c, [records[place] for place in range(len(new))], times)
    return [records[place] for place in range(len(new))]


def _insert(c: Connection, made: Sequence[PortRecord], times: Sequence[dt.datetime]) -> None:
    """Store new ports, each with the time that it was made at, their addresses and what groups they are in."""
    if not made:
        return
    held = [
        {"subnet_id": ip.subnet_id, "ip_address": ip.ip_address, "port_id": record.port.id}
        for record in made
        for ip in record.port.fixed_ips
    ]
    rows = [_port_values(one) | {"created_at": now, "updated_at": now} for one, now in zip(made, times, strict=True)]
    with racing():
        c.execute(_INSERT_PORT, rows)
        if held:
            c.execute(_INSERT_ADDRESS, held)
    bind_groups(c, {record.port.id: record.port.security_groups for record in made})


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


def change_addresses(
    c: Connection, record: PortRecord, wanted: Sequence[tuple[str | None, str | None]], *, mac_address: str
) -> None:
    """Give a port, which has that MAC from now on, these (subnet, address) pairs, of which either may be None: of a
    subnet it keeps an address that it has. Raises Invalid, Conflict for an address that is taken, and where a floating
    IP is forwarded to one that it loses."""
    port = record.port
    known = [subnet_of(row) for row in c.execute(_SUBNETS, {"network_id": port.network_id})]
    c.execute(port_addresses.delete().where(port_addresses.c.port_id == port.id))
    again = NewPort(
        network_id=port.network_id,
        project_id=port.project_id,
        device_owner=record.device_owner,
        mac_address=mac_address,
        addresses=tuple(_kept(port.fixed_ips, wanted)),
    )
    (chosen,) = choose_addresses(c, [again], known)
    leaving = {ip.ip_address for ip in port.fixed_ips} - {ip.ip_address for ip in chosen}
    forwarded = floating_ips.c.port_id == port.id, floating_ips.c.fixed_ip_address.in_(sorted(leaving))
    if leaving and c.execute(sa.select(floating_ips.c.id).where(*forwarded).limit(1)).first():
        raise errors.Conflict(f"A floating IP is forwarded to an address that port {port.id} would lose.")
    more = len(chosen) - len(port.fixed_ips)
    network_quota_usages.reserve(c, port.project_id, addresses_of(port.network_id), more, UNLIMITED)
    held = [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address, "port_id": port.id} for ip in chosen]
    if held:
        with racing():
            c.execute(_INSERT_ADDRESS, held)


def give_automatic(c: Connection, subnet: Subnet) -> None:
    """Give the ports that are on a new subnet's network already, but routers', the addresses that their guests make
    themselves in it."""
    columns = (ports.c.id, ports.c.mac_address, ports.c.project_id, ports.c.security_groups)
    guests = (ports.c.network_id == subnet.network_id, sa.not_(ports.c.device_owner.startswith("network:router_")))
    rows = c.execute(sa.select(*columns).where(*guests).order_by(ports.c.id).with_for_update()).all()
    if not rows:
        return
    raise_versions(c, groups={group_id for row in rows for group_id in row.security_groups})
    with racing():
        c.execute(
            _INSERT_ADDRESS,
            [
                {"subnet_id": subnet.id, "ip_address": from_mac(subnet, row.mac_address), "port_id": row.id}
                for row in rows
            ],
        )
    c.execute(ports.update().where(ports.c.id.in_([row.id for row in rows])).values(**_CHANGED))
    for project_id in sorted({row.project_id for row in rows}):
        mine = sum(row.project_id == project_id for row in rows)
        network_quota_usages.reserve(c, project_id, addresses_of(subnet.network_id), mine, UNLIMITED)


def _kept(
    present: Sequence[FixedIp], wanted: Sequence[tuple[str | None, str | None]]
) -> Iterator[tuple[str | None, str | None]]:
    """Yield the wanted pairs, with an address of the present ones where only a subnet is named."""
    named = {address for _, address in wanted}
    left = [ip for ip in present if ip.ip_address not in named]
    for subnet_id, address in wanted:
        mine = next((ip for ip in left if address is None and ip.subnet_id == subnet_id), None)
        if mine is not None:
            left.remove(mine)
        yield (subnet_id, address if mine is None else mine.ip_address)


def move_ports(c: Connection, server_id: str, host: str, placement: int = 0) -> int:
    """Bind a server's ports to the host of a placement, but those of later ones; returns how many."""
    query = ports.update().where(*_MINE).values(host_id=host, placement=sa.bindparam("mine"), **_CHANGED)
    _raise_of_ports(c, ports.c.device_id == server_id)
    return c.execute(query, {"server_id": server_id, "up_to": placement, "mine": placement}).rowcount


def release_ports(c: Connection, server_id: str, placement: int = LAST, port_id: str | None = None) -> None:
    """Delete the ports made for a server, and free those that it was lent, but those of placements after this one; or
    only one of them."""
    mine = {"server_id": server_id, "up_to": placement, "only": port_id}
    held = c.execute(_RELEASED, mine).all()
    if not held:
        return
    owned = [row for row in held if row.owned]
    if owned:
        disconnect(c, [row.id for row in owned])
        c.execute(_DELETE, {"port_ids": [row.id for row in owned]})
    groups = {group_id for row in owned for group_id in row.security_groups}
    raise_versions(c, networks={row.network_id for row in held}, groups=groups)
    for project_id, network_id in sorted({(row.project_id, row.network_id) for row in owned}):
        there = [row for row in owned if (row.project_id, row.network_id) == (project_id, network_id)]
        addresses = sum(row.addresses for row in there)
        network_quota_usages.release_ports(c, project_id, network_id, ports=len(there), addresses=addresses)
    if len(owned) < len(held):
        c.execute(_FREE, mine)


def delete_ports(c: Connection, records: Sequence[PortRecord]) -> bool:
    """Delete ports with their addresses while they are as in the records; False, and the caller must roll back, when
    one is not any more. What they used is counted down once for all of a project on a network."""
    disconnect(c, [record.port.id for record in records])
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """A network that ports are made on. ``offsets``: subnet -> where its counter stood, ``now``: as it was read."""

    id: str
    name: str
    mtu: int
    project_id: str
    shared: bool
    now: dt.datetime
    subnets: tuple[Subnet, ...]
    offsets: Mapping[str, int]


def _find_networks(c: Connection, network_ids: Collection[str]) -> dict[str, _Network]:
    rows = c.execute(_NETWORKS, {"network_ids": sorted(network_ids)}).all() if network_ids else []
    known: dict[str, _Network] = {}
    for row in rows:
        there = [each for each in rows if each.on_network == row.on_network and each.id is not None]
        known[row.on_network] = _Network(
            id=row.on_network,
            name=row.network_name,
            mtu=row.network_mtu,
            project_id=row.network_project_id,
            shared=row.network_shared,
            now=row.now,
            subnets=tuple(subnet_of(each) for each in there),
            offsets={each.id: each.next_offset for each in there},
        )
    return known


def _is_usable(c: Connection, network: _Network, project_id: str) -> bool:
    if network.project_id == project_id or network.shared:
        return True
    mine = sa.select(networks.c.id).where(networks.c.id == network.id, usable_by(project_id))
    return c.execute(mine).first() is not None


def disconnect(c: Connection, port_ids: Sequence[str]) -> None:
    """Let no floating IP be forwarded to these ports any more."""
    forwarded = c.execute(_FORWARDED, {"port_ids": port_ids}).all()
    if forwarded:
        raise_versions(c, routers={row.router_id for row in forwarded})
        mine = floating_ips.update().where(floating_ips.c.id.in_([row.id for row in forwarded]))
        nowhere = {"port_id": None, "fixed_ip_address": None, "router_id": None}
        c.execute(mine.values(revision=floating_ips.c.revision + 1, updated_at=utc_now(), **nowhere))


def _settled(c: Connection, new: Sequence[NewPort]) -> list[NewPort]:
    """Give ports what they do not say: a MAC, whether they have security, and their projects' default groups. Raises
    TryLater as ``make_ports``."""
    asked = {
        "network_ids": sorted({wanted.network_id for wanted in new}),
        "project_ids": sorted({wanted.project_id for wanted in new}),
    }
    rows = c.execute(_SETTLING, asked).all() if new else []
    if not rows or rows[0].uncompared:
        database_incarnations.check_compared(c)
    without = {row.id for row in rows if not row.port_security_enabled}
    found = []
    default: dict[str, str] = {row.default_of: row.default_group for row in rows if row.default_group}
    for wanted in new:
        secure = wanted.port_security_enabled
        secure = wanted.network_id not in without if secure is None else secure
        groups = wanted.security_groups
        if groups is None and secure and wanted.project_id not in default:
            default[wanted.project_id] = ensure_default_group(c, wanted.project_id)
        if groups is None:
            groups = (default[wanted.project_id],) if secure else ()
        mac = wanted.mac_address or _new_mac()
        pairs = tuple((address, of or mac) for address, of in wanted.allowed_address_pairs)
        check_security(secure, groups, pairs)
        settled = {"mac_address": mac, "port_security_enabled": secure, "security_groups": groups}
        found.append(replace(wanted, allowed_address_pairs=pairs, **settled))  # type: ignore[arg-type]
    return found


def check_security(
    secure: bool, groups: Sequence[str], pairs: Sequence[tuple[str, str]], *, kept: bool = False
) -> None:
    """Check that a port without security has no groups, be they asked for or ``kept``, and no allowed pairs. Raises
    Invalid, Conflict."""
    if not secure and groups and kept:
        raise errors.Conflict(
            "Port has security group associated. Cannot disable port security or IP address until security group is "
            "removed."
        )
    if not secure and groups:
        raise errors.Invalid("Port security must be enabled and port must have an IP address to use security groups.")
    if not secure and pairs:
        raise errors.Conflict("Port Security must be enabled in order to have allowed address pairs on a port.")


def _raise_of_ports(c: Connection, which: sa.ColumnElement[bool]) -> None:
    raise_versions(c, networks=c.execute(sa.select(ports.c.network_id).where(which)).scalars().all())


def _as_in(record: PortRecord) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        ports.c.id == record.port.id,
        ports.c.device_id == record.port.device_id,
        ports.c.device_index.is_not_distinct_from(record.device_index),
        ports.c.revision == record.revision,
    )


def _reserve(c: Connection, network: _Network, new: Sequence[NewPort], bounds: Bounds) -> None:
    """Count ports and addresses against their projects' limits. Raises QuotaExceeded."""
    known, reserve = network.subnets, network_quota_usages.reserve
    size = min(sum(Pool(subnet).size for subnet in known), _MOST_COUNTED)
    share = max(1, size * bounds.shared_percent // 100)
    for project_id in sorted({wanted.project_id for wanted in new}):
        mine = [wanted for wanted in new if wanted.project_id == project_id]
        addresses = sum(len(asked_addresses(each, known)) for each in mine)
        if not network.shared or network.project_id == project_id:
            count = {"ports": len(mine), "addresses": addresses, "limit": bounds.ports}
            if not network_quota_usages.reserve_ports(c, project_id, network.id, **count):
                raise network_quota_usages.exceeded("port")
            continue
        if not reserve(c, project_id, "port", len(mine), bounds.ports):
            raise network_quota_usages.exceeded("port")
        if not reserve(c, project_id, addresses_of(network.id), addresses, share):
            why = f"One project may have {share} of the {size} addresses of the shared network {network.id}."
            raise network_quota_usages.exceeded("port", why=why)


def _new_mac() -> str:
    return ":".join([MAC_PREFIX, *(f"{byte:02x}" for byte in secrets.token_bytes(3))])


def _new_record(wanted: NewPort, network: _Network, addresses: tuple[FixedIp, ...]) -> PortRecord:
    port = Port(
        id=str(uuid.uuid4()),
        network_id=network.id,
        network_name=network.name,
        mac_address=wanted.mac_address or "",
        fixed_ips=addresses,
        mtu=network.mtu,
        owned=wanted.owned,
        device_id=wanted.device_id,
        project_id=wanted.project_id,
        host_id=wanted.host_id,
        security_groups=wanted.security_groups or (),
        port_security_enabled=wanted.port_security_enabled is not False,
        allowed_address_pairs=wanted.allowed_address_pairs,
        dns_name=wanted.dns_name,
        vif_details=PLANNED,
    )
    return PortRecord(
        port=port,
        name=wanted.name,
        description=wanted.description,
        device_owner=wanted.device_owner,
        device_index=wanted.device_index,
        network_project_id=network.project_id,
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
        vif_details=PLANNED,
    )
    return PortRecord(
        port=port,
        name=row.name,
        description=row.description,
        device_owner=row.device_owner,
        device_index=row.device_index,
        network_project_id=row.network_project_id,
        placement=row.placement,
        revision=row.revision,
        admin_state_up=row.admin_state_up,
        extra_dhcp_opts=tuple((name, value, version) for name, value, version in row.extra_dhcp_opts),
        tags=tuple(row.tags),
        created_at=stamp(row.created_at),
        updated_at=stamp(row.updated_at),
    )
