"""The embedded network service: networks, subnets and ports, for hosts that bridge them."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellcloud import errors
from cellcloud.batching import Batcher
from cellcloud.clients.floating_ips import FloatingIpClient
from cellcloud.clients.network import MANY_NETWORKS
from cellcloud.clients.security_groups import SecurityGroupClient
from cellcloud.config import NetworkConfig
from cellcloud.db import floating_ips as db_floating
from cellcloud.db import network_quota_usages, pagination_snapshots
from cellcloud.db import network_sharing as db_sharing
from cellcloud.db import networks as db
from cellcloud.db import ports as db_ports
from cellcloud.db.address_allocation import is_held
from cellcloud.db.engine import Connection, Database, LostRace, retried
from cellcloud.db.listing import ALL, Page
from cellcloud.db.network_quota_usages import Bounds
from cellcloud.embedded import network_sharing, port_transactions
from cellcloud.embedded.floating_ip_client import EmbeddedFloatingIpClient
from cellcloud.embedded.floating_ips import EmbeddedFloatingIps
from cellcloud.embedded.network_tags import EmbeddedNetworkTags
from cellcloud.embedded.routers import EmbeddedRouters
from cellcloud.embedded.security_group_client import EmbeddedSecurityGroupClient
from cellcloud.embedded.security_groups import EmbeddedSecurityGroups
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network, NewPort, Port, PortRecord, RequestedNetwork, Subnet, attached_index
from cellcloud.model.router import port_status
from cellcloud.model.subnet_arithmetic import completed, containing, is_automatic


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkAddresses:
    """A network's subnets, each with how many of its addresses ports have."""

    network: Network
    subnets: tuple[tuple[Subnet, int], ...]


