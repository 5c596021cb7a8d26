"""Policies that let other projects use networks and security groups: who sees and uses what, what is in use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cellcloud.model.network_sharing import find_losers
from tests.embedded_cloud import PASSWORDS, make_cloud, make_top_database
from tests.network_api import NetworkApi, add_member

ABSENT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkApi]:
    """Asked by demo, by admin, and by a member of the project "other"."""
    folder = tmp_path_factory.mktemp("sharing")
    database = make_top_database(folder / "top.db")
    cloud = make_cloud(database, folder)
    other = add_member(cloud, "other")
    tokens = {"demo": cloud.token("demo", PASSWORDS.demo), "admin": cloud.token("admin", PASSWORDS.admin)}
    yield NetworkApi(cloud, tokens | {"other": other})
    database.close()


@pytest.fixture
def network(api: NetworkApi) -> str:
    """A network of demo's with a subnet."""
    made = api.make("networks", {"name": "n"})
    api.make("subnets", {"network_id": made["id"], "cidr": "10.9.0.0/24", "ip_version": 4})
    return str(made["id"])


def ids(answer: tuple[int, Any], kind: str) -> set[str]:
    assert answer[0] == 200, answer
    return {one["id"] for one in answer[1][kind]}


def policy(api: NetworkApi, object_id: str, target: str, *, who: str = "demo", **more: str) -> tuple[int, Any]:
    wanted = {"object_type": "network", "action": "access_as_shared", "object_id": object_id, "target_tenant": target}
    return api("POST", "rbac-policies", {"rbac_policy": wanted | more}, who=who)


