"""What a host is told of networks: one document a network, a security group and a router.

The top makes them of its tables and gives each cell those that its hosts need. Each has a version that grows with every
change, so that who has it is known by numbers; a host makes it so and needs nothing else to do that again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cellcloud.model.network import FixedIp, Port

NETWORK, GROUP, ROUTER = "network", "group", "router"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSubnet:
    """``host_routes``: (destination, next hop). ``ipv6_mode``: of addresses and announcements as one, where both are:
    "slaac", "dhcpv6-stateful", "dhcpv6-stateless"; "" for none of them."""

    id: str
    cidr: str
    gateway_ip: str | None = None
    enable_dhcp: bool = True
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[tuple[str, str], ...] = ()
    ipv6_mode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPort:
    """``addresses``: (subnet, address). ``host``: that has it, "" for none. ``pairs``: (MAC or "" for the port's own,
    address or range) that it may use beside. A port without ``port_security`` is neither filtered nor held to its
    addresses."""

    id: str
    mac_address: str
    addresses: tuple[tuple[str, str], ...] = ()
    host: str = ""
    groups: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    port_security: bool = True
    admin_state_up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """``vni`` names the network between hosts; 0: it is on one alone. ``endpoints``: host -> address where it takes
    packets of the network, of each that has a port of it or a router on it."""

    id: str
    version: int
    vni: int = 0
    mtu: int = 1400
    subnets: tuple[PlannedSubnet, ...] = ()
    ports: tuple[PlannedPort, ...] = ()
    endpoints: dict[str, str] = field(default_factory=dict)

    @property
    def routed_gateways(self) -> dict[str, str]:
        """Gateways that are a router's, with its MAC: hosts have them not."""
        held = {address: port.mac_address for port in self.ports for _, address in port.addresses}
        gateways = [subnet.gateway_ip for subnet in self.subnets if subnet.gateway_ip]
        return {gateway: held[gateway] for gateway in gateways if gateway in held}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRule:
    """What may begin. ``protocol``: its number, None for any; ``first`` and ``last``: ports, or ICMP's type and code.
    ``remote``: a range or, with ``remote_group``, the members of a group; neither: anybody."""

    ingress: bool
    ipv6: bool = False
    protocol: int | None = None
    first: int | None = None
    last: int | None = None
    remote: str = ""
    remote_group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """A security group. ``members``: addresses and ranges of its ports, for the rules of groups that name it."""

    id: str
    version: int
    rules: tuple[GroupRule, ...] = ()
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterLeg:
    """A router's interface on a network: its port's id and MAC, and addresses with their prefixes' lengths."""

    port_id: str
    network_id: str
    mac_address: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterPlan:
    """A router on the one ``host`` that has it. ``external``: its leg on the external network, with ``gateway`` there;
    ``snat``: whether others' addresses are hidden behind its own. ``floating``: (floating, fixed) addresses.
    ``routes``: (destination, next hop)."""

    id: str
    version: int
    host: str = ""
    enabled: bool = True
    legs: tuple[RouterLeg, ...] = ()
    external: RouterLeg | None = None
    gateway: str = ""
    snat: bool = True
    floating: tuple[tuple[str, str], ...] = ()
    routes: tuple[tuple[str, str], ...] = ()


Plan = TypeVar("Plan", NetworkPlan, GroupPlan, RouterPlan)


