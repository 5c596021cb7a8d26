"""Routers of the embedded network service: their gateway, interfaces and routes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellcloud import errors
from cellcloud.config import NetworkConfig
from cellcloud.db import floating_ips as db_floating
from cellcloud.db import networks as db_networks
from cellcloud.db import pagination_snapshots
from cellcloud.db import ports as db_ports
from cellcloud.db import routers as db
from cellcloud.db.engine import Connection, Database, LostRace, retried
from cellcloud.db.listing import ALL, Page
from cellcloud.db.network_quota_usages import Bounds
from cellcloud.db.routers import RouterInterface
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import NewPort, PortRecord, Subnet
from cellcloud.model.router import ROUTER_GATEWAY, ROUTER_INTERFACE, VirtualRouter
from cellcloud.model.subnet_arithmetic import canonical_route, is_within, overlapping

MOST_ROUTES = 30  # Neutron's max_routes
Routes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedGateway:
    """Where a router shall lead to; ``network_id`` None: nowhere. ``addresses``: (subnet or None, address or None)
    pairs; None: any, or those that it has. ``enable_snat`` None: as it is."""

    network_id: str | None
    addresses: tuple[tuple[str | None, str | None], ...] | None = None
    enable_snat: bool | None = None


class EmbeddedRouters:
    """Safe to call from several threads."""

    def __init__(self, database: Database, limits: NetworkConfig) -> None:
        self._database = database
        self._limits = limits

    def list_routers(self, viewer: Viewer, page: Page = ALL) -> list[VirtualRouter]:
        """Return the viewer's routers. Raises NotFound for the page's marker."""
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db.list_routers(c, project_id=viewer.only, page=page)
        )

    def get_router(self, viewer: Viewer, router_id: str) -> VirtualRouter:
        """Return a router. Raises NotFound."""
        with self._database.read() as c:
            return db.get_router(c, viewer.only, router_id)

    def create_router(self, viewer: Viewer, router: VirtualRouter, gateway: WantedGateway | None) -> VirtualRouter:
        """Make a router. Raises QuotaExceeded, NotFound for the network, Invalid for one that is not external."""
        return _add(self._database, viewer, replace(router, id=str(uuid.uuid4())), gateway, self._limits.quota_router)

    def update_router(
        self, viewer: Viewer, router_id: str, changes: Mapping[str, Any], gateway: WantedGateway | None
    ) -> VirtualRouter:
        """Change a router; ``gateway`` None: not its gateway. Raises NotFound, Invalid, Conflict for a gateway that
        floating IPs need."""
        return _change(self._database, viewer, router_id, dict(changes), gateway)

    def change_routes(self, viewer: Viewer, router_id: str, change: Callable[[Routes], Routes]) -> VirtualRouter:
        """Make other routes of a router's. Raises NotFound, Invalid."""
        return _change_routes(self._database, viewer, router_id, change)

    def delete_router(self, viewer: Viewer, router_id: str) -> None:
        """Delete a router with its gateway. Raises NotFound, Conflict with interfaces."""
        _end(self._database, viewer, router_id)

    def add_interface(
        self, viewer: Viewer, router_id: str, *, subnet_id: str | None = None, port_id: str | None = None
    ) -> tuple[VirtualRouter, list[RouterInterface]]:
        """Lead a router to a subnet, by its gateway's address, or by a port. Raises NotFound, Invalid for what overlaps
        with another of its subnets, Conflict for a port or an address in use."""
        bounds = Bounds(ports=self._limits.quota_port)
        return _add_interface(self._database, viewer, router_id, subnet_id, port_id, bounds)

    def remove_interface(
        self, viewer: Viewer, router_id: str, *, subnet_id: str | None = None, port_id: str | None = None
    ) -> tuple[VirtualRouter, list[RouterInterface]]:
        """Take an interface from a router, with its port. Raises NotFound, Conflict for one that floating IPs or routes
        need."""
        return _remove_interface(self._database, viewer, router_id, subnet_id, port_id)


