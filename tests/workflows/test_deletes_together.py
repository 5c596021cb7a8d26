"""Deletes that come in one message: each server's is what it would have been alone, in whatever state the server is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cell.conductor.placement import reservation_confirmation
from cell.conductor.runs import begin_operations
from cell.conductor.runs.begin_operations import BegunDeletes
from cellcloud import errors
from cellcloud.db import runs
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Destroy, Spawn
from cellcloud.model.operations import Operation
from cellcloud.model.placement_messages import DeleteRequest
from tests.workflows.test_host_away import turn
from tests.workflows.world import CONTEXT, CellUnderTest


def server(number: int) -> str:
    return f"11111111-0000-4000-8000-0000000000{number:02}"


def active(cell: CellUnderTest, server_id: str) -> None:
    cell.create(server_id)
    cell.run()


def stopped(cell: CellUnderTest, server_id: str) -> None:
    active(cell, server_id)
    cell.begin(server_id, Operation.STOP)
    cell.run()


def failed(cell: CellUnderTest, server_id: str) -> None:
    cell.create(server_id)
    cell.fail[Spawn] = [errors.Invalid("no")]
    cell.run()


def gone(cell: CellUnderTest, server_id: str) -> None:
    active(cell, server_id)
    cell.begin(server_id, Operation.DELETE)
    cell.run()


def rebooting(cell: CellUnderTest, server_id: str) -> None:
    active(cell, server_id)
    cell.begin(server_id, Operation.REBOOT, type="HARD")


def deleting(cell: CellUnderTest, server_id: str) -> None:
    active(cell, server_id)
    cell.begin(server_id, Operation.DELETE)


def cancelled(cell: CellUnderTest, server_id: str) -> None:
    cell.create(server_id)
    cell.begin(server_id, Operation.DELETE)


SETTLED: list[Callable[[CellUnderTest, str], None]] = [active, stopped, failed, gone]
UNDER_WAY: list[Callable[[CellUnderTest, str], None]] = [
    rebooting,
    deleting,
    cancelled,
    lambda cell, server_id: cell.hold(server_id),
    lambda cell, server_id: cell.create(server_id) and None,  # type: ignore[func-returns-value]
    lambda cell, server_id: None,  # nobody has ever heard of it
]


def ask(cell: CellUnderTest, ids: list[str]) -> BegunDeletes:
    wanted = [
        DeleteRequest(server_id=each, request_id=f"req-{each}", user_id=f"user-{each}", project_id="p") for each in ids
    ]
    begun = begin_operations.begin_deletes(cell.database, cell, wanted)
    cell.executor.send(begun.commands)
    return begun


def make(cell: CellUnderTest) -> list[str]:
    makers = [*SETTLED, *UNDER_WAY]
    for number, each in enumerate(makers):
        each(cell, server(number))
    return [server(number) for number in range(len(makers))]


@pytest.mark.parametrize("times", [1, 2])
def test_each_is_what_it_would_have_been_alone(cell_database: Database, times: int) -> None:
    cell = CellUnderTest(cell_database, vcpus=64)
    ids = make(cell)
    for _ in range(times):
        begun = ask(cell, ids)
    missing = {server(SETTLED.index(gone)), ids[-1]}
    held = {ids[len(SETTLED) + 3]} if times == 2 else set()  # which went at once
    assert begun.records.keys() == set(ids) - missing - held
    cell.run()
    for server_id in ids[:-1]:
        assert cell.assert_clean(server_id).deleted
    with cell_database.read() as connection:
        (run,) = runs.list_runs(connection, server_id=ids[0])[:1]
    assert (run.operation, run.request_id, run.user_id) == ("delete", f"req-{ids[0]}", f"user-{ids[0]}")


def test_the_first_step_is_taken_where_the_run_begins(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database, vcpus=64)
    ids = [server(number) for number in range(5)]
    for server_id in ids:
        active(cell, server_id)
    begun = ask(cell, ids)
    assert sorted(command.server_id for command in begun.commands) == ids
    assert {type(command) for command in begun.commands} == {Destroy}
    assert cell.guests == {}
    cell.run()
    assert {cell.assert_clean(server_id).vm_state for server_id in ids} == {"deleted"}


def test_commands_that_are_lost_are_sent_again(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    active(cell, server(0))
    cell.away.add("h1")
    ask(cell, [server(0)])
    turn(cell, 2)
    assert cell.record(server(0)).deleted
    cell.away.clear()
    cell.run()
    cell.assert_clean(server(0))


@pytest.mark.parametrize("kept", [False, True])
def test_ports_stay_where_another_cell_goes_on_with_the_server(cell_database: Database, kept: bool) -> None:
    cell = CellUnderTest(cell_database)
    active(cell, server(0))
    cell.begin(server(0), Operation.DELETE, keep_ports=kept)
    cell.run()
    assert (cell.record(server(0)).deleted, list(cell.networks.ports)) == (True, [server(0)] if kept else [])
    assert server(0) not in cell.guests


def test_a_hold_that_is_dropped_is_confirmed_no_more(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.hold(server(0))
    ask(cell, [server(0)])
    assert reservation_confirmation.confirm(cell_database, CONTEXT, [server(0)])[0][0].outcome == "gone"
