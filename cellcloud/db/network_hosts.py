"""Where networks are: the hosts of all cells that carry them, and which one has each router."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import racing
from cellcloud.db.network_schema import network_hosts, router_hosts, router_interfaces, routers, security_group_rules
from cellcloud.db.network_versions import raise_versions
from cellcloud.db.top_schema import ports
from cellcloud.model.network_plan import HostEndpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """``endpoints``: host -> where it takes packets, of all cells; ``cells``: cell -> its hosts; ``routers``: router ->
    the host that has it."""

    endpoints: Mapping[str, HostEndpoint]
    cells: Mapping[str, frozenset[str]]
    routers: Mapping[str, str]


def read_places(c: Connection) -> Places:
    """Return all that there are."""
    endpoints: dict[str, HostEndpoint] = {}
    cells: dict[str, set[str]] = {}
    for row in c.execute(sa.select(network_hosts).order_by(network_hosts.c.cell, network_hosts.c.host)):
        endpoints[row.host] = HostEndpoint(host=row.host, address=row.address, external=row.external, gone=row.gone)
        cells.setdefault(row.cell, set()).add(row.host)
    placed = dict(c.execute(sa.select(router_hosts.c.router_id, router_hosts.c.host)).all())
    return Places(endpoints=endpoints, cells={cell: frozenset(hosts) for cell, hosts in cells.items()}, routers=placed)


def list_bound_ports(cell: str, c: Connection, on: Collection[str] | None = None) -> list[tuple[str, str, list[str]]]:
    """Return (network, host, groups) of each port that a host of the cell has, on these networks; None: on any."""
    columns = (ports.c.network_id, ports.c.host_id, ports.c.security_groups)
    query = sa.select(*columns).join(network_hosts, network_hosts.c.host == ports.c.host_id)
    query = query.where(network_hosts.c.cell == cell, ports.c.host_id != "")
    if on is not None:
        query = query.where(ports.c.network_id.in_(sorted(on)))
    return [(row[0], row[1], row[2]) for row in c.execute(query)]


def list_named_groups(c: Connection, of: Collection[str] | None = None) -> list[tuple[str, str]]:
    """Return (group, group that a rule of it names as remote), each once, of these groups; None: of all."""
    columns = (security_group_rules.c.security_group_id, security_group_rules.c.remote_group_id)
    query = sa.select(*columns).where(columns[1].is_not(None)).distinct()
    if of is not None:
        query = query.where(columns[0].in_(sorted(of)))
    return [(row[0], row[1]) for row in c.execute(query)]


def note_endpoints(c: Connection, cell: str, told: Sequence[HostEndpoint]) -> None:
    """Keep what a cell tells of its hosts, and let the networks on those whose address is another one grow. Raises
    LostRace."""
    query = sa.select(network_hosts).where(network_hosts.c.cell == cell).with_for_update()
    known = {row.host: row for row in c.execute(query)}
    new = {one.host: one for one in told}
    mine = network_hosts.c.cell == cell
    if gone := known.keys() - new.keys():
        c.execute(sa.delete(network_hosts).where(mine, network_hosts.c.host.in_(sorted(gone))))
    moved = set(gone)
    for host, one in new.items():
        values = {"address": one.address, "external": one.external, "gone": one.gone}
        if host not in known:
            with racing():
                c.execute(sa.insert(network_hosts).values(cell=cell, host=host, **values))
        elif any(getattr(known[host], name) != value for name, value in values.items()):
            c.execute(sa.update(network_hosts).where(mine, network_hosts.c.host == host).values(values))
        if host not in known or known[host].address != one.address:
            moved.add(host)
    if moved:
        on = sa.select(ports.c.network_id).where(ports.c.host_id.in_(sorted(moved))).distinct()
        raise_versions(c, networks=c.execute(on).scalars().all())


def place_routers(c: Connection) -> None:
    """Give each router a host, and another one where an operator has said that its host is down, or it is there no
    more. One with a gateway is where external networks are reached, if that is anywhere. Raises LostRace."""
    places = read_places(c)
    living = [one for one in places.endpoints.values() if not one.gone]
    if not living:
        return
    leading = [one.host for one in living if one.external] or [one.host for one in living]
    everywhere = [one.host for one in living]
    for row in c.execute(sa.select(routers.c.id, routers.c.gateway_network_id).order_by(routers.c.id)):
        possible = leading if row.gateway_network_id else everywhere
        host = places.routers.get(row.id)
        if host in possible:
            continue
        _place(c, row.id, _choose(row.id, possible), anew=host is None)


def is_settled(c: Connection) -> bool:
    """Return whether no router needs a host, or another one."""
    places = read_places(c)
    living = {one.host: one for one in places.endpoints.values() if not one.gone}
    leads = any(one.external for one in living.values())
    for row in c.execute(sa.select(routers.c.id, routers.c.gateway_network_id)):
        host = living.get(places.routers.get(row.id, ""))
        if host is None or (row.gateway_network_id and leads and not host.external):
            return not living
    return True


def _place(c: Connection, router_id: str, host: str, *, anew: bool) -> None:
    if anew:
        with racing():
            c.execute(sa.insert(router_hosts).values(router_id=router_id, host=host))
    else:
        c.execute(sa.update(router_hosts).where(router_hosts.c.router_id == router_id).values(host=host))
    on = sa.select(ports.c.network_id).join(router_interfaces, router_interfaces.c.port_id == ports.c.id)
    networks = c.execute(on.where(router_interfaces.c.router_id == router_id)).scalars().all()
    raise_versions(c, networks=networks, routers=[router_id])


def _choose(router_id: str, hosts: Collection[str]) -> str:
    """Return the same of the same hosts for a router, so that they share routers out and few move."""
    return max(hosts, key=lambda host: hashlib.sha256(f"{router_id} {host}".encode()).digest())