# ---- transactions that may be run again ----------------------------------------------------------------------------
@retried
def _add(
    database: Database, viewer: Viewer, router: VirtualRouter, gateway: WantedGateway | None, limit: int
) -> VirtualRouter:
    with database.write() as c:
        db.insert_router(c, router, limit=limit)
        if gateway is not None and gateway.network_id is not None:
            _set_gateway(c, viewer, router, gateway)
        return db.get_router(c, None, router.id)


@retried
def _change(
    database: Database, viewer: Viewer, router_id: str, changes: dict[str, Any], gateway: WantedGateway | None
) -> VirtualRouter:
    with database.write() as c:
        router = _locked(c, viewer, router_id)
        if gateway is not None:
            _change_gateway(c, viewer, router, gateway)
        if "routes" in changes:
            changes["routes"] = _checked_routes(c, db.get_router(c, None, router_id), changes["routes"])
        if changes:
            db.update_router(c, router_id, changes)
        return db.get_router(c, None, router_id)


@retried
def _change_routes(
    database: Database, viewer: Viewer, router_id: str, change: Callable[[Routes], Routes]
) -> VirtualRouter:
    with database.write() as c:
        router = _locked(c, viewer, router_id)
        db.update_router(c, router_id, {"routes": _checked_routes(c, router, change(router.routes))})
        return db.get_router(c, None, router_id)


@retried
def _end(database: Database, viewer: Viewer, router_id: str) -> None:
    with database.write() as c:
        router = _locked(c, viewer, router_id)
        if db.list_interfaces(c, routers=[router_id]):
            raise errors.Conflict(f"Router {router_id} still has ports")
        _change_gateway(c, viewer, router, WantedGateway(network_id=None))
        db.delete_router(c, router)


@retried
def _add_interface(
    database: Database, viewer: Viewer, router_id: str, subnet_id: str | None, port_id: str | None, bounds: Bounds
) -> tuple[VirtualRouter, list[RouterInterface]]:
    with database.write() as c:
        router = _locked(c, viewer, router_id)
        if subnet_id is not None:
            port, subnets = _port_on(c, viewer, router, db_networks.get_subnet(c, viewer.only, subnet_id), bounds)
        else:
            port, subnets = _port_taken(c, viewer, router, port_id or "")
        db.insert_interfaces(c, router_id, port.port.id, [subnet.id for subnet in subnets])
        found = [one for one in db.list_interfaces(c, routers=[router_id]) if one.port_id == port.port.id]
        return router, found


@retried
def _remove_interface(
    database: Database, viewer: Viewer, router_id: str, subnet_id: str | None, port_id: str | None
) -> tuple[VirtualRouter, list[RouterInterface]]:
    with database.write() as c:
        router = _locked(c, viewer, router_id)
        one = db.find_interface(c, router_id, subnet_id=subnet_id, port_id=port_id)
        if one is None:
            _explain_absence(c, router_id, subnet_id, port_id)
            raise errors.NotFound(
                f"Router {router_id} does not have an interface with id {port_id}"
                if port_id
                else f"Router {router_id} has no interface on subnet {subnet_id}"
            )
        going = [each for each in db.list_interfaces(c, routers=[router_id]) if each.port_id == one.port_id]
        for each in going:
            _check_unneeded(c, router, db_networks.get_subnet(c, None, each.subnet_id))
        if not db_ports.delete_ports(c, [db_ports.get_port(c, None, one.port_id)]):
            raise LostRace("The port is being changed by another request; try again shortly.")
        return router, going


def _explain_absence(c: Connection, router_id: str, subnet_id: str | None, port_id: str | None) -> None:
    if subnet_id and port_id and db.find_interface(c, router_id, subnet_id=None, port_id=port_id):
        raise errors.Conflict(f"Subnet on port {port_id} does not match the requested subnet {subnet_id}.")


