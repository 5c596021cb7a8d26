"""Server groups over cells: one that is to stay together has one cell at every moment, whoever delivers its servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud.db import intents, server_groups, server_index, top_schema
from cellcloud.db.quotas import UNLIMITED
from cellcloud.model.intent import IntentState
from cellcloud.model.server_group import AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY, ServerGroup
from cellcloud.server_states import VmState
from tests.functional.router_world import PROJECT, Line, World, open_lines

CELLS = ("east", "west")


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Line]]:
    with open_lines(*CELLS) as made:
        yield made


def make_group(world: World, policy: str = AFFINITY) -> ServerGroup:
    group = ServerGroup(id=str(uuid.uuid4()), name="g", project_id=PROJECT, user_id="u", policy=policy)
    with world.database.write() as connection:
        server_groups.create(connection, group, most=UNLIMITED, most_of_user=UNLIMITED)
    return group


def cells_of(world: World, ids: list[str]) -> set[str]:
    return {world.shown(server_id).cell for server_id in ids}


def test_racing_deliverers_give_each_group_one_cell(world: World) -> None:
    groups = [make_group(world) for _ in range(6)]
    ids = {group.id: world.accept(8, group=group) for group in groups}
    mine = [[world.intent(one).id for theirs in ids.values() for one in theirs[number::4]] for number in range(4)]
    world.deliver_at_once(mine)
    world.sweep_until_settled()
    for theirs in ids.values():
        world.assert_started_once(theirs)
        assert len(cells_of(world, theirs)) == 1
    assert not world.cell("east").held() + world.cell("west").held()


@pytest.mark.parametrize("policy", [AFFINITY, ANTI_AFFINITY])
def test_who_comes_late_to_the_commit_point_goes_where_the_others_are(world: World, policy: str) -> None:
    """While one server is held in a cell, another of its group is recorded in the other cell."""
    group = make_group(world, policy)
    first, second = world.accept(2, group=group)
    other = world.intent(second).id
    held_at: list[str] = []

    def overtaken(cell: str) -> Callable[[Callable[[], Any]], Any]:
        def fault(deliver: Callable[[], Any]) -> Any:
            answer = deliver()
            if not held_at:
                held_at.append(cell)
                away = next(name for name in CELLS if name != cell)
                with world.database.write() as connection:
                    assert intents.record_placements(connection, [other], away)
            return answer

        return fault

    for name, line in world.lines.items():
        line.on["reserve"] = overtaken(name)
    dispatcher = world.new_deliverer()
    dispatcher.deliver([world.intent(first).id])
    assert dispatcher.wait_idle(60.0)
    away = next(name for name in CELLS if name != held_at[0])
    assert world.shown(first).cell == (away if policy == AFFINITY else held_at[0])
    assert not world.cell(held_at[0]).held()
    world.assert_started_once([first])


def test_a_group_whose_cell_is_full_goes_to_no_other(world: World) -> None:
    group = make_group(world)
    ids = world.accept(2, group=group)
    world.deliver()
    (home,) = cells_of(world, ids)
    world.cell(home).room = 2
    (late,) = world.accept(1, group=group)
    world.deliver()
    assert world.shown(late).vm_state == VmState.ERROR
    assert world.intent(late).state == IntentState.FAILED
    world.cell(home).deaf, away = True, next(name for name in CELLS if name != home)
    (waiting,) = world.accept(1, group=group)
    world.deliver()
    assert world.intent(waiting).state == IntentState.PENDING, "its cell may take it later"
    with world.database.write() as connection:
        server_index.mark_deleted(connection, ids)
    world.sweep_until_settled()
    assert cells_of(world, [waiting]) == {away}, "none is left that it is to be with"


def test_a_group_that_was_deleted_binds_nobody(world: World) -> None:
    group = make_group(world)
    ids = world.accept(2, group=group)
    world.deliver()
    (home,) = cells_of(world, ids)
    world.cell(home).room = 2
    (late,) = world.accept(1, group=group)
    with world.database.write() as connection:
        server_groups.delete(connection, group.id)
    world.deliver()
    assert cells_of(world, [late]) != {home}


def test_a_soft_group_prefers_the_cell_it_is_in(world: World) -> None:
    group = make_group(world, SOFT_AFFINITY)
    ids = world.accept(6, group=group)
    world.deliver()
    (home,) = cells_of(world, ids)
    more = world.accept(4, group=group)
    world.deliver()
    assert cells_of(world, more) == {home}
    world.cell(home).room = 11
    rest = world.accept(3, group=group)
    world.deliver()
    assert cells_of(world, rest) == set(CELLS)


def test_a_group_comes_back_with_its_servers_after_a_restore(world: World) -> None:
    group = make_group(world)
    ids = world.accept(2, group=group)
    world.deliver()
    (home,) = cells_of(world, ids)
    records = [world.shown(server_id) for server_id in ids]
    with world.database.write() as connection:  # as after the restore of a backup from before all that
        server_groups.delete(connection, group.id)
        for table, column in ((top_schema.server_index, "id"), (top_schema.intents, "server_id")):
            connection.execute(sa.delete(table).where(table.c[column].in_(ids)))
        server_index.upsert(connection, records, adopt=True)
        assert server_groups.find(connection, [group.id]) == {group.id: group}
        assert sorted(server_groups.list_members(connection, [group.id])[group.id]) == sorted(ids)
        assert server_groups.list_cells(connection, [group.id]) == {group.id: {home}}
