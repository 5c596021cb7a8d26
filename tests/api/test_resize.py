"""Resize and migrate: what is refused before the server's cell hears of it, and what a server counts for meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.db import flavors, quotas, top_schema
from cellcloud.db.engine import Database, transact, utc_after
from cellcloud.model.flavor import Flavor
from cellcloud.model.migration import MigrationStatus
from cellcloud.server_states import TaskState, VmState
from tests.api.test_migrations import make_migration
from tests.api.test_server_operations import take_in, used
from tests.api.world import World
from top_api.router.outbox_sweep import Sweep

FLAVORS = (
    Flavor(id="zero", name="zero", vcpus=1, memory_mb=512, root_gb=0),
    Flavor(id="wide", name="wide", vcpus=3, memory_mb=512, root_gb=9, ephemeral_gb=1),
    Flavor(id="tall", name="tall", vcpus=1, memory_mb=2048, root_gb=9, ephemeral_gb=1),
    Flavor(id="thin", name="thin", vcpus=1, memory_mb=512, root_gb=8, ephemeral_gb=1),
    Flavor(id="plain", name="plain", vcpus=1, memory_mb=512, root_gb=9),
    Flavor(id="off", name="off", vcpus=1, memory_mb=512, root_gb=9, ephemeral_gb=1, disabled=True),
)


@pytest.fixture
def world(top_database: Database, tmp_path: Path) -> Any:
    made = World(top_database, tmp_path, cores=4)
    for flavor in FLAVORS:
        transact(made.database, lambda connection, flavor=flavor: flavors.create_flavor(connection, flavor))
    yield made
    made.close()


def create(world: World, flavor: str = "wide") -> str:
    return world.create(flavorRef=flavor)


def resize(world: World, server_id: str, flavor: str, **more: Any) -> Any:
    return world.post(f"/servers/{server_id}/action", {"resize": {"flavorRef": flavor, **more}})


def counted(world: World) -> tuple[int, int]:
    """Cores and memory of the project."""
    found = used(world)
    return found["cores"], found["ram"]


@pytest.mark.parametrize(
    ("flavor", "status", "text"),
    [
        ("wide", 400, "When resizing, instances must change flavor!"),
        ("off", 400, "Flavor off could not be found."),
        ("none", 400, "Flavor none could not be found."),
        ("zero", 400, "Server disk was unable to be resized because: Resize to zero disk flavor is not allowed."),
        ("thin", 400, "Server disk was unable to be resized because: "),
        ("plain", 400, "Server disk was unable to be resized because: "),
        ("", 400, "Invalid input for field/attribute flavorRef"),
    ],
)
def test_what_cannot_be_is_refused(world: World, flavor: str, status: int, text: str) -> None:
    server_id = create(world)
    answer = resize(world, server_id, flavor)
    assert (answer.status_code, text in answer.get_data(as_text=True)) == (status, True), answer.get_data()
    assert counted(world) == (3, 512)


def test_a_resize_beyond_the_quota_is_refused(world: World) -> None:
    transact(
        world.database,
        lambda connection: flavors.create_flavor(connection, replace(FLAVORS[1], id="x", vcpus=5, name="x")),
    )
    server_id = create(world)
    answer = resize(world, server_id, "x")
    assert answer.status_code == 403
    assert answer.get_json()["forbidden"]["message"] == (
        "Quota exceeded for cores: Requested 2, but already used 3 of 4 cores"
    )
    assert counted(world) == (3, 512)


def test_a_server_counts_for_the_larger_of_both_until_its_move_is_over(world: World) -> None:
    server_id = create(world)
    cell, small, large = world.cell_of(server_id), FLAVORS[1], FLAVORS[2]
    cell.slow = True
    assert resize(world, server_id, "tall").status_code == 202
    assert counted(world) == (3, 2048)
    assert cell.arguments["flavor"]["id"] == "tall"
    move = make_migration(1, old_flavor=small, new_flavor=large, status=MigrationStatus.MIGRATING, progress=40)
    take_in(world, cell.change(server_id, migrations=(move,), task_state=TaskState.RESIZE_MIGRATING))
    shown = world.get(f"/servers/{server_id}").get_json()["server"]
    assert (shown["status"], shown["progress"], shown["flavor"]["id"]) == ("RESIZE", 40, "wide")
    done = replace(move, status=MigrationStatus.FINISHED)
    there = replace(cell.servers[server_id].spec, flavor=large)
    told = {"spec": there, "vm_state": VmState.RESIZED, "task_state": None, "migrations": (done,)}
    take_in(world, cell.change(server_id, **told))
    shown = world.get(f"/servers/{server_id}").get_json()["server"]
    assert (shown["status"], shown["flavor"]["id"]) == ("VERIFY_RESIZE", "tall")
    assert counted(world) == (3, 2048)
    with world.database.read() as connection:
        assert quotas.recount(connection) == []
    over = replace(done, status=MigrationStatus.CONFIRMED)
    take_in(world, cell.change(server_id, vm_state=VmState.ACTIVE, migrations=(over,)))
    assert counted(world) == (1, 2048)
    world.call("DELETE", f"/servers/{server_id}")
    world.settle()
    assert counted(world) == (0, 0)


def forget_asked(world: World, minutes: float) -> None:
    """The router's sweep, that long after."""
    then = sa.update(top_schema.server_index).values(quota_asked_at=utc_after(-60.0 * minutes))
    transact(world.database, lambda c: c.execute(then.where(top_schema.server_index.c.quota_asked_at.is_not(None))))
    sweep: Any = Sweep(world.database, None, lease=1.0)  # type: ignore[arg-type]  # it delivers nothing
    sweep.forget_asked()


