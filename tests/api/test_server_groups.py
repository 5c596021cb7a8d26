"""Server groups: both shapes of the body, what is refused, whose they are, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest

from cellcloud import errors
from cellcloud.db import server_groups as table
from tests.api.world import DEMO, IMAGE, World

GROUPS = "/os-server-groups"
NEW = "2.64"
NOBODY = "00000000-0000-0000-0000-0000000000ff"


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


SPELLINGS = ("os:scheduler_hints", "OS-SCH-HNT:scheduler_hints")
SERVER = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}


def create(world: World, group: Any, *, spelling: str = SPELLINGS[0], status: int = 202, **server: Any) -> Any:
    """Make servers in a group; returns the answer."""
    token = server.pop("token", "member")
    body = {"server": {**SERVER, **server}, spelling: {"group": group}}
    answer = ask(world, "POST", "/servers", body, status=status, token=token)
    world.settle()
    return answer


def members(world: World, group_id: str) -> list[str]:
    return list(ask(world, "GET", f"{GROUPS}/{group_id}")["server_group"]["members"])


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_servers_are_made_in_a_group(world: World, spelling: str) -> None:
    group_id = make(world)["server_group"]["id"]
    first = create(world, group_id, spelling=spelling)["server"]["id"]
    second = create(world, [group_id.upper()], spelling=spelling)["server"]["id"]
    alone = create(world, [], spelling=spelling)["server"]["id"]
    assert members(world, group_id) == [first, second]
    listed = ask(world, "GET", GROUPS)["server_groups"]
    assert listed[0]["members"] == [first, second]
    for server_id, groups in ((first, [group_id]), (second, [group_id]), (alone, [])):
        path = f"/servers/{server_id}"
        shown = ask(world, "GET", path, version="2.71")["server"]
        assert shown["server_groups"] == groups
        assert ask(world, "PUT", path, {"server": {"name": "n"}}, version="2.71")["server"]["server_groups"] == groups
        assert "server_groups" not in ask(world, "GET", path, version="2.70")["server"]
        detail = ask(world, "GET", "/servers/detail", version="2.71")["servers"]
        assert not any("server_groups" in one for one in detail)
    assert ask(world, "GET", f"/servers/{first}", version="2.100")["server"]["scheduler_hints"] == {"group": group_id}
    ask(world, "DELETE", f"/servers/{first}", status=204)
    world.settle()
    assert members(world, group_id) == [second]


def test_what_no_server_is_made_in(world: World) -> None:
    theirs = make(world, token="other")["server_group"]["id"]
    mine = make(world)["server_group"]["id"]
    for given in ("g", 1, [mine, mine], None, {"id": mine}):
        create(world, given, status=400)
    for given in (theirs, NOBODY):
        refused = create(world, given, status=400)["badRequest"]["message"]
        assert refused == f"Instance group {given} could not be found."
    create(world, theirs, status=400, token="admin")
    both = {"server": SERVER, SPELLINGS[0]: {"group": mine}, SPELLINGS[1]: {"group": mine}}
    ask(world, "POST", "/servers", both, status=400)
    assert members(world, mine) == []


@pytest.mark.parametrize("user", [None, "demo-user"])
def test_no_more_members_than_the_quota_lets_be(world: World, user: str | None) -> None:
    path = f"/os-quota-sets/{DEMO}" + (f"?user_id={user}" if user else "")
    ask(world, "PUT", path, {"quota_set": {"server_group_members": 3}}, token="admin")
    group_id = make(world)["server_group"]["id"]
    create(world, group_id, min_count=2, max_count=2)
    refused = create(world, group_id, min_count=2, max_count=2, status=403)
    assert refused["forbidden"]["message"] == "Quota exceeded, too many servers in group"
    create(world, group_id)
    create(world, group_id, status=403)
    create(world, group_id, token="colleague")
    create(world, make(world)["server_group"]["id"])
    ask(world, "DELETE", f"/servers/{members(world, group_id)[0]}", status=204)
    world.settle()
    create(world, group_id)
    assert len(members(world, group_id)) == 4


def test_a_group_is_deleted_while_it_has_servers(world: World) -> None:
    group_id = make(world)["server_group"]["id"]
    server_id = create(world, group_id)["server"]["id"]
    ask(world, "DELETE", f"{GROUPS}/{group_id}", status=204)
    assert ask(world, "GET", f"/servers/{server_id}", version="2.71")["server"]["server_groups"] == []
    create(world, group_id, status=400)
    assert world.cell_of(server_id).servers[server_id].spec.group is not None
    ask(world, "POST", f"/servers/{server_id}/action", {"os-stop": None}, status=202)
    assert world.cell_of(server_id).servers[server_id].spec.group is None, "what moves a server is not to obey it"


def test_a_group_that_goes_while_a_request_is_read_is_not_found(world: World) -> None:
    with world.database.read() as connection, pytest.raises(errors.Invalid, match="could not be found"):
        table.check_members(connection, {(NOBODY, "u"): 1}, {(NOBODY, "u"): 10})
