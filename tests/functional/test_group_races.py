"""Creates in groups that are to be apart, raced through two cells by several deliverers: no committed state of a cell
breaks a group, and every server gets the host that there is for it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcloud.db import claims, server_groups
from cellcloud.db.quotas import UNLIMITED
from cellcloud.model.server_group import ANTI_AFFINITY, ServerGroup
from cellcloud.server_states import VmState
from tests.contract.test_scheduling_store import entries_after, state_of
from tests.contract.test_server_groups import broken
from tests.functional.router_world import PROJECT, Line, World
from tests.functional.test_cellctl_scheduling import SchedulingCell

MEMBERS, HOSTS, DELIVERERS = 10, 6, 4  # no cell alone has a host for each member
Case = tuple[World, list[SchedulingCell]]


@pytest.fixture
def case(world: World, lines: list[Line], tmp_path: Path) -> Iterator[Case]:
    cells = [SchedulingCell(line.name, line, tmp_path) for line in lines]
    for line, cell in zip(lines, cells, strict=True):
        line.cell = cell
        cell.report(**{f"{line.name[0]}{number}": 10_000 for number in range(HOSTS)})
    yield world, cells
    for cell in cells:
        cell.end()


def make_groups(world: World, count: int) -> list[ServerGroup]:
    groups = [
        ServerGroup(id=str(uuid.UUID(int=number)), name="g", project_id=PROJECT, user_id="u", policy=ANTI_AFFINITY)
        for number in range(1, count + 1)
    ]
    with world.database.write() as connection:
        for group in groups:
            server_groups.create(connection, group, most=UNLIMITED, most_of_user=UNLIMITED)
    return groups


@pytest.mark.slow
def test_racing_creates_over_two_cells_break_no_group(case: Case, long: bool) -> None:
    world, cells = case
    begun = [state_of(cell.database).sequence for cell in cells]
    group_of = {
        server_id: group
        for group in make_groups(world, 100 if long else 10)
        for server_id in world.accept(MEMBERS, group=group)
    }
    mine = [world.intent(server_id).id for server_id in group_of]
    random.Random(7).shuffle(mine)
    world.deliver_at_once([mine[number::DELIVERERS] for number in range(DELIVERERS)], seconds=240.0)
    world.sweep_until_settled()
    shown = [world.shown(server_id) for server_id in group_of]
    assert [(one.id, one.fault) for one in shown if one.vm_state == VmState.ERROR or not one.host] == []
    assert {one.cell for one in shown} == {"east", "west"}
    for group in {group.id: group for group in group_of.values()}.values():
        assert len({one.host for one in shown if group_of[one.id] is group}) == MEMBERS
    for cell, before in zip(cells, begun, strict=True):
        assert broken(entries_after(cell.database, before), group_of) == []
        with cell.database.read() as connection:
            assert claims.list_mismatches(connection) == []
            assert claims.count_own(connection) == sum(one.cell == cell.name for one in shown)