def kind(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["NeutronError"]["type"]


def test_a_network_is_seen_and_used_while_a_policy_says_so(api: NetworkApi, network: str) -> None:
    other = api.cloud.project("other")
    assert network not in ids(api("GET", "networks", who="other"), "networks")
    status, body = policy(api, network, other)
    assert status == 201, body
    made = body["rbac_policy"]
    assert made["target_tenant"] == other
    assert made["project_id"] == made["tenant_id"] == api.cloud.project("demo")
    assert api("GET", f"rbac-policies/{made['id']}")[1]["rbac_policy"] == made
    assert kind(policy(api, network, other)) == (409, "DuplicateRbacPolicy")
    # Seen as shared by the other project, and by no one else.
    for query in ("networks", "networks?shared=true"):
        assert network in ids(api("GET", query, who="other"), "networks")
    assert api("GET", f"networks/{network}", who="other")[1]["network"]["shared"] is True
    assert api("GET", f"networks/{network}")[1]["network"]["shared"] is False
    assert network not in ids(api("GET", "networks?shared=true"), "networks")
    assert len(api("GET", f"subnets?network_id={network}", who="other")[1]["subnets"]) == 1
    # Used, not changed; its owner sees what is on it and may take that away, not change it.
    assert api("DELETE", f"networks/{network}", who="other")[0] == 403
    port = api.make("ports", {"network_id": network}, who="other")["id"]
    assert port in ids(api("GET", f"ports?network_id={network}"), "ports")
    assert api("GET", f"ports/{port}")[0] == 200
    assert kind(api("PUT", f"ports/{port}", {"port": {"name": "mine"}})) == (403, "PolicyNotAuthorized")
    # Nobody loses what it uses.
    assert kind(api("DELETE", f"rbac-policies/{made['id']}")) == (409, "RbacPolicyInUse")
    elsewhere = {"rbac_policy": {"target_tenant": "0" * 32}}
    assert kind(api("PUT", f"rbac-policies/{made['id']}", elsewhere)) == (409, "RbacPolicyInUse")
    assert api("DELETE", f"ports/{port}")[0] == 204
    assert api("PUT", f"rbac-policies/{made['id']}", elsewhere)[1]["rbac_policy"]["target_tenant"] == "0" * 32
    assert api("GET", f"networks/{network}", who="other")[0] == 404
    assert api("DELETE", f"rbac-policies/{made['id']}")[0] == 204
    assert kind(api("GET", f"rbac-policies/{made['id']}")) == (404, "RbacPolicyNotFound")


def test_what_is_for_everybody_is_a_policy_and_a_field(api: NetworkApi, network: str) -> None:
    assert kind(policy(api, network, "*")) == (403, "PolicyNotAuthorized")
    status, body = policy(api, network, "*", who="admin")
    assert status == 201, body
    assert api("GET", f"networks/{network}")[1]["network"]["shared"] is True
    port = api.make("ports", {"network_id": network}, who="other")["id"]
    hidden = {"network": {"shared": False}}
    assert kind(api("PUT", f"networks/{network}", hidden, who="admin")) == (409, "InvalidSharedSetting")
    assert kind(api("DELETE", f"rbac-policies/{body['rbac_policy']['id']}", who="admin")) == (409, "RbacPolicyInUse")
    # Another policy that lets the port's project use it is enough.
    status, one = policy(api, network, api.cloud.project("other"))
    assert status == 201, one
    assert api("PUT", f"networks/{network}", hidden, who="admin")[0] == 200
    left = api("GET", f"rbac-policies?object_id={network}", who="admin")[1]["rbac_policies"]
    assert [each["id"] for each in left] == [one["rbac_policy"]["id"]]
    assert api("PUT", f"networks/{network}", {"network": {"shared": True}}, who="admin")[0] == 200
    targets = api("GET", f"rbac-policies?object_id={network}&target_tenant=*", who="admin")[1]["rbac_policies"]
    assert [each["action"] for each in targets] == ["access_as_shared"]
    assert api("DELETE", f"ports/{port}", who="other")[0] == 204
    assert api("DELETE", f"networks/{network}")[0] == 204
    assert api("GET", f"rbac-policies?object_id={network}", who="admin")[1]["rbac_policies"] == []


def test_an_external_network_is_for_whom_policies_say(api: NetworkApi) -> None:
    other = api.cloud.project("other")
    whose = {"project_id": "f" * 32}
    outer = api.make("networks", {"name": "outer", "router:external": True} | whose, who="admin")["id"]
    api.make("subnets", {"network_id": outer, "cidr": "198.51.100.0/24", "ip_version": 4}, who="admin")
    (everybody,) = api("GET", f"rbac-policies?object_id={outer}", who="admin")[1]["rbac_policies"]
    assert (everybody["action"], everybody["target_tenant"]) == ("access_as_external", "*")
    router = api.make("routers", {"external_gateway_info": {"network_id": outer}}, who="other")["id"]
    assert kind(api("DELETE", f"rbac-policies/{everybody['id']}", who="admin")) == (409, "RbacPolicyInUse")
    status, body = policy(api, outer, other, who="admin", action="access_as_external")
    assert status == 201, body
    assert api("DELETE", f"rbac-policies/{everybody['id']}", who="admin")[0] == 204
    assert outer in ids(api("GET", "networks?router:external=true", who="other"), "networks")
    assert outer not in ids(api("GET", "networks"), "networks")
    assert api("POST", "routers", {"router": {"external_gateway_info": {"network_id": outer}}})[0] == 404
    assert api("POST", "floatingips", {"floatingip": {"floating_network_id": outer}})[0] == 404
    assert kind(api("POST", "ports", {"port": {"network_id": outer}}, who="other")) == (404, "NetworkNotFound")
    # With its last policy it is external no more; with one it is again.
    assert api("DELETE", f"routers/{router}", who="other")[0] == 204
    assert api("DELETE", f"rbac-policies/{body['rbac_policy']['id']}", who="admin")[0] == 204
    assert api("GET", f"networks/{outer}", who="admin")[1]["network"]["router:external"] is False
    assert policy(api, outer, "*", who="admin", action="access_as_external")[0] == 201
    assert api("GET", f"networks/{outer}")[1]["network"]["router:external"] is True
    assert api("DELETE", f"networks/{outer}", who="admin")[0] == 204


def test_a_security_group_is_used_while_a_policy_says_so(api: NetworkApi, network: str) -> None:
    other = api.cloud.project("other")
    group = api.make("security-groups", {"name": "g"})["id"]
    status, body = policy(api, group, other, object_type="security_group")
    assert status == 201, body
    shared = api("GET", "security-groups?shared=true", who="other")[1]["security_groups"]
    assert [(each["id"], each["shared"]) for each in shared] == [(group, True)]
    rule = {"security_group_rule": {"security_group_id": group, "direction": "ingress"}}
    for method, path, sent in (
        ("PUT", f"security-groups/{group}", {"security_group": {"name": "mine"}}),
        ("DELETE", f"security-groups/{group}", None),
        ("POST", "security-group-rules", rule),
    ):
        assert (path, api(method, path, sent, who="other")[0]) == (path, 403)
    theirs = api.make("networks", {"name": "theirs"}, who="other")["id"]
    port = api.make("ports", {"network_id": theirs, "security_groups": [group]}, who="other")["id"]
    assert kind(api("DELETE", f"rbac-policies/{body['rbac_policy']['id']}")) == (409, "RbacPolicyInUse")
    assert kind(api("DELETE", f"security-groups/{group}")) == (409, "SecurityGroupInUse")
    assert api("DELETE", f"ports/{port}", who="other")[0] == 204
    assert api("DELETE", f"rbac-policies/{body['rbac_policy']['id']}")[0] == 204
    used = {"port": {"network_id": theirs, "security_groups": [group]}}
    assert kind(api("POST", "ports", used, who="other")) == (404, "SecurityGroupNotFound")
    assert api("DELETE", f"security-groups/{group}")[0] == 204


BAD: list[tuple[dict[str, Any], str, tuple[int, str]]] = [
    ({"object_type": "router"}, "demo", (400, "InvalidInput")),
    ({"object_type": "qos_policy"}, "admin", (400, "InvalidInput")),
    ({"action": "access_as_owner"}, "demo", (400, "InvalidActionForType")),
    ({"object_type": "security_group", "action": "access_as_external"}, "demo", (400, "InvalidActionForType")),
    ({"object_id": ABSENT}, "demo", (404, "NetworkNotFound")),
    ({"object_type": "security_group", "object_id": ABSENT}, "demo", (404, "SecurityGroupNotFound")),
    ({}, "other", (404, "NetworkNotFound")),
    ({"target_tenant": "somebody"}, "demo", (400, "HTTPBadRequest")),
    ({"target_tenant": ""}, "demo", (400, "HTTPBadRequest")),
    ({"target_tenant": None}, "demo", (400, "HTTPBadRequest")),
    ({"target_tenant": "*", "action": "access_as_external"}, "demo", (403, "PolicyNotAuthorized")),
    ({"project_id": "0" * 32}, "demo", (403, "PolicyNotAuthorized")),
    ({"description": "x"}, "demo", (400, "HTTPBadRequest")),
]


def test_wrong_policies_are_refused(api: NetworkApi, network: str) -> None:
    for changed, who, expected in BAD:
        wanted = {
            "object_type": "network",
            "object_id": network,
            "action": "access_as_shared",
            "target_tenant": "1" * 32,
        }
        answer = api("POST", "rbac-policies", {"rbac_policy": wanted | changed}, who=who)
        assert (changed, who, kind(answer)) == (changed, who, expected)
    assert api("GET", f"rbac-policies?object_id={network}")[1]["rbac_policies"] == []
    assert kind(api("GET", "rbac-policies?colour=red")) == (400, "HTTPBadRequest")


def test_policies_are_made_many_at_once_paged_and_counted(api: NetworkApi, network: str) -> None:
    body = {"object_type": "network", "object_id": network, "action": "access_as_shared"}
    wanted = [body | {"target_tenant": f"{number:032x}"} for number in range(1, 6)]
    status, made = api("POST", "rbac-policies", {"rbac_policies": wanted})
    assert status == 201, made
    many = [body | {"target_tenant": f"{number:032x}"} for number in range(6, 12)]
    assert kind(api("POST", "rbac-policies", {"rbac_policies": many})) == (409, "OverQuota")
    details = api("GET", f"quotas/{api.cloud.project('demo')}/details.json")[1]["quota"]["rbac_policy"]
    assert details == {"limit": 10, "used": 5, "reserved": 0}
    seen, path = [], f"rbac-policies?object_id={network}&limit=2&sort_key=target_tenant&sort_dir=desc"
    while path:
        answer = api("GET", path)[1]
        seen += [each["target_tenant"] for each in answer["rbac_policies"]]
        following = [link["href"] for link in answer.get("rbac_policies_links", ()) if link["rel"] == "next"]
        path = following[0].partition("/v2.0/")[2] if following else ""
    assert seen == [one["target_tenant"] for one in reversed(wanted)]
    assert api("DELETE", f"networks/{network}")[0] == 204
    details = api("GET", f"quotas/{api.cloud.project('demo')}/details.json")[1]["quota"]["rbac_policy"]
    assert details["used"] == 0


def test_who_loses_what_it_uses() -> None:
    for going, staying, expected in (
        ("a", set(), {"a"}),
        ("a", {"*"}, set()),
        ("c", set(), set()),
        ("*", {"a"}, {"b"}),
        ("*", {"a", "b"}, set()),
        ("*", set(), {"a", "b"}),
        ("owner", set(), set()),
    ):
        assert find_losers(going, staying, owner="owner", users={"owner", "a", "b"}) == expected