class EmbeddedNetworks:
    """Implements ``NetworkClient`` and what the network API needs. Safe to call from several threads."""

    def __init__(self, database: Database, limits: NetworkConfig | None = None) -> None:
        self._database = database
        self._limits = limits or NetworkConfig()
        self.security_groups = EmbeddedSecurityGroups(database, self._limits)
        self.security_group_client: SecurityGroupClient = EmbeddedSecurityGroupClient(database, self.security_groups)
        self.routers = EmbeddedRouters(database, self._limits)
        self.floating_ips = EmbeddedFloatingIps(database, self._limits)
        self.floating_ip_client: FloatingIpClient = EmbeddedFloatingIpClient(self.floating_ips, self.list_networks)
        self.tags = EmbeddedNetworkTags(database)
        self.sharing = network_sharing.EmbeddedNetworkSharing(database, self._limits)
        self._end: Batcher[tuple[Viewer, str], None] = Batcher(
            functools.partial(port_transactions.end_ports, database), name="ports ended"
        )
        self._bounds = Bounds(ports=self._limits.quota_port, shared_percent=self._limits.shared_network_percent)

    # ---- NetworkClient ---------------------------------------------------------------------------------------------
    def check_networks(
        self, project_id: str, requested: Sequence[RequestedNetwork] | None, *, count: int
    ) -> tuple[RequestedNetwork, ...]:
        """See ``NetworkClient``."""
        if requested is None:
            with self._database.read() as c:
                usable = db.list_usable_networks(c, project_id)
            if len(usable) > 1:
                raise errors.Conflict(MANY_NETWORKS)
            return tuple(RequestedNetwork(network_id=network_id) for network_id in usable)
        viewer = Viewer(project_id=project_id)
        for wanted in requested:
            if count > 1 and (wanted.port_id or wanted.fixed_ip):
                raise errors.Invalid("Several servers cannot share one port or address; make one at a time.")
            if wanted.port_id:
                self._check_port(viewer, wanted.port_id)
            else:
                self._check_network(viewer, wanted.network_id or "", wanted.fixed_ip)
        return tuple(requested)

    def check_security_groups(self, project_id: str, names: Sequence[str]) -> None:
        """See ``NetworkClient``."""
        self.security_groups.resolve(project_id, names)

    def ensure_ports(
        self,
        *,
        server_id: str,
        project_id: str,
        host: str,
        zone: str,
        hostname: str,
        requested: Sequence[RequestedNetwork],
        security_groups: Sequence[str] = ("default",),
        adopt: bool = True,
        anew: bool = True,
        placement: int = 0,
    ) -> tuple[Port, ...]:
        """See ``NetworkClient``. ``adopt`` changes nothing: the look is cheap here."""
        if not requested and anew:
            return ()
        new = [
            NewPort(
                network_id=wanted.network_id or "",
                project_id=project_id,
                device_id=server_id,
                device_owner=f"compute:{zone or 'nova'}",
                device_index=index,
                placement=placement,
                owned=True,
                host_id=host,
                addresses=((None, wanted.fixed_ip),) if wanted.fixed_ip else None,
            )
            for index, wanted in enumerate(requested)
        ]
        return port_transactions.ensure(
            self._database,
            requested,
            new,
            self._bounds,
            security_groups,
            binding=(server_id, host, placement),
            anew=anew,
        )

    def add_port(
        self, server_id: str, project_id: str, wanted: RequestedNetwork, *, zone: str, placement: int = 0
    ) -> Port:
        """See ``NetworkClient``."""
        new = NewPort(
            network_id=wanted.network_id or "",
            project_id=project_id,
            device_id=server_id,
            device_owner=f"compute:{zone or 'nova'}",
            device_index=attached_index(),
            placement=placement,
            owned=True,
            addresses=((None, wanted.fixed_ip),) if wanted.fixed_ip else None,
        )
        return replace(port_transactions.attach(self._database, wanted.port_id, new, self._bounds), tag=wanted.tag)

    def release_port(self, server_id: str, port_id: str, *, placement: int = 0) -> None:
        """See ``NetworkClient``."""
        port_transactions.release(self._database, server_id, placement, port_id)

    def list_states(self, server_id: str) -> dict[str, str]:
        """See ``NetworkClient``."""
        with self._database.read() as c:
            return {one.port.id: port_status(one) for one in db_ports.list_ports_of_device(c, None, server_id)}

    def set_addresses(self, port: Port, wanted: Sequence[tuple[str, str | None]]) -> None:
        """See ``NetworkClient``."""
        self.update_port(Viewer(project_id="", is_admin=True), port.id, {"fixed_ips": list(wanted)})

    def delete_ports(self, server_id: str, *, placement: int = 0) -> None:
        """See ``NetworkClient``."""
        port_transactions.release(self._database, server_id, placement)

    def count_free_ports(self, project_id: str) -> int | None:
        """See ``NetworkClient``."""
        limit, used = self.list_quotas(project_id)["port"]
        return None if limit == network_quota_usages.UNLIMITED else max(0, limit - used)

    def default_quotas(self) -> dict[str, int]:
        """Resource -> limit of a project without limits of its own."""
        return {name: int(getattr(self._limits, f"quota_{name}")) for name in network_quota_usages.TABLES}

    def list_quotas(self, project_id: str) -> dict[str, tuple[int, int]]:
        """Resource -> (limit, used) of a project."""
        with self._database.read() as c:
            found = {name: network_quota_usages.find(c, project_id, name) for name in self.default_quotas()}
        defaults = self.default_quotas().items()
        return {
            name: (default if (own := found[name][1]) is None else own, found[name][0]) for name, default in defaults
        }

    def set_quotas(self, project_id: str, limits: Mapping[str, int | None]) -> None:
        """Give a project limits of its own; None: the default again."""
        _set_quotas(self._database, project_id, limits)

    def list_limited_projects(self) -> list[str]:
        """Those with limits of their own."""
        with self._database.read() as c:
            return network_quota_usages.list_limited(c)

    def list_ports(self, server_id: str) -> tuple[Port, ...]:
        """See ``NetworkClient``. In the order of the server's requests."""
        return self.list_ports_of([server_id])[server_id]

    def list_ports_of(self, server_ids: Sequence[str]) -> dict[str, tuple[Port, ...]]:
        """See ``NetworkClient``."""
        with self._database.read() as c:
            found = db_ports.ports_of_servers(c, server_ids)
        return {server_id: tuple(record.port for record in indexed) for server_id, indexed in found.items()}

    def _check_port(self, viewer: Viewer, port_id: str) -> None:
        try:
            with self._database.read() as c:
                port = db_ports.get_port(c, viewer.only, port_id).port
        except errors.NotFound:
            raise errors.Invalid(f"Port id {port_id} could not be found.") from None
        if port.device_id:
            raise errors.Conflict(f"Port {port_id} is still in use.")
        if not port.fixed_ips:
            raise errors.Invalid(f"Port {port_id} requires a FixedIP in order to be used.")

    def _check_network(self, viewer: Viewer, network_id: str, address: str | None) -> None:
        with self._database.read() as c:
            known = db.list_networks(c, project_id=viewer.only, page=Page.of(id=[network_id]))
            subnets = db.list_subnets(c, project_id=None, page=Page.of(network_id=[network_id]))
            if not known:
                raise errors.Invalid(f"Network {network_id} could not be found.")
            if not subnets:
                raise errors.Invalid(f"Network {network_id} requires a subnet in order to boot instances on.")
            if address and is_held(c, containing(subnets, address).id, address):
                raise errors.Invalid(f"Fixed IP address {address} is already in use.")

    # ---- networks --------------------------------------------------------------------------------------------------
    def list_networks(self, viewer: Viewer, page: Page = ALL) -> list[Network]:
        """Those the viewer may use. Raises NotFound for the page's marker."""
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db.list_networks(c, project_id=viewer.only, page=page)
        )

    def count_addresses(self, network_id: str | None = None) -> list[NetworkAddresses]:
        """Return the addresses of every network, or of that one if it is there."""
        with self._database.read() as c:
            found = db.list_networks(c, project_id=None, page=Page.of(id=[network_id]) if network_id else ALL)
            subnets = db.list_subnets(c, project_id=None, page=Page.of(network_id=[one.id for one in found]))
            used = db.count_held(c, [subnet.id for subnet in subnets])
        of: dict[str, list[tuple[Subnet, int]]] = {}
        for subnet in subnets:
            of.setdefault(subnet.network_id, []).append((subnet, used.get(subnet.id, 0)))
        return [NetworkAddresses(network=one, subnets=tuple(of.get(one.id, ()))) for one in found]

    def get_network(self, viewer: Viewer, network_id: str) -> Network:
        """Return a network. Raises NotFound, the same for another project's network."""
        with self._database.read() as c:
            return db.get_network(c, viewer.only, network_id)

    def create_network(self, viewer: Viewer, network: Network) -> Network:
        """Create a network. Raises QuotaExceeded, Conflict for a segment in use."""
        return self.create_networks(viewer, [network])[0]

    def create_networks(self, viewer: Viewer, networks: Sequence[Network]) -> list[Network]:
        """Create all or none. Raises as ``create_network``."""
        new = [replace(network, id=str(uuid.uuid4())) for network in networks]
        return _add_networks(self._database, viewer, new, self._limits.quota_network)

    def update_network(self, viewer: Viewer, network_id: str, changes: Mapping[str, Any]) -> Network:
        """Change a network. Raises NotFound, Forbidden, Conflict for a network taken from others with ports on it."""
        return _change_network(self._database, viewer, network_id, changes)

    def delete_network(self, viewer: Viewer, network_id: str) -> None:
        """Delete a network. Raises NotFound, Forbidden, Conflict with ports on it."""
        _end_network(self._database, viewer, network_id)

    # ---- subnets ---------------------------------------------------------------------------------------------------
    def list_subnets(self, viewer: Viewer, page: Page = ALL) -> list[Subnet]:
        """Those of networks the viewer may use. Raises NotFound for the page's marker."""
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db.list_subnets(c, project_id=viewer.only, page=page)
        )

    def get_subnet(self, viewer: Viewer, subnet_id: str) -> Subnet:
        """Return a subnet. Raises NotFound."""
        with self._database.read() as c:
            return db.get_subnet(c, viewer.only, subnet_id)

    def create_subnet(self, viewer: Viewer, subnet: Subnet, *, gateway: bool = True) -> Subnet:
        """Gateway and pools are filled in where empty. Raises NotFound, Forbidden, Invalid, QuotaExceeded,
        Conflict for an overlap.
        """
        return self.create_subnets(viewer, [(subnet, gateway)])[0]

    def create_subnets(self, viewer: Viewer, subnets: Sequence[tuple[Subnet, bool]]) -> list[Subnet]:
        """Create all or none, each with or without a gateway. Raises as ``create_subnet``."""
        new = [completed(replace(subnet, id=str(uuid.uuid4())), gateway=gateway) for subnet, gateway in subnets]
        return _add_subnets(self._database, viewer, new, self._limits.quota_subnet)

    def update_subnet(self, viewer: Viewer, subnet_id: str, changes: Mapping[str, Any]) -> Subnet:
        """Change a subnet. Raises NotFound, Forbidden, Conflict for DHCP taken from or given to addresses in use."""
        return _change_subnet(self._database, viewer, subnet_id, changes)

    def delete_subnet(self, viewer: Viewer, subnet_id: str) -> None:
        """Delete a subnet. Raises NotFound, Forbidden, Conflict with addresses in use."""
        _end_subnet(self._database, viewer, subnet_id)

    # ---- ports -----------------------------------------------------------------------------------------------------
    def list_port_records(self, viewer: Viewer, page: Page = ALL) -> list[PortRecord]:
        """Return the viewer's ports, and those on its networks. Raises NotFound for the page's marker."""
        if page.after is None and not page.sort and [one.name for one in page.where] == ["device_id"]:
            (wanted,) = page.where  # what every build asks
            if len(wanted.values) == 1 and viewer.only is None:
                with self._database.read() as c:
                    return db_ports.list_ports_of_device(c, None, wanted.values[0])[: page.limit]
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db_ports.list_ports(c, project_id=viewer.only, page=page)
        )

    def get_port(self, viewer: Viewer, port_id: str) -> PortRecord:
        """Return a port of the viewer's or on its network. Raises NotFound."""
        with self._database.read() as c:
            return db_ports.see_port(c, viewer.only, port_id)

    def create_ports(self, viewer: Viewer, new: Sequence[NewPort]) -> list[PortRecord]:
        """Make all or none. Raises NotFound for a network, Invalid, QuotaExceeded, Conflict for what is taken."""
        return port_transactions.add_ports(self._database, viewer, new, self._bounds)

    def update_port(self, viewer: Viewer, port_id: str, changes: Mapping[str, Any]) -> PortRecord:
        """Change columns. A port in use is given to nobody else. Raises NotFound, Conflict, Invalid, Forbidden for
        another project's, Stale at another revision."""
        return port_transactions.change_port(self._database, viewer, port_id, dict(changes))

    def delete_port(self, viewer: Viewer, port_id: str) -> None:
        """Delete a port. Raises NotFound, Conflict for a server's port, which only its server or an administrator ends;
        Stale at another revision."""
        self._end((viewer, port_id))