def _merged(kind: str, old: Mapping[str, Plan], new: Iterable[Plan], removed: Collection[str]) -> dict[str, Plan]:
    """Return what is kept and what is new; of two of one id the newer."""
    kept = {key: one for key, one in old.items() if key_of(kind, key) not in removed}
    return kept | {one.id: one for one in new if one.id not in kept or one.version >= kept[one.id].version}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlans:
    """What one host holds, by id. ``known`` is false until it was told anything at all: then only ports that are
    planned are filtered."""

    networks: Mapping[str, NetworkPlan] = field(default_factory=dict)
    groups: Mapping[str, GroupPlan] = field(default_factory=dict)
    routers: Mapping[str, RouterPlan] = field(default_factory=dict)
    known: bool = False

    def index_ports(self) -> dict[str, PlannedPort]:
        """Return what is planned for each port, by id."""
        return {port.id: port for network in self.networks.values() for port in network.ports}

    def versions(self) -> dict[str, int]:
        """Return the version of each document, by kind and id in one word."""
        return {key_of(kind, one.id): one.version for kind, one in self.documents()}

    def documents(self) -> Iterator[tuple[str, NetworkPlan | GroupPlan | RouterPlan]]:
        """Return each with its kind."""
        yield from ((NETWORK, one) for one in self.networks.values())
        yield from ((GROUP, one) for one in self.groups.values())
        yield from ((ROUTER, one) for one in self.routers.values())

    def changed(self, changes: PlanChanges) -> NetworkPlans:
        """Return these after the changes; an older document than the one that is there stays away."""
        removed = frozenset(changes.removed)
        return NetworkPlans(
            networks=_merged(NETWORK, self.networks, changes.networks, removed),
            groups=_merged(GROUP, self.groups, changes.groups, removed),
            routers=_merged(ROUTER, self.routers, changes.routers, removed),
            known=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChanges:
    """Documents that are new or changed, and what is held no more, by ``key_of``."""

    networks: tuple[NetworkPlan, ...] = ()
    groups: tuple[GroupPlan, ...] = ()
    routers: tuple[RouterPlan, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPlan:
    """One document, of one of the kinds, and the hosts that are to hold it."""

    network: NetworkPlan | None = None
    group: GroupPlan | None = None
    router: RouterPlan | None = None
    hosts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        kind, one = self._document
        return key_of(kind, one.id)

    @property
    def version(self) -> int:
        return self._document[1].version

    @property
    def _document(self) -> tuple[str, NetworkPlan | GroupPlan | RouterPlan]:
        for kind, one in ((NETWORK, self.network), (GROUP, self.group), (ROUTER, self.router)):
            if one is not None:
                return kind, one
        raise ValueError("a plan of nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanVersion:
    """What a cell keeps of a document. ``hosts``: their names in order, with a blank between two."""

    key: str
    version: int
    hosts: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEndpoint:
    """Where a host takes packets of networks from others. ``external``: whether it has a way to external networks;
    ``gone``: whether an operator has said that it is down."""

    host: str
    address: str
    external: bool = False
    gone: bool = False


def make_changes(given: Iterable[GivenPlan], removed: Iterable[str] = ()) -> PlanChanges:
    """Return documents as a host takes them."""
    given = list(given)
    return PlanChanges(
        networks=tuple(one.network for one in given if one.network is not None),
        groups=tuple(one.group for one in given if one.group is not None),
        routers=tuple(one.router for one in given if one.router is not None),
        removed=tuple(removed),
    )


def key_of(kind: str, document_id: str) -> str:
    """Return what names a document among all kinds."""
    return f"{kind}/{document_id}"


def as_planned(port: Port, network: NetworkPlan, planned: PlannedPort) -> Port:
    """Return the port as the plan has it now, whatever it was when its guest got it."""
    subnets = {subnet.id: subnet for subnet in network.subnets}
    fixed = tuple(
        FixedIp(
            ip_address=address,
            subnet_id=subnet_id,
            cidr=subnets[subnet_id].cidr,
            gateway_ip=subnets[subnet_id].gateway_ip,
            dns_nameservers=subnets[subnet_id].dns_nameservers,
            enable_dhcp=subnets[subnet_id].enable_dhcp,
        )
        for subnet_id, address in planned.addresses
        if subnet_id in subnets
    )
    return replace(port, mac_address=planned.mac_address, mtu=network.mtu, fixed_ips=fixed)
