"""Every command of every operation, refused for ever by its host, or sent to a host that is out of service: the
operation ends, whatever it has done by then, and leaves the server to be deleted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cell.conductor.workflow import Action, Step, StepContext, StepResult, StepServices
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import claims, runs
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Destroy, Discard, GuestCommand
from cellcloud.model.operations import Operation
from cellcloud.server_states import VmState
from tests.workflows.test_every_step import SERVER, SPECS, STEPPING, begin, wrapped
from tests.workflows.world import CellUnderTest, FakeImages, FakeNetworks

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


REFUSALS = [errors.NotFound("gone"), errors.Forbidden("not yours"), errors.Conflict("in use"), errors.TooLarge("full")]


OUTSIDE = [name for name, steps in STEPPING.items() if name != "create" and any(isinstance(one, Step) for one in steps)]
"""Operations that ask anything of other services."""


def refusing(service: FakeNetworks | FakeImages, refusal: errors.CellcloudError) -> Callable[[Action], Action]:
    def wrap(action: Action) -> Action:
        def act(context: StepContext, services: StepServices) -> StepResult:
            service.refusal = refusal
            return action(context, services)

        return act

    return wrap


@pytest.mark.parametrize("service", ["networks", "images"])
@pytest.mark.parametrize("operation", OUTSIDE)
def test_an_operation_ends_whatever_a_service_refuses(cell_database: Database, operation: str, service: str) -> None:
    """From one of its steps on, and for its server's delete: a tenant may delete ports, networks and images meanwhile,
    protect them, or use them for something else."""
    for number, step in enumerate(REGISTRY[SPECS[operation].operation].steps):
        cell, server_id = CellUnderTest(cell_database), server(number)
        begin(cell, operation, None, server_id)
        with pytest.MonkeyPatch.context() as patch:
            asked = getattr(cell, service)
            wrapped(patch, operation, step.name, refusing(asked, REFUSALS[number % len(REFUSALS)]))
            cell.run()
        record = cell.record(server_id)
        assert record.task_state is None, step.name
        if not record.deleted:
            cell.begin(server_id, Operation.DELETE)
            cell.run()
        assert cell.record(server_id).deleted, step.name
        with cell.database.read() as connection:
            assert claims.list_of(connection, server_id) == []