def _locked(c: Connection, viewer: Viewer, router_id: str) -> VirtualRouter:
    """Return a router that nobody else changes until this transaction ends. Raises NotFound, Stale."""
    db.get_router(c, viewer.only, router_id)
    db.update_router(c, router_id, {})
    router = db.get_router(c, viewer.only, router_id)
    viewer.check_revision(router.revision - 1)
    return router


# ---- the gateway ---------------------------------------------------------------------------------------------------
def _change_gateway(c: Connection, viewer: Viewer, router: VirtualRouter, wanted: WantedGateway) -> None:
    if router.gateway_port_id is not None and wanted.network_id == router.gateway_network_id:
        changes: dict[str, Any] = {} if wanted.enable_snat is None else {"enable_snat": wanted.enable_snat}
        if wanted.addresses is not None:
            record = db_ports.get_port(c, None, router.gateway_port_id)
            db_ports.change_addresses(c, record, wanted.addresses, mac_address=record.port.mac_address)
            db_ports.update_port(c, record, {})
        db.update_router(c, router.id, changes)
        return
    if router.gateway_port_id is not None:
        if db_floating.find_forwarded(c, router_id=router.id):
            raise errors.Conflict(
                f"Gateway cannot be updated for router {router.id}, since a gateway to external network "
                f"{router.gateway_network_id} is required by one or more floating IPs."
            )
        nowhere = {"gateway_network_id": None, "gateway_port_id": None, "enable_snat": True}
        db.update_router(c, router.id, nowhere)
        if not db_ports.delete_ports(c, [db_ports.get_port(c, None, router.gateway_port_id)]):
            raise LostRace("The port is being changed by another request; try again shortly.")
    if wanted.network_id is not None:
        _set_gateway(c, viewer, router, wanted)


def _set_gateway(c: Connection, viewer: Viewer, router: VirtualRouter, wanted: WantedGateway) -> None:
    network = db_networks.get_network(c, viewer.only, wanted.network_id or "")
    if not network.external:
        raise errors.Invalid(f"Bad router request: Network {network.id} is not an external network.")
    theirs = db_networks.list_subnets(c, project_id=None, page=Page.of(network_id=[network.id]))
    for one in db.list_interfaces(c, routers=[router.id]):
        _check_overlap(db_networks.get_subnet(c, None, one.subnet_id), theirs)
    new = NewPort(
        network_id=network.id,
        project_id="",
        device_id=router.id,
        device_owner=ROUTER_GATEWAY,
        security_groups=(),
        port_security_enabled=False,
        addresses=wanted.addresses,
    )
    (record,) = db_ports.make_ports(c, [new], project_id=None, bounds=Bounds())
    snat = True if wanted.enable_snat is None else wanted.enable_snat
    changes = {"gateway_network_id": network.id, "gateway_port_id": record.port.id, "enable_snat": snat}
    db.update_router(c, router.id, changes)


# ---- interfaces ----------------------------------------------------------------------------------------------------
def _subnets_of(c: Connection, router: VirtualRouter) -> list[Subnet]:
    ids = [one.subnet_id for one in db.list_interfaces(c, routers=[router.id])]
    return db_networks.list_subnets(c, project_id=None, page=Page.of(id=ids)) if ids else []


def _port_on(
    c: Connection, viewer: Viewer, router: VirtualRouter, subnet: Subnet, bounds: Bounds
) -> tuple[PortRecord, list[Subnet]]:
    if subnet.gateway_ip is None:
        raise errors.Invalid("Bad router request: Subnet for router interface must have a gateway IP.")
    _check_joinable(c, router, [subnet])
    new = NewPort(
        network_id=subnet.network_id,
        project_id=router.project_id,
        device_id=router.id,
        device_owner=ROUTER_INTERFACE,
        security_groups=(),
        port_security_enabled=False,
        addresses=((subnet.id, subnet.gateway_ip),),
    )
    (record,) = db_ports.make_ports(c, [new], project_id=viewer.only, bounds=bounds)
    return record, [subnet]