def test_a_resize_counts_for_nothing_once_it_is_known_that_none_began(world: World) -> None:
    server_id = create(world)
    world.cell_of(server_id).away = True
    assert resize(world, server_id, "tall").status_code == 503  # it may have begun
    forget_asked(world, 0.0)
    assert counted(world) == (3, 2048)
    forget_asked(world, 2.0)
    assert counted(world) == (3, 512)
    with world.database.read() as connection:
        assert quotas.recount(connection) == []


def test_a_resize_that_the_cell_refuses_counts_for_nothing(world: World) -> None:
    server_id = create(world)
    take_in(world, world.cell_of(server_id).change(server_id, vm_state=VmState.PAUSED))
    assert resize(world, server_id, "tall").status_code == 409  # it has not
    assert counted(world) == (3, 512)
    with world.database.read() as connection:
        assert quotas.recount(connection) == []


def ask_for_another(world: World, server_id: str) -> None:
    assert resize(world, server_id, "less").status_code == 409


def change_something(world: World, server_id: str) -> None:
    assert world.call("PUT", f"/servers/{server_id}", {"server": {"name": "another"}}).status_code == 200


@pytest.mark.parametrize("meanwhile", [ask_for_another, change_something])
@pytest.mark.parametrize("moved_before", [False, True])
def test_nothing_asked_meanwhile_makes_room_in_the_quota(world: World, meanwhile: Any, moved_before: bool) -> None:
    """While a cell begins a resize whose answer has not come, nothing lets its server count for less."""
    full, less = (replace(FLAVORS[1], id=name, vcpus=vcpus, name=name) for name, vcpus in (("full", 4), ("less", 1)))
    for flavor in (full, less):
        transact(world.database, lambda connection, flavor=flavor: flavors.create_flavor(connection, flavor))
    server_id = create(world)
    cell = world.cell_of(server_id)
    if moved_before:
        take_in(world, cell.change(server_id, migrations=(make_migration(1, old_flavor=full, new_flavor=FLAVORS[1]),)))
    cell.slow, begin = True, cell.begin_operation

    def begin_slowly(*asked: Any) -> Any:
        cell.begin_operation = begin  # type: ignore[method-assign]  # once
        if meanwhile is change_something:
            meanwhile(world, server_id)
            seen.append(counted(world))
            return begin(*asked)
        begun = begin(*asked)
        meanwhile(world, server_id)
        seen.append(counted(world))
        return begun

    seen: list[tuple[int, int]] = []
    cell.begin_operation = begin_slowly  # type: ignore[method-assign]
    assert resize(world, server_id, "full").status_code == 202
    assert seen == [(4, 512)]
    move = make_migration(2, old_flavor=FLAVORS[1], new_flavor=full, status=MigrationStatus.MIGRATING)
    take_in(world, cell.change(server_id, migrations=(move,)))
    forget_asked(world, 2.0)
    assert counted(world) == (4, 512)
    failed = replace(move, status=MigrationStatus.ERROR)
    take_in(world, cell.change(server_id, task_state=None, migrations=(failed,)))
    assert counted(world) == (3, 512)


def test_whose_the_partitions_are_is_told_the_cell(world: World) -> None:
    server_id = create(world)
    body = {"OS-DCF:diskConfig": "MANUAL"}
    assert resize(world, server_id, "tall", **body).status_code == 202
    assert world.cell_of(server_id).arguments["disk_config"] == "MANUAL"
    assert resize(world, server_id, "tall", **{"OS-DCF:diskConfig": "SOME"}).status_code == 400


def test_a_named_host_is_for_administrators_and_of_its_microversion(world: World) -> None:
    server_id = create(world)
    cell, path = world.cell_of(server_id), f"/servers/{server_id}/action"
    named = {"migrate": {"host": "east-2"}}
    assert world.post(path, named, version="2.56").status_code == 403
    assert world.post(path, named, version="2.56", token="manager").status_code == 403
    assert world.post(path, {"migrate": None}, version="2.56", token="manager").status_code == 202
    assert cell.arguments == {}
    take_in(world, cell.change(server_id, vm_state=VmState.ACTIVE))
    assert world.post(path, named, version="2.55", token="admin").status_code == 202
    assert cell.arguments == {}
    take_in(world, cell.change(server_id, vm_state=VmState.ACTIVE))
    assert world.post(path, named, version="2.56", token="admin").status_code == 202
    assert cell.arguments == {"host": "east-2"}
    for wrong in ({"migrate": {"host": "a b"}}, {"migrate": {"to": "east-2"}}, {"migrate": 1}):
        assert world.post(path, wrong, version="2.56", token="admin").status_code == 400


def test_an_error_of_the_cell_is_told(world: World) -> None:
    server_id = create(world)
    cell = world.cell_of(server_id)

    def refuse(*_: Any) -> Any:
        raise errors.Invalid("Instance has not been resized.")

    cell.begin_operation = refuse  # type: ignore[method-assign]
    answer = world.post(f"/servers/{server_id}/action", {"revertResize": None})
    assert (answer.status_code, answer.get_json()["badRequest"]["message"]) == (400, "Instance has not been resized.")