# ---- transactions that may be run again ----------------------------------------------------------------------------
@retried
def _set_quotas(database: Database, project_id: str, limits: Mapping[str, int | None]) -> None:
    with database.write() as c:
        for resource in sorted(limits):
            network_quota_usages.set_limit(c, project_id, resource, limits[resource])


@retried
def _add_networks(database: Database, viewer: Viewer, networks: Sequence[Network], limit: int) -> list[Network]:
    with database.write() as c:
        for network in networks:
            db.insert_network(c, network, limit=limit)
        return [db.get_network(c, viewer.only, network.id) for network in networks]


@retried
def _change_network(database: Database, viewer: Viewer, network_id: str, changes: Mapping[str, Any]) -> Network:
    with database.write() as c:
        known = db.get_network(c, viewer.only, network_id)
        _check_change(c, viewer, known)
        if changes.get("shared") is False:
            network_sharing.check_unshared(c, known)
        if known.external and changes.get("external") is False and db.has_gateways(c, network_id):
            raise errors.Conflict(
                f"External network {network_id} cannot be updated to be made non-external, since it has existing "
                "gateway ports."
            )
        db.update_row(c, "network", network_id, changes)
        db_sharing.set_for_everybody(c, network_id, known.project_id, changes)
        return db.get_network(c, viewer.only, network_id)


