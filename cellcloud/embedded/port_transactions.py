"""What is done to ports in one transaction each, which may be run again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.clients.network import placed_anew
from cellcloud.db import networks as db_networks
from cellcloud.db import ports as db_ports
from cellcloud.db import security_groups as db_groups
from cellcloud.db.engine import Connection, Database, LostRace, retried
from cellcloud.db.listing import Page
from cellcloud.db.network_quota_usages import Bounds
from cellcloud.db.network_versions import raise_versions
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import NewPort, Port, PortRecord, RequestedNetwork
from cellcloud.model.router import FLOATING_IP, ROUTER_GATEWAY, ROUTER_INTERFACE
from cellcloud.model.security_group import DEFAULT

NO_DEVICE = "A port without a device answers none of a device's requests."
_OF_THE_SERVICE = (ROUTER_INTERFACE, ROUTER_GATEWAY, FLOATING_IP)
_UNBOUND: dict[str, Any] = {
    "device_index": None,
    "owned": False,
    "device_owner": "",
    "host_id": "",
    "placement": 0,
}


@retried
def ensure(
    database: Database,
    requested: Sequence[RequestedNetwork],
    new: Sequence[NewPort],
    bounds: Bounds,
    groups: Sequence[str],
    *,
    binding: tuple[str, str, int],
    anew: bool,
) -> tuple[Port, ...]:
    """Bind a server's ports; ``binding``: the server, its host, and the number of its placement."""
    server_id, host, placement = binding
    with database.write() as c:
        have = db_ports.ports_of_server(c, server_id)
        if any(record.placement > placement for record in have.values()):
            raise errors.Stale(placed_anew(server_id))
        strange = any((record.port.host_id, record.placement) != (host, placement) for record in have.values())
        if strange and db_ports.move_ports(c, server_id, host, placement) != len(have):
            raise LostRace("The server's ports are being changed by another request; try again shortly.")
        ports = {index: replace(record.port, host_id=host) for index, record in have.items()}
        missing = []
        for index, (wanted, port) in enumerate(zip(requested, new, strict=True)):
            if index in ports or not anew:
                continue
            if not wanted.port_id:
                missing.append(port)
                continue
            if not db_ports.bind_port(
                c,
                wanted.port_id,
                server_id=server_id,
                index=index,
                owner=port.device_owner,
                host=host,
                placement=placement,
            ):
                raise errors.Conflict(f"Port {wanted.port_id} is still in use.")
            ports[index] = db_ports.get_port(c, None, wanted.port_id).port
        if missing and tuple(groups) != (DEFAULT,):
            if DEFAULT in groups:
                db_groups.ensure_default_group(c, new[0].project_id)
            ids = tuple(db_groups.resolve_groups(c, new[0].project_id, groups))
            missing = [replace(port, security_groups=ids) for port in missing]
        made = db_ports.make_ports(c, missing, project_id=None, bounds=bounds)
        ports |= {port.device_index or 0: record.port for port, record in zip(missing, made, strict=True)}
    tags = {index: wanted.tag for index, wanted in enumerate(requested)}
    return tuple(replace(ports[index], tag=tags.get(index)) for index in sorted(ports))


@retried
def attach(database: Database, port_id: str | None, new: NewPort, bounds: Bounds) -> Port:
    """Lend a server a port that is free, or make a new one for it."""
    with database.write() as c:
        if not port_id:
            if not db_networks.list_subnets(c, project_id=None, page=Page.of(network_id=[new.network_id])):
                db_networks.get_network(c, new.project_id, new.network_id)
                raise errors.Invalid(f"Network {new.network_id} requires a subnet in order to boot instances on.")
            return db_ports.make_ports(c, [new], project_id=new.project_id, bounds=bounds)[0].port
        known = db_ports.find_ports(c, [port_id]).get(port_id)
        if known is None or known.port.project_id != new.project_id:
            raise errors.NotFound(f"Port id {port_id} could not be found.")
        if not known.port.fixed_ips:
            raise errors.Invalid(f"Port {port_id} requires a FixedIP in order to be used.")
        in_use = errors.Conflict(f"Port {port_id} is still in use.")
        if known.port.device_id:
            raise in_use
        bound = db_ports.bind_port(
            c,
            port_id,
            server_id=new.device_id,
            index=new.device_index or 0,
            owner=new.device_owner,
            host="",
            placement=new.placement,
        )
        if not bound:
            raise in_use
        return db_ports.get_port(c, None, port_id).port


