"""One resolver of limits: what is set for a project or its class is shown everywhere, and counts."""

from __future__ import annotations

from typing import Any

import pytest

from cellcloud.db import quotas
from tests.api.test_resources import KEY
from tests.api.world import DEMO, IMAGE, OTHER, World

SERVER = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}
SET = "quota_set"
KEPT = ("instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups", "server_group_members")
NOT_KEPT = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes", "fixed_ips", "floating_ips",
            "security_groups", "security_group_rules")  # fmt: skip
IN_LIMITS = {
    "instances": "maxTotalInstances", "cores": "maxTotalCores", "ram": "maxTotalRAMSize",
    "key_pairs": "maxTotalKeypairs", "metadata_items": "maxServerMeta", "server_groups": "maxServerGroups",
    "server_group_members": "maxServerGroupMembers",
}  # fmt: skip


def put(world: World, body: dict[str, Any], project: str = DEMO, **more: Any) -> Any:
    return world.call("PUT", f"/os-quota-sets/{project}", {SET: body}, token="admin", **more)


def put_class(world: World, body: dict[str, Any], name: str = "default", **more: Any) -> Any:
    return world.call("PUT", f"/os-quota-class-sets/{name}", {"quota_class_set": body}, token="admin", **more)


def shown(world: World, project: str = DEMO) -> dict[str, Any]:
    return dict(world.get(f"/os-quota-sets/{project}", token="admin").get_json()[SET])


def over(world: World, name: str) -> int:
    """The status of what is one more than a limit of one."""
    if name == "key_pairs":
        pairs = [{"keypair": {"name": f"k{n}", "public_key": KEY}} for n in range(2)]
        return [world.post("/os-keypairs", pair).status_code for pair in pairs][1]
    if name == "metadata_items":
        server_id = world.create(metadata={"a": "b"})
        found = {world.post("/servers", {"server": {**SERVER, "metadata": {"a": "b", "c": "d"}}}).status_code}
        found.add(world.post(f"/servers/{server_id}/metadata", {"metadata": {"c": "d"}}).status_code)
        found.add(world.call("PUT", f"/servers/{server_id}/metadata", {"metadata": {"c": "d", "e": "f"}}).status_code)
        found.add(world.call("PUT", f"/servers/{server_id}/metadata/c", {"meta": {"c": "d"}}).status_code)
        assert len(found) == 1, found
        return found.pop()
    if name == "ram":
        return world.post("/servers", {"server": SERVER}).status_code
    return [world.post("/servers", {"server": SERVER}).status_code for _ in range(2)][1]


@pytest.mark.parametrize("way", ["project", "class"])
@pytest.mark.parametrize("name", KEPT)
def test_a_limit_is_shown_and_counts_wherever_it_is_set(world: World, name: str, way: str) -> None:
    answer = put(world, {name: 1}) if way == "project" else put_class(world, {name: 1}, version="2.50")
    assert answer.status_code == 200, answer.text
    assert shown(world)[name] == 1
    assert world.get("/limits").get_json()["limits"]["absolute"][IN_LIMITS[name]] == 1
    assert world.get(f"/os-quota-sets/{DEMO}/detail").get_json()[SET][name]["limit"] == 1
    assert (shown(world, OTHER)[name] == 1) is (way == "class")
    default = world.get(f"/os-quota-sets/{DEMO}/defaults").get_json()[SET][name]
    of_class = world.get("/os-quota-class-sets/default", token="admin", version="2.50").get_json()["quota_class_set"]
    assert (default == 1, of_class[name] == 1) == (way == "class", way == "class")
    if not name.startswith("server_group"):
        assert over(world, name) == 403


def test_a_project_s_own_limit_goes_before_its_class_s(world: World) -> None:
    put_class(world, {"key_pairs": 1, "cores": 2})
    put(world, {"key_pairs": 3})
    assert (shown(world)["key_pairs"], shown(world)["cores"], shown(world, OTHER)["key_pairs"]) == (3, 2, 1)
    assert world.call("DELETE", f"/os-quota-sets/{DEMO}", token="admin").status_code == 202
    assert shown(world)["key_pairs"] == 1


@pytest.mark.parametrize("name", NOT_KEPT)
def test_a_limit_that_would_not_be_kept_is_refused(world: World, name: str) -> None:
    assert put(world, {name: 7}).status_code == 400
    assert put_class(world, {name: 7}).status_code == 400
    assert put(world, {name: 7}, version="2.57").status_code == 400
    if name in shown(world):
        assert put(world, {name: shown(world)[name]}).status_code == 200


MINE = f"/os-quota-sets/{DEMO}?user_id=demo-user"
COUNTED = ("instances", "cores", "ram")
SIZES = {"instances": 1, "cores": 1, "ram": 512}  # of the flavor


def put_mine(world: World, body: dict[str, Any], path: str = MINE) -> int:
    return int(world.call("PUT", path, {SET: body}, token="admin").status_code)


def mine(world: World, more: str = "") -> dict[str, Any]:
    path = f"/os-quota-sets/{DEMO}{more}?user_id=demo-user"
    return dict(world.get(path, token="admin").get_json()[SET])


