"""Routers, external networks and floating IPs over HTTP, as Neutron answers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from cellcloud.db import network_quota_usages
from cellcloud.db.network_versions import Versions, list_versions
from tests.embedded_cloud import PASSWORDS, make_cloud, make_top_database
from tests.network_api import NetworkApi


@dataclass(frozen=True)
class Site:
    """An external network, and a router that leads to it from a network with a port."""

    api: NetworkApi
    outer: str
    router: str
    network: str
    subnet: str
    port: str

    def versions(self) -> Versions:
        with self.api.cloud.database.read() as c:
            return list_versions(c)

    def floating(self, **more: Any) -> dict[str, Any]:
        return self.api.make("floatingips", {"floating_network_id": self.outer, **more})


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkApi]:
    folder = tmp_path_factory.mktemp("routers")
    database = make_top_database(folder / "top.db")
    cloud = make_cloud(database, folder)
    tokens = {"demo": cloud.token("demo", PASSWORDS.demo), "admin": cloud.token("admin", PASSWORDS.admin)}
    yield NetworkApi(cloud, tokens)
    database.close()


def add_subnet(api: NetworkApi, network: str, cidr: str, **more: Any) -> str:
    who = more.pop("who", "demo")
    version = 6 if ":" in cidr else 4
    wanted = {"network_id": network, "cidr": cidr, "ip_version": version, **more}
    return str(api.make("subnets", wanted, who=who)["id"])


@pytest.fixture
def site(api: NetworkApi) -> Iterator[Site]:
    outer = api.make("networks", {"name": "public", "router:external": True}, who="admin")["id"]
    add_subnet(api, outer, "203.0.113.0/24", who="admin")
    network = api.make("networks", {"name": "inner"})["id"]
    subnet = add_subnet(api, network, "10.1.0.0/24")
    router = api.make("routers", {"name": "r", "external_gateway_info": {"network_id": outer}})["id"]
    assert api("PUT", f"routers/{router}/add_router_interface", {"subnet_id": subnet})[0] == 200
    port = api.make("ports", {"network_id": network})["id"]
    yield Site(api, outer, router, network, subnet, port)
    for one in api("GET", "floatingips")[1]["floatingips"]:
        assert api("DELETE", f"floatingips/{one['id']}")[0] == 204
    for one in api("GET", "routers")[1]["routers"]:
        api("PUT", f"routers/{one['id']}", {"router": {"routes": []}})
        for held in api("GET", f"ports?device_id={one['id']}&device_owner=network:router_interface")[1]["ports"]:
            api("PUT", f"routers/{one['id']}/remove_router_interface", {"port_id": held["id"]})
        assert api("DELETE", f"routers/{one['id']}")[0] == 204
    for held in api("GET", "ports", who="admin")[1]["ports"]:
        assert api("DELETE", f"ports/{held['id']}", who="admin")[0] == 204
    for kind in ("networks",):
        for one in api("GET", kind, who="admin")[1][kind]:
            if one["name"] != "private":
                assert api("DELETE", f"{kind}/{one['id']}", who="admin")[0] == 204
    with api.cloud.database.write() as c:
        from cellcloud.db import network_quota_usages

        assert network_quota_usages.recount(c) == []


def test_a_router_is_shown_with_its_gateway(site: Site) -> None:
    router = site.api("GET", f"routers/{site.router}")[1]["router"]
    gateway = router["external_gateway_info"]
    assert gateway["network_id"] == site.outer
    assert gateway["enable_snat"] is True
    (ip,) = gateway["external_fixed_ips"]
    assert ip["ip_address"].startswith("203.0.113.")
    ports = site.api("GET", f"ports?device_id={site.router}", who="admin")[1]["ports"]
    assert sorted((port["device_owner"], port["project_id"] != "") for port in ports) == [
        ("network:router_gateway", False),
        ("network:router_interface", True),
    ]
    (inner,) = site.api("GET", f"ports?device_id={site.router}&device_owner=network:router_interface")[1]["ports"]
    assert inner["fixed_ips"] == [{"subnet_id": site.subnet, "ip_address": "10.1.0.1"}]
    for port in ports:
        assert site.api("DELETE", f"ports/{port['id']}", who="admin")[0] == 409


def test_what_is_in_use_stays(site: Site) -> None:
    api = site.api
    for path in (f"subnets/{site.subnet}", f"networks/{site.network}", f"routers/{site.router}"):
        assert api("DELETE", path)[0] == 409
    assert api("DELETE", f"networks/{site.outer}", who="admin")[0] == 409
    assert api("PUT", f"networks/{site.outer}", {"network": {"router:external": False}}, who="admin")[0] == 409
    site.floating(port_id=site.port)
    assert api("PUT", f"routers/{site.router}", {"router": {"external_gateway_info": {}}})[0] == 409
    assert api("PUT", f"routers/{site.router}/remove_router_interface", {"subnet_id": site.subnet})[0] == 409
    assert api("PUT", f"subnets/{site.subnet}", {"subnet": {"gateway_ip": "10.1.0.9"}})[0] == 409


def test_interfaces_that_a_router_does_not_take(site: Site) -> None:
    api, add = site.api, f"routers/{site.router}/add_router_interface"
    other = api.make("networks", {"name": "other"})["id"]
    overlapping, outside = add_subnet(api, other, "10.1.0.128/25"), add_subnet(api, other, "203.0.113.128/25")
    without = add_subnet(api, other, "10.3.0.0/24", gateway_ip=None)
    for subnet in (site.subnet, overlapping, outside, without):
        assert api("PUT", add, {"subnet_id": subnet})[0] == 400
    assert api("PUT", add, {"subnet_id": "absent"})[0] == 404
    assert api("PUT", add, {"port_id": "absent"})[0] == 404
    assert api("PUT", add, {})[0] == 400
    assert api("PUT", add, {"subnet_id": overlapping, "port_id": site.port})[0] == 400
    used = api.make("ports", {"network_id": other, "device_id": "s"})["id"]
    assert api("PUT", add, {"port_id": used})[0] == 409
    second = api.make("routers", {"name": "second"})["id"]
    assert api("PUT", f"routers/{second}/add_router_interface", {"subnet_id": overlapping})[0] == 200
    assert api("PUT", f"routers/{second}/add_router_interface", {"subnet_id": site.subnet})[0] == 400
    assert api("PUT", f"routers/{second}/remove_router_interface", {"subnet_id": site.subnet})[0] == 404


def test_an_interface_by_a_port(site: Site) -> None:
    api = site.api
    other = api.make("networks", {"name": "other"})["id"]
    subnet = add_subnet(api, other, "10.2.0.0/24")
    port = api.make("ports", {"network_id": other, "fixed_ips": [{"ip_address": "10.2.0.77"}]})["id"]
    status, made = api("PUT", f"routers/{site.router}/add_router_interface", {"port_id": port})
    assert (status, made["port_id"], made["subnet_id"], made["subnet_ids"]) == (200, port, subnet, [subnet])
    assert (
        api("PUT", f"routers/{site.router}/remove_router_interface", {"port_id": port, "subnet_id": site.subnet})[0]
        == 409
    )
    assert api("PUT", f"routers/{site.router}/remove_router_interface", {"port_id": port})[1] == made
    assert api("GET", f"ports/{port}")[0] == 404


def test_routes_lead_where_the_router_is(site: Site) -> None:
    api, path = site.api, f"routers/{site.router}"
    good = {"destination": "10.9.0.0/16", "nexthop": "10.1.0.7"}
    assert api("PUT", path, {"router": {"routes": [good]}})[1]["router"]["routes"] == [good]
    for hop in ("10.8.0.1", "10.1.0.1", "fe80::1", "nowhere"):
        assert api("PUT", path, {"router": {"routes": [good | {"nexthop": hop}]}})[0] == 400
    assert api("PUT", path, {"router": {"routes": [good, good]}})[0] == 400
    assert api("PUT", f"{path}/remove_router_interface", {"subnet_id": site.subnet})[0] == 409
    more = good | {"destination": "10.10.0.0/16"}
    assert api("PUT", f"{path}/add_extraroutes", {"router": {"routes": [more]}})[1]["router"]["routes"] == [good, more]
    assert api("PUT", f"{path}/remove_extraroutes", {"router": {"routes": [good]}})[1]["router"]["routes"] == [more]


def test_a_floating_ip_is_forwarded_moved_and_let_go(site: Site) -> None:
    api = site.api
    before = site.versions().routers[site.router]
    one = site.floating()
    assert (one["status"], one["port_id"], one["router_id"]) == ("DOWN", None, None)
    path = f"floatingips/{one['id']}"
    shown = api("PUT", path, {"floatingip": {"port_id": site.port}})[1]["floatingip"]
    assert (shown["status"], shown["router_id"], shown["fixed_ip_address"][:7]) == ("ACTIVE", site.router, "10.1.0.")
    assert site.versions().routers[site.router] > before
    other = api.make("ports", {"network_id": site.network})["id"]
    assert api("PUT", path, {"floatingip": {"port_id": other}})[1]["floatingip"]["port_id"] == other
    second = site.floating(port_id=site.port)
    assert api("PUT", path, {"floatingip": {"port_id": site.port}})[0] == 409
    before = site.versions().routers[site.router]
    assert api("DELETE", f"ports/{site.port}")[0] == 204
    gone = api("GET", f"floatingips/{second['id']}")[1]["floatingip"]
    assert (gone["port_id"], gone["fixed_ip_address"], gone["router_id"]) == (None, None, None)
    assert site.versions().routers[site.router] > before
    assert api("PUT", path, {"floatingip": {"port_id": None}})[1]["floatingip"]["status"] == "DOWN"
    assert [
        f["id"] for f in api("GET", f"floatingips?floating_ip_address={one['floating_ip_address']}")[1]["floatingips"]
    ] == [one["id"]]


def test_floating_ips_that_cannot_be(site: Site) -> None:
    api = site.api

    def asked(**more: Any) -> int:
        return api("POST", "floatingips", {"floatingip": {"floating_network_id": site.outer, **more}})[0]

    lonely = api.make("networks", {"name": "lonely"})["id"]
    add_subnet(api, lonely, "10.5.0.0/24")
    unreachable, empty = (api.make("ports", {"network_id": lonely, **more})["id"] for more in ({}, {"fixed_ips": []}))
    assert asked(floating_network_id=site.network) == 400
    assert asked(floating_network_id="absent") == 404
    assert asked(port_id="absent") == 404
    assert asked(port_id=unreachable) == 404
    assert asked(port_id=empty) == 400
    assert asked(port_id=site.port, fixed_ip_address="10.1.0.250") == 400
    assert asked(fixed_ip_address="10.1.0.5") == 400
    assert asked(floating_ip_address="203.0.113.77") == 403, "only an administrator chooses"
    assert asked(surprise=1) == 400
    wanted = {
        "floating_network_id": site.outer,
        "floating_ip_address": "203.0.113.77",
        "project_id": api.cloud.project("demo"),
    }
    assert api.make("floatingips", wanted, who="admin")["floating_ip_address"] == "203.0.113.77"
    assert api("POST", "floatingips", {"floatingip": wanted}, who="admin")[0] == 409
    assert api("GET", "floatingips")[1]["floatingips"][0]["project_id"] == api.cloud.project("demo")


def test_one_address_has_one_floating_ip_whoever_is_first(site: Site) -> None:
    ids = [site.floating()["id"] for _ in range(6)]

    def associate(floating_ip_id: str) -> int:
        return site.api("PUT", f"floatingips/{floating_ip_id}", {"floatingip": {"port_id": site.port}})[0]

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(associate, ids)) == [200, 409, 409, 409, 409, 409]


def test_ipv6_addresses_are_given_as_the_subnets_modes_say(api: NetworkApi) -> None:
    network = api.make("networks", {"name": "six"})["id"]
    slaac = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    stateful = {"ipv6_ra_mode": "dhcpv6-stateful", "ipv6_address_mode": "dhcpv6-stateful"}
    made = api.make("subnets", {"network_id": network, "cidr": "2001:db8:1::/64", "ip_version": 6, **slaac})
    assert (made["gateway_ip"], made["ipv6_ra_mode"]) == ("2001:db8:1::1", "slaac")
    add_subnet(api, network, "2001:db8:2::/64", **stateful)
    add_subnet(api, network, "10.4.0.0/24")
    port = api.make("ports", {"network_id": network, "mac_address": "fa:16:3e:01:02:03"})
    addresses = [ip["ip_address"] for ip in port["fixed_ips"]]
    assert len(addresses) == 3
    assert "2001:db8:1:0:f816:3eff:fe01:203" in addresses
    assert any(address.startswith("10.4.0.") for address in addresses)
    assert any(address.startswith("2001:db8:2::") for address in addresses)
    # A subnet that comes later gives what is there its address too, and takes it along when it goes.
    late = add_subnet(api, network, "2001:db8:9::/64", **slaac)
    shown = api("GET", f"ports/{port['id']}")[1]["port"]
    assert {"subnet_id": late, "ip_address": "2001:db8:9:0:f816:3eff:fe01:203"} in shown["fixed_ips"]
    assert shown["revision_number"] > port["revision_number"]
    assert api("DELETE", f"subnets/{late}")[0] == 204
    left = {ip["ip_address"] for ip in api("GET", f"ports/{port['id']}")[1]["port"]["fixed_ips"]}
    assert left == set(addresses)
    with api.cloud.database.read() as c:
        assert network_quota_usages.recount(c) == []
    wrong = {"network_id": network, "fixed_ips": [{"subnet_id": made["id"], "ip_address": "2001:db8:1::77"}]}
    assert api("POST", "ports", {"port": wrong})[0] == 400
    for bad in (
        {"cidr": "2001:db8:3::/64", "ip_version": 4},
        {"cidr": "10.6.0.0/24", **slaac},
        {"cidr": "2001:db8:3::/80", "ip_version": 6, **slaac},
        {"cidr": "2001:db8:3::/64", "ip_version": 6, **slaac, "ipv6_ra_mode": "dhcpv6-stateful"},
        {"cidr": "2001:db8:3::/64", "ip_version": 6, "enable_dhcp": False, **slaac},
        {"cidr": "2001:db8:1::/65", "ip_version": 6, **slaac},
        {"cidr": "fe80::/64", "ip_version": 6},
    ):
        assert api("POST", "subnets", {"subnet": {"network_id": network, **bad}})[0] in (400, 409)
    assert api("DELETE", f"ports/{port['id']}")[0] == 204
    assert api("DELETE", f"networks/{network}")[0] == 204


def test_a_port_gets_other_addresses_and_keeps_what_it_may(api: NetworkApi) -> None:
    network = api.make("networks", {"name": "n"})["id"]
    first, second = add_subnet(api, network, "10.7.0.0/24"), add_subnet(api, network, "10.8.0.0/24")
    port = api.make("ports", {"network_id": network, "fixed_ips": [{"subnet_id": first}]})
    had = port["fixed_ips"][0]["ip_address"]

    def change(**fields: Any) -> tuple[int, Any]:
        return api("PUT", f"ports/{port['id']}", {"port": fields})

    _, body = change(fixed_ips=[{"subnet_id": first}, {"ip_address": "10.8.0.50"}])
    assert [ip["ip_address"] for ip in body["port"]["fixed_ips"]] == [had, "10.8.0.50"]
    assert change(fixed_ips=[{"ip_address": "10.9.0.1"}])[0] == 400
    other = api.make("ports", {"network_id": network, "fixed_ips": [{"ip_address": "10.8.0.60"}]})
    assert change(fixed_ips=[{"ip_address": "10.8.0.60"}])[0] == 409
    assert change(fixed_ips=[{"subnet_id": second}])[1]["port"]["fixed_ips"] == [
        {"subnet_id": second, "ip_address": "10.8.0.50"}
    ]
    assert change(fixed_ips=[])[1]["port"]["fixed_ips"] == []
    assert change(mac_address="fa:16:3e:00:00:77")[0] == 403
    pair = {"ip_address": "10.7.0.0/28", "mac_address": port["mac_address"]}
    assert change(allowed_address_pairs=[{"ip_address": "10.7.0.0/28"}])[1]["port"]["allowed_address_pairs"] == [pair]
    assert change(allowed_address_pairs=[pair, pair])[0] == 400
    assert change(port_security_enabled=False)[0] == 409
    _, body = change(port_security_enabled=False, security_groups=[], allowed_address_pairs=[])
    assert body["port"]["port_security_enabled"] is False
    for one in (port, other):
        assert api("DELETE", f"ports/{one['id']}")[0] == 204
    assert api("DELETE", f"networks/{network}")[0] == 204
