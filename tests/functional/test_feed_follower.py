"""Following a cell: the index shows what the cell's feed says, in whatever order and however often it arrives."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import server_index, top_schema
from cellcloud.model.cell import FeedEntry, FeedPage
from cellcloud.model.cell_assignment_hmac import Proofs
from cellcloud.model.image import Image
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import VmState
from tests.functional.router_world import FLAVOR, PROJECT, FakeCell, World
from top_api.router import feed_follower
from top_api.router.feed_follower import FeedFollower, Nudges


def follower(world: World, name: str = "east") -> FeedFollower:
    return FeedFollower(world.database, name, world.lines[name].transport.client(Conductor))


def read_all(one: FeedFollower) -> None:
    while one.read():
        pass


def placed(world: World, count: int = 1) -> list[str]:
    """Servers that run in cell east."""
    ids = world.accept(count, zone="zone-east")
    world.deliver()
    return ids


def test_changes_reach_the_index_and_the_cursor_moves(world: World) -> None:
    (server_id,) = placed(world)
    world.cell("east").change(server_id, vm_state=VmState.ACTIVE, task_state=None)
    read_all(follower(world))
    assert world.shown(server_id).status == "ACTIVE"
    assert world.known_cell("east").feed_cursor == 2


def test_an_old_copy_never_replaces_a_newer_one(world: World) -> None:
    (server_id,) = placed(world)
    cell = world.cell("east")
    cell.change(server_id, vm_state=VmState.ACTIVE, task_state=None)
    newer = cell.change(server_id, vm_state=VmState.STOPPED)
    entries = {entry.sequence: entry for entry in cell.feed}

    class Shuffled(FakeCell):
        def list_feed(self, context: Any, after: int, limit: int) -> FeedPage:
            shuffled = (entries[3], entries[1], entries[3], entries[2])
            return FeedPage(entries=shuffled if after < 3 else (), oldest=1, newest=3)

    told: Any = Shuffled("east")
    read_all(FeedFollower(world.database, "east", told))
    assert world.shown(server_id).version == newer.version
    with world.database.write() as connection:
        connection.execute(sa.update(top_schema.cells).values(feed_cursor=0))
    read_all(FeedFollower(world.database, "east", told))
    assert world.shown(server_id).status == "SHUTOFF"


def test_a_long_feed_is_read_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_follower, "PAGE", 2)
    ids = placed(world, 3)
    for server_id in ids:
        world.cell("east").change(server_id, vm_state=VmState.ACTIVE, task_state=None)
    one = follower(world)
    assert [one.read(), one.read(), one.read(), one.read()] == [True, True, False, False]
    assert {world.shown(server_id).status for server_id in ids} == {"ACTIVE"}


def test_deleted_servers_leave_the_index_and_give_their_quota_back_once(world: World) -> None:
    ids = placed(world, 2)
    world.cell("east").change(ids[0], deleted=True, vm_state=VmState.DELETED)
    for _ in range(2):
        with world.database.write() as connection:
            connection.execute(sa.update(top_schema.cells).values(feed_cursor=0))
        read_all(follower(world))
    assert world.record(ids[0]) is None
    assert world.used() == 1


def test_what_a_cell_merely_held_is_not_believed(world: World) -> None:
    (server_id,) = world.accept(zone="zone-west")
    east = world.cell("east")
    east.servers[server_id] = replace(world.shown(server_id), version=1, held=True)
    east.change(server_id, held=False, deleted=True, vm_state=VmState.DELETED)
    read_all(follower(world))
    assert world.shown(server_id).status == "BUILD"
    world.deliver()
    read_all(follower(world))
    assert world.shown(server_id).cell == "west"


def test_a_cell_cannot_speak_for_another_cells_server(world: World) -> None:
    (server_id,) = placed(world)
    west = world.cell("west")
    west.servers[server_id] = replace(world.cell("east").servers[server_id], version=90)
    west.change(server_id, vm_state=VmState.ERROR)
    read_all(follower(world, "west"))
    assert world.shown(server_id).status == "BUILD"


def test_two_followers_of_one_cell_agree(world: World) -> None:
    (server_id,) = placed(world)
    first, second = follower(world), follower(world)
    first.read()
    world.cell("east").change(server_id, vm_state=VmState.ACTIVE, task_state=None)
    read_all(second)
    read_all(first)
    assert world.shown(server_id).status == "ACTIVE"
    assert world.known_cell("east").feed_cursor == 2


def stray(world: World, name: str = "s", *, placed_by: str = "", cell: str = "east") -> ServerRecord:
    """A server that runs in cell east and that the top has lost. ``placed_by``: the key of the top that sent it, to
    ``cell``."""
    spec = ServerSpec(
        id=str(uuid.uuid4()), name=name, project_id=PROJECT, user_id="u", flavor=FLAVOR, image=Image(id="i")
    )
    signed = Proofs(placed_by).sign(spec, cell)
    record = ServerRecord(spec=signed, version=4, generation=1, vm_state=VmState.ACTIVE)
    world.cell("east").servers[spec.id] = record
    return record


def test_a_cell_tells_of_what_was_placed_there_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Servers of nobody, of another cell, sent to another cell, for another project or user: nothing is written."""
    (mine,) = placed(world, 1)
    (other,) = world.accept()
    world.lines["east"].cut = True
    world.deliver()
    world.lines["east"].cut = False
    assert world.shown(other).cell == "west"
    before = world.shown(mine), world.shown(other), world.used()
    forged = stray(world, placed_by="guessed")
    moved = stray(world, cell="west")
    east = world.cell("east")
    known = east.servers[mine]
    robbed = replace(stray(world).spec, project_id="victim")
    tales = [
        forged,
        moved,
        ServerRecord(spec=robbed, version=9, generation=1, vm_state=VmState.ACTIVE),
        replace(before[1], version=99, vm_state=VmState.DELETED, deleted=True),
        replace(known, version=99, spec=replace(known.spec, project_id="victim")),
        replace(known, version=99, spec=replace(known.spec, user_id="victim")),
    ]
    sequence = len(east.feed)
    east.feed += [FeedEntry(sequence=sequence + place, record=tale) for place, tale in enumerate(tales, start=1)]
    with caplog.at_level(logging.WARNING):
        read_all(follower(world))
    assert (world.shown(mine), world.shown(other), world.used()) == before
    for tale in (forged, moved):
        assert world.record(tale.id) is None
    assert world.record(robbed.id) is None
    told = [r.__dict__["servers"] for r in caplog.records if "not placed there" in r.getMessage()]
    assert {forged.id, moved.id, robbed.id, other} <= {server for servers in told for server in servers}


