"""Leases of runs: one worker a run, and what a worker whose lease ran out still says is refused, whoever it is of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from cell.conductor.runs import executor as executor_module
from cell.conductor.runs import guest_events
from cell.conductor.runs.checkpoint import Checkpointer
from cell.conductor.runs.executor import RunExecutor
from cell.conductor.runs.step_runner import RunState, take_step
from cellcloud import errors
from cellcloud.db import claims, runs
from cellcloud.db.cell_schema import runs as table
from cellcloud.db.engine import Database, utc_after
from cellcloud.model.guest_commands import GuestEvent, SetAside, Spawn
from cellcloud.model.network import Port
from cellcloud.model.operations import Operation
from cellcloud.model.run import Lease
from tests.workflows.world import CellUnderTest

SERVER = "11111111-0000-4000-8000-000000000001"
ME = Lease(owner="conductor-1", seconds=15.0)


def end_leases(database: Database) -> None:
    """No renewal gets through for longer than a lease lasts."""
    with database.write() as connection:
        connection.execute(sa.update(table).values(lease_until=utc_after(-1), run_at=utc_after(-1)))


def take(database: Database, terms: Lease = ME) -> RunState:
    ((run, record),) = executor_module._lease_batch(database, terms, 10)
    return RunState(run=run, record=record)


def result(cell: CellUnderTest, step: str, error: str = "") -> GuestEvent:
    with cell.database.read() as connection:
        run = runs.list_runs(connection, server_id=SERVER)[0]
    host = cell.record(SERVER).host or ""
    return GuestEvent(
        host=host, server_id=SERVER, generation=run.generation, power_state=1, run_id=run.id, step=step, error=error
    )


class SlowNetworks:
    """A network service whose answers wait for a gate; then they are ``networks``'s own."""

    def __init__(self, networks: Any) -> None:
        self._networks = networks
        self.gate = threading.Event()
        self.calls: list[str] = []

    def ensure_ports(self, **asked: Any) -> tuple[Port, ...]:
        self.calls.append(asked["server_id"])
        assert self.gate.wait(60)
        found: tuple[Port, ...] = self._networks.ensure_ports(**(asked | {"adopt": True}))
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._networks, name)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def slow(cell_database: Database) -> tuple[CellUnderTest, SlowNetworks, RunExecutor]:
    """A run whose first step hangs in the network service, in an executor whose lease is over."""
    cell = CellUnderTest(cell_database)
    networks = SlowNetworks(cell.networks)
    cell.networks = networks  # type: ignore[assignment]  # the same verbs, later
    cell.create(SERVER)
    executor = RunExecutor(cell_database, cell, owner="conductor-1", lease=30.0, threads=2)
    executor._lease_and_submit()
    wait_for(lambda: networks.calls == [SERVER])
    end_leases(cell_database)
    return cell, networks, executor


def test_an_executor_takes_no_run_a_second_time_while_it_is_busy_with_it(
    slow: tuple[CellUnderTest, SlowNetworks, RunExecutor],
) -> None:
    cell, networks, executor = slow
    executor._lease_and_submit()
    terms = executor.offer()
    heard = guest_events.apply(cell.database, cell, [result(cell, "a step of another release")], terms)
    executor.adopt(heard.leased)
    assert (heard.leased, heard.others) == ((), True)
    time.sleep(0.05)
    networks.gate.set()
    executor._pool.shutdown(wait=True)
    assert networks.calls == [SERVER]
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == "active"


def test_what_a_late_step_made_for_a_server_that_has_ended_is_taken_away(
    slow: tuple[CellUnderTest, SlowNetworks, RunExecutor],
) -> None:
    cell, networks, executor = slow
    cell.networks = networks._networks
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert cell.record(SERVER).deleted
    networks.gate.set()
    executor._pool.shutdown(wait=True)
    cell.assert_clean(SERVER)


