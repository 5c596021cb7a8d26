"""What a request asks twice, and what a run asked of hosts before it turned round, when that comes late."""

from __future__ import annotations

import pytest

from cell.conductor.runs import begin_operations
from cellcloud import errors
from cellcloud.db import runs
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Arrive, GuestCommand, Rescue, Spawn, Start, UploadSnapshot
from cellcloud.model.operations import Operation
from cellcloud.model.run import RunArguments
from tests.workflows.test_every_step import SERVER, begin
from tests.workflows.world import LARGER, CellUnderTest, request

FAILS: dict[str, type[GuestCommand]] = {
    "create": Spawn,
    "resize": Arrive,
    "rescue": Rescue,
    "createImage": UploadSnapshot,
    "shelve": UploadSnapshot,
    "unshelve": Start,
}


@pytest.mark.parametrize("operation", FAILS)
def test_what_takes_back_is_newer_than_what_it_takes_back(cell_database: Database, operation: str) -> None:
    cell = CellUnderTest(cell_database)
    begin(cell, operation)
    generation = cell.record(SERVER).generation
    sent: list[GuestCommand] = []
    send = cell.send

    def note(command: GuestCommand) -> None:
        sent.append(command)
        send(command)

    cell.send = note  # type: ignore[method-assign]
    cell.max_attempts = 0
    kinds = (FAILS[operation], Spawn) if operation == "unshelve" else (FAILS[operation],)
    cell.fail = {kind: [errors.GuestFailed("no")] for kind in kinds}
    cell.run()
    undoing = [one for one in sent if one.step.startswith("undo:")]
    assert undoing
    assert {one.generation for one in sent if one not in undoing} == {generation}
    assert {one.generation for one in undoing} == {generation + 1} == {cell.record(SERVER).generation}


def test_a_request_that_asks_again_begins_nothing_more(cell_database: Database) -> None:
    """Its first answer got lost."""
    cell = CellUnderTest(cell_database)
    cell.create(SERVER)
    cell.run()
    for operation, arguments in (
        (Operation.STOP, {}),
        (Operation.START, {}),
        (Operation.RESIZE, {"flavor": LARGER}),
        (Operation.CONFIRM_RESIZE, {}),
    ):
        context = request()

        def ask() -> int:
            asked = RunArguments(**arguments)  # noqa: B023 -- called in this turn
            return begin_operations.begin_operation(cell.database, context, SERVER, operation, asked).generation  # noqa: B023

        generation = ask()
        assert ask() == generation
        cell.run()
        assert ask() == generation
        with cell.database.read() as connection:
            assert len([one for one in runs.list_runs(connection, server_id=SERVER) if one.operation == operation]) == 1
