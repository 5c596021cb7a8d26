"""Make the plans of networks of the tables, for the hosts of one cell."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cellcloud.db import floating_ips, networks, ports, routers, security_groups
from cellcloud.db.engine import Connection
from cellcloud.db.listing import Page
from cellcloud.db.network_hosts import Places, read_places
from cellcloud.db.network_versions import Versions, list_versions
from cellcloud.db.planned_ports import list_planned_ports
from cellcloud.model.network import FixedIp, Network, PortRecord, Subnet
from cellcloud.model.network_plan import (
    GROUP,
    NETWORK,
    ROUTER,
    GivenPlan,
    GroupPlan,
    GroupRule,
    NetworkPlan,
    PlannedPort,
    PlannedSubnet,
    RouterLeg,
    RouterPlan,
)
from cellcloud.model.router import VirtualRouter
from cellcloud.model.security_group import INGRESS, IPV6, SecurityGroup, SecurityGroupRule, protocol_number

ICMP, ICMPV6 = 1, 58
ANY = "any"

Needs = dict[str, tuple[int, tuple[str, ...]]]
"""Document -> the version that there is, and the hosts of a cell that need it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What says whether any plan is another one than before."""

    versions: Versions
    places: Places


def read_stamp(c: Connection) -> Stamp:
    """Return the present one."""
    return Stamp(versions=list_versions(c), places=read_places(c))


def make_plans(c: Connection, keys: Iterable[str]) -> list[GivenPlan]:
    """Return the documents of these keys that there are, for no hosts yet."""
    wanted: dict[str, list[str]] = {NETWORK: [], GROUP: [], ROUTER: []}
    for key in keys:
        kind, _, one = key.partition("/")
        wanted[kind].append(one)
    places = read_places(c)
    return [
        *(GivenPlan(network=one) for one in _make_networks(c, places, wanted[NETWORK])),
        *(GivenPlan(group=one) for one in _make_groups(c, wanted[GROUP])),
        *(GivenPlan(router=one) for one in _make_routers(c, places, wanted[ROUTER])),
    ]


# ---- networks ------------------------------------------------------------------------------------------------------
def _make_networks(c: Connection, places: Places, ids: Collection[str]) -> list[NetworkPlan]:
    if not ids:
        return []
    page = Page.of(network_id=sorted(ids))
    subnets: dict[str, list[Subnet]] = {}
    for subnet in networks.list_subnets(c, project_id=None, page=page):
        subnets.setdefault(subnet.network_id, []).append(subnet)
    planned = list_planned_ports(c, ids, places.routers)
    found = networks.list_networks(c, project_id=None, page=Page.of(id=sorted(ids)))
    return [_make_network(one, subnets.get(one.id, ()), planned.get(one.id, ()), places) for one in found]


def _make_network(
    network: Network, subnets: Collection[Subnet], planned: Collection[PlannedPort], places: Places
) -> NetworkPlan:
    hosts = {one.host for one in planned}
    return NetworkPlan(
        id=network.id,
        version=network.version,
        vni=network.segmentation_id or 0,
        mtu=network.mtu,
        subnets=tuple(_make_subnet(subnet) for subnet in subnets),
        ports=tuple(planned),
        endpoints={host: places.endpoints[host].address for host in sorted(hosts & places.endpoints.keys())},
    )


def _make_subnet(subnet: Subnet) -> PlannedSubnet:
    return PlannedSubnet(
        id=subnet.id,
        cidr=subnet.cidr,
        gateway_ip=subnet.gateway_ip,
        enable_dhcp=subnet.enable_dhcp,
        dns_nameservers=subnet.dns_nameservers,
        host_routes=subnet.host_routes,
        ipv6_mode=subnet.ipv6_address_mode or subnet.ipv6_ra_mode or "",
    )


# ---- security groups -----------------------------------------------------------------------------------------------
def _make_groups(c: Connection, ids: Collection[str]) -> list[GroupPlan]:
    if not ids:
        return []
    members = security_groups.list_addresses(c, ids)
    return [_make_group(one, members.get(one.id, ())) for one in security_groups.find_groups(c, ids).values()]


def _make_group(group: SecurityGroup, members: Collection[str]) -> GroupPlan:
    rules = tuple(_make_rule(rule) for rule in group.rules)
    return GroupPlan(id=group.id, version=group.version, rules=rules, members=tuple(members))


def _make_rule(rule: SecurityGroupRule) -> GroupRule:
    ipv6 = rule.ethertype == IPV6
    number = protocol_number(rule.protocol) if rule.protocol and rule.protocol != ANY else None
    return GroupRule(
        ingress=rule.direction == INGRESS,
        ipv6=ipv6,
        protocol=ICMPV6 if ipv6 and number == ICMP else number,
        first=rule.port_range_min,
        last=rule.port_range_max,
        remote=rule.remote_ip_prefix or "",
        remote_group=rule.remote_group_id or "",
    )


# ---- routers -------------------------------------------------------------------------------------------------------
def _make_routers(c: Connection, places: Places, ids: Collection[str]) -> list[RouterPlan]:
    if not ids:
        return []
    found = routers.list_routers(c, project_id=None, page=Page.of(id=sorted(ids)))
    interfaces = routers.list_interfaces(c, routers=ids)
    gateways = {one.gateway_port_id for one in found if one.gateway_port_id}
    records = ports.find_ports(c, {one.port_id for one in interfaces} | gateways)
    floating: dict[str, list[tuple[str, str]]] = {}
    for one in floating_ips.list_floating_ips(c, project_id=None, page=Page.of(router_id=sorted(ids))):
        if one.router_id and one.fixed_ip_address:
            floating.setdefault(one.router_id, []).append((one.floating_ip_address, one.fixed_ip_address))
    legs: dict[str, dict[str, RouterLeg]] = {}
    for interface in interfaces:
        if interface.port_id in records:
            legs.setdefault(interface.router_id, {})[interface.port_id] = _make_leg(records[interface.port_id])
    return [
        _make_router(one, legs.get(one.id, {}), records, floating.get(one.id, ()), places.routers.get(one.id, ""))
        for one in found
    ]


def _make_router(
    router: VirtualRouter,
    legs: Mapping[str, RouterLeg],
    records: Mapping[str, PortRecord],
    floating: Collection[tuple[str, str]],
    host: str,
) -> RouterPlan:
    gateway = records.get(router.gateway_port_id or "")
    ways = [fixed.gateway_ip for fixed in gateway.port.fixed_ips if fixed.gateway_ip] if gateway else []
    return RouterPlan(
        id=router.id,
        version=router.version,
        host=host,
        enabled=router.admin_state_up,
        legs=tuple(legs[port_id] for port_id in sorted(legs)),
        external=_make_leg(gateway) if gateway else None,
        gateway=next((way for way in ways if ":" not in way), ""),
        snat=router.enable_snat,
        floating=tuple(sorted(floating)),
        routes=router.routes,
    )


def _make_leg(record: PortRecord) -> RouterLeg:
    return RouterLeg(
        port_id=record.port.id,
        network_id=record.port.network_id,
        mac_address=record.port.mac_address.lower(),
        addresses=tuple(_with_prefix(fixed) for fixed in record.port.fixed_ips),
    )


def _with_prefix(fixed: FixedIp) -> str:
    return f"{fixed.ip_address}/{ipaddress.ip_network(fixed.cidr).prefixlen}"