@retried
def release(database: Database, server_id: str, placement: int, port_id: str | None = None) -> None:
    """Release a server's ports, or one of them."""
    with database.write() as c:
        db_ports.release_ports(c, server_id, placement, port_id)


@retried
def add_ports(database: Database, viewer: Viewer, new: Sequence[NewPort], bounds: Bounds) -> list[PortRecord]:
    indexed = {port.device_id for port in new if port.device_index is not None}
    asked = [port.mac_address for port in new if port.mac_address]
    with database.write() as c:
        there = db_ports.list_indexes(c, indexed) if indexed else set()
        known = db_ports.list_ports(c, project_id=None, page=Page.of(mac_address=asked)) if asked else []
        taken = {record.port.mac_address for record in known}
        for port in new:
            if port.device_index is not None:
                if not port.device_id:
                    raise errors.Invalid(NO_DEVICE)
                if (port.device_id, port.device_index) in there:
                    raise errors.Conflict(f"Server {port.device_id} has that port already.")
                there.add((port.device_id, port.device_index))
            if port.mac_address:
                if port.mac_address in taken:
                    raise errors.Conflict(f"The MAC address {port.mac_address} is in use.")
                taken.add(port.mac_address)
        for port in new:
            unsafe = port.port_security_enabled is not None or bool(port.allowed_address_pairs)
            _check_of_owner(c, viewer, port.network_id, unsafe)
        _check_groups(c, viewer, {group_id for port in new for group_id in port.security_groups or ()})
        return db_ports.make_ports(c, new, project_id=viewer.only, bounds=bounds)


@retried
def change_port(database: Database, viewer: Viewer, port_id: str, changes: dict[str, Any]) -> PortRecord:
    with database.write() as c:
        record = db_ports.see_port(c, viewer.only, port_id)
        if viewer.only not in (None, record.port.project_id):
            raise errors.Forbidden("You may see this port, not change it.")
        viewer.check_revision(record.revision)
        _check_binding(viewer, record, changes)
        if changes.get("device_id") == "":
            changes = changes | _UNBOUND
        index = changes.get("device_index")
        device_id = changes.get("device_id", record.port.device_id)
        if index is not None and db_ports.find_by_index(c, device_id, index) not in (None, port_id):
            raise errors.Conflict(f"Server {device_id} has that port already.")
        _check_groups(c, viewer, changes.get("security_groups", ()))
        _check_security(c, viewer, record, changes)
        wanted = changes.pop("fixed_ips", None)
        mac = changes.get("mac_address", record.port.mac_address)
        if mac != record.port.mac_address:
            _check_mac(c, record, mac)
        if wanted is None and mac != record.port.mac_address:
            wanted = [(ip.subnet_id, None) for ip in record.port.fixed_ips]
        if wanted is not None:
            db_ports.change_addresses(c, record, wanted, mac_address=mac)
        if not db_ports.update_port(c, record, changes):
            raise LostRace("The port is being changed by another request; try again shortly.")
        return db_ports.get_port(c, viewer.only, port_id)


@retried
def end_ports(database: Database, wanted: Sequence[tuple[Viewer, str]]) -> list[None]:
    """Those that end together share a transaction."""
    with database.write() as c:
        known = db_ports.find_ports(c, {port_id for _, port_id in wanted})
        leaving: dict[str, PortRecord] = {}
        for viewer, port_id in sorted(wanted, key=lambda one: one[1]):
            record = known.get(port_id)
            mine = record is not None and viewer.only in (None, record.port.project_id, record.network_project_id)
            if record is None or not mine or port_id in leaving:
                raise errors.NotFound(f"Port {port_id[:64]} could not be found.")
            viewer.check_revision(record.revision)
            if _is_bound(record) and not viewer.is_admin:
                raise _in_use(record)
            if record.device_owner in _OF_THE_SERVICE and record.port.device_id:
                raise errors.Conflict(
                    f"Port {port_id} cannot be deleted directly via the port API: has device owner "
                    f"{record.device_owner}."
                )
            leaving[port_id] = record
        if not db_ports.delete_ports(c, list(leaving.values())):
            raise LostRace("The port is being changed by another request; try again shortly.")
    return [None] * len(wanted)


