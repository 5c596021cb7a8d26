"""A cell's database is put back, or a standby without the last commits took over: the index shows what it has."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cell.conductor.database_rollback_detection import DatabaseWatch
from cell.conductor.placement import reservation_batching, reservation_confirmation
from cellcloud.context import RequestContext
from cellcloud.db import cell_schema, claims, consoles, database_incarnations, feed, scheduler_change_log
from cellcloud.db.engine import Database
from cellcloud.model.cell import FeedPage
from cellcloud.model.operations import Operation
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import VmState
from tests.functional.router_world import FakeCell, Line, World, open_world
from tests.workflows.world import CONTEXT, CellUnderTest
from top_api.router.feed_follower import FeedFollower

IDS = [f"11111111-0000-4000-8000-00000000000{n}" for n in range(4)]
LEAP = 1000


class Remembering(FakeCell):
    """A cell with an incarnation, which can be put back."""

    incarnation = "first"
    begun = 0

    def keep(self) -> dict[str, Any]:
        return {"servers": dict(self.servers), "feed": list(self.feed), "incarnation": self.incarnation}

    def put_back(self, kept: dict[str, Any]) -> None:
        self.servers, self.feed = dict(kept["servers"]), list(kept["feed"])
        self.incarnation = kept["incarnation"]

    def list_feed(self, context: RequestContext, after: int, limit: int) -> FeedPage:
        return replace(super().list_feed(context, after, limit), incarnation=self.incarnation)

    def begin_incarnation(self, context: RequestContext, known: str, reason: str) -> str:
        if known == self.incarnation:
            self.begun += 1
            self.incarnation = f"{known}-after"
            for server_id, record in self.servers.items():
                self.servers[server_id] = replace(record, version=record.version + LEAP)
        return self.incarnation


@pytest.fixture(params=["knows incarnations", "knows none"])
def world(request: pytest.FixtureRequest, tmp_path: Path, lines: list[Line]) -> Iterator[World]:
    with open_world(tmp_path, lines) as made:
        lines[0].cell = Remembering("east")
        if request.param == "knows none":  # a conductor of before
            lines[0].cell.incarnation = ""
            lines[0].on["begin_incarnation"] = _no_such_verb
        yield made


def _no_such_verb(deliver: Any) -> Any:
    raise RuntimeError("the cell knows no such verb")


def east(world: World) -> Remembering:
    cell = world.cell("east")
    assert isinstance(cell, Remembering)
    return cell


def follow(world: World) -> None:
    follower = FeedFollower(world.database, "east", world.lines["east"].transport.client(Conductor))
    while follower.read():
        pass


def placed(world: World, count: int) -> list[str]:
    ids = world.accept(count, zone="zone-east")
    world.deliver()
    follow(world)
    return ids


def assert_agreed(world: World) -> None:
    follow(world)
    for record in east(world).servers.values():
        shown = world.record(record.id)
        if record.deleted:
            assert shown is None
        else:
            assert shown is not None
            assert (shown.vm_state, shown.version) == (record.vm_state, record.version)
    world.used()  # the counter is proved right


def test_changes_and_deletes_since_are_undone_in_the_index(world: World) -> None:
    changed, deleted, same = placed(world, 3)
    kept = east(world).keep()
    for state in (VmState.ACTIVE, VmState.STOPPED, VmState.ACTIVE, VmState.STOPPED):
        east(world).change(changed, vm_state=state, task_state=None)
    east(world).change(deleted, deleted=True, vm_state=VmState.DELETED)
    follow(world)
    assert world.used() == 2
    east(world).put_back(kept)
    assert_agreed(world)
    assert world.used() == 3
    east(world).change(changed, vm_state=VmState.ACTIVE, task_state=None)
    east(world).change(deleted, deleted=True, vm_state=VmState.DELETED)
    assert_agreed(world)
    assert world.shown(changed).vm_state == VmState.ACTIVE
    assert world.shown(same).cell == "east"
    assert world.used() == 2


@pytest.mark.parametrize("lost", [1, 2])
def test_another_entry_at_the_cursor_is_noticed_though_the_feed_is_longer_by_now(world: World, lost: int) -> None:
    ids = placed(world, 3)
    kept = copy.deepcopy(east(world).keep())
    for server_id in ids[:lost]:
        east(world).change(server_id, vm_state=VmState.ACTIVE, task_state=None)
    follow(world)
    east(world).put_back(kept)
    for _ in range(lost + 2):
        east(world).change(ids[2], vm_state=VmState.STOPPED, task_state=None)
    assert_agreed(world)
    assert world.shown(ids[0]).vm_state == VmState.BUILDING
    assert world.shown(ids[2]).vm_state == VmState.STOPPED


def test_what_was_made_since_stays_in_sight_and_in_the_quota(world: World) -> None:
    placed(world, 1)
    kept = east(world).keep()
    (made,) = placed(world, 1)
    east(world).change(made, vm_state=VmState.ACTIVE, task_state=None)
    follow(world)
    east(world).put_back(kept)
    follow(world)
    shown = world.shown(made)
    assert shown.vm_state == VmState.ERROR
    assert shown.fault is not None
    assert "lost" in shown.fault.message
    assert world.used() == 2
    east(world).servers[made] = replace(shown, version=1, generation=1, vm_state=VmState.ACTIVE, fault=None, cell="")
    east(world).change(made, vm_state=VmState.ACTIVE)  # adopted from its host
    assert_agreed(world)
    assert world.shown(made).vm_state == VmState.ACTIVE


def test_two_routers_let_the_cell_begin_one_incarnation(world: World) -> None:
    ids = placed(world, 2)
    kept = east(world).keep()
    east(world).change(ids[0], vm_state=VmState.ACTIVE)
    follow(world)
    east(world).put_back(kept)
    first, second = (
        FeedFollower(world.database, "east", world.lines["east"].transport.client(Conductor)) for _ in "ab"
    )
    first.read()
    second.read()
    follow(world)
    assert east(world).begun == (1 if east(world).incarnation else 0)
    assert_agreed(world)


def test_a_quiet_cell_is_read_without_a_resync(world: World) -> None:
    placed(world, 2)
    asked: list[str] = []
    world.lines["east"].on["list_versions"] = lambda deliver: asked.append("") or deliver()
    for _ in range(3):
        follow(world)
    assert asked == []


# ---- in the cell's own database ------------------------------------------------------------------------------------
@pytest.fixture
def cell(tmp_path: Path) -> Iterator[CellUnderTest]:
    database = Database(f"sqlite:///{tmp_path}/cell.db")
    with database.write() as connection:
        cell_schema.metadata.create_all(connection)
        database_incarnations.ensure(connection)
    yield CellUnderTest(database)
    database.close()


def test_an_incarnation_leaps_above_all_that_was_seen_and_its_runs_go_on(cell: CellUnderTest) -> None:
    database = cell.database
    cell.create(IDS[0])
    cell.run()
    cell.create(IDS[1])  # its run is under way
    cell.hold(IDS[2])
    before = {server_id: cell.record(server_id) for server_id in IDS[:3]}
    with database.write() as connection:
        consoles.insert(connection, before[IDS[0]], token_hash="h", protocol="vnc", user_id="u", ttl=60)
        known = database_incarnations.ensure(connection)
        newest = feed.newest(connection), scheduler_change_log.get_newest(connection)
        assert database_incarnations.begin_in_cell(connection, "another", "raced").id == known.id
        begun = database_incarnations.begin_in_cell(connection, known.id, "restored")
    assert begun.id != known.id
    assert begun.number == known.number + 1
    with database.read() as connection:
        for log, old in (
            (feed.list_after(connection, 0, 9), newest[0]),
            (scheduler_change_log.list_after(connection, 0, 9), newest[1]),
        ):
            assert not log.entries
            assert log.oldest > old + 1  # whoever followed finds a gap
        assert not connection.exec_driver_sql("SELECT * FROM console_tokens").all()
    for server_id in IDS[:3]:
        assert cell.record(server_id).version > before[server_id].version + 1_000_000
    assert cell.record(IDS[2]).generation == 0
    cell.run()
    assert cell.record(IDS[1]).vm_state == VmState.ACTIVE
    cell.begin(IDS[0], Operation.STOP)
    cell.run()
    assert cell.record(IDS[0]).vm_state == VmState.STOPPED
    answer = reservation_batching.reserve(
        database, cell.scheduler, CONTEXT, [cell.record(IDS[2]).spec], hold_seconds=60
    )[0]
    assert answer.record is not None
    assert reservation_confirmation.confirm(database, CONTEXT, [IDS[2]])[0][0].outcome == "gone"
    held = {IDS[2]: answer.record.version}
    confirmed = reservation_confirmation.confirm(database, CONTEXT, [IDS[2]], holds=held)[0][0]
    assert confirmed.outcome == "settled"
    cell.run()
    with database.read() as connection:
        assert claims.list_mismatches(connection) == []


def test_a_conductor_notices_sequences_that_fell_back(cell: CellUnderTest) -> None:
    watch = DatabaseWatch(cell.database)
    cell.create(IDS[0])
    assert not watch.look()
    with cell.database.write() as connection:
        known = database_incarnations.ensure(connection)
        connection.exec_driver_sql("UPDATE feed_counter SET value = value - 1")
    assert watch.look()
    assert not watch.look()
    with cell.database.read() as connection:
        found = database_incarnations.find(connection)
    assert found is not None
    assert found.id != known.id


def test_a_host_takes_commands_of_the_new_incarnation_after_newer_ones_of_the_old(cell: CellUnderTest) -> None:
    cell.create(IDS[0])
    cell.run()
    for operation in (Operation.STOP, Operation.START, Operation.STOP, Operation.START):
        cell.begin(IDS[0], operation)
        cell.run()
    with cell.database.write() as connection:  # the state of before those operations
        connection.exec_driver_sql("UPDATE servers SET generation = 1, version = 3")
        database_incarnations.begin_in_cell(connection, database_incarnations.ensure(connection).id, "restored")
    cell.begin(IDS[0], Operation.STOP)
    cell.run()
    assert cell.record(IDS[0]).vm_state == VmState.STOPPED