@retried
def _change_subnet(database: Database, viewer: Viewer, subnet_id: str, changes: Mapping[str, Any]) -> Subnet:
    with database.write() as c:
        known = db.get_subnet(c, viewer.only, subnet_id)
        _check_change(c, viewer, known)
        gateway = changes.get("gateway_ip", known.gateway_ip)
        if gateway != known.gateway_ip and known.gateway_ip and db.is_router_address(c, subnet_id, known.gateway_ip):
            raise errors.Conflict(
                f"Current gateway ip {known.gateway_ip} already in use by a router. Unable to update."
            )
        whole = completed(replace(known, **changes), gateway=gateway is not None)
        if whole.enable_dhcp != known.enable_dhcp and db.is_in_use(c, subnet_id):
            raise errors.Conflict(f"Subnet {subnet_id} has addresses in use: their hosts serve them as they are.")
        db.update_row(c, "subnet", subnet_id, {name: getattr(whole, name) for name in changes})
        return db.get_subnet(c, viewer.only, subnet_id)


@retried
def _end_network(database: Database, viewer: Viewer, network_id: str) -> None:
    with database.write() as c:
        known = db.get_network(c, viewer.only, network_id)
        _check_change(c, viewer, known)
        if known.external:
            _end_free_floating_ips(c, network_id)
        db.delete_network(c, network_id)


