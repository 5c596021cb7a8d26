"""When steps began and ended, and what they may use where they are taken inside a transaction."""

from __future__ import annotations

import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cell.conductor.step_services import Gateway
from cell.conductor.workflow import PassiveServices, PassiveStep, Step
from cell.conductor.workflows import REGISTRY
from cellcloud.db import runs
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import GuestCommand
from cellcloud.model.network import Port
from tests.workflows.world import CellUnderTest, FakeNetworks

SERVER = "11111111-0000-4000-8000-000000000001"
SECONDS = 0.12


class SlowNetworks(FakeNetworks):
    def ensure_ports(self, **given: Any) -> tuple[Port, ...]:
        time.sleep(SECONDS)
        return super().ensure_ports(**given)


class SlowHost(CellUnderTest):
    def send(self, command: GuestCommand) -> None:
        super().send(command)
        time.sleep(2 * SECONDS)


@pytest.mark.parametrize("moves_on_results", [False, True], ids=["stored", "moved"])
def test_steps_began_and_ended_when_they_did(cell_database: Database, moves_on_results: bool) -> None:
    cell = SlowHost(cell_database)
    cell.networks, cell.moves_on_results = SlowNetworks(), moves_on_results
    cell.create(SERVER)
    cell.run()
    with cell_database.read() as connection:
        (run,) = runs.list_runs(connection, server_id=SERVER)
    steps = {step.step: step for step in run.steps}
    assert list(steps) == [step.name for step in REGISTRY["create"].steps]
    took = {}
    last = run.created_at
    for name, step in steps.items():
        assert step.started_at is not None
        assert step.finished_at is not None
        assert last is not None
        assert (step.started_at - last).total_seconds() > -0.02, name  # one after the other
        took[name] = (step.finished_at - step.started_at).total_seconds()
        last = step.finished_at
    assert took["networks.allocate_ports"] > SECONDS - 0.02
    assert took["guests.wait"] > 2 * SECONDS - 0.02  # from the first look to the host's answer
    assert took["guests.spawn"] < took["guests.wait"]  # it only asks
    assert run.finished_at is not None
    assert last is not None
    assert (run.finished_at - last).total_seconds() > -0.02


def test_passive_steps_are_given_nothing_that_reaches_outside() -> None:
    kinds = {PassiveStep: 0, Step: 0}
    for step in (step for workflow in REGISTRY.values() for step in workflow.steps):
        kinds[type(step)] += 1
        if isinstance(step, PassiveStep):
            for action in filter(None, (step.do, step.undo)):
                assert typing.get_type_hints(action)["services"] is PassiveServices, step.name
    assert all(kinds.values())
    verbs = {name for name in vars(PassiveServices) if not name.startswith("_")}
    assert verbs == {"is_up", "is_fenced"}


class OneConnection:
    """A database that lends no second connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lent = 0

    @contextmanager
    def read(self) -> Iterator[Any]:
        self.lent += 1
        assert self.lent == 1, "a second connection"
        with self._database.read() as connection:
            yield connection


def test_what_is_asked_inside_a_transaction_is_read_by_its_connection(cell_database: Database) -> None:
    CellUnderTest(cell_database)
    database = OneConnection(cell_database)
    given: dict[str, Any] = {"cell": "east", "resend_after": 1.0, "service_down_time": 60.0, "max_attempts": 3}
    given |= {"place": None, "place_move": None, "check_rebuild": None, "find_images": None, "find_volumes": None}
    gateway = Gateway(database, None, FakeNetworks(), **given)  # type: ignore[arg-type]
    with database.read() as connection:
        inside = gateway.within(connection)
        assert (inside.is_up("h1"), inside.is_fenced("h1")) == (True, False)
        assert not hasattr(inside, "networks")
        with pytest.raises(AssertionError, match="second"):
            gateway.is_up("h1")
