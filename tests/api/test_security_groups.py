"""Security groups in the Compute API: Nova's own words up to 2.35, and the groups of servers at every microversion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import DEMO, OTHER, World, port_of

NOWHERE = "00000000-0000-4000-8000-00000000000f"


def ask(world: World, method: str, path: str, body: Any = None, version: str | None = None) -> tuple[int, Any]:
    answer = world.call(method, path, body, version=version)
    return answer.status_code, answer.get_json() if answer.data else None


def make_group(world: World, name: str) -> dict[str, Any]:
    body = {"security_group": {"name": name, "description": f"of {name}"}}
    status, made = ask(world, "POST", "/os-security-groups", body)
    assert status == 200
    group: dict[str, Any] = made["security_group"]
    return group


def with_ports(world: World) -> str:
    """A server that has a port in the embedded network service."""
    server_id = world.create()
    port_of(world, server_id)
    return server_id


def test_a_group_is_made_shown_changed_and_deleted(world: World) -> None:
    made = make_group(world, "web")
    assert made == {"id": made["id"], "name": "web", "description": "of web", "tenant_id": DEMO, "rules": []}
    path = f"/os-security-groups/{made['id']}"
    assert ask(world, "GET", path) == (200, {"security_group": made})
    _, listed = ask(world, "GET", "/os-security-groups")
    assert [group["name"] for group in listed["security_groups"]] == ["default", "web"]
    assert [g["name"] for g in ask(world, "GET", "/os-security-groups?limit=1&offset=1")[1]["security_groups"]] == [
        "web"
    ]
    world.get("/os-security-groups", token="other", version="2.1")
    for token, projects in (("admin", {DEMO, OTHER}), ("member", {DEMO})):
        listed = world.get("/os-security-groups?all_tenants=1", token=token, version="2.1").get_json()
        assert {group["tenant_id"] for group in listed["security_groups"]} == projects
    body = {"security_group": {"name": "other", "description": ""}}
    assert ask(world, "PUT", path, body) == (200, {"security_group": made | body["security_group"]})
    assert ask(world, "DELETE", path) == (202, None)
    assert ask(world, "DELETE", path)[0] == 404
    (default,) = ask(world, "GET", "/os-security-groups")[1]["security_groups"]
    assert ask(world, "DELETE", f"/os-security-groups/{default['id']}")[0] == 400
    assert default["rules"][0]["group"] == {"name": "default", "tenant_id": DEMO}
    for wrong in ({}, {"name": "x"}, {"name": "x" * 256, "description": ""}, {"name": 5, "description": ""}):
        assert ask(world, "POST", "/os-security-groups", {"security_group": wrong})[0] == 400
    for path, status in (("no-uuid", 400), (NOWHERE, 404)):
        assert ask(world, "GET", f"/os-security-groups/{path}")[0] == status


RULES: list[tuple[dict[str, Any], tuple[Any, Any, Any]]] = [
    ({"ip_protocol": "tcp", "from_port": 22, "to_port": 22}, ("tcp", 22, 22)),
    ({"ip_protocol": "TCP", "from_port": "1", "to_port": "65535", "cidr": "10.0.0.0/8"}, ("tcp", 1, 65535)),
    ({"ip_protocol": "icmp", "from_port": -1, "to_port": -1}, ("icmp", -1, -1)),
    ({"ip_protocol": "icmp", "from_port": 8, "to_port": -1}, ("icmp", 8, None)),
    ({"ip_protocol": "udp", "group_id": "own"}, ("udp", 1, 65535)),
    ({"group_id": "own"}, (None, None, None)),
]
WRONG: list[dict[str, Any]] = [
    {"ip_protocol": "tcp", "from_port": 2, "to_port": 1},
    {"ip_protocol": "tcp", "from_port": 0, "to_port": 1},
    {"ip_protocol": "tcp", "from_port": 1, "to_port": 65536},
    {"ip_protocol": "tcp", "from_port": "x", "to_port": 1},
    {"ip_protocol": "icmp", "from_port": 256, "to_port": 1},
    {"ip_protocol": "pigeon", "from_port": 1, "to_port": 1},
    {"ip_protocol": "tcp", "from_port": 1, "to_port": 1, "cidr": "10.0.0.0/33"},
    {"ip_protocol": "tcp", "from_port": 1, "to_port": 1, "cidr": "10.0.0.0/0"},
    {"ip_protocol": "tcp"},
    {},
]


@pytest.mark.parametrize(("wanted", "shown"), RULES)
def test_a_rule_in_novas_words(world: World, wanted: dict[str, Any], shown: tuple[Any, Any, Any]) -> None:
    group = make_group(world, "g")["id"]
    rule = {"parent_group_id": group, **wanted} | ({"group_id": group} if "group_id" in wanted else {})
    status, body = ask(world, "POST", "/os-security-group-rules", {"security_group_rule": rule})
    assert status == 200
    made = body["security_group_rule"]
    assert (made["ip_protocol"], made["from_port"], made["to_port"]) == shown
    assert bool(made["group"]) != bool(made["ip_range"])
    assert ask(world, "GET", f"/os-security-groups/{group}")[1]["security_group"]["rules"] == [made]
    assert ask(world, "POST", "/os-security-group-rules", {"security_group_rule": rule})[0] == 400
    assert ask(world, "DELETE", f"/os-security-group-rules/{made['id']}") == (202, None)
    assert ask(world, "DELETE", f"/os-security-group-rules/{made['id']}")[0] == 404


def test_wrong_rules(world: World) -> None:
    group = make_group(world, "g")["id"]
    for wanted in WRONG:
        rule = {"parent_group_id": group, **wanted}
        assert ask(world, "POST", "/os-security-group-rules", {"security_group_rule": rule})[0] == 400, wanted
    good = {"ip_protocol": "tcp", "from_port": 1, "to_port": 1}
    for rule, status in (
        (good | {"parent_group_id": NOWHERE}, 404),
        (good | {"parent_group_id": "no-uuid"}, 400),
        (good | {"parent_group_id": group, "group_id": NOWHERE}, 404),
    ):
        assert ask(world, "POST", "/os-security-group-rules", {"security_group_rule": rule})[0] == status
    assert ask(world, "DELETE", "/os-security-group-rules/no-uuid")[0] == 400


@pytest.mark.parametrize("version", ["2.1", "2.36", "2.100"])
def test_a_server_is_put_into_groups_and_out_of_them(world: World, version: str) -> None:
    server_id = with_ports(world)
    web, twin = make_group(world, "web"), make_group(world, "twin")

    def act(action: str, name: str) -> int:
        return ask(world, "POST", f"/servers/{server_id}/action", {action: {"name": name}}, version)[0]

    def groups() -> tuple[list[str], list[str]]:
        _, listed = ask(world, "GET", f"/servers/{server_id}/os-security-groups", version=version)
        _, shown = ask(world, "GET", f"/servers/{server_id}", version=version)
        return (
            [group["name"] for group in listed["security_groups"]],
            sorted(group["name"] for group in shown["server"]["security_groups"]),
        )

    assert groups() == (["default"], ["default"])
    assert act("addSecurityGroup", "web") == 202
    assert act("addSecurityGroup", twin["id"]) == 202
    assert act("addSecurityGroup", "web") == 202
    assert groups() == (["default", "twin", "web"], ["default", "twin", "web"])
    assert ask(world, "DELETE", f"/os-security-groups/{web['id']}")[0] == 400, "in use"
    assert act("removeSecurityGroup", "web") == 202
    assert act("removeSecurityGroup", "web") == 404
    assert groups() == (["default", "twin"], ["default", "twin"])
    assert act("addSecurityGroup", "absent") == 404
    assert act("removeSecurityGroup", "absent") == 404
    assert act("addSecurityGroup", " ") == 400
    make_group(world, "twin")
    assert act("addSecurityGroup", "twin") == 409


def test_a_server_without_ports_has_no_groups(world: World) -> None:
    server_id = world.create()
    assert ask(world, "GET", f"/servers/{server_id}/os-security-groups") == (200, {"security_groups": []})
    body = {"addSecurityGroup": {"name": "default"}}
    assert ask(world, "POST", f"/servers/{server_id}/action", body)[0] == 400
    assert ask(world, "GET", f"/servers/{NOWHERE}/os-security-groups")[0] == 404
