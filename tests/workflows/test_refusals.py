"""Every command of every operation, refused for ever by its host, or sent to a host that is out of service: the
operation ends, whatever it has done by then, and leaves the server to be deleted."""

from __future__ import annotations

import pytest

from cellcloud import errors
from cellcloud.db import runs
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Destroy, Discard, GuestCommand
from cellcloud.model.operations import Operation
from cellcloud.server_states import VmState
from tests.workflows.test_every_step import SERVER, SPECS, begin
from tests.workflows.world import CellUnderTest

ENDLESS = (Destroy, Discard)  # which are asked for until the host has done them, or is out of service
PLACES = [(name, None) for name in SPECS if name not in ("migrate", "delete")]
PLACES += [("shelve", VmState.PAUSED), ("shelve", VmState.SUSPENDED)]


class Refusing(CellUnderTest):
    """``refused``: what no host does. ``fence_at``: the command at which its host falls silent, and is fenced."""

    refused: type[GuestCommand] | None = None
    fence_at: type[GuestCommand] | None = None

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.sent: dict[type[GuestCommand], None] = {}

    def send(self, command: GuestCommand) -> None:
        self.sent[type(command)] = None
        if type(command) is self.refused:
            self.fail[type(command)] = [errors.GuestFailed("This is why.")]
        if type(command) is self.fence_at:
            self.away.add(command.host)
            self.fenced.add(command.host)
        super().send(command)


def commands_of(cell: Refusing, operation: str, start: VmState | None, server_id: str) -> list[type[GuestCommand]]:
    """What an operation asks of hosts where none refuses."""
    begin(cell, operation, start, server_id)
    cell.sent.clear()
    cell.run()
    return [kind for kind in cell.sent if kind not in ENDLESS]


def last_message(cell: CellUnderTest, server_id: str) -> str:
    with cell.database.read() as connection:
        return runs.list_runs(connection, server_id=server_id)[0].message


def server(number: int) -> str:
    return f"{SERVER[:-4]}{number:04}"


@pytest.mark.parametrize("fenced", [False, True], ids=["refused", "fenced"])
@pytest.mark.parametrize(("operation", "start"), PLACES)
def test_an_operation_ends_whatever_its_hosts_refuse(
    cell_database: Database, operation: str, start: VmState | None, fenced: bool
) -> None:
    cell = Refusing(cell_database)
    for number, kind in enumerate(commands_of(cell, operation, start, server(0)), start=1):
        server_id = server(number)
        begin(cell, operation, start, server_id)
        cell.refused, cell.fence_at = (None, kind) if fenced else (kind, None)
        cell.run()
        record = cell.record(server_id)
        assert record.task_state is None, kind
        cell.refused = cell.fence_at = None
        cell.fail.clear()
        if not record.deleted:
            for text in (record.fault.message if record.fault else "", last_message(cell, server_id)):
                assert not any(name in text for name in ("h1", "h2")), text  # for its owner
            cell.begin(server_id, Operation.DELETE)
        cell.run()
        assert cell.record(server_id).deleted
        with cell.database.read() as connection:
            assert runs.find_active(connection, server_id) is None
        cell.away.clear()
        cell.fenced.clear()
