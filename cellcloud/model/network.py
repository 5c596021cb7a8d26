"""Networks as a server sees them: what was asked for, and the ports it got."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedNetwork:
    """One entry of the create request's ``networks``; exactly one of the ids is set."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedIp:
    """An address of a port with the subnet facts that a host needs to serve it."""

    ip_address: str
    subnet_id: str
    cidr: str = ""
    gateway_ip: str | None = None
    dns_nameservers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port with what a host needs to plug it. ``owned``: made for the server, so deleted with it."""

    id: str
    network_id: str
    network_name: str
    mac_address: str
    fixed_ips: tuple[FixedIp, ...] = ()
    mtu: int = 1400
    owned: bool = True
    tag: str | None = None
    device_id: str = ""
    project_id: str = ""
    host_id: str = ""
    security_groups: tuple[str, ...] = ()
    # Neutron's binding of the port: vif_type and vif_details; the embedded network says "bridge".
    vif_type: str = "bridge"
    vif_details: dict[str, str] = field(default_factory=dict)