def _end_free_floating_ips(c: Connection, network_id: str) -> None:
    """Delete a network's floating IPs that are forwarded nowhere: they keep no network."""
    for one in db_floating.list_floating_ips(c, project_id=None, page=Page.of(floating_network_id=[network_id])):
        if one.port_id is None:
            port = db_ports.get_port(c, None, one.floating_port_id)
            if not (db_floating.delete_floating_ip(c, one) and db_ports.delete_ports(c, [port])):
                raise LostRace("The floating IP is being changed by another request; try again shortly.")


@retried
def _end_subnet(database: Database, viewer: Viewer, subnet_id: str) -> None:
    with database.write() as c:
        _check_change(c, viewer, db.get_subnet(c, viewer.only, subnet_id))
        db.delete_subnet(c, subnet_id)


@retried
def _add_subnets(database: Database, viewer: Viewer, subnets: Sequence[Subnet], limit: int) -> list[Subnet]:
    with database.write() as c:
        for subnet in subnets:
            _check_owner(viewer, db.get_network(c, viewer.only, subnet.network_id))
            db.insert_subnet(c, subnet, limit=limit)
            if is_automatic(subnet):
                db_ports.give_automatic(c, subnet)
        return [db.get_subnet(c, viewer.only, subnet.id) for subnet in subnets]


def _check_owner(viewer: Viewer, thing: Network | Subnet) -> None:
    if not viewer.is_admin and thing.project_id != viewer.project_id:
        raise errors.Forbidden("You may use this, not change it.")


def _check_change(c: Connection, viewer: Viewer, thing: Network | Subnet) -> None:
    """Check that the viewer may change or delete it, and is about its present revision: nobody else changes it until
    this transaction ends. Raises Forbidden, Stale."""
    _check_owner(viewer, thing)
    if viewer.revision is not None:
        network = isinstance(thing, Network)
        db.update_row(c, "network" if network else "subnet", thing.id, {})
        now = db.get_network(c, None, thing.id) if network else db.get_subnet(c, None, thing.id)
        viewer.check_revision(now.revision - 1)