def test_what_another_cell_has_of_a_server_given_up_is_left_alone(
    slow: tuple[CellUnderTest, SlowNetworks, RunExecutor],
) -> None:
    cell, networks, executor = slow
    cell.networks, cell.max_attempts = networks._networks, 1
    cell.fail[Spawn] = [errors.HostRefused("No.")]
    cell.run()
    assert cell.record(SERVER).given_up
    asked = {"server_id": SERVER, "project_id": "p", "host": "another", "zone": "", "hostname": "vm"}
    theirs = cell.networks.ensure_ports(**asked, requested=(), security_groups=(), placement=1)
    networks.gate.set()
    executor._pool.shutdown(wait=True)
    assert cell.networks.ports == {SERVER: theirs}


@pytest.mark.parametrize("since", ["leased by another", "undone"])
def test_a_worker_that_is_late_claims_no_room_for_a_move(cell_database: Database, since: str) -> None:
    """Nobody would give back what it claims once the run is over."""
    cell = CellUnderTest(cell_database)
    cell.create(SERVER)
    cell.run()
    cell.begin(SERVER, Operation.RESIZE)
    late = take(cell_database)
    end_leases(cell_database)
    if since == "undone":
        cell.fail = {SetAside: [errors.HostRefused("no")]}
        cell.run()
    else:
        take(cell_database)
    migration = late.record.migrations[-1]
    with pytest.raises(errors.Stale):
        cell.find_move(late.run, late.record.spec, migration.id, may_stay=False)
    with cell_database.read() as connection:
        assert [one.id for one in claims.list_of(connection, SERVER)] == [SERVER]
    end_leases(cell_database)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == ("active" if since == "undone" else "resized")


@pytest.mark.parametrize("owner", ["conductor-1", "conductor-2"])
@pytest.mark.parametrize("first", ["older", "newer"])
@pytest.mark.parametrize("operation", ["create", "stop", "delete"])
def test_the_older_of_two_workers_of_a_run_changes_nothing(
    cell_database: Database, operation: str, first: str, owner: str
) -> None:
    """Whichever of them saves first, and whether or not they are of the same conductor."""
    cell = CellUnderTest(cell_database)
    cell.create(SERVER)
    if operation != "create":
        cell.run()
        cell.begin(SERVER, Operation(operation))
    older = take(cell_database)
    end_leases(cell_database)
    newer = take(cell_database, Lease(owner=owner, seconds=15.0))
    assert newer.run.lease_number > older.run.lease_number
    for state in (older, newer):
        take_step(state, cell)
    mine, theirs = Checkpointer(cell_database, ME.owner), Checkpointer(cell_database, owner)
    saved = theirs.save(newer) if first == "newer" else None
    with pytest.raises(errors.Stale):
        mine.save(older)
    saved = saved or theirs.save(newer)
    cell.executor.send(saved.commands)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == {"create": "active", "stop": "stopped", "delete": "deleted"}[operation]


def test_a_run_that_was_turned_round_is_not_turned_again_by_its_older_worker(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(SERVER)
    saver = Checkpointer(cell_database, ME.owner)
    older = take(cell_database)
    end_leases(cell_database)
    newer = take(cell_database)
    take_step(newer, cell)
    saver.save(newer)
    guest_events.apply(cell_database, cell, [result(cell, "guests.wait", "GuestFailed")], ME)
    networks: Any = cell.networks
    cell.networks = late = SlowNetworks(networks)  # type: ignore[assignment]  # in whose place it stands
    late.gate.set()
    take_step(older, cell)
    cell.networks = networks
    guest_events.apply(cell_database, cell, [result(cell, "undo:guests.spawn")], ME)
    with pytest.raises(errors.Stale):
        saver.save(older)
    end_leases(cell_database)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, cell.networks.ports) == ("error", {})


def test_a_renewal_holds_on_to_the_lease_it_is_of_and_to_no_later_one(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(SERVER)
    older = take(cell_database).run
    end_leases(cell_database)
    newer = take(cell_database).run
    end_leases(cell_database)
    with cell_database.write() as connection:
        runs.renew(connection, ME, {older.id: older.lease_number})
    with cell_database.write() as connection:
        assert [one.id for one in runs.lease_due(connection, ME, limit=1)] == [newer.id]
        runs.renew(connection, ME, {newer.id: newer.lease_number + 1})
        assert runs.lease_due(connection, ME, limit=1) == []
