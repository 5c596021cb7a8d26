"""A server that a cell has given up is placed in another, once, whatever is lost, repeated or comes late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cellcloud import clock
from cellcloud.model.intent import IntentState
from cellcloud.model.server import ServerFault
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import TaskState, VmState
from tests.functional.router_world import World, lose_answer
from top_api.router.feed_follower import FeedFollower

WHY = ServerFault(code=500, message="No valid host was found. No disk.", created=clock.now(), details="h1: No disk.")


def placed(world: World, name: str) -> str:
    """A server in the cell."""
    (server_id,) = world.accept()
    with only(world, name):
        world.deliver()
    assert world.shown(server_id).cell == name
    return server_id


@contextmanager
def only(world: World, name: str) -> Iterator[None]:
    """The other cell is silent meanwhile."""
    others = [line for other, line in world.lines.items() if other != name]
    for line in others:
        line.cut = True
    yield
    for line in others:
        line.cut = False
    time.sleep(0.15)  # until a breaker lets the next call through


def give_up(world: World, server_id: str, name: str) -> None:
    world.cell(name).change(server_id, deleted=True, vm_state=VmState.BUILDING, task_state=None, host=None, fault=WHY)


def follow(world: World, name: str) -> None:
    follower = FeedFollower(world.database, name, world.lines[name].transport.client(Conductor))
    while follower.read():
        pass


def test_it_is_placed_again_and_never_where_it_was(world: World) -> None:
    server_id = placed(world, "east")
    give_up(world, server_id, "east")
    follow(world, "east")
    waiting = world.shown(server_id)
    assert (waiting.cell, waiting.vm_state, waiting.task_state) == ("", VmState.BUILDING, TaskState.SCHEDULING)
    assert (waiting.host, world.used()) == (None, 1)
    world.deliver()
    follow(world, "west")
    assert world.shown(server_id).cell == "west"
    assert world.starts([server_id]) == {server_id: 2}
    give_up(world, server_id, "west")
    follow(world, "west")
    world.deliver()
    failed = world.shown(server_id)
    assert (failed.cell, failed.vm_state, world.used()) == ("", VmState.ERROR, 1)
    assert failed.fault is not None
    assert failed.fault.message == WHY.message
    assert failed.fault.details == "\n".join(f"{cell}: {WHY.message} ({WHY.details})" for cell in ("east", "west"))


def test_an_entry_read_again_moves_nothing(world: World) -> None:
    server_id = placed(world, "east")
    give_up(world, server_id, "east")
    follow(world, "east")
    world.deliver()
    with world.database.write() as connection:
        connection.exec_driver_sql("UPDATE cells SET feed_cursor = 0")
    for name in ("east", "west", "east"):
        follow(world, name)
    assert world.shown(server_id).cell == "west"
    assert world.intent(server_id).state == IntentState.SETTLED
    assert world.cell("west").started[server_id] == 1


def test_it_is_noticed_without_the_entry(world: World) -> None:
    server_id = placed(world, "east")
    give_up(world, server_id, "east")
    world.cell("east").oldest = len(world.cell("east").feed) + 1
    world.cell("east").feed.append(world.cell("east").feed[-1])
    follow(world, "east")
    world.deliver()
    assert world.shown(server_id).cell == "west"


@pytest.mark.parametrize("entry_first", [False, True])
def test_it_is_given_up_before_the_top_has_heard_that_it_was_taken(world: World, entry_first: bool) -> None:
    (server_id,) = world.accept()
    world.lines["east"].on["confirm"] = lose_answer
    with only(world, "east"):
        world.deliver()
    assert world.intent(server_id).state == IntentState.RECORDED
    give_up(world, server_id, "east")
    world.lines["east"].on.clear()
    if entry_first:
        follow(world, "east")
    world.sweep_until_settled()
    follow(world, "east")
    follow(world, "west")
    assert world.shown(server_id).cell == "west"
    assert world.cell("west").started[server_id] == 1


def test_the_word_that_it_was_taken_comes_after_that_it_was_given_up(world: World) -> None:
    """The cell's answer is under way while the feed is read."""
    (server_id,) = world.accept()

    def overtaken(deliver: object) -> object:
        answer = deliver()  # type: ignore[operator]
        give_up(world, server_id, "east")
        follow(world, "east")
        return answer

    world.lines["east"].on["confirm"] = overtaken
    with only(world, "east"):
        world.deliver()
    world.lines["east"].on.clear()
    assert world.intent(server_id).state == IntentState.PENDING
    world.deliver()
    assert world.shown(server_id).cell == "west"


@pytest.mark.parametrize("heard", [False, True])
def test_it_is_deleted_meanwhile(world: World, heard: bool) -> None:
    server_id = placed(world, "east")
    give_up(world, server_id, "east")
    if heard:
        follow(world, "east")
    world.delete(server_id)
    world.sweep_until_settled()
    follow(world, "east")
    world.sweep()
    assert world.record(server_id) is None
    assert (world.used(), world.unfinished()) == (0, [])
    assert world.cell("west").started[server_id] == 0


def test_without_its_intent_it_ends_in_error(world: World) -> None:
    server_id = placed(world, "east")
    with world.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM intents")
    give_up(world, server_id, "east")
    follow(world, "east")
    failed = world.shown(server_id)
    assert (failed.vm_state, failed.fault and failed.fault.message) == (VmState.ERROR, WHY.message)
    assert world.used() == 1
