"""Security groups over HTTP, as Neutron answers: groups, rules, their validation, the default group, what is in use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.embedded_cloud import PASSWORDS, make_cloud, make_top_database
from tests.network_api import NetworkApi


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkApi]:
    folder = tmp_path_factory.mktemp("groups")
    database = make_top_database(folder / "top.db")
    cloud = make_cloud(database, folder)
    yield NetworkApi(
        cloud, {"demo": cloud.token("demo", PASSWORDS.demo), "admin": cloud.token("admin", PASSWORDS.admin)}
    )
    database.close()


@pytest.fixture
def group(api: NetworkApi) -> Iterator[str]:
    made = api.make("security-groups", {"name": "g"})
    yield made["id"]
    assert api("DELETE", f"security-groups/{made['id']}")[0] == 204


def rule(api: NetworkApi, group_id: str, **more: Any) -> tuple[int, Any]:
    body = {"security_group_id": group_id, "direction": "ingress", **more}
    return api("POST", "security-group-rules", {"security_group_rule": body})


# what is sent besides group and direction -> what is shown
GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"ethertype": "IPv4", "protocol": None, "port_range_min": None, "remote_ip_prefix": None}),
    ({"ethertype": "ipv6"}, {"ethertype": "IPv6"}),
    ({"protocol": "TCP", "port_range_min": 22, "port_range_max": 22}, {"protocol": "tcp", "port_range_max": 22}),
    ({"protocol": "tcp", "port_range_min": "80", "port_range_max": "81"}, {"port_range_min": 80}),
    ({"protocol": 17}, {"protocol": "17"}),
    ({"protocol": "tcp", "port_range_min": 1, "port_range_max": 65535}, {"port_range_min": None}),
    ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}, {"port_range_min": 8, "port_range_max": 0}),
    ({"protocol": "icmp", "port_range_min": 11}, {"port_range_min": 11, "port_range_max": None}),
    ({"protocol": "icmpv6", "ethertype": "IPv6"}, {"protocol": "ipv6-icmp"}),
    ({"remote_ip_prefix": "10.1.2.3"}, {"remote_ip_prefix": "10.1.2.3/32", "normalized_cidr": "10.1.2.3/32"}),
    ({"remote_ip_prefix": "10.1.2.3/8"}, {"remote_ip_prefix": "10.1.2.3/8", "normalized_cidr": "10.0.0.0/8"}),
    ({"remote_ip_prefix": "2001:db8::/32", "ethertype": "IPv6"}, {"normalized_cidr": "2001:db8::/32"}),
    ({"protocol": "vrrp", "direction": "egress"}, {"direction": "egress"}),
]
BAD: list[dict[str, Any]] = [
    {"direction": "sideways"},
    {"ethertype": "ARP"},
    {"protocol": "carrier-pigeon"},
    {"protocol": 256},
    {"protocol": -1},
    {"port_range_min": 1, "port_range_max": 2},
    {"protocol": "tcp", "port_range_min": 2, "port_range_max": 1},
    {"protocol": "tcp", "port_range_min": 0, "port_range_max": 1},
    {"protocol": "tcp", "port_range_min": 5},
    {"protocol": "tcp", "port_range_min": 5, "port_range_max": 65536},
    {"protocol": "tcp", "port_range_min": "x", "port_range_max": 6},
    {"protocol": "icmp", "port_range_min": 256},
    {"protocol": "icmp", "port_range_max": 3},
    {"protocol": "gre", "port_range_min": 1, "port_range_max": 2},
    {"protocol": "ipv6-icmp"},
    {"protocol": "58"},
    {"remote_ip_prefix": "10.0.0.0/33"},
    {"remote_ip_prefix": "fe80::/64"},
    {"remote_ip_prefix": "everywhere"},
    {"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "own"},
    {"remote_address_group_id": "x"},
]


@pytest.mark.parametrize(("sent", "shown"), GOOD)
def test_a_rule_is_shown_in_its_canonical_form(
    api: NetworkApi, group: str, sent: dict[str, Any], shown: dict[str, Any]
) -> None:
    status, body = rule(api, group, **sent)
    assert status == 201
    made = body["security_group_rule"]
    assert {name: made[name] for name in shown} == shown
    assert api("GET", f"security-group-rules/{made['id']}")[1]["security_group_rule"] == made
    assert made in api("GET", f"security-groups/{group}")[1]["security_group"]["security_group_rules"]
    status, error = rule(api, group, **sent)
    assert (status, error["NeutronError"]["message"]) == (
        409,
        f"Security group rule already exists. Rule id is {made['id']}.",
    )
    assert api("DELETE", f"security-group-rules/{made['id']}") == (204, None)
    assert api("GET", f"security-group-rules/{made['id']}")[0] == 404


@pytest.mark.parametrize("sent", BAD)
def test_a_wrong_rule_is_refused(api: NetworkApi, group: str, sent: dict[str, Any]) -> None:
    sent = sent | ({"remote_group_id": group} if sent.get("remote_group_id") == "own" else {})
    before = api("GET", f"security-groups/{group}")
    assert rule(api, group, **sent)[0] == 400
    assert api("GET", f"security-groups/{group}") == before


def test_the_same_rule_in_other_words_is_the_same_rule(api: NetworkApi, group: str) -> None:
    for first, *others in (
        ({"protocol": "tcp"}, {"protocol": 6}, {"protocol": "6", "remote_ip_prefix": "0.0.0.0/0"}),
        ({"protocol": "58", "ethertype": "IPv6"}, {"protocol": "icmp", "ethertype": "IPv6"}),
    ):
        assert rule(api, group, **first)[0] == 201
        assert [rule(api, group, **other)[0] for other in others] == [409] * len(others)
    twice = [{"security_group_id": group, "direction": "egress", "protocol": "udp"}] * 2
    assert api("POST", "security-group-rules", {"security_group_rules": twice})[0] == 409


def test_groups_and_ports_that_need_each_other(api: NetworkApi) -> None:
    first, second = (api.make("security-groups", {"name": name}) for name in ("first", "second"))
    assert [r["direction"] for r in first["security_group_rules"]] == ["egress", "egress"]
    for absent in ("bad_group_id", "00000000-0000-4000-8000-000000000000"):
        assert rule(api, first["id"], remote_group_id=absent)[0] == 404
        assert rule(api, absent)[0] == 404
    assert rule(api, first["id"], remote_group_id=second["id"])[0] == 201
    network = api.make("networks", {"name": "n"})["id"]
    groups = [second["id"], first["id"]]
    port = api.make("ports", {"network_id": network, "security_groups": groups})
    assert port["security_groups"] == groups
    assert [one["id"] for one in api("GET", f"ports?security_groups={first['id']}")[1]["ports"]] == [port["id"]]
    assert api("DELETE", f"security-groups/{second['id']}")[0] == 409
    assert api("PUT", f"security-groups/{second['id']}", {"security_group": {"stateful": False}})[0] == 400
    assert api("PUT", f"ports/{port['id']}", {"port": {"security_groups": [first["id"]]}})[0] == 200
    assert api("DELETE", f"security-groups/{second['id']}")[0] == 204
    rules = api("GET", f"security-groups/{first['id']}")[1]["security_group"]["security_group_rules"]
    assert len(rules) == 2, "the rule that named the other group went with it"
    assert api("DELETE", f"ports/{port['id']}")[0] == 204
    assert api("DELETE", f"security-groups/{first['id']}")[0] == 204
    assert api("DELETE", f"networks/{network}")[0] == 204


def test_the_default_group_is_made_once(api: NetworkApi) -> None:
    project = api.cloud.identity.directory.create_project("fresh").id
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: api.cloud.networks.security_groups.ensure_default(project), range(16)))
    assert len(ids) == 1
    (default,) = api("GET", f"security-groups?project_id={project}", who="admin")[1]["security_groups"]
    directions = sorted((r["direction"], r["ethertype"], r["remote_group_id"]) for r in default["security_group_rules"])
    assert directions == [
        ("egress", "IPv4", None),
        ("egress", "IPv6", None),
        ("ingress", "IPv4", default["id"]),
        ("ingress", "IPv6", default["id"]),
    ]
    (own,) = api("GET", "security-groups?name=default")[1]["security_groups"]
    assert api("DELETE", f"security-groups/{own['id']}")[0] == 409
    assert api("PUT", f"security-groups/{own['id']}", {"security_group": {"name": "x"}})[0] == 409
    assert api("PUT", f"security-groups/{own['id']}", {"security_group": {"description": "d"}})[0] == 200
    assert api("POST", "security-groups", {"security_group": {"name": "default"}})[0] == 409
    assert api("GET", f"security-groups/{default['id']}")[0] == 404, "another project's"
    assert api("GET", f"security-group-rules?security_group_id={default['id']}")[1] == {"security_group_rules": []}


def test_limits_of_groups_and_rules(api: NetworkApi) -> None:
    project = api.cloud.project("demo")
    used = len(api("GET", "security-groups")[1]["security_groups"])
    limits = {"security_group": used + 1, "security_group_rule": -1}
    assert api("PUT", f"quotas/{project}", {"quota": limits}, who="admin")[0] == 200
    made = api.make("security-groups", {"name": "last"})
    status, error = api("POST", "security-groups", {"security_group": {"name": "too many"}})
    assert (status, error["NeutronError"]["type"]) == (409, "OverQuota")
    details = api("GET", f"quotas/{project}/details.json", who="admin")[1]["quota"]
    limits["security_group_rule"] = details["security_group_rule"]["used"]
    assert api("PUT", f"quotas/{project}", {"quota": limits}, who="admin")[0] == 200
    assert rule(api, made["id"])[0] == 409
    assert api("DELETE", f"quotas/{project}", who="admin")[0] == 204
    assert api("DELETE", f"security-groups/{made['id']}")[0] == 204


@pytest.mark.parametrize("kind", ["networks", "security-groups", "routers"])
def test_tags_are_given_taken_and_filtered_by(api: NetworkApi, kind: str) -> None:
    first, second = (api.make(kind, {"name": f"tagged-{number}"}) for number in range(2))
    path = f"{kind}/{first['id']}/tags"
    assert api("GET", path) == (200, {"tags": []})
    assert api("PUT", path, {"tags": ["red", "blue", "red"]})[0] == 400
    assert api("PUT", path, {"tags": ["red", "blue"]}) == (200, {"tags": ["red", "blue"]})
    assert api("PUT", f"{path}/green")[0] == 201
    assert api("PUT", f"{kind}/{second['id']}/tags", {"tags": ["blue"]})[0] == 200
    assert (api("GET", f"{path}/green")[0], api("GET", f"{path}/black")[0]) == (204, 404)
    name = kind.replace("-", "_")
    for query, found in (
        ("tags=red,blue", [first["id"]]),
        ("tags-any=red,blue", [first["id"], second["id"]]),
        ("not-tags=red,blue&name=tagged-0&name=tagged-1", [second["id"]]),
        ("not-tags-any=red&name=tagged-0&name=tagged-1", [second["id"]]),
    ):
        assert sorted(one["id"] for one in api("GET", f"{kind}?{query}")[1][name]) == sorted(found), query
    assert (api("DELETE", f"{path}/red")[0], api("DELETE", f"{path}/red")[0]) == (204, 404)
    shown = api("GET", f"{kind}/{first['id']}")[1][name.removesuffix("s")]
    assert shown["tags"] == ["blue", "green"]
    assert shown["revision_number"] > first["revision_number"]
    assert api("DELETE", path)[0] == 204
    assert api("GET", path) == (200, {"tags": []})
    assert api("PUT", path, {"tags": ["x" * 61]})[0] == 400
    assert api("GET", f"{kind}/absent/tags")[0] == 404
    before = api("GET", path)[1]["tags"]
    assert api("POST", path, {"tags": ["more", *before]}) == (201, {"tags": [*before, "more"]})
    assert api("POST", path, {"tags": [str(number) for number in range(50)]})[0] == 400
    assert api("GET", path)[1]["tags"] == [*before, "more"]
    for one in (first, second):
        assert api("DELETE", f"{kind}/{one['id']}")[0] == 204
