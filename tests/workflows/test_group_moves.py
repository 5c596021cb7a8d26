"""Whatever gives a server of a group another host keeps to the group's policy, for members that move at once, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cell.conductor.runs import begin_operations
from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Spawn
from cellcloud.model.operations import Operation
from cellcloud.model.server import ServerRecord
from cellcloud.model.server_group import AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY, SOFT_ANTI_AFFINITY, ServerGroup
from cellcloud.server_states import VmState
from tests.contract.test_scheduling_store import LocalScheduler, entries_after
from tests.contract.test_server_groups import broken, make_group, server
from tests.workflows.test_every_step import image_of
from tests.workflows.world import CellUnderTest

HOSTS = ("h1", "h2", "h3", "h4", "h5")
MEMBERS = (1, 2)
POLICIES: dict[str, tuple[str, int | None]] = {
    "anti-affinity": (ANTI_AFFINITY, None),
    "two on a host": (ANTI_AFFINITY, 2),
    "affinity": (AFFINITY, None),
    "soft-anti-affinity": (SOFT_ANTI_AFFINITY, None),
    "soft-affinity": (SOFT_AFFINITY, None),
}


def move(operation: Operation, ending: Operation) -> Callable[[CellUnderTest, Sequence[int]], None]:
    def go(cell: CellUnderTest, numbers: Sequence[int]) -> None:
        for number in numbers:
            cell.begin(server(number), operation)
        cell.run()
        for number in numbers:
            if cell.record(server(number)).vm_state == VmState.RESIZED:
                cell.begin(server(number), ending)
        cell.run()

    return go


def put_away(cell: CellUnderTest, numbers: Sequence[int]) -> None:
    for number in numbers:
        cell.begin(server(number), Operation.SHELVE, image=image_of(server(number), number))
    cell.run()
    assert len(begin_operations.begin_offloads(cell.database, "req-1", 0.0)) == len(numbers)
    cell.run()
    for number in numbers:
        cell.begin(server(number), Operation.UNSHELVE)
    cell.run()


def rebuild(cell: CellUnderTest, numbers: Sequence[int]) -> None:
    for number in numbers:
        cell.begin(server(number), Operation.REBUILD)
    cell.run()


def build_elsewhere(cell: CellUnderTest, numbers: Sequence[int]) -> None:
    """Another that the first host cannot build."""
    cell.fail[Spawn] = [errors.HostRefused("No room on the disk.")]
    cell.create(server(10 + len(numbers)), group=cell.record(server(numbers[0])).spec.group)
    cell.run()
    assert not cell.fail[Spawn]


OPERATIONS: dict[str, Callable[[CellUnderTest, Sequence[int]], None]] = {
    "migrate": move(Operation.MIGRATE, Operation.CONFIRM_RESIZE),
    "migrate and revert": move(Operation.MIGRATE, Operation.REVERT_RESIZE),
    "resize": move(Operation.RESIZE, Operation.CONFIRM_RESIZE),
    "resize and revert": move(Operation.RESIZE, Operation.REVERT_RESIZE),
    "unshelve": put_away,
    "rebuild": rebuild,
    "build elsewhere": build_elsewhere,
}
STAY = {"rebuild"} | {name for name in OPERATIONS if "revert" in name}


def open_cell(database: Database, group: ServerGroup) -> CellUnderTest:
    """Five hosts, a scheduler that is none of paper, and two members."""
    cell = CellUnderTest(database, HOSTS, vcpus=64)
    scheduler: Any = LocalScheduler(database)
    cell.scheduler = scheduler
    for number in MEMBERS:
        cell.create(server(number), group=group)
    cell.run()
    return cell


def hosts_of(cell: CellUnderTest) -> list[str | None]:
    return [cell.record(server(number)).host for number in MEMBERS]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_policy_holds_after_each_operation(cell_database: Database, policy: str) -> None:
    """Of one member alone, then of all at once."""
    group = make_group(1, *POLICIES[policy])
    cell = open_cell(cell_database, group)
    group_of = {server(number): group for number in range(30)}
    for name, go in OPERATIONS.items():
        for numbers in (MEMBERS[:1], MEMBERS):
            before = hosts_of(cell)
            go(cell, numbers)
            records: list[ServerRecord] = [cell.assert_clean(server(number)) for number in MEMBERS]
            assert {one.vm_state for one in records} == {VmState.ACTIVE}, (name, numbers)
            if group.policy in (AFFINITY, ANTI_AFFINITY):
                assert broken(entries_after(cell_database, 0), group_of) == [], (name, numbers)
            stays = name in STAY or name == "build elsewhere" or (policy == "affinity" and name != "unshelve")
            if stays:
                assert hosts_of(cell) == before, (name, numbers)
            elif name != "unshelve":
                assert all(a != b for a, b in list(zip(hosts_of(cell), before, strict=True))[: len(numbers)]), name
    hosts = [host for host, _, _ in cell.guests.values()]
    if policy == "soft-anti-affinity":
        assert len(set(hosts[:2])) == 2
