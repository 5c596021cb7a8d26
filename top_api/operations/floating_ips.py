"""Floating IPs of servers in the Compute API, up to 2.43."""

from __future__ import annotations

from cellcloud import errors
from cellcloud.clients.floating_ips import NO_POOL, FloatingIpClient, find_pool
from cellcloud.model.router import FloatingIp
from cellcloud.model.server import ServerRecord


def create(client: FloatingIpClient, project_id: str, pool: str | None) -> FloatingIp:
    """Take an address of the pool. Raises NotFound for one that there is not, QuotaExceeded, and NotFound with none
    left, as Nova."""
    network = find_pool(client.list_networks(project_id), pool)
    if network is None:
        raise errors.NotFound(NO_POOL)
    try:
        return client.create_floating_ip(project_id, network.id)
    except errors.Conflict as error:
        raise errors.NotFound("No more floating IPs available.") from error


def associate(client: FloatingIpClient, record: ServerRecord, address: str, fixed_address: str | None) -> None:
    """Forward a floating IP to an address of a server's: its first, where none is named. Raises NotFound, Invalid."""
    held = [(port.id, ip.ip_address) for port in record.ports for ip in port.fixed_ips if ":" not in ip.ip_address]
    if not held:
        raise errors.Invalid(
            f"Instance {record.id} has no fixed IPs." if record.ports else "No fixed IPs associated to instance"
        )
    fitting = [one for one in held if fixed_address in (None, one[1])]
    if not fitting:
        raise errors.Invalid("Specified fixed address not assigned to instance")
    port_id, fixed = fitting[0]
    floating = _find(client, record, address)
    try:
        client.forward(record.spec.project_id, floating.id, port_id, fixed)
    except (errors.Conflict, errors.NotFound) as error:  # such as that no router leads out of the port's network
        failure = f"Unable to associate floating IP {address} to fixed IP {fixed}. {error.message}"
        raise errors.Invalid(failure) from error


def disassociate(client: FloatingIpClient, record: ServerRecord, address: str) -> None:
    """Forward a floating IP of a server's nowhere. Raises NotFound, Conflict for one that is not the server's."""
    found = _find(client, record, address)
    ports = client.find_ports([found.port_id]) if found.port_id else {}
    if not any(port.device_id == record.id for port in ports.values()):
        raise errors.Conflict(f"Floating IP {address} is not associated with instance {record.id}.")
    client.forward(record.spec.project_id, found.id, None, None)


def _find(client: FloatingIpClient, record: ServerRecord, address: str) -> FloatingIp:
    found = client.list_floating_ips(record.spec.project_id, address)
    if not found:
        raise errors.NotFound("floating IP not found")
    return found[0]
