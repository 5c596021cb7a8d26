"""Servers that are deleted but can be restored, their reclaim, and states that an administrator resets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from cell.conductor import reconcile
from cell.conductor.rpc_endpoint import ConductorService
from cell.conductor.runs import begin_operations, guest_events, reset_state
from cellcloud import config as options
from cellcloud import errors
from cellcloud.db import cell_schema, runs, servers
from cellcloud.db.engine import Database, utc_after
from cellcloud.model.guest_commands import GuestEvent, OrderKind, RebootHard, Start, Stop
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.operations import Operation
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import PowerState, TaskState, VmState
from tests.workflows.test_every_step import image_of
from tests.workflows.world import CONTEXT, CellUnderTest

SERVER = "11111111-0000-4000-8000-000000000001"
KEPT = 3600.0


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    """With one server that runs."""
    world = CellUnderTest(cell_database)
    world.create(SERVER)
    world.run()
    return world


def soft_delete(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.SOFT_DELETE)
    cell.run()


def wait_for_reclaim(cell: CellUnderTest) -> None:
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).values(soft_deleted_at=utc_after(-2 * KEPT)))


def reclaim(cell: CellUnderTest) -> Sequence[str]:
    begun = begin_operations.reclaim(cell.database, cell, "req-reclaim", KEPT)
    cell.executor.send(begun.commands)
    cell.run()
    return list(begun.records)


def reset(cell: CellUnderTest, state: str) -> ServerRecord:
    return reset_state.reset_state(cell.database, CONTEXT, SERVER, state)


def last_action(cell: CellUnderTest) -> tuple[str, str, str]:
    with cell.database.read() as connection:
        newest = runs.list_runs(connection, server_id=SERVER)[0]
    return newest.operation, newest.state, newest.message


def test_a_soft_deleted_server_is_off_and_keeps_its_room_until_it_is_reclaimed(cell: CellUnderTest) -> None:
    soft_delete(cell)
    record = cell.assert_clean(SERVER)  # its claim and ports are there
    assert (record.vm_state, record.power_state) == (VmState.SOFT_DELETED, PowerState.SHUTDOWN)
    assert reclaim(cell) == []
    cell.begin(SERVER, Operation.RESTORE)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE
    wait_for_reclaim(cell)
    assert reclaim(cell) == []  # it is not soft-deleted any more
    soft_delete(cell)
    assert reclaim(cell) == []  # a new time has begun
    wait_for_reclaim(cell)
    assert reclaim(cell) == [SERVER]
    assert cell.assert_clean(SERVER).deleted
    assert reclaim(cell) == []


@pytest.mark.parametrize("seconds", [0.0, KEPT])
def test_the_conductors_sweep_reclaims(cell: CellUnderTest, seconds: float) -> None:
    soft_delete(cell)
    wait_for_reclaim(cell)
    given: Any = (cell.scheduler, cell, cell.executor, None)
    service = ConductorService(options.load().cell, cell.database, *given, reclaim_seconds=seconds)
    for _ in range(2):
        service.sweep()
        cell.run()
    assert cell.assert_clean(SERVER).deleted is (seconds > 0)


def test_a_server_that_is_being_restored_is_not_reclaimed(cell: CellUnderTest) -> None:
    soft_delete(cell)
    wait_for_reclaim(cell)
    cell.begin(SERVER, Operation.RESTORE)
    assert reclaim(cell) == []
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


def test_a_restore_that_fails_leaves_the_server_as_it_was(cell: CellUnderTest) -> None:
    soft_delete(cell)
    cell.fail[Start] = [errors.GuestFailed("no")]
    cell.begin(SERVER, Operation.RESTORE)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.SOFT_DELETED
    wait_for_reclaim(cell)
    assert reclaim(cell) == [SERVER]


@pytest.mark.parametrize("fails", [False, True])
def test_a_soft_delete_waits_for_what_is_under_way(cell: CellUnderTest, fails: bool) -> None:
    cell.fail[RebootHard] = [errors.GuestFailed("no")] if fails else []
    cell.begin(SERVER, Operation.REBOOT, type="HARD")
    for _ in range(2):
        assert cell.begin(SERVER, Operation.SOFT_DELETE).task_state == TaskState.SOFT_DELETING
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.SOFT_DELETED
    cell.begin(SERVER, Operation.RESTORE)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


@pytest.mark.parametrize("before", [Operation.SOFT_DELETE, Operation.REBOOT])
def test_a_delete_for_good_overtakes_a_soft_one(cell: CellUnderTest, before: Operation) -> None:
    if before == Operation.REBOOT:
        cell.begin(SERVER, before, type="HARD")
    cell.begin(SERVER, Operation.SOFT_DELETE)
    cell.begin(SERVER, Operation.DELETE)
    cell.begin(SERVER, Operation.SOFT_DELETE)  # which takes nothing back
    cell.run()
    assert cell.assert_clean(SERVER).deleted


@pytest.mark.parametrize("waits", [False, True])
def test_a_move_that_waits_to_be_confirmed_is_confirmed_before(cell: CellUnderTest, waits: bool) -> None:
    cell.begin(SERVER, Operation.MIGRATE)
    if not waits:
        cell.run()
        assert cell.record(SERVER).vm_state == VmState.RESIZED
    cell.begin(SERVER, Operation.SOFT_DELETE)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.vm_state == VmState.SOFT_DELETED
    with cell.database.read() as connection:
        assert len(connection.execute(sa.select(cell_schema.claims)).all()) == 1
    cell.begin(SERVER, Operation.RESTORE)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


def test_a_server_that_never_ran_is_deleted_at_once(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(SERVER)
    cell.begin(SERVER, Operation.SOFT_DELETE)
    cell.run()
    assert cell.assert_clean(SERVER).deleted


def test_a_guest_that_runs_on_is_stopped_when_its_host_is_back(cell: CellUnderTest) -> None:
    cell.fail[Stop] = [errors.GuestFailed("no")]
    soft_delete(cell)
    record = cell.record(SERVER)
    assert (record.vm_state, record.power_state) == (VmState.SOFT_DELETED, PowerState.RUNNING)
    host = str(record.host)
    assert reconcile.list_expected(cell.database, host) == []  # nothing starts it again
    guest = GuestState(server_id=SERVER, power_state=PowerState.RUNNING, generation=record.generation)
    [order] = reconcile.compare(cell.database, host, [guest], fence=False).orders
    assert (order.kind, order.server_id) == (OrderKind.STOP, SERVER)


@pytest.mark.parametrize("state", ["active", "error"])
def test_a_reset_ends_what_was_under_way_and_a_late_answer_changes_nothing(cell: CellUnderTest, state: str) -> None:
    cell.away = {"h1", "h2"}
    cell.begin(SERVER, Operation.STOP)
    [(run, record)] = lease(cell)
    assert (reset(cell, state).vm_state, cell.record(SERVER).task_state) == (state, None)
    assert last_action(cell)[:2] == ("resetState", "done")
    cell.away = set()
    with pytest.raises(errors.Stale):
        cell.executor.advance(run, record)  # its lease is over
    cell.run()
    assert cell.record(SERVER).vm_state == state
    with cell.database.read() as connection:
        stop = next(one for one in runs.list_runs(connection, server_id=SERVER) if one.operation == Operation.STOP)
    assert (stop.state, stop.message) == ("failed", reset_state.BY_ADMIN)
    cell.begin(SERVER, Operation.REBOOT, type="HARD")
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


def lease(cell: CellUnderTest) -> list[tuple[runs.LeasedRun, ServerRecord]]:
    """As a worker has it that is at work when an administrator comes."""
    terms = cell.executor.offer()
    assert terms is not None
    with cell.database.write() as connection:
        leased = runs.lease_due(connection, terms, limit=5)
        return [(run, servers.get(connection, run.server_id)) for run in leased]


def test_a_hard_reboot_overtakes_what_novas_does(cell: CellUnderTest) -> None:
    cell.away = {"h1", "h2"}
    cell.begin(SERVER, Operation.REBOOT, type="SOFT")
    cell.begin(SERVER, Operation.REBOOT, type="HARD")
    with cell.database.read() as connection:
        ended = runs.list_runs(connection, server_id=SERVER)[-2:]
    assert "failed" in [run.state for run in ended]
    cell.away = set()
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


def test_a_build_that_is_reset_leaves_nothing(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(SERVER)
    with pytest.raises(errors.Conflict):
        reset(cell, "active")
    assert reset(cell, "error").vm_state == VmState.ERROR
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.deleted) == (VmState.ERROR, False)


@pytest.mark.parametrize("operation", [Operation.DELETE, Operation.SOFT_DELETE])
@pytest.mark.parametrize("waits", [False, True])
def test_an_accepted_delete_is_not_reset(cell: CellUnderTest, operation: Operation, waits: bool) -> None:
    if waits:
        cell.begin(SERVER, Operation.STOP)
    cell.begin(SERVER, operation)
    with pytest.raises(errors.Conflict):
        reset(cell, "active")
    cell.run()
    assert cell.record(SERVER).vm_state in (VmState.DELETED, VmState.SOFT_DELETED)


def test_a_move_that_waits_to_be_confirmed_is_not_reset(cell: CellUnderTest) -> None:
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).values(vm_state=VmState.RESIZED))
    with pytest.raises(errors.Conflict):
        reset(cell, "error")


def test_a_server_whose_disk_is_an_image_alone_is_not_reset(cell: CellUnderTest) -> None:
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).values(vm_state=VmState.SHELVED_OFFLOADED))
    for state in reset_state.RESETTABLE:
        with pytest.raises(errors.Conflict):
            reset(cell, state)


def test_a_rebuild_that_is_reset_is_given_up_and_told(cell: CellUnderTest) -> None:
    cell.away = {"h1", "h2"}
    cell.begin(SERVER, Operation.REBUILD, spec_changes={"name": "rebuilt"})
    with pytest.raises(errors.Conflict):
        reset(cell, "active")
    reset(cell, "error")
    cell.run()
    record = cell.record(SERVER)
    assert (record.vm_state, record.task_state, record.spec.name) == (VmState.ERROR, None, "s")


def test_a_shelved_server_that_is_restored_is_shelved_no_more(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.SHELVE, image=image_of(SERVER))
    cell.run()
    soft_delete(cell)
    cell.begin(SERVER, Operation.RESTORE)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE
    assert cell.images.images == {}
    assert begin_operations.begin_offloads(cell.database, "req-1", 0.0) == []


POWERS = [
    (PowerState.SHUTDOWN, VmState.STOPPED),
    (PowerState.CRASHED, VmState.STOPPED),
    (PowerState.PAUSED, VmState.PAUSED),
    (PowerState.SUSPENDED, VmState.SUSPENDED),
    (PowerState.RUNNING, VmState.ACTIVE),
]


@pytest.mark.parametrize(("power", "state"), POWERS)
@pytest.mark.parametrize("how", ["confirmed", "reset"])
def test_a_server_is_what_its_guest_became_while_its_state_did_not_follow(
    cell: CellUnderTest, how: str, power: PowerState, state: VmState
) -> None:
    if how == "confirmed":
        cell.begin(SERVER, Operation.MIGRATE)
        cell.run()
    else:
        reset(cell, "error")
    find(cell, power)
    if how == "confirmed":
        cell.begin(SERVER, Operation.CONFIRM_RESIZE)
        cell.run()
    else:
        assert reset(cell, "active").vm_state == VmState.ACTIVE
        find(cell, power)  # by the host's comparison: what it is told to expect is another
    record = cell.record(SERVER)
    assert (record.vm_state, record.power_state) == (state, power)
    [expected] = reconcile.list_expected(cell.database, str(record.host))
    told = (expected.running, expected.paused, expected.suspended)
    assert told == tuple(state == one for one in (VmState.ACTIVE, VmState.PAUSED, VmState.SUSPENDED))


def find(cell: CellUnderTest, power: PowerState) -> None:
    """Let the server's host find its guest with that power, unless that is what its record leads it to expect."""
    record = cell.record(SERVER)
    expected = reconcile.list_expected(cell.database, str(record.host))
    runs_as = [power == one for one in (PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED)]
    if [[one.running, one.paused, one.suspended] for one in expected] == [runs_as]:
        return
    event = GuestEvent(
        host=str(record.host), server_id=SERVER, generation=record.generation, power_state=power, run_id="", step=""
    )
    guest_events.apply(cell.database, cell, [event])
