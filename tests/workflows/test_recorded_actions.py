"""What a server went through as its cell records it: where it was then, and locks, which no run carries out."""

from __future__ import annotations

from cell.conductor import server_field_updates
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import runs
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Spawn
from cellcloud.model.operations import Operation
from tests.workflows.world import CellUnderTest

ONE = "11111111-0000-4000-8000-000000000001"


def recorded(cell: CellUnderTest) -> list[tuple[str, str, str]]:
    """(operation, state, host), the oldest first."""
    with cell.database.read() as connection:
        found = runs.list_runs(connection, server_id=ONE)
    return [(run.operation, run.state, run.host) for run in reversed(found)]


def test_each_operation_has_the_host_it_was_done_on(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.fail[Spawn] = [errors.HostRefused("no room")]
    cell.create(ONE)
    cell.run()
    cell.begin(ONE, Operation.STOP)
    cell.run()
    host = cell.guests[ONE][0]
    cell.begin(ONE, Operation.DELETE)
    cell.run()
    assert recorded(cell) == [("create", "done", host), ("stop", "done", host), ("delete", "done", host)]


def test_locks_are_recorded_once_done(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(ONE)
    cell.run()
    host = cell.guests[ONE][0]
    for number, locked in enumerate((True, False)):
        context = RequestContext(request_id=f"req-{number}", user_id="u", project_id="p")
        changes = {"locked": locked, "locked_by": "owner" if locked else ""}
        server_field_updates.update_server(cell.database, context, ONE, changes)
    assert recorded(cell)[1:] == [("lock", "done", host), ("unlock", "done", host)]
    with cell.database.read() as connection:
        found = runs.get(connection, "req-1")
        assert (found.operation, found.user_id, found.finished_at == found.created_at) == ("unlock", "u", True)
        assert runs.list_active(connection, [ONE]) == set()
    cell.begin(ONE, Operation.STOP)  # nothing is in its way
    cell.run()
