"""Deleted servers that can be restored for a while, and states that administrators reset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcloud.db import intents, quotas
from cellcloud.db.engine import Database
from cellcloud.model.intent import IntentKind
from cellcloud.model.operations import FIRST_VARIANTS, Operation
from cellcloud.server_states import PowerState, VmState
from tests.api.world import DEMO, World
from top_api.operations.server_in_cell import save_answer

ONE = {"instances": 1, "cores": 1, "ram": 512}
NONE = dict.fromkeys(ONE, 0)


@pytest.fixture
def world(top_database: Database, tmp_path: Path) -> Iterator[World]:
    world = World(top_database, tmp_path, reclaim=3600, instances=1)
    yield world
    world.close()


def used(world: World) -> dict[str, int]:
    with world.database.read() as connection:
        assert quotas.recount(connection) == []
        return quotas.list_usages(connection, DEMO)


def delete(world: World, server_id: str) -> None:
    assert world.call("DELETE", f"/servers/{server_id}").status_code == 204
    world.settle()


def act(world: World, server_id: str, name: str, *, token: str = "member", value: object = None) -> int:
    return world.post(f"/servers/{server_id}/action", {name: value}, token=token).status_code


def shown(world: World, server_id: str) -> tuple[str, str, str | None]:
    server = world.get(f"/servers/{server_id}").get_json()["server"]
    return server["status"], server["OS-EXT-STS:vm_state"], server["OS-EXT-STS:task_state"]


def test_a_deleted_server_counts_for_nothing_and_comes_back(world: World) -> None:
    server_id = world.create()
    delete(world, server_id)
    assert shown(world, server_id) == ("SOFT_DELETED", "soft-delete", None)
    assert used(world) == NONE
    delete(world, server_id)
    assert shown(world, server_id)[0] == "SOFT_DELETED"
    assert act(world, server_id, "os-start") == 409
    assert act(world, server_id, "restore") == 202
    assert shown(world, server_id) == ("ACTIVE", "active", None)
    assert used(world) == ONE
    assert act(world, server_id, "restore") == 409
    actions = world.get(f"/servers/{server_id}/os-instance-actions").get_json()["instanceActions"]
    assert [one["action"] for one in actions] == ["restore", "delete", "create"]


def test_a_server_is_restored_within_the_quota(world: World) -> None:
    first = world.create()
    delete(world, first)
    second = world.create()
    refused = world.post(f"/servers/{first}/action", {"restore": None})
    assert (refused.status_code, used(world)) == (403, ONE)
    assert refused.get_json()["forbidden"]["message"].startswith("Quota exceeded for instances: Requested 1")
    delete(world, second)
    assert act(world, first, "restore") == 202
    assert used(world) == ONE


def test_a_restore_that_the_cell_refuses_counts_nothing(world: World) -> None:
    server_id = world.create()
    delete(world, server_id)
    world.cell_of(server_id).change(server_id, vm_state=VmState.ACTIVE)  # and the index does not know yet
    assert act(world, server_id, "restore") == 409
    assert used(world) == NONE


def test_a_restore_that_fails_gives_the_quota_back(world: World) -> None:
    server_id = world.create()
    delete(world, server_id)
    cell = world.cell_of(server_id)
    cell.slow = True
    assert act(world, server_id, "restore") == 202
    assert shown(world, server_id) == ("SOFT_DELETED", "soft-delete", "restoring")
    assert used(world) == ONE
    save_answer(world.database, cell.change(server_id, task_state=None), cell.name)
    assert used(world) == NONE


def test_a_server_is_deleted_at_once_when_that_is_asked_or_it_never_ran(world: World) -> None:
    server_id = world.create()
    assert act(world, server_id, "forceDelete") == 202
    world.settle()
    assert world.get(f"/servers/{server_id}").status_code == 404
    server_id = world.create()
    delete(world, server_id)
    assert act(world, server_id, "forceDelete") == 202
    world.settle()
    assert world.get(f"/servers/{server_id}").status_code == 404
    world.holding = True
    waiting = world.create(wait=False)
    delete(world, waiting)
    assert world.get(f"/servers/{waiting}").status_code == 404
    assert used(world) == NONE


def test_a_delete_is_soft_also_where_its_cell_answers_later(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    cell.away = True
    delete(world, server_id)
    assert shown(world, server_id) == ("ACTIVE", "active", "soft-deleting")
    world.heal(cell)
    with world.database.read() as connection:
        intent = intents.find_intent(connection, server_id, IntentKind.SOFT_DELETE)
    assert intent is not None
    world.dispatcher.deliver([intent.id])
    world.settle()
    assert shown(world, server_id) == ("SOFT_DELETED", "soft-delete", None)


@pytest.mark.parametrize(
    ("token", "query", "found"),
    [
        ("member", "", ["living"]),
        ("member", "?status=SOFT_DELETED", []),
        ("member", "?deleted=1&status=SOFT_DELETED", []),  # no filter of theirs
        ("member", "?changes-since=2000-01-01T00:00:00Z", ["deleted", "living", "soft"]),
        ("admin", "?all_tenants=1", ["living"]),
        ("admin", "?all_tenants=1&soft_deleted=1", ["living", "soft"]),
        ("admin", "?all_tenants=1&status=SOFT_DELETED", []),
        ("admin", "?all_tenants=1&deleted=1&status=SOFT_DELETED", ["soft"]),
        ("admin", "?all_tenants=1&deleted=1", ["deleted", "soft"]),
        ("admin", "?all_tenants=1&deleted=1&soft_deleted=0", ["deleted"]),
        ("admin", "?all_tenants=1&deleted=0", ["living"]),
    ],
)
def test_lists_show_such_servers_where_nova_does(
    top_database: Database, tmp_path: Path, token: str, query: str, found: list[str]
) -> None:
    world = World(top_database, tmp_path, reclaim=3600)
    ids = {name: world.create(name) for name in ("living", "soft", "deleted")}
    delete(world, ids["soft"])
    assert act(world, ids["deleted"], "forceDelete") == 202
    world.settle()
    listed = world.get(f"/servers{query}", token=token).get_json()["servers"]
    assert sorted(one["name"] for one in listed) == found
    world.close()


def test_an_administrator_resets_a_state(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    stopping = FIRST_VARIANTS[Operation.STOP].task_state
    for state, status in (("error", "ERROR"), ("active", "ACTIVE")):
        save_answer(world.database, cell.change(server_id, task_state=stopping), cell.name)
        assert act(world, server_id, "os-resetState", value={"state": state}) == 403
        assert act(world, server_id, "os-resetState", token="admin", value={"state": state}) == 202
        assert shown(world, server_id) == (status, state, None)
    assert act(world, server_id, "os-resetState", token="admin", value={"state": "stopped"}) == 400
    assert act(world, server_id, "lock", token="admin") == 202
    assert act(world, server_id, "os-resetState", token="admin", value={"state": "error"}) == 202


def test_a_soft_deleted_server_whose_state_is_reset_counts_again(world: World) -> None:
    server_id = world.create()
    delete(world, server_id)
    assert act(world, server_id, "os-resetState", token="admin", value={"state": "active"}) == 202
    assert used(world) == ONE
    assert world.cell_of(server_id).servers[server_id].power_state == PowerState.SHUTDOWN


def test_a_restore_that_does_not_reach_the_cell_counts_nothing(world: World) -> None:
    server_id = world.create()
    delete(world, server_id)
    cell = world.cell_of(server_id)
    cell.away = True
    assert act(world, server_id, "restore") == 503
    assert used(world) == NONE
    world.heal(cell)
    assert act(world, server_id, "restore") == 202
    assert used(world) == ONE