def _check_binding(viewer: Viewer, record: PortRecord, changes: Mapping[str, Any]) -> None:
    """Check a change of what binds a port. It leaves the device it has before it goes to another. What binds it to its
    server is changed by nobody, but that a later placement of the server takes it over; who may bind ports may release
    it. Raises Conflict, Invalid."""
    now = {
        "device_id": record.port.device_id,
        "device_index": record.device_index,
        "owned": record.port.owned,
        "device_owner": record.device_owner,
    }
    changed = {name for name in now if changes.get(name, now[name]) != now[name]}
    if changes.get("device_id") == "":
        if any(changes.get(name, empty) != empty for name, empty in _UNBOUND.items()):
            raise errors.Invalid("A port that is released keeps nothing of its binding.")
        if _is_bound(record) and not viewer.is_admin:
            raise _in_use(record)
        return
    if (record.port.device_id and "device_id" in changed) or (
        _is_bound(record)
        and (changed & {"device_index", "owned"} or changes.get("placement", record.placement) < record.placement)
    ):
        raise _in_use(record)
    if _is_bound(record) and changed and not viewer.is_admin:
        raise _in_use(record)
    if changes.get("device_index") is not None and not changes.get("device_id", record.port.device_id):
        raise errors.Invalid(NO_DEVICE)


def _check_groups(c: Connection, viewer: Viewer, group_ids: Collection[str]) -> None:
    page = Page.of(id=sorted(group_ids))
    known = db_groups.list_groups(c, project_id=viewer.only, page=page) if group_ids else []
    if viewer.only is not None and any(group.project_id != viewer.only for group in known):
        raise_versions(c, groups=group_ids)  # who shares one waits now, or has just ceased to
        known = db_groups.list_groups(c, project_id=viewer.only, page=page)
    there = {group.id for group in known}
    for group_id in sorted(group_ids):
        if group_id not in there:
            raise errors.NotFound(f"Security group {group_id[:64]} does not exist")


def _check_security(c: Connection, viewer: Viewer, record: PortRecord, changes: dict[str, Any]) -> None:
    """Check what a change leaves of security, groups and allowed pairs together. Raises Conflict, Forbidden for what
    only the network's owner may allow."""
    port = record.port
    if "allowed_address_pairs" in changes:
        mac = changes.get("mac_address", port.mac_address)
        changes["allowed_address_pairs"] = [(address, of or mac) for address, of in changes["allowed_address_pairs"]]
    _check_of_owner(c, viewer, port.network_id, bool({"port_security_enabled", "allowed_address_pairs"} & set(changes)))
    db_ports.check_security(
        changes.get("port_security_enabled", port.port_security_enabled),
        changes.get("security_groups", port.security_groups),
        changes.get("allowed_address_pairs", port.allowed_address_pairs),
        kept="security_groups" not in changes,
    )


def _check_of_owner(c: Connection, viewer: Viewer, network_id: str, asked: bool) -> None:
    """Check who asks that of a port: its network's project may. Raises Forbidden."""
    if asked and not viewer.is_admin:
        known = db_networks.list_networks(c, project_id=None, page=Page.of(id=[network_id]))
        if known and known[0].project_id != viewer.project_id:
            raise errors.Forbidden("Only the network's owner says what its ports may do without security.")


def _check_mac(c: Connection, record: PortRecord, mac_address: str) -> None:
    if record.port.host_id:
        raise errors.Conflict(
            f"Unable to complete operation on port {record.port.id}, port is already bound, port type: bridge, old_mac "
            f"{record.port.mac_address}, new_mac {mac_address}."
        )
    if db_ports.list_ports(c, project_id=None, page=Page.of(mac_address=[mac_address])):
        raise errors.Conflict(f"The MAC address {mac_address} is in use.")


def _is_bound(record: PortRecord) -> bool:
    return record.device_index is not None


def _in_use(record: PortRecord) -> errors.Conflict:
    return errors.Conflict(f"Port {record.port.id} is in use by device {record.port.device_id}.")
