"""Floating IPs of the embedded network service."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.config import NetworkConfig
from cellcloud.db import floating_ips as db
from cellcloud.db import networks as db_networks
from cellcloud.db import pagination_snapshots
from cellcloud.db import ports as db_ports
from cellcloud.db import routers as db_routers
from cellcloud.db.engine import Connection, Database, LostRace, retried
from cellcloud.db.listing import ALL, Page
from cellcloud.db.network_quota_usages import Bounds
from cellcloud.db.network_versions import raise_versions
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import NewPort, PortRecord
from cellcloud.model.router import FLOATING_IP, FloatingIp

_NOWHERE = {"port_id": None, "fixed_ip_address": None, "router_id": None}


class EmbeddedFloatingIps:
    """Safe to call from several threads."""

    def __init__(self, database: Database, limits: NetworkConfig) -> None:
        self._database = database
        self._limits = limits

    def list_floating_ips(self, viewer: Viewer, page: Page = ALL) -> list[FloatingIp]:
        """Return the viewer's floating IPs. Raises NotFound for the page's marker."""
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db.list_floating_ips(c, project_id=viewer.only, page=page)
        )

    def get_floating_ip(self, viewer: Viewer, floating_ip_id: str) -> FloatingIp:
        """Return a floating IP. Raises NotFound."""
        with self._database.read() as c:
            return db.get_floating_ip(c, viewer.only, floating_ip_id)

    def list_forwarded(self, port_ids: Collection[str]) -> dict[tuple[str, str], str]:
        """Return (port, its fixed address) -> the floating IP that is forwarded to it."""
        with self._database.read() as c:
            return db.list_forwarded(c, port_ids)

    def find_ports(self, port_ids: list[str]) -> dict[str, PortRecord]:
        """Id -> port, of those that there are."""
        with self._database.read() as c:
            return db_ports.find_ports(c, port_ids) if port_ids else {}

    def create_floating_ip(self, viewer: Viewer, wanted: FloatingIp, *, subnet_id: str | None = None) -> FloatingIp:
        """Take an address of an external network, the wanted one if it says one, and forward it where a port is named.
        Raises Invalid, NotFound, QuotaExceeded, Conflict for an address in use, and with none left."""
        new = replace(wanted, id=str(uuid.uuid4()))
        return _add(self._database, viewer, new, subnet_id, self._limits.quota_floatingip)

    def update_floating_ip(self, viewer: Viewer, floating_ip_id: str, changes: Mapping[str, Any]) -> FloatingIp:
        """Change it: where ``port_id`` is named it is forwarded there, or nowhere. Raises NotFound, Invalid, Conflict
        for an address that has one."""
        return _change(self._database, viewer, floating_ip_id, dict(changes))

    def delete_floating_ip(self, viewer: Viewer, floating_ip_id: str) -> None:
        """Give the address back. Raises NotFound."""
        _end(self._database, viewer, floating_ip_id)


# ---- transactions that may be run again ----------------------------------------------------------------------------
@retried
def _add(database: Database, viewer: Viewer, wanted: FloatingIp, subnet_id: str | None, limit: int) -> FloatingIp:
    with database.write() as c:
        network = db_networks.get_network(c, viewer.only, wanted.floating_network_id)
        if not network.external:
            raise errors.Invalid(f"Bad floatingip request: Network {network.id} is not a valid external network.")
        address = wanted.floating_ip_address or None
        v4 = [
            subnet.id
            for subnet in db_networks.list_subnets(c, project_id=None, page=Page.of(network_id=[network.id]))
            if subnet.ip_version == 4
        ]
        if subnet_id is None and not v4:
            raise errors.Invalid(f"Bad floatingip request: Network {network.id} does not contain any IPv4 subnet.")
        new = NewPort(
            network_id=network.id,
            project_id="",
            device_id=wanted.id,
            device_owner=FLOATING_IP,
            security_groups=(),
            port_security_enabled=False,
            addresses=((subnet_id, address),),
        )
        (record,) = db_ports.make_ports(c, [new], project_id=None, bounds=Bounds())
        whole = replace(
            wanted, floating_ip_address=record.port.fixed_ips[0].ip_address, floating_port_id=record.port.id
        )
        if whole.port_id is not None:
            whole = replace(whole, **_forwarding(c, viewer, whole, whole.port_id, whole.fixed_ip_address))
            raise_versions(c, routers=[whole.router_id or ""])
        db.insert_floating_ip(c, whole, limit=limit)
        return db.get_floating_ip(c, None, whole.id)


@retried
def _change(database: Database, viewer: Viewer, floating_ip_id: str, changes: dict[str, Any]) -> FloatingIp:
    with database.write() as c:
        known = db.get_floating_ip(c, viewer.only, floating_ip_id)
        viewer.check_revision(known.revision)
        if "port_id" in changes:
            port_id, fixed = changes.pop("port_id"), changes.pop("fixed_ip_address", None)
            changes |= _forwarding(c, viewer, known, port_id, fixed) if port_id else _NOWHERE
            raise_versions(c, routers={one for one in (known.router_id, changes["router_id"]) if one})
        elif changes.get("fixed_ip_address"):
            raise errors.Invalid("Bad floatingip request: fixed_ip_address cannot be specified without a port_id.")
        if not db.update_floating_ip(c, known, changes):
            raise LostRace("The floating IP is being changed by another request; try again shortly.")
        return db.get_floating_ip(c, None, floating_ip_id)


@retried
def _end(database: Database, viewer: Viewer, floating_ip_id: str) -> None:
    with database.write() as c:
        known = db.get_floating_ip(c, viewer.only, floating_ip_id)
        viewer.check_revision(known.revision)
        if known.router_id:
            raise_versions(c, routers=[known.router_id])
        port = db_ports.get_port(c, None, known.floating_port_id)
        if not (db.delete_floating_ip(c, known) and db_ports.delete_ports(c, [port])):
            raise LostRace("The floating IP is being changed by another request; try again shortly.")


def _forwarding(
    c: Connection, viewer: Viewer, floating: FloatingIp, port_id: str, fixed_ip_address: str | None
) -> dict[str, Any]:
    """Return where it is forwarded to. Raises NotFound, Invalid, Conflict."""
    record = db_ports.get_port(c, viewer.only, port_id)
    ips = [ip for ip in record.port.fixed_ips if ":" not in ip.ip_address]
    if fixed_ip_address is not None:
        ips = [ip for ip in ips if ip.ip_address == fixed_ip_address]
        if not ips:
            raise errors.Invalid(
                f"Bad floatingip request: Port {port_id} does not have fixed ip {fixed_ip_address[:64]}."
            )
    if not ips:
        raise errors.Invalid(
            f"Bad floatingip request: Cannot add floating IP to port {port_id} that has no fixed IPv4 addresses."
        )
    if len(ips) > 1:
        raise errors.Invalid(
            f"Bad floatingip request: Port {port_id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 "
            "address when assigning a floating IP."
        )
    (ip,) = ips
    other = db.find_forwarded(c, port_id=port_id, fixed_ip_address=ip.ip_address)
    if other is not None and other.id != floating.id:
        raise errors.Conflict(
            f"Cannot associate floating IP {floating.floating_ip_address} ({floating.id}) with port {port_id} using "
            f"fixed IP {ip.ip_address}, as that fixed IP already has a floating IP on external network "
            f"{other.floating_network_id}."
        )
    router_id = db_routers.find_route_out(c, ip.subnet_id, floating.floating_network_id)
    if router_id is None:
        raise errors.NotFound(
            f"External network {floating.floating_network_id} is not reachable from subnet {ip.subnet_id}. Therefore, "
            f"cannot associate Port {port_id} with a Floating IP."
        )
    return {"port_id": port_id, "fixed_ip_address": ip.ip_address, "router_id": router_id}