@pytest.mark.parametrize("name", KEPT)
def test_a_user_s_own_limit_is_shown_and_counts_for_that_user_alone(world: World, name: str) -> None:
    before = shown(world)
    limit = SIZES.get(name, 1)
    assert put_mine(world, {name: limit}) == 200
    assert mine(world) == {**before, name: limit}
    assert mine(world, "/detail")[name]["limit"] == limit
    assert shown(world) == before
    assert world.get(f"/os-quota-sets/{DEMO}?user_id=colleague-user", token="admin").get_json()[SET] == before
    if name.startswith("server_group"):
        return
    answers = [world.post("/servers", {"server": SERVER}) for _ in range(2)] if name in SIZES else []
    assert (answers[1].status_code if answers else over(world, name)) == 403
    if answers:
        assert answers[0].status_code == 202
        assert answers[1].get_json()["forbidden"]["message"] == (
            f"Quota exceeded for {name}: Requested {limit}, but already used {limit} of {limit} {name}"
        )
        assert world.post("/servers", {"server": SERVER}, token="colleague").status_code == 202
        assert mine(world, "/detail")[name] == {"limit": limit, "in_use": limit, "reserved": 0}
        server_id = answers[0].get_json()["server"]["id"]
        assert world.call("DELETE", f"/servers/{server_id}").status_code == 204
        world.settle()
        assert mine(world, "/detail")[name]["in_use"] == 0
        assert world.post("/servers", {"server": SERVER}).status_code == 202
    assert world.call("DELETE", MINE, token="admin").status_code == 202
    assert mine(world) == before
    if answers:
        assert world.post("/servers", {"server": SERVER}).status_code == 202


@pytest.mark.parametrize("name", COUNTED)
def test_what_a_user_had_before_the_limit_counts(world: World, name: str) -> None:
    world.create()
    world.create(token="colleague")
    assert put_mine(world, {name: SIZES[name] - 1}) == 400  # less than is used
    assert put_mine(world, {name: SIZES[name]}) == 200
    assert world.post("/servers", {"server": SERVER}).status_code == 403
    assert put_mine(world, {name: 2 * SIZES[name]}) == 200
    assert world.post("/servers", {"server": SERVER}).status_code == 202
    assert world.post("/servers", {"server": SERVER}).status_code == 403
    assert put_mine(world, {name: 0, "force": True}) == 200
    assert world.post("/servers", {"server": SERVER}).status_code == 403
    with world.database.read() as connection:
        assert quotas.recount(connection) == []


def test_a_request_for_several_gets_what_its_user_may_have(world: World) -> None:
    assert put_mine(world, {"instances": 3}) == 200
    body = {"server": {**SERVER, "min_count": 1, "max_count": 5}}
    assert world.post("/servers", body).status_code == 202
    assert mine(world, "/detail")["instances"]["in_use"] == 3


@pytest.mark.parametrize("name", ["cores", "key_pairs"])
def test_limits_of_users_are_within_the_project_s(world: World, name: str) -> None:
    other = MINE.replace("demo-user", "colleague-user")
    put(world, {name: 10})
    assert put_mine(world, {name: 11}) == 400
    assert put_mine(world, {name: -1}) == 400
    assert put_mine(world, {name: 6}) == 200
    assert put_mine(world, {name: 5}, other) == 400  # four are left
    assert put_mine(world, {name: 4}, other) == 200
    assert put_mine(world, {name: 7}) == 400
    assert put_mine(world, {name: 5}) == 200
    assert put(world, {name: 8}).status_code == 400  # less than its users have been given
    assert put(world, {name: 9}).status_code == 200
    assert put_mine(world, {name: 50, "force": True}) == 200
    assert mine(world)[name] == 50
    assert world.call("DELETE", f"/os-quota-sets/{DEMO}", token="admin").status_code == 202
    assert mine(world) == shown(world) == {**shown(world, OTHER), "id": DEMO}


def test_a_project_s_limit_counts_for_a_user_who_has_more(world: World) -> None:
    put(world, {"instances": 1, "key_pairs": 1, "metadata_items": 1})
    assert put_mine(world, {"instances": 5, "key_pairs": 5, "metadata_items": 5, "force": True}) == 200
    assert over(world, "instances") == 403
    assert over(world, "key_pairs") == 403
    world.call("PUT", f"/os-quota-sets/{DEMO}", {SET: {"instances": 10}}, token="admin")
    assert over(world, "metadata_items") == 403


def test_a_user_without_limits_costs_no_row(world: World) -> None:
    world.create()
    with world.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM user_quotas").scalar_one() == 0


def test_quotas_and_access_are_of_projects_that_there_are(world: World) -> None:
    path = "/os-quota-sets/missing"
    asked = [world.get(path + end, token="admin") for end in ("", "/detail", "/defaults")]
    asked.append(world.call("PUT", path, {SET: {"cores": 1}}, token="admin"))
    asked.append(world.post("/flavors/1/action", {"addTenantAccess": {"tenant": "missing"}}, token="admin"))
    for answer in asked:
        assert answer.status_code == 400
        assert answer.get_json()["badRequest"]["message"] == "Project ID missing is not a valid project."
    assert world.get(path).status_code == 403, "what there is is not told to whom it does not concern"
    assert world.call("DELETE", path, token="admin").status_code == 202, "what was set for one that is gone can go"


def test_who_may_set_a_class_and_which(world: World) -> None:
    assert world.get("/os-quota-class-sets/default").status_code == 403
    assert put_class(world, {"cores": 1}, "gold").status_code == 400
    old = world.get("/os-quota-class-sets/default", token="admin").get_json()["quota_class_set"]
    assert "server_groups" not in old
    assert old["id"] == "default"
