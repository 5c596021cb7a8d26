"""What the network API answers to bad requests: Neutron's statuses and the names of its errors, and nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.embedded_cloud import PASSWORDS, make_cloud, make_top_database
from tests.network_api import NetworkApi, add_member

ABSENT = "00000000-0000-4000-8000-000000000000"
LONG = "x" * 256
FORM = (400, "HTTPBadRequest")
INPUT = (400, "InvalidInput")
FORBIDDEN = (403, "PolicyNotAuthorized")
Row = tuple[str, str, Any, tuple[int, str]]


@dataclass(frozen=True)
class Site:
    """A network with two subnets, a port, a router with a way out, a floating IP, a group with a port in it."""

    api: NetworkApi
    ids: dict[str, str]

    def ask(self, method: str, path: str, body: Any = None, *, who: str = "demo") -> tuple[int, Any]:
        return self.api(method, path.format(**self.ids), self._filled(body), who=who)

    def _filled(self, body: Any) -> Any:
        if isinstance(body, dict):
            return {key: self._filled(value) for key, value in body.items()}
        if isinstance(body, list):
            return [self._filled(value) for value in body]
        return body.format(**self.ids) if isinstance(body, str) and body.startswith("{") else body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("bad")
    database = make_top_database(folder / "top.db")
    cloud = make_cloud(database, folder)
    tokens = {"demo": cloud.token("demo", PASSWORDS.demo), "admin": cloud.token("admin", PASSWORDS.admin)}
    api = NetworkApi(cloud, tokens | {"other": add_member(cloud, "other")})
    ids = {"project": cloud.project("demo")}

    def make(name: str, collection: str, /, *, who: str = "demo", **fields: Any) -> None:
        ids[name] = api.make(collection, fields, who=who)["id"]

    make("net", "networks", name="n")
    make("v4", "subnets", network_id=ids["net"], cidr="10.1.0.0/24", ip_version=4)
    slaac = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    make("v6", "subnets", network_id=ids["net"], cidr="2001:db8:1::/64", ip_version=6, **slaac)
    make("group", "security-groups", name="g")
    make("port", "ports", network_id=ids["net"], security_groups=[ids["group"]], device_id="d")
    make("outer", "networks", who="admin", name="outer", **{"router:external": True, "project_id": "f" * 32})
    make("outside", "subnets", who="admin", network_id=ids["outer"], cidr="203.0.113.0/24", ip_version=4)
    make("router", "routers", external_gateway_info={"network_id": ids["outer"]})
    status, leg = api("PUT", f"routers/{ids['router']}/add_router_interface", {"subnet_id": ids["v4"]})
    assert status == 200, leg
    ids["leg"] = leg["port_id"]
    make("fip", "floatingips", floating_network_id=ids["outer"], port_id=ids["port"])
    (default,) = api("GET", "security-groups?name=default")[1]["security_groups"]
    ids["default"] = default["id"]
    yield Site(api=api, ids=ids)
    database.close()


def post(kind: str, expected: tuple[int, str], /, **fields: Any) -> Row:
    return "POST", f"{kind.replace('_', '-')}s", {kind: fields}, expected


def put(kind: str, name: str, expected: tuple[int, str], /, **fields: Any) -> Row:
    return "PUT", f"{kind.replace('_', '-')}s/{{{name}}}", {kind: fields}, expected


def network(expected: tuple[int, str], **fields: Any) -> Row:
    return post("network", expected, **fields)


def subnet(expected: tuple[int, str], cidr: Any = "10.2.0.0/24", version: Any = 4, **fields: Any) -> Row:
    return post("subnet", expected, network_id="{net}", cidr=cidr, ip_version=version, **fields)


def pool(*ranges: str) -> list[dict[str, str]]:
    return [dict(zip(("start", "end"), one.split("-"), strict=True)) for one in ranges]


def v6(expected: tuple[int, str], cidr: str = "2001:db8:2::/64", **fields: Any) -> Row:
    return subnet(expected, cidr, 6, **fields)


def port(expected: tuple[int, str], **fields: Any) -> Row:
    return post("port", expected, **{"network_id": "{net}"} | fields)


def rule(expected: tuple[int, str], **fields: Any) -> Row:
    return post("security_group_rule", expected, **{"security_group_id": "{group}", "direction": "ingress"} | fields)


NETWORKS = [
    *(network(FORM, name=wrong) for wrong in (1, None, [], {}, LONG)),
    *(network(FORM, description=wrong) for wrong in (1, LONG)),
    *(network(FORM, admin_state_up=wrong) for wrong in ("perhaps", None, [], 2)),
    *(network(FORM, mtu=wrong) for wrong in (0, -1, 67, 1 << 40, "big", 1.5)),
    network(FORM, port_security_enabled="perhaps"),
    network(FORM, colour="red"),
    network(FORM, id=ABSENT),
    network(FORM, status="ACTIVE"),
    network(FORM, tags=["x"]),
    network(FORM, qos_policy_id=ABSENT),
    network(FORM, dns_domain="example.org."),
    network(FORM, availability_zone_hints=["mars"]),
    network(FORM, tenant_id=LONG),
    network(FORBIDDEN, tenant_id=ABSENT),
    network(FORM, tenant_id="a", project_id="b"),
    network(FORBIDDEN, shared=True),
    network(FORBIDDEN, **{"router:external": True}),
    network(FORBIDDEN, **{"provider:network_type": "vxlan"}),
    network(FORBIDDEN, **{"provider:segmentation_id": 7}),
    ("POST", "networks", {"networks": []}, FORM),
    ("POST", "networks", {"networks": [{"name": "a"}, {"name": 1}]}, FORM),
    ("POST", "networks", {"network": {}, "networks": [{}]}, FORM),
    ("POST", "networks", {}, FORM),
    ("POST", "networks", [], FORM),
    ("POST", "networks", {"network": None}, FORM),
    ("POST", "networks", {"network": "n"}, FORM),
    ("POST", "networks", {"net": {}}, FORM),
    put("network", "net", FORBIDDEN, shared=True),
    put("network", "net", FORM, tenant_id=ABSENT),
    ("GET", f"networks/{ABSENT}", None, (404, "NetworkNotFound")),
    ("PUT", f"networks/{ABSENT}", {"network": {"name": "x"}}, (404, "NetworkNotFound")),
    ("DELETE", f"networks/{ABSENT}", None, (404, "NetworkNotFound")),
    ("DELETE", "networks/{net}", None, (409, "NetworkInUse")),
    ("PUT", "networks/{outer}", {"network": {"name": "mine"}}, FORBIDDEN),
    ("DELETE", "networks/{outer}", None, FORBIDDEN),
]
SUBNETS = [
    *(
        subnet(INPUT, wrong)
        for wrong in ("10.2.0.0/33", "10.2.0.1/24", "words", "10.2.0.0/-1", "10.2/16", "10.256.0.0/24")
    ),
    *(subnet(FORM, wrong) for wrong in (1, None, [], {}, LONG)),
    *(subnet(INPUT, wrong) for wrong in ("0.0.0.0/0", "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/24", "10.2.0.0/31")),
    *(
        subnet(INPUT, "2001:db8::/64"),
        v6(INPUT, "10.3.0.0/24"),
        v6(INPUT, "::/0"),
        v6(INPUT, "::/64"),
        v6(INPUT, "ff00::/64"),
    ),
    *(subnet(FORM, version=wrong) for wrong in (5, 0, None, "six", [])),
    *(subnet(INPUT, "10.1.0.0/25"), subnet(INPUT, "10.0.0.0/8")),
    *(subnet(INPUT, gateway_ip=wrong) for wrong in ("10.3.0.1", "10.2.0.0", "10.2.0.255", "2001:db8::1", "gate")),
    *(subnet(FORM, gateway_ip=wrong) for wrong in (1, "", LONG)),
    subnet((400, "InvalidAllocationPool"), allocation_pools=pool("10.2.0.9-10.2.0.5")),
    subnet((400, "InvalidAllocationPool"), allocation_pools=pool("2001:db8::1-2001:db8::2")),
    subnet((400, "OutOfBoundsAllocationPool"), allocation_pools=pool("10.2.0.5-10.2.1.5")),
    subnet((400, "OutOfBoundsAllocationPool"), allocation_pools=pool("10.2.0.5-10.2.0.255")),
    subnet((409, "OverlappingAllocationPools"), allocation_pools=pool("10.2.0.5-10.2.0.9", "10.2.0.9-10.2.0.20")),
    subnet((409, "GatewayConflictWithAllocationPools"), allocation_pools=pool("10.2.0.1-10.2.0.9")),
    subnet(
        (409, "GatewayConflictWithAllocationPools"), gateway_ip="10.2.0.7", allocation_pools=pool("10.2.0.5-10.2.0.9")
    ),
    *(subnet(FORM, allocation_pools=wrong) for wrong in ("all", [{}], [{"start": "10.2.0.2"}], [1], pool("a-b") * 17)),
    subnet(INPUT, allocation_pools=pool("a-b")),
    *(subnet(FORM, dns_nameservers=wrong) for wrong in ("8.8.8.8", ["words"], [1], ["8.8.8.8"] * 6, ["8.8.8.8/32"])),
    subnet(INPUT, dns_nameservers=["2001:db8::53"]),
    *(subnet(FORM, host_routes=wrong) for wrong in ("all", [{}], [{"destination": "10.0.0.0/8"}], [None])),
    *(
        subnet(INPUT, host_routes=[{"destination": to, "nexthop": hop}])
        for to, hop in (
            ("10.9.0.0/24", "x"),
            ("x", "10.2.0.2"),
            ("10.9.0.1/24", "10.2.0.2"),
            ("2001:db8::/64", "10.2.0.2"),
        )
    ),
    subnet(FORM, host_routes=[{"destination": f"10.9.{n}.0/24", "nexthop": "10.2.0.2"} for n in range(21)]),
    subnet(INPUT, ipv6_ra_mode="slaac"),
    subnet(INPUT, ipv6_address_mode="dhcpv6-stateful"),
    v6(FORM, ipv6_ra_mode="magic"),
    *(
        v6(INPUT, ipv6_ra_mode=first, ipv6_address_mode=second)
        for first in ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")
        for second in ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")
        if first != second
    ),
    v6(INPUT, ipv6_ra_mode="slaac", enable_dhcp=False),
    v6(INPUT, "2001:db8:2::/65", ipv6_address_mode="slaac"),
    v6(INPUT, "2001:db8:2::/63", ipv6_ra_mode="dhcpv6-stateless", ipv6_address_mode="dhcpv6-stateless"),
    subnet(FORM, subnetpool_id=ABSENT),
    subnet(FORM, service_types=["compute:nova"]),
    subnet(FORM, segment_id=ABSENT),
    subnet(FORM, enable_dhcp="perhaps"),
    post("subnet", FORM, cidr="10.2.0.0/24", ip_version=4),
    post("subnet", (404, "NetworkNotFound"), network_id=ABSENT, cidr="10.2.0.0/24", ip_version=4),
    post("subnet", FORBIDDEN, network_id="{outer}", cidr="10.2.0.0/24", ip_version=4),
    put("subnet", "v4", FORM, cidr="10.9.0.0/24"),
    put("subnet", "v4", FORM, network_id="{outer}"),
    put("subnet", "v6", FORM, ipv6_ra_mode=None),
    put("subnet", "v4", (409, "GatewayIpInUse"), gateway_ip="10.1.0.9"),
    put("subnet", "v4", (409, "GatewayIpInUse"), gateway_ip=None),
    put("subnet", "v4", (409, "GatewayConflictWithAllocationPools"), allocation_pools=pool("10.1.0.1-10.1.0.9")),
    put("subnet", "v6", INPUT, enable_dhcp=False),
    ("DELETE", "subnets/{v4}", None, (409, "SubnetInUse")),
    ("DELETE", f"subnets/{ABSENT}", None, (404, "SubnetNotFound")),
]
PORTS = [
    port((404, "NetworkNotFound"), network_id=ABSENT),
    *(port(FORM, network_id=wrong) for wrong in (None, 1, "", LONG)),
    *(port(FORM, mac_address=wrong) for wrong in ("x", "fa:16:3e:00:00", "fa-16-3e-00-00-01", "01:00:5e:00:00:01", 1)),
    port(FORM, mac_address="00:00:00:00:00:00"),
    port(FORM, mac_address="FA163E000001"),
    port((400, "InvalidIpForNetwork"), fixed_ips=[{"ip_address": "10.9.0.1"}]),
    port((400, "InvalidIpForNetwork"), fixed_ips=[{"subnet_id": "{v4}", "ip_address": "10.9.0.1"}]),
    port(FORM, fixed_ips=[{"ip_address": "words"}]),
    port((400, "AllocationOnAutoAddressSubnet"), fixed_ips=[{"subnet_id": "{v6}", "ip_address": "2001:db8:1::7"}]),
    port((400, "InvalidIpForNetwork"), fixed_ips=[{"subnet_id": "{v4}", "ip_address": "10.1.0.255"}]),
    *(port(FORM, fixed_ips=wrong) for wrong in ("10.1.0.9", [{"address": "10.1.0.9"}], [1], [{"ip_address": 1}])),
    port(FORM, fixed_ips=[{"subnet_id": "{v4}"}] * 6),
    port((404, "SubnetNotFound"), fixed_ips=[{"subnet_id": ABSENT}]),
    port(INPUT, fixed_ips=[{"subnet_id": "{outside}"}]),
    port((409, "IpAddressAlreadyAllocated"), fixed_ips=[{"ip_address": "10.1.0.7"}, {"ip_address": "10.1.0.7"}]),
    port((404, "SecurityGroupNotFound"), security_groups=[ABSENT]),
    *(port(FORM, security_groups=wrong) for wrong in ("{group}", [1], None)),
    port((400, "PortSecurityAndIPRequiredForSecurityGroups"), port_security_enabled=False, security_groups=["{group}"]),
    port(
        (409, "AddressPairAndPortSecurityRequired"),
        port_security_enabled=False,
        allowed_address_pairs=[{"ip_address": "10.9.0.1"}],
    ),
    *(
        port(FORM, allowed_address_pairs=wrong)
        for wrong in ([{}], [{"mac_address": "fa:16:3e:00:00:01"}], "x", [{"ip_address": 1}])
    ),
    port(FORM, allowed_address_pairs=[{"ip_address": "words"}]),
    port((400, "DuplicateAddressPairInRequest"), allowed_address_pairs=[{"ip_address": "10.9.0.1"}] * 2),
    port(FORM, allowed_address_pairs=[{"ip_address": f"10.9.0.{n}"} for n in range(11)]),
    port(FORBIDDEN, **{"binding:host_id": "h"}),
    port(FORBIDDEN, **{"binding:profile": {}}),
    port(FORM, **{"binding:vnic_type": "direct"}),
    port(FORBIDDEN, device_owner="network:dhcp"),
    port(FORM, device_id=LONG),
    port(FORM, qos_policy_id=ABSENT),
    port(FORM, dns_name="host"),
    port(FORM, status="ACTIVE"),
    put("port", "port", FORM, network_id="{outer}"),
    put("port", "port", FORBIDDEN, mac_address="fa:16:3e:00:00:01"),
    put("port", "port", (404, "SecurityGroupNotFound"), security_groups=[ABSENT]),
    put("port", "port", (409, "PortSecurityPortHasSecurityGroup"), port_security_enabled=False),
    ("DELETE", f"ports/{ABSENT}", None, (404, "PortNotFound")),
    ("DELETE", "ports/{leg}", None, (409, "ServicePortInUse")),
]
GROUPS = [
    *(post("security_group", FORM, name=wrong) for wrong in (1, None, LONG)),
    post("security_group", (409, "SecurityGroupDefaultAlreadyExists"), name="default"),
    post("security_group", FORM, name="g", stateful=False),
    post("security_group", FORM, name="g", security_group_rules=[]),
    put("security_group", "default", (409, "SecurityGroupCannotUpdateDefault"), name="mine"),
    ("DELETE", "security-groups/{default}", None, (409, "SecurityGroupCannotRemoveDefault")),
    ("DELETE", "security-groups/{group}", None, (409, "SecurityGroupInUse")),
    ("DELETE", f"security-groups/{ABSENT}", None, (404, "SecurityGroupNotFound")),
    rule((404, "SecurityGroupNotFound"), security_group_id=ABSENT),
    rule((404, "SecurityGroupNotFound"), remote_group_id=ABSENT),
    rule(FORM, direction=None),
    rule((400, "SecurityGroupRuleInvalidEtherType"), ethertype="ARP"),
    rule((400, "SecurityGroupRuleInvalidProtocol"), protocol="pigeon"),
    rule((400, "SecurityGroupRuleInvalidProtocol"), protocol=256),
    rule((400, "SecurityGroupProtocolRequiredWithPorts"), port_range_min=1, port_range_max=2),
    rule((400, "SecurityGroupInvalidPortRange"), protocol="tcp", port_range_min=9, port_range_max=2),
    rule((400, "SecurityGroupInvalidPortRange"), protocol="tcp", port_range_min=9),
    rule((400, "SecurityGroupInvalidPortValue"), protocol="udp", port_range_min=1, port_range_max=65536),
    rule((400, "SecurityGroupInvalidPortValue"), protocol="udp", port_range_min=-2, port_range_max=2),
    rule((400, "SecurityGroupInvalidProtocolForPort"), protocol="gre", port_range_min=1, port_range_max=2),
    rule((400, "SecurityGroupInvalidIcmpValue"), protocol="icmp", port_range_min=256),
    rule((400, "SecurityGroupMissingIcmpType"), protocol="icmp", port_range_max=6),
    rule((400, "SecurityGroupRuleParameterConflict"), ethertype="IPv6", remote_ip_prefix="10.0.0.0/8"),
    rule((400, "SecurityGroupRemoteGroupAndRemoteIpPrefix"), remote_ip_prefix="10.0.0.0/8", remote_group_id="{group}"),
    rule((400, "SecurityGroupEthertypeConflictWithProtocol"), protocol="icmpv6", ethertype="IPv4"),
    *(rule(FORM, port_range_min=wrong) for wrong in ("many", [], 1.5)),
    rule(FORM, remote_address_group_id=ABSENT),
    ("DELETE", f"security-group-rules/{ABSENT}", None, (404, "SecurityGroupRuleNotFound")),
]
ROUTERS = [
    *(post("router", FORM, name=wrong) for wrong in (1, LONG)),
    post("router", FORBIDDEN, external_gateway_info={"enable_snat": True}, name="r"),
    post("router", (404, "NetworkNotFound"), external_gateway_info={"network_id": ABSENT}),
    post("router", (400, "BadRequest"), external_gateway_info={"network_id": "{net}"}),
    post("router", FORM, distributed=True),
    post("router", FORM, ha=True),
    put("router", "router", (400, "InvalidRoutes"), routes=[{"destination": "10.9.0.0/24", "nexthop": "10.8.0.1"}]),
    put("router", "router", (400, "InvalidRoutes"), routes=[{"destination": "10.9.0.0/24", "nexthop": "10.1.0.1"}]),
    put("router", "router", FORM, routes=[{"destination": "words", "nexthop": "10.1.0.7"}]),
    put("router", "router", (409, "RouterExternalGatewayInUseByFloatingIp"), external_gateway_info=None),
    ("PUT", "routers/{router}/add_router_interface", {}, (400, "BadRequest")),
    ("PUT", "routers/{router}/add_router_interface", {"subnet_id": "{v4}"}, (400, "BadRequest")),
    ("PUT", "routers/{router}/add_router_interface", {"subnet_id": ABSENT}, (404, "SubnetNotFound")),
    ("PUT", "routers/{router}/add_router_interface", {"port_id": ABSENT}, (404, "PortNotFound")),
    ("PUT", "routers/{router}/add_router_interface", {"port_id": "{port}"}, (409, "PortInUse")),
    ("PUT", "routers/{router}/remove_router_interface", {"port_id": "{port}"}, (404, "RouterInterfaceNotFound")),
    (
        "PUT",
        "routers/{router}/remove_router_interface",
        {"subnet_id": "{v6}"},
        (404, "RouterInterfaceNotFoundForSubnet"),
    ),
    (
        "PUT",
        "routers/{router}/remove_router_interface",
        {"subnet_id": "{v4}"},
        (409, "RouterInterfaceInUseByFloatingIP"),
    ),
    ("DELETE", "routers/{router}", None, (409, "RouterInUse")),
    ("DELETE", f"routers/{ABSENT}", None, (404, "RouterNotFound")),
    post("floatingip", (404, "NetworkNotFound"), floating_network_id=ABSENT),
    post("floatingip", (400, "BadRequest"), floating_network_id="{net}"),
    post("floatingip", FORM),
    post("floatingip", (404, "PortNotFound"), floating_network_id="{outer}", port_id=ABSENT),
    post("floatingip", (409, "FloatingIPPortAlreadyAssociated"), floating_network_id="{outer}", port_id="{port}"),
    post("floatingip", (400, "BadRequest"), floating_network_id="{outer}", fixed_ip_address="10.1.0.2"),
    post("floatingip", FORBIDDEN, floating_network_id="{outer}", floating_ip_address="203.0.113.9"),
    put("floatingip", "fip", (404, "PortNotFound"), port_id=ABSENT),
    put("floatingip", "fip", (400, "BadRequest"), port_id="{port}", fixed_ip_address="10.1.0.99"),
    put("floatingip", "fip", FORM, floating_network_id="{outer}"),
    ("DELETE", f"floatingips/{ABSENT}", None, (404, "FloatingIPNotFound")),
]
COLLECTIONS = ("networks", "subnets", "ports", "routers", "floatingips", "security-groups", "security-group-rules")
LISTS = [
    *(("GET", f"{kind}?colour=red", None, FORM) for kind in COLLECTIONS),
    *(("GET", f"{kind}?limit=-1", None, FORM) for kind in COLLECTIONS),
    *(("GET", f"{kind}?limit=many", None, FORM) for kind in COLLECTIONS),
    *(("GET", f"{kind}?sort_key=id", None, FORM) for kind in COLLECTIONS),
    *(("GET", f"{kind}?sort_key=colour&sort_dir=asc", None, FORM) for kind in COLLECTIONS),
    *(("GET", f"{kind}?sort_key=id&sort_dir=up", None, FORM) for kind in COLLECTIONS),
    *(("GET", f"{kind}?changes_since=yesterday", None, FORM) for kind in COLLECTIONS),
    *(("GET", f"{kind}?marker={ABSENT}", None, (404, "HTTPNotFound")) for kind in COLLECTIONS),
    ("GET", "networks?admin_state_up=perhaps", None, FORM),
    ("GET", "ports?fixed_ips=10.0.0.1", None, FORM),
    ("GET", "extensions/trunk", None, (404, "ExtensionNotFound")),
    *(
        ("GET", path, None, (404, "HTTPNotFound"))
        for path in ("trunks", "subnetpools", "address-scopes", "address-groups", "flavors", "service-providers")
    ),
    ("GET", "default-security-group-rules", None, (404, "HTTPNotFound")),
    ("GET", f"agents/{ABSENT}", None, (404, "AgentNotFound")),
    ("GET", f"network-ip-availabilities/{ABSENT}", None, (404, "NetworkNotFound")),
]


@pytest.mark.parametrize(
    "rows",
    [NETWORKS, SUBNETS, PORTS, GROUPS, ROUTERS, LISTS],
    ids=["networks", "subnets", "ports", "groups", "l3", "lists"],
)
def test_bad_requests_are_refused_as_neutron_does(site: Site, rows: list[Row]) -> None:
    before = {kind: site.api("GET", kind, who="admin") for kind in COLLECTIONS}
    wrong = []
    for method, path, body, expected in rows:
        status, answer = site.ask(method, path, body)
        told = answer.get("NeutronError", {}) if isinstance(answer, dict) else {}
        if (status, told.get("type")) != expected or set(told) != {"type", "message", "detail"} or not told["message"]:
            wrong.append((method, path, body, expected, status, answer))
    assert not wrong, "\n".join(map(str, wrong))
    for kind in COLLECTIONS:
        assert site.api("GET", kind, who="admin") == before[kind], kind


def test_things_of_others_are_not_there(site: Site) -> None:
    for kind, singular in (
        *(("networks", "net"), ("subnets", "v4"), ("ports", "port"), ("routers", "router")),
        *(("floatingips", "fip"), ("security-groups", "group")),
    ):
        path = f"{kind}/{{{singular}}}"
        name = kind.replace("-", "_").removesuffix("s")
        for method, body in (("GET", None), ("PUT", {name: {"description": "mine"}}), ("DELETE", None)):
            status, answer = site.ask(method, path, body, who="other")
            assert (path, method, status) == (path, method, 404), answer
        shown = [one["id"] for one in site.ask("GET", kind, who="other")[1][f"{name}s"]]
        assert site.ids[singular] not in shown
    ours = {"network_id": site.ids["net"]}
    assert site.ask("POST", "ports", {"port": ours}, who="other")[0] == 404
    assert (
        site.ask("POST", "subnets", {"subnet": ours | {"cidr": "10.8.0.0/24", "ip_version": 4}}, who="other")[0] == 404
    )
    router = site.api.make("routers", {"name": "theirs"}, who="other")["id"]
    for sent in ({"subnet_id": site.ids["v4"]}, {"port_id": site.ids["port"]}):
        assert site.ask("PUT", f"routers/{router}/add_router_interface", sent, who="other")[0] == 404
    assert site.ask("DELETE", f"routers/{router}", who="other")[0] == 204


def test_quotas_hold_for_requests_in_parallel(site: Site) -> None:
    project = site.ids["project"]
    _, details = site.ask("GET", f"quotas/{project}/details", who="admin")
    limits = {name: details["quota"][name]["used"] + 2 for name in ("network", "port", "router", "security_group")}
    assert site.ask("PUT", f"quotas/{project}", {"quota": limits}, who="admin")[0] == 200
    fields = {"port": {"network_id": site.ids["net"]}}
    made: list[tuple[str, str]] = []
    for kind in limits:
        collection = f"{kind.replace('_', '-')}s"

        def create(number: int, kind: str = kind, collection: str = collection) -> tuple[int, Any]:
            return site.api("POST", collection, {kind: fields.get(kind, {}) | {"name": f"q{number}"}})

        with ThreadPoolExecutor(6) as pool_of_threads:
            answers = list(pool_of_threads.map(create, range(6)))
        assert sorted(status for status, _ in answers) == [201, 201, 409, 409, 409, 409], kind
        refused = {answer["NeutronError"]["type"] for status, answer in answers if status == 409}
        assert refused == {"OverQuota"}
        made += [(collection, answer[kind]["id"]) for status, answer in answers if status == 201]
    for collection, one in made:
        assert site.api("DELETE", f"{collection}/{one}")[0] == 204
    assert site.ask("DELETE", f"quotas/{project}", who="admin")[0] == 204


def test_a_change_at_another_revision_is_refused(site: Site) -> None:
    """Of every kind; at the right one it is made, and so is the delete."""
    api = site.api
    made = {
        "network": api.make("networks", {"name": "r"})["id"],
        "router": api.make("routers", {"name": "r"})["id"],
        "security_group": api.make("security-groups", {"name": "r"})["id"],
        "floatingip": api.make("floatingips", {"floating_network_id": site.ids["outer"]})["id"],
    }
    own = {"network_id": made["network"]}
    made = {
        "subnet": api.make("subnets", own | {"cidr": "10.7.0.0/24", "ip_version": 4})["id"],
        "port": api.make("ports", own)["id"],
    } | made
    for kind in ("port", "subnet", "network", "router", "security_group", "floatingip"):
        path = f"{kind.replace('_', '-')}s/{made[kind]}"
        now = api("GET", path)[1][kind]["revision_number"]
        for revision, expected in ((now + 1, 412), (now, 200), (now, 412)):
            sent = {kind: {"description": str(expected)}}
            answer = api("PUT", path, sent, match=f"revision_number={revision}")
            assert (kind, revision, answer[0]) == (kind, revision, expected), answer
            if expected == 412:
                assert answer[1]["NeutronError"]["type"] == "RevisionNumberConstraintFailed"
        assert api("DELETE", path, match=f"revision_number={now}")[0] == 412
        assert api("PUT", path, {kind: {}}, match="revision_number=x")[0] == 400
        now = api("GET", path)[1][kind]["revision_number"]
        assert api("DELETE", path, match=f"revision_number={now}")[0] == 204, kind


def test_values_are_taken_in_every_form_that_clients_send(site: Site) -> None:
    made = site.api.make("networks", {"mtu": "1300", "admin_state_up": "False", "port_security_enabled": 0})
    assert (made["mtu"], made["admin_state_up"], made["port_security_enabled"]) == (1300, False, False)
    own = {"network_id": made["id"], "cidr": "10.6.0.0/24", "ip_version": "4", "enable_dhcp": "no"}
    assert site.api.make("subnets", own)["enable_dhcp"] is False
    project = site.ids["project"]
    status, answer = site.ask("PUT", f"quotas/{project}", {"quota": {"network": "7"}}, who="admin")
    assert (status, answer["quota"]["network"]) == (200, 7)
    assert site.ask("DELETE", f"quotas/{project}", who="admin")[0] == 204
    assert site.api("DELETE", f"networks/{made['id']}")[0] == 204
