"""Server groups: both shapes of the body, what is refused, whose they are, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import DEMO, World

GROUPS = "/os-server-groups"
NEW = "2.64"


def ask(world: World, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
    answer = world.call(method, path, body, **more)
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_json(silent=True)


def make(world: World, name: str = "g", policy: str = "anti-affinity", **more: Any) -> Any:
    return ask(world, "POST", GROUPS, {"server_group": {"name": name, "policy": policy}}, version=NEW, **more)


def test_both_shapes_of_one_group(world: World) -> None:
    given = {"name": " apart ", "policy": "anti-affinity", "rules": {"max_server_per_host": "3"}}
    made = ask(world, "POST", GROUPS, {"server_group": {**given, "name": "apart"}}, version=NEW)["server_group"]
    shared = {"id": made["id"], "name": "apart", "members": []}
    owned = {**shared, "project_id": DEMO, "user_id": "demo-user"}
    assert made == {**owned, "policy": "anti-affinity", "rules": {"max_server_per_host": 3}}
    old = {"policies": ["anti-affinity"], "metadata": {}}
    for version, shown in {
        "2.1": {**shared, **old},
        "2.13": {**owned, **old},
        "2.63": {**owned, **old},
        NEW: made,
    }.items():
        assert ask(world, "GET", f"{GROUPS}/{made['id']}", version=version)["server_group"] == shown
        assert ask(world, "GET", GROUPS, version=version)["server_groups"] == [shown]
    ask(world, "DELETE", f"{GROUPS}/{made['id']}", status=204)
    ask(world, "GET", f"{GROUPS}/{made['id']}", status=404)
    ask(world, "DELETE", f"{GROUPS}/{made['id']}", status=404)


@pytest.mark.parametrize(
    ("version", "given"),
    [
        ("2.14", {"policies": ["soft-affinity"]}),
        ("2.63", {"policy": "affinity"}),
        ("2.63", {"policies": []}),
        ("2.63", {"policies": ["affinity", "anti-affinity"]}),
        ("2.63", {"policies": ["legacy"]}),
        (NEW, {"policies": ["affinity"]}),
        (NEW, {"policy": "together"}),
        (NEW, {"policy": "affinity", "metadata": {}}),
        (NEW, {"policy": "affinity", "rules": {"max_server_per_host": 2}}),
        (NEW, {"policy": "soft-anti-affinity", "rules": {"max_server_per_host": 2}}),
        (NEW, {"policy": "anti-affinity", "rules": {"max_server_per_host": 0}}),
        (NEW, {"policy": "anti-affinity", "rules": {"others": 1}}),
        (NEW, {}),
        (NEW, {"policy": "affinity", "name": ""}),
    ],
)
def test_what_is_refused(world: World, version: str, given: dict[str, Any]) -> None:
    ask(world, "POST", GROUPS, {"server_group": {"name": "g", **given}}, version=version, status=400)


def test_groups_of_other_projects_are_not_found(world: World) -> None:
    mine, theirs = (make(world, token=token)["server_group"]["id"] for token in ("member", "other"))
    for method in ("GET", "DELETE"):
        ask(world, method, f"{GROUPS}/{theirs}", status=404)
    assert [one["id"] for one in ask(world, "GET", f"{GROUPS}?all_projects=1")["server_groups"]] == [mine]
    everyones = ask(world, "GET", f"{GROUPS}?all_projects=1", token="admin")["server_groups"]
    assert [one["id"] for one in everyones] == [mine, theirs]
    assert ask(world, "GET", f"{GROUPS}/{theirs}", token="admin")["server_group"]["name"] == "g"
    ask(world, "POST", GROUPS, {"server_group": {"name": "g", "policies": ["affinity"]}}, token="reader", status=403)


@pytest.mark.parametrize("user", [None, "demo-user"])
def test_no_more_groups_than_the_quota_lets_be(world: World, user: str | None) -> None:
    path = f"/os-quota-sets/{DEMO}" + (f"?user_id={user}" if user else "")
    ask(world, "PUT", path, {"quota_set": {"server_groups": 2}}, token="admin")
    first = make(world)["server_group"]["id"]
    make(world)
    refused = make(world, status=403)
    assert refused["forbidden"]["message"] == "Quota exceeded, too many server groups."
    used = ask(world, "GET", "/limits")["limits"]["absolute"]
    assert used["totalServerGroupsUsed"] == 2
    shown = ask(world, "GET", path.replace(DEMO, f"{DEMO}/detail"), token="admin")["quota_set"]["server_groups"]
    assert shown == {"limit": 2, "in_use": 2, "reserved": 0}
    ask(world, "PUT", path, {"quota_set": {"server_groups": 1}}, token="admin", status=400)
    ask(world, "DELETE", f"{GROUPS}/{first}", status=204)
    make(world)
    make(world, token="colleague", status=403 if user is None else 200)
