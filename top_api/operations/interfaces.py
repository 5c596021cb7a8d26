"""Ports of servers that exist: what is asked for is made or lent by the network service, then begun in the cell. Source
of the rules, and of the texts: Nova's.

Whoever was refused by the cell gives the port back at once. One that nobody came back to, as its process died, goes
with its server.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model import codec
from cellcloud.model.network import Port, RequestedNetwork, find_port
from cellcloud.model.operations import Operation, spec_of
from cellcloud.model.server import ServerRecord
from top_api.operations.external_events import look_at_networks
from top_api.operations.server_in_cell import begin, check_may_begin, check_unlocked
from top_api.services import ApiServices

MOST_PORTS = 24
"""That a server may have: what a guest has places for beside its disks."""


def attach(services: ApiServices, context: RequestContext, record: ServerRecord, wanted: Mapping[str, Any]) -> Port:
    """Begin to attach a port, or one made for the server; return it. Raises Invalid, NotFound, Forbidden, Conflict."""
    spec = spec_of(Operation.ATTACH_INTERFACE)
    network_id, port_id = wanted.get("net_id"), wanted.get("port_id")
    address = wanted["fixed_ips"][0]["ip_address"] if wanted.get("fixed_ips") else None
    if network_id and port_id:
        raise errors.Invalid("Must not input both network_id and port_id")
    if address and not network_id:
        raise errors.Invalid("Must input network_id when request IP address")
    check_unlocked(context, record)
    check_may_begin(record, spec)
    if len(record.ports) >= MOST_PORTS:
        raise errors.Forbidden(f"A server has no more than {MOST_PORTS} ports.")
    if not (network_id or port_id):
        network_id = _only_network(services, record)
    asked = RequestedNetwork(network_id=network_id, port_id=port_id, fixed_ip=address, tag=wanted.get("tag"))
    port = _add_port(services, record, asked)
    try:
        begin(services, context, record, spec, {"port": codec.to_plain(port)})
    except errors.CellcloudError as error:
        if not isinstance(error, errors.TryLater):  # else it may have begun
            with suppress(errors.CellcloudError):
                services.networks.release_port(record.id, port.id, placement=record.placement)
        raise
    return port


def _only_network(services: ApiServices, record: ServerRecord) -> str | None:
    """Return the one network that there is for the server's project. Raises Invalid."""
    project_id = record.spec.project_id
    try:
        found = services.networks.check_networks(project_id, None, count=1)
    except errors.Conflict as error:
        raise errors.Invalid(error.message) from error
    if not found:
        raise errors.Invalid(f"No specific network was requested and none are available for project '{project_id}'.")
    return found[0].network_id


def _add_port(services: ApiServices, record: ServerRecord, asked: RequestedNetwork) -> Port:
    try:
        return services.networks.add_port(
            record.id, record.spec.project_id, asked, zone=record.availability_zone or "", placement=record.placement
        )
    except errors.QuotaExceeded as error:
        raise errors.QuotaExceeded("Maximum number of ports exceeded") from error
    except errors.Conflict as error:
        if asked.port_id:
            raise
        if asked.fixed_ip:
            taken = f"Fixed IP address {asked.fixed_ip} is already in use on instance {record.id}. {error.message}"
            raise errors.Conflict(taken) from error
        raise errors.Invalid(f"No fixed IP addresses available for network: {asked.network_id}") from error


def detach(services: ApiServices, context: RequestContext, record: ServerRecord, port_id: str) -> None:
    """Begin to detach a port. Raises NotFound, Conflict."""
    spec = spec_of(Operation.DETACH_INTERFACE)
    check_unlocked(context, record)
    check_may_begin(record, spec)
    port = get_attached(record, port_id)
    begin(services, context, record, spec, {"port": codec.to_plain(port)})


def get_attached(record: ServerRecord, port_id: str) -> Port:
    """Return a port of the server's. Raises NotFound."""
    port = find_port(record.ports, port_id)
    if port is None:
        raise errors.NotFound(f"Instance {record.id} does not have a port with id {port_id[:64]}")
    return port


def add_address(services: ApiServices, context: RequestContext, record: ServerRecord, network_id: str) -> None:
    """Give the server one address more on one of its networks. Raises NotFound where it has no port there, or there is
    no address left."""
    check_unlocked(context, record)
    mine = [port for port in record.ports if port.network_id == network_id and not port.is_attaching]
    for port in mine:
        kept = [(ip.subnet_id, ip.ip_address) for ip in port.fixed_ips]
        for subnet_id in dict.fromkeys(subnet_id for subnet_id, _ in kept):
            with suppress(errors.FixRequest):
                services.networks.set_addresses(port, [*kept, (subnet_id, None)])
                look_at_networks(services, context, record)
                return
    raise errors.NotFound(f"Network could not be found for instance {record.id}.")


def remove_address(services: ApiServices, context: RequestContext, record: ServerRecord, address: str) -> None:
    """Take an address from the server. Raises Invalid where it has it not, or needs it."""
    check_unlocked(context, record)
    for port in record.ports:
        kept = [(ip.subnet_id, ip.ip_address) for ip in port.fixed_ips if ip.ip_address != address]
        if len(kept) < len(port.fixed_ips):
            try:
                services.networks.set_addresses(port, kept)
            except errors.Conflict as error:
                raise errors.Invalid(error.message) from error
            look_at_networks(services, context, record)
            return
    raise errors.Invalid(f"Fixed IP address {address} does not belong to instance {record.id}.")
