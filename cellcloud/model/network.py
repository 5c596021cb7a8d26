"""Networks as a server sees them: what was asked for, and the ports it got."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

PLANNED = {"filter": "network-plan"}  # among the binding's details of ports of the embedded network service


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
    enable_dhcp: bool = True


class Plugging(StrEnum):
    """What is being done with a port of a server that exists."""

    ATTACHING = "attaching"
    DETACHING = "detaching"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortChange:
    """What is under way with a server's port, or waits for its turn, and who asked for it."""

    kind: Plugging
    request_id: str = ""
    user_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port with what a host needs to plug it. ``owned``: made for the server, so deleted with it. ``change``: None
    for one that the server has at rest; only records of servers tell it."""

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
    security_groups: tuple[str, ...] = ()  # ids
    port_security_enabled: bool = True
    allowed_address_pairs: tuple[tuple[str, str], ...] = ()  # (address or range, MAC)
    dns_name: str = ""
    # Neutron's binding of the port: vif_type and vif_details; the embedded network says "bridge".
    vif_type: str = "bridge"
    vif_details: dict[str, str] = field(default_factory=dict)
    change: PortChange | None = None

    @property
    def is_planned(self) -> bool:
        """Whether hosts are told what it may do, so that it may do nothing before they are."""
        return PLANNED.items() <= self.vif_details.items()

    @property
    def is_attaching(self) -> bool:
        """Whether the server's guest has it not yet."""
        return self.change is not None and self.change.kind == Plugging.ATTACHING


Ports = tuple[Port, ...]
_FIRST_OF_ATTACHED, _ATTACHED = 1 << 20, 1 << 30


def attached_index() -> int:
    """Return the number of a port that answers none of the requests that its server was created with: it only tells
    the port from the server's others."""
    return _FIRST_OF_ATTACHED + secrets.randbelow(_ATTACHED)


def find_port(ports: Ports, port_id: str) -> Port | None:
    return next((one for one in ports if one.id == port_id), None)


def with_port(ports: Ports, changed: Port) -> Ports:
    """Return the ports with that one in its place, or behind the others."""
    if find_port(ports, changed.id) is None:
        return (*ports, changed)
    return tuple(changed if one.id == changed.id else one for one in ports)


def without_port(ports: Ports, port_id: str) -> Ports:
    return tuple(one for one in ports if one.id != port_id)


def as_known(found: Iterable[Port], known: Ports) -> Ports:
    """Return those ports of a server that are among the ``known``, as the network service has them now, in the order
    in which the server has them, with what only its record tells."""
    there = {one.id: one for one in found}
    return tuple(replace(there[one.id], tag=one.tag, change=one.change) for one in known if one.id in there)


def ports_after(now: Ports, made: Ports, own: str) -> Ports:
    """Return the ports as a record has them ``now`` with what a run has made of them: of the port ``own``, or of all
    where that is ""."""
    if not own:
        return made
    mine = find_port(made, own)
    return without_port(now, own) if mine is None else with_port(now, mine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A layer-2 segment. ``shared``: every project may put ports on it. ``external``: routers lead to it, and it has
    floating IPs. ``segmentation_id``: its VXLAN network identifier. ``version``: grows with each change that a host
    must know, of its subnets and ports too."""

    id: str
    name: str = ""
    project_id: str = ""
    shared: bool = False
    admin_state_up: bool = True
    mtu: int = 1400
    description: str = ""
    subnet_ids: tuple[str, ...] = ()
    segmentation_id: int | None = None
    external: bool = False
    is_default: bool = False
    port_security_enabled: bool = True
    dns_domain: str = ""
    tags: tuple[str, ...] = ()
    revision: int = 1
    version: int = 1
    created_at: str = ""
    updated_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """Addresses of a network. ``allocation_pools``: (first, last) pairs that are handed out. ``host_routes``:
    (destination, next hop) pairs. The modes are slaac, dhcpv6-stateful, dhcpv6-stateless or None."""

    id: str
    network_id: str
    cidr: str
    name: str = ""
    project_id: str = ""
    gateway_ip: str | None = None
    enable_dhcp: bool = True
    dns_nameservers: tuple[str, ...] = ()
    allocation_pools: tuple[tuple[str, str], ...] = ()
    description: str = ""
    ip_version: int = 4
    ipv6_ra_mode: str | None = None
    ipv6_address_mode: str | None = None
    host_routes: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    revision: int = 1
    created_at: str = ""
    updated_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRecord:
    """A port as the network service keeps it. ``device_index``: which of its server's requests it answers;
    ``placement``: the number of the server's placement that has it. ``revision``: grows by one with each change."""

    port: Port
    name: str = ""
    description: str = ""
    device_owner: str = ""
    device_index: int | None = None
    network_project_id: str = ""
    placement: int = 0
    revision: int = 1
    admin_state_up: bool = True
    extra_dhcp_opts: tuple[tuple[str, str, int], ...] = ()  # (name, value, IP version)
    tags: tuple[str, ...] = ()
    created_at: str = ""
    updated_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPort:
    """A port to make. ``addresses``: (subnet or None, address or None) pairs; None lets the service choose all.
    ``security_groups``: ids; None: its project's default group, if it has port security at all. That is None: as its
    network says. An empty MAC of an allowed pair is the port's."""

    network_id: str
    project_id: str
    name: str = ""
    description: str = ""
    device_id: str = ""
    device_owner: str = ""
    device_index: int | None = None
    placement: int = 0
    owned: bool = False
    host_id: str = ""
    mac_address: str | None = None
    admin_state_up: bool = True
    security_groups: tuple[str, ...] | None = None
    port_security_enabled: bool | None = None
    allowed_address_pairs: tuple[tuple[str, str], ...] = ()
    extra_dhcp_opts: tuple[tuple[str, str, int], ...] = ()
    dns_name: str = ""
    addresses: tuple[tuple[str | None, str | None], ...] | None = None