def test_servers_taken_in_together_are_all_taken_in_though_another_was_faster_with_one(world: World) -> None:
    ours = [replace(stray(world), cell="east") for _ in range(3)]
    with world.database.write() as connection:
        server_index.upsert(connection, ours[:1], adopt=True)
        server_index._adopt(connection, ours)  # as after a look at what is known, before the other one's commit
    assert {world.shown(record.id).cell for record in ours} == {"east"}
    assert world.used() == 3


@pytest.mark.parametrize("page", [1, 2, 2000])
def test_a_cursor_that_fell_off_the_feed_resyncs(world: World, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(feed_follower, "VERSIONS", page)
    same, changed, deleted, unknown = placed(world, 4)
    east = world.cell("east")
    east.change(changed, vm_state=VmState.ACTIVE, task_state=None)
    east.change(deleted, deleted=True, vm_state=VmState.DELETED)
    del east.servers[unknown]
    lost = stray(world)
    stranger = stray(world, placed_by="another top")
    east.oldest = len(east.feed) + 1
    read_all(follower(world))
    assert world.shown(same).status == "BUILD"
    assert world.shown(changed).status == "ACTIVE"
    assert world.record(deleted) is None
    assert world.record(unknown) is None
    assert world.shown(lost.id).cell == "east"
    assert world.record(stranger.id) is None
    assert world.known_cell("east").feed_cursor == len(east.feed)
    assert world.used() == 3


def test_a_feed_that_begins_anew_resyncs(world: World) -> None:
    (server_id,) = placed(world)
    with world.database.write() as connection:
        connection.execute(sa.update(top_schema.cells).values(feed_cursor=99))
    world.cell("east").change(server_id, vm_state=VmState.ACTIVE, task_state=None)
    read_all(follower(world))
    assert world.shown(server_id).status == "ACTIVE"
    assert world.known_cell("east").feed_cursor == 2


def test_a_resync_leaves_servers_alone_that_are_on_their_way(world: World) -> None:
    def die(deliver: Callable[[], Any]) -> Any:
        raise RuntimeError

    world.lines["east"].on["confirm"] = die
    (server_id,) = placed(world)
    world.lines["east"].on.clear()
    world.cell("east").expire(server_id)
    world.cell("east").oldest = 50
    follower(world).read()
    assert world.shown(server_id).status == "BUILD"


def test_an_unreachable_cell_is_tried_again(world: World) -> None:
    (server_id,) = placed(world)
    world.lines["east"].cut = True
    one = follower(world)
    with pytest.raises(errors.Unreachable):
        one.read()
    world.lines["east"].cut = False
    world.cell("east").change(server_id, vm_state=VmState.ACTIVE, task_state=None)
    read_all(one)
    assert world.shown(server_id).status == "ACTIVE"


def test_a_nudge_wakes_the_follower() -> None:
    woken: list[bool] = []
    Nudges(lambda: woken.append(True)).feed_grew(service_context(), 7)
    assert woken == [True]
