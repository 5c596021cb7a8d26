"""Routers between subnets, and floating IPs that they forward."""

from __future__ import annotations

from dataclasses import dataclass

from cellcloud.model.network import FixedIp, PortRecord

# Owners of the network service's own ports.
ROUTER_INTERFACE = "network:router_interface"
ROUTER_GATEWAY = "network:router_gateway"
FLOATING_IP = "network:floatingip"


def port_status(record: PortRecord) -> str:
    """Return a port's status in Neutron's words. A floating IP's has none; a router is wherever its networks are."""
    if record.device_owner == FLOATING_IP:
        return "N/A"
    up = record.port.host_id or record.device_owner in (ROUTER_INTERFACE, ROUTER_GATEWAY)
    return "ACTIVE" if up and record.admin_state_up else "DOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualRouter:
    """``gateway_network_id`` None: it leads to no external network; otherwise ``gateway_port_id`` is its port there,
    with the addresses ``gateway_ips``. ``routes``: (destination, next hop) pairs beside those of its interfaces.
    ``version``: grows with each change that a host must know."""

    id: str
    name: str = ""
    project_id: str = ""
    description: str = ""
    admin_state_up: bool = True
    gateway_network_id: str | None = None
    gateway_port_id: str | None = None
    gateway_ips: tuple[FixedIp, ...] = ()
    enable_snat: bool = True
    routes: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    revision: int = 1
    version: int = 1
    created_at: str = ""
    updated_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatingIp:
    """An address of an external network. ``port_id``, ``fixed_ip_address`` and ``router_id``: where it is forwarded to
    and by whom; all or none. ``floating_port_id``: the port that holds the address."""

    id: str
    project_id: str = ""
    description: str = ""
    floating_network_id: str = ""
    floating_ip_address: str = ""
    floating_port_id: str = ""
    port_id: str | None = None
    fixed_ip_address: str | None = None
    router_id: str | None = None
    dns_name: str = ""
    dns_domain: str = ""
    tags: tuple[str, ...] = ()
    revision: int = 1
    created_at: str = ""
    updated_at: str = ""
