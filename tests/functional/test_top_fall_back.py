"""The top's database falls back by a moment: a backup is put back, or the standby that took over lacked some commits.
No server runs twice, none is lost from sight, and the quota counts what there is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cellcloud.db import cells as cells_table
from cellcloud.db import database_incarnations
from cellcloud.db.engine import Database
from cellcloud.model.intent import IntentState
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import VmState
from tests.functional.router_world import World, die_before, digest_of
from top_api.router.feed_follower import FeedFollower


@pytest.fixture
def world(world: World) -> World:
    with world.database.write() as connection:
        database_incarnations.ensure(connection)
    return world


class Backup:
    """The top's database as it is now, to be put back later: the processes are others then."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._live, self._kept = folder / "top.db", folder / "backup.db"
        _copy(self._live, self._kept)

    def put_back(self, *, told: bool) -> None:
        for dispatcher in self._world.deliverers:
            dispatcher.stop()
        self._world.cells.close()
        self._world.database.close()
        _copy(self._kept, self._live)
        self._world.database = Database(f"sqlite:///{self._live}")
        self._world.deliverers = []
        self._world.cells = self._world.new_cells()
        if told:
            with self._world.database.write() as connection:
                database_incarnations.begin_in_top(connection, "restored")


def _copy(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as before, sqlite3.connect(target) as after:
        before.backup(after)
    before.close()
    after.close()


def follow(world: World) -> None:
    for name, line in world.lines.items():
        follower = FeedFollower(world.database, name, line.transport.client(Conductor))
        while follower.read():
            pass


def living(world: World) -> dict[str, list[str]]:
    """Server -> the cells that have it."""
    found: dict[str, list[str]] = {}
    for name in world.lines:
        for record in world.cell(name).servers.values():
            if not record.deleted:
                found.setdefault(record.id, []).append(name)
    return found


def assert_agreed(world: World) -> None:
    follow(world)
    where = living(world)
    assert all(len(cells) == 1 for cells in where.values())
    for server_id, (cell,) in where.items():
        assert world.shown(server_id).cell == cell
    assert world.used() == len(where)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("follow_first", [True, False])
def test_what_was_placed_since_is_found_where_it_is(
    world: World, tmp_path: Path, told: bool, follow_first: bool
) -> None:
    ids = world.accept(20)
    backup = Backup(world, tmp_path)
    world.deliver()
    backup.put_back(told=told)
    if follow_first:
        follow(world)
    world.sweep_until_settled()
    world.assert_started_once(ids)
    assert_agreed(world)
    assert not any(dispatcher._fresh for dispatcher in world.deliverers)  # nothing is kept of what is over
    with world.database.read() as connection:
        present = database_incarnations.find(connection)
    assert present is not None  # it was noticed, and once only
    assert present.number == 2


@pytest.mark.parametrize("told", [True, False])
def test_creates_and_deletes_since_the_backup(world: World, tmp_path: Path, told: bool) -> None:
    old = world.accept(6)
    world.deliver()
    waiting = world.accept(6)
    backup = Backup(world, tmp_path)
    world.deliver()
    new = world.accept(5)
    world.deliver()
    deleted = [*old[:2], *waiting[:3], *new[:2]]
    for server_id in deleted:
        world.delete(server_id)
    world.deliver()
    before = living(world)
    backup.put_back(told=told)
    world.sweep_until_settled()
    assert living(world) == before
    assert_agreed(world)
    assert all(world.record(server_id) is None for server_id in deleted)
    assert set(before) == {*old, *waiting, *new} - set(deleted)


def test_servers_that_only_their_cells_know_say_that_it_fell_back(world: World, tmp_path: Path) -> None:
    """Within a second no mark says it; what was lost besides, ports for one, is looked for once more."""
    backup = Backup(world, tmp_path)
    new = world.accept(5)
    world.deliver()
    backup.put_back(told=False)
    for _ in range(3):
        assert_agreed(world)
        with world.database.read() as connection:
            present = database_incarnations.find(connection)
            uncompared = database_incarnations.list_uncompared(connection)
        assert present is not None
        assert (present.number, present.reason) == (2, "a cell has a server that is unknown here")
    assert uncompared == []
    assert set(living(world)) == set(new)


def test_a_server_recorded_before_and_deleted_since_is_not_made_again(world: World, tmp_path: Path) -> None:
    for line in world.lines.values():
        line.on["confirm"] = die_before
    ids = world.accept(4)
    world.deliver()
    for line in world.lines.values():
        line.on.clear()
    backup = Backup(world, tmp_path)
    world.sweep_until_settled()
    for server_id in ids:
        world.delete(server_id)
    world.deliver()
    backup.put_back(told=False)
    world.sweep_until_settled()
    assert living(world) == {}
    assert all(world.record(server_id) is None for server_id in ids)
    assert world.used() == 0


@pytest.mark.parametrize("told", [True, False])
def test_a_cell_that_may_have_it_is_waited_for(world: World, tmp_path: Path, told: bool) -> None:
    (server_id,) = world.accept()
    backup = Backup(world, tmp_path)
    world.cell("west").room = 0
    world.deliver()
    world.cell("west").room = 1000
    backup.put_back(told=told)
    if not told:  # it was heard of since the server was accepted
        with world.database.write() as connection:
            cells_table.set_health(connection, "east", health="up", digest=digest_of("east"))
    world.lines["east"].cut = True
    world.sweep()
    assert world.intent(server_id).state == IntentState.PENDING
    assert not world.cell("west").servers
    world.lines["east"].cut = False
    world.sweep_until_settled()
    world.assert_started_once([server_id])
    assert world.shown(server_id).cell == "east"


def test_past_its_deadline_it_shows_as_failed_until_its_cell_is_heard(world: World, tmp_path: Path) -> None:
    (server_id,) = world.accept(late=True)
    backup = Backup(world, tmp_path)
    world.cell("west").room = 0
    world.deliver()
    backup.put_back(told=True)
    world.lines["east"].cut = True
    world.sweep_until_settled()
    assert world.shown(server_id).vm_state == VmState.ERROR
    world.lines["east"].cut = False
    world.cell("east").change(server_id, vm_state=VmState.ACTIVE, task_state=None)
    assert_agreed(world)
    assert world.shown(server_id).vm_state == VmState.ACTIVE


def test_what_was_deleted_before_it_was_found_again_is_deleted_in_its_cell(world: World, tmp_path: Path) -> None:
    (server_id,) = world.accept()
    backup = Backup(world, tmp_path)
    world.deliver()
    backup.put_back(told=True)
    world.delete(server_id)  # as far as is known no cell has it
    assert world.record(server_id) is None
    follow(world)
    world.sweep_until_settled()
    assert living(world) == {}
    assert_agreed(world)