def _port_taken(c: Connection, viewer: Viewer, router: VirtualRouter, port_id: str) -> tuple[PortRecord, list[Subnet]]:
    record = db_ports.get_port(c, viewer.only, port_id)
    if record.port.device_id:
        raise errors.Conflict(
            f"Unable to complete operation on port {port_id} for network {record.port.network_id}. Port already has an "
            f"attached device {record.port.device_id}."
        )
    ids = [ip.subnet_id for ip in record.port.fixed_ips]
    if not ids:
        raise errors.Invalid("Bad router request: Router port must have at least one fixed IP.")
    subnets = db_networks.list_subnets(c, project_id=None, page=Page.of(id=ids))
    if sum(subnet.ip_version == 4 for subnet in subnets) > 1:
        raise errors.Invalid("Bad router request: Cannot have multiple IPv4 subnets on router port.")
    _check_joinable(c, router, subnets)
    if not db_ports.update_port(c, record, {"device_id": router.id, "device_owner": ROUTER_INTERFACE}):
        raise LostRace("The port is being changed by another request; try again shortly.")
    return record, subnets


def _check_joinable(c: Connection, router: VirtualRouter, new: Sequence[Subnet]) -> None:
    """Raise Invalid where a router leads to a subnet already, or to one of the same addresses."""
    mine = _subnets_of(c, router)
    external = Page.of(network_id=[router.gateway_network_id or ""])
    outside = db_networks.list_subnets(c, project_id=None, page=external) if router.gateway_network_id else []
    for subnet in new:
        if any(subnet.id == known.id for known in mine):
            raise errors.Invalid(f"Bad router request: Router already has a port on subnet {subnet.id}.")
        _check_overlap(subnet, [*mine, *outside])


def _check_overlap(subnet: Subnet, others: Sequence[Subnet]) -> None:
    for known in others:
        if overlapping(known.cidr, subnet.cidr):
            raise errors.Invalid(
                f"Bad router request: Cidr {subnet.cidr} of subnet {subnet.id} overlaps with cidr {known.cidr} of "
                f"subnet {known.id}."
            )


def _check_unneeded(c: Connection, router: VirtualRouter, subnet: Subnet) -> None:
    forwarded = db_floating.list_floating_ips(c, project_id=None, page=Page.of(router_id=[router.id]))
    needed = {
        "routes": [hop for _, hop in router.routes],
        "floating IPs": [one.fixed_ip_address or "" for one in forwarded],
    }
    for what, addresses in needed.items():
        if any(is_within(address, subnet.cidr) for address in addresses):
            raise errors.Conflict(
                f"Router interface for subnet {subnet.id} on router {router.id} cannot be deleted, as it is required "
                f"by one or more {what}."
            )


# ---- routes --------------------------------------------------------------------------------------------------------
def _checked_routes(c: Connection, router: VirtualRouter, routes: Sequence[tuple[str, str]]) -> Routes:
    """Return routes in canonical form. Raises Invalid for one whose next hop the router does not reach, or is."""
    if len(routes) > MOST_ROUTES:
        raise errors.Invalid(f"Unable to complete operation for {router.id}. The number of routes exceeds the maximum.")
    try:
        found = tuple(canonical_route(None, *route) for route in routes)
    except ValueError as error:
        raise errors.Invalid(f"Invalid input for routes. Reason: {error}.") from None
    if len(set(found)) < len(found):
        raise errors.Invalid("Invalid input for routes. Reason: there are duplicates.")
    known = [subnet.cidr for subnet in _subnets_of(c, router)] + [ip.cidr for ip in router.gateway_ips]
    own = {ip.ip_address for ip in router.gateway_ips}
    ids = [one.port_id for one in db.list_interfaces(c, routers=[router.id])]
    own |= {ip.ip_address for record in db_ports.find_ports(c, ids).values() for ip in record.port.fixed_ips}
    for _, hop in found:
        if not any(is_within(hop, cidr) for cidr in known):
            raise errors.Invalid(f"Invalid format for routes: the nexthop {hop} is not connected with router")
        if hop in own:
            raise errors.Invalid(f"Invalid format for routes: the nexthop {hop} is used by router")
    return found
