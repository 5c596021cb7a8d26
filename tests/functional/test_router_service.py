"""The whole router: health, nudges, cells that come later, cells that go and come back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cellcloud.context import service_context
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.feed_notification import Router
from cellcloud.server_states import VmState
from tests.functional.router_world import Line, World, lose_message, open_lines, open_world
from top_api.router.__main__ import RouterService, build
from top_api.router.cell_health import CellHealthWatch


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Line]]:
    with open_lines("east", "west", "south") as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, lines: list[Line]) -> Iterator[World]:
    with open_world(tmp_path, lines[:2]) as made:
        lines[2].renew()
        yield made


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def start(world: World, lines: list[Line], *, follow_interval: float = 0.2) -> RouterService:
    config = replace(world.config, top=replace(world.config.top, follow_interval=follow_interval))
    service = build(config, world.database, {line.name: line.transport for line in lines})
    service.start()
    return service


def test_a_cell_is_down_after_two_misses_and_up_at_the_next_answer(world: World) -> None:
    line = world.lines["east"]
    watch = CellHealthWatch(world.database, "east", line.transport.client(Conductor))
    line.on["get_digest"] = lose_message
    watch.look()
    assert world.known_cell("east").health == "up"
    watch.look()
    down = world.known_cell("east")
    assert down.health == "down"
    assert "cannot be reached" in down.reason
    assert down.digest is not None
    line.on.clear()
    watch.look()
    assert world.known_cell("east").health == "up"
    assert world.known_cell("east").reason == ""


def test_a_cell_that_answers_as_another_is_down_by_name(world: World) -> None:
    """As when two cells are listed with one queue."""
    CellHealthWatch(world.database, "east", world.lines["west"].transport.client(Conductor)).look()
    known = world.known_cell("east")
    assert (known.health, known.reason) == ("down", "its queue is that of cell west")


def test_the_router_sweeps_follows_and_judges(world: World, lines: list[Line]) -> None:
    service = start(world, lines)
    try:
        ids = world.accept(4)
        with world.database.write() as connection:
            connection.exec_driver_sql("UPDATE intents SET lease_until = NULL")
        wait_until(lambda: not world.unfinished())
        world.assert_started_once(ids)
        for server_id in ids:
            world.cell(world.shown(server_id).cell).change(server_id, vm_state=VmState.ACTIVE, task_state=None)
        wait_until(lambda: {world.shown(server_id).status for server_id in ids} == {"ACTIVE"})
        assert set(service.check().values()) == {"ok"}
    finally:
        service.stop()
        service.stop()


def test_whose_volume_has_grown_is_told_in_the_server_s_cell(world: World, lines: list[Line]) -> None:
    """The volume's may be another, where each host reaches each volume."""
    service = build(world.config, world.database, {line.name: line.transport for line in lines})
    servers = {cell: world.accept(zone=f"zone-{cell}")[0] for cell in ("east", "west")}
    world.deliver()
    for server_id in (*servers.values(), str(uuid.uuid4())):
        service.announce(server_id, "volume")
    assert {cell: world.cell(cell).events for cell in servers} == {cell: [one] for cell, one in servers.items()}


def test_a_nudge_is_quicker_than_the_interval(world: World, lines: list[Line]) -> None:
    (server_id,) = world.accept(zone="zone-east")
    world.deliver()
    service = start(world, lines, follow_interval=30.0)
    try:
        wait_until(lambda: world.known_cell("east").feed_cursor == 1)
        world.cell("east").change(server_id, vm_state=VmState.ACTIVE, task_state=None)
        router = world.lines["east"].transport.client(Router)

        def nudged() -> bool:
            router.feed_grew(service_context(5.0), 2)
            return world.shown(server_id).status == "ACTIVE"

        wait_until(nudged)
    finally:
        service.stop()


def test_a_cell_added_later_is_attended_to(world: World, lines: list[Line]) -> None:
    service = start(world, lines)
    try:
        world.add_cell(lines[2])
        world.lines["east"].cut = world.lines["west"].cut = True
        wait_until(lambda: world.known_cell("east").health == world.known_cell("west").health == "down")
        (server_id,) = world.accept()
        with world.database.write() as connection:
            connection.exec_driver_sql("UPDATE intents SET lease_until = NULL")
        wait_until(lambda: not world.unfinished())
        assert world.shown(server_id).cell == "south"
        world.cell("south").change(server_id, vm_state=VmState.ACTIVE, task_state=None)
        wait_until(lambda: world.shown(server_id).status == "ACTIVE")
        assert set(service.check().values()) == {"ok"}
    finally:
        service.stop()


def test_a_cell_that_comes_back_is_caught_up_with(world: World, lines: list[Line]) -> None:
    (here,) = world.accept(zone="zone-east")
    world.deliver()
    service = start(world, lines)
    try:
        world.lines["east"].cut = True
        wait_until(lambda: world.known_cell("east").health == "down")
        assert world.shown(here).status == "BUILD"
        world.delete(here)
        world.cell("east").change(here, vm_state=VmState.ACTIVE, task_state=None)
        world.lines["east"].cut = False
        with world.database.write() as connection:
            connection.exec_driver_sql("UPDATE intents SET lease_until = NULL")
        wait_until(lambda: world.record(here) is None)
        wait_until(lambda: world.known_cell("east").health == "up" and not world.unfinished())
        assert world.used() == 0
    finally:
        service.stop()
