"""Moves of servers: what both hosts hold meanwhile, who is asked for room, what a host that is away keeps waiting, and
what ends a move by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from cell.conductor.runs import guest_events, reset_state
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import cell_schema, claims, hosts, servers
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import (
    Arrive,
    Destroy,
    Discard,
    FetchDisks,
    GuestCommand,
    GuestEvent,
    MoveBack,
    SetAside,
)
from cellcloud.model.migration import MigrationStatus
from cellcloud.model.operations import Operation
from cellcloud.server_states import PowerState, TaskState, VmState
from tests.workflows.world import CONTEXT, LARGER, CellUnderTest, make_report

SERVER = "11111111-0000-4000-8000-000000000001"
NETWORKING_AWAY = errors.Unreachable("The network service is away.")


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    """With a server that runs on h1."""
    world = CellUnderTest(cell_database)
    world.create(SERVER)
    world.run()
    return world


def statuses(cell: CellUnderTest) -> list[str]:
    return [one.status for one in cell.record(SERVER).migrations]


def held(cell: CellUnderTest) -> dict[str, int]:
    """Host -> processors that are claimed there."""
    with cell.database.read() as connection:
        assert claims.list_mismatches(connection) == []
        return {one.host: one.allocation.resources["VCPU"] for one in claims.list_of(connection, SERVER)}


def be_away(cell: CellUnderTest, host: str, *, away: bool = True) -> None:
    (cell.away.add if away else cell.away.discard)(host)
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.hosts).where(cell_schema.hosts.c.host == host).values(up=not away))


def test_a_resize_holds_both_hosts_until_it_is_confirmed(cell: CellUnderTest) -> None:
    begun = cell.begin(SERVER, Operation.RESIZE)
    assert (begun.task_state, begun.spec.flavor.id, begun.host) == (TaskState.RESIZE_PREP, "1", "h1")
    assert [one.status for one in begun.migrations] == [MigrationStatus.PRE_MIGRATING]
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.host, record.spec.flavor) == (VmState.RESIZED, "h2", LARGER)
    assert [port.host_id for port in record.ports] == ["h2"]
    assert held(cell) == {"h1": 1, "h2": 2}
    cell.begin(SERVER, Operation.CONFIRM_RESIZE)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.host, held(cell)) == (VmState.ACTIVE, "h2", {"h2": 2})
    assert statuses(cell) == [MigrationStatus.CONFIRMED]


def test_a_reverted_server_is_what_it_was_where_it_was(cell: CellUnderTest) -> None:
    before = cell.record(SERVER)
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    cell.begin(SERVER, Operation.REVERT_RESIZE)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.host, record.spec, record.ports) == (before.host, before.spec, before.ports)
    assert (held(cell), statuses(cell)) == ({"h1": 1}, [MigrationStatus.REVERTED])


def test_a_stopped_server_moves_stopped(cell: CellUnderTest) -> None:
    for ending in (Operation.CONFIRM_RESIZE, Operation.REVERT_RESIZE):
        if cell.record(SERVER).vm_state == VmState.ACTIVE:
            cell.begin(SERVER, Operation.STOP)
            cell.run()
        cell.begin(SERVER, Operation.MIGRATE)
        cell.run()
        assert cell.assert_clean(SERVER).power_state == PowerState.SHUTDOWN
        cell.begin(SERVER, ending)
        cell.run()
        assert cell.assert_clean(SERVER).vm_state == VmState.STOPPED


@pytest.mark.parametrize("ending", [Operation.CONFIRM_RESIZE, Operation.REVERT_RESIZE, Operation.DELETE])
def test_a_server_is_resized_on_its_host_where_that_is_allowed(cell_database: Database, ending: Operation) -> None:
    cell = CellUnderTest(cell_database, ("h1",))
    cell.same_host = True
    cell.create(SERVER)
    cell.run()
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.host, record.spec.flavor) == (VmState.RESIZED, "h1", LARGER)
    with cell.database.read() as connection:
        assert sorted(one.allocation.resources["VCPU"] for one in claims.list_of(connection, SERVER)) == [1, 2]
    cell.begin(SERVER, ending)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.deleted == (ending is Operation.DELETE)
    cell.same_host = False
    if not record.deleted:
        cell.begin(SERVER, Operation.MIGRATE)  # which never stays
        cell.run()
        assert (cell.assert_clean(SERVER).host, statuses(cell)[-1]) == ("h1", MigrationStatus.ERROR)


def test_without_another_host_the_server_stays_what_it_is(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database, ("h1",))
    cell.create(SERVER)
    cell.run()
    before = cell.record(SERVER)
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    after = cell.assert_clean(SERVER)
    assert (after.vm_state, after.spec, after.power_state) == (before.vm_state, before.spec, before.power_state)
    assert statuses(cell) == [MigrationStatus.ERROR]


def test_a_named_host_is_the_one_or_none(cell: CellUnderTest) -> None:
    with pytest.raises(errors.Invalid, match="where the server exists"):
        cell.begin(SERVER, Operation.MIGRATE, host="h1")
    with pytest.raises(errors.Invalid, match="Compute host h9 could not be found"):
        cell.begin(SERVER, Operation.MIGRATE, host="h9")
    with cell.database.write() as connection:
        hosts.report(connection, [make_report("h3")])
    cell.begin(SERVER, Operation.MIGRATE, host="h2")
    cell.run()
    assert [shape.host for shape in cell.scheduler.asked[-1].shapes] == ["h2"]
    assert cell.assert_clean(SERVER).host == "h2"


def test_nothing_begins_that_would_wait_for_a_host_that_is_away(cell: CellUnderTest) -> None:
    be_away(cell, "h1")
    for operation in (Operation.RESIZE, Operation.MIGRATE):
        with pytest.raises(errors.Conflict, match="unavailable"):
            cell.begin(SERVER, operation)
    be_away(cell, "h1", away=False)
    cell.begin(SERVER, Operation.MIGRATE)
    cell.run()
    be_away(cell, "h1")
    for ending in (Operation.CONFIRM_RESIZE, Operation.REVERT_RESIZE):
        with pytest.raises(errors.Conflict, match="unavailable"):
            cell.begin(SERVER, ending)


@pytest.mark.parametrize("operation", [Operation.CONFIRM_RESIZE, Operation.REVERT_RESIZE])
def test_what_was_not_moved_is_neither_confirmed_nor_reverted(cell: CellUnderTest, operation: Operation) -> None:
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).values(vm_state=VmState.RESIZED))
    with pytest.raises(errors.Invalid, match="Instance has not been resized"):
        cell.begin(SERVER, operation)


@pytest.mark.parametrize("lost", ["disks", "host"])
def test_a_server_whose_old_guest_is_lost_stays_where_it_was_moved(cell: CellUnderTest, lost: str) -> None:
    """What runs is not removed for what is no more; it is confirmed later."""
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    cell.begin(SERVER, Operation.REVERT_RESIZE)
    aside = dict(cell.aside)
    if lost == "disks":
        cell.aside.clear()
    else:
        cell.fenced.add("h1")
        cell.away.add("h1")
    cell.run()
    cell.aside = aside
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.host, record.power_state) == (VmState.RESIZED, "h2", PowerState.RUNNING)
    assert statuses(cell) == [MigrationStatus.FINISHED]
    cell.fenced.clear()
    cell.away.clear()
    cell.begin(SERVER, Operation.CONFIRM_RESIZE)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


def test_a_source_that_is_lost_once_the_new_guest_is_removed_is_an_error(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    cell.begin(SERVER, Operation.REVERT_RESIZE)
    apply = cell._apply

    def lost_meanwhile(host: str, command: GuestCommand) -> PowerState:
        if isinstance(command, Destroy):
            cell.fenced.add("h1")
            cell.away.add("h1")
        return apply(host, command)

    cell._apply = lost_meanwhile  # type: ignore[method-assign]
    cell.run()
    record = cell.record(SERVER)
    assert record.fault is not None
    assert (record.vm_state, record.host, record.task_state) == (VmState.ERROR, "h1", None)
    assert (statuses(cell), held(cell)) == ([MigrationStatus.REVERTED], {"h1": 1})


def test_a_source_that_goes_away_meanwhile_is_asked_for_a_new_offer(cell: CellUnderTest) -> None:
    cell.fail = {FetchDisks: [errors.Unreachable("reset")] * 3}
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.RESIZED


@pytest.mark.parametrize("kind", [SetAside, FetchDisks, Arrive])
def test_a_failure_before_the_end_leaves_the_server_as_it_was(cell: CellUnderTest, kind: type[SetAside]) -> None:
    before = cell.record(SERVER)
    cell.fail = {kind: [errors.HostRefused("no")]}
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.host, record.spec, record.power_state, record.ports) == (
        *(before.vm_state, before.host, before.spec, before.power_state, before.ports),
    )
    assert statuses(cell) == [MigrationStatus.ERROR]


def test_a_guest_that_cannot_be_put_back_is_in_error_with_the_reason(cell: CellUnderTest) -> None:
    cell.fail = {Arrive: [errors.HostRefused("no")], MoveBack: [errors.GuestFailed("it does not start")]}
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    record = cell.record(SERVER)
    assert record.fault is not None
    assert (record.vm_state, record.host, record.fault.message) == (VmState.ERROR, "h1", "it does not start")
    assert held(cell) == {"h1": 1}


def test_commands_that_fail_are_asked_again_where_there_is_no_way_back(cell: CellUnderTest) -> None:
    for ending, kind in ((Operation.REVERT_RESIZE, Destroy), (Operation.CONFIRM_RESIZE, Discard)):
        cell.begin(SERVER, Operation.RESIZE)
        cell.run()
        cell.fail = {kind: [errors.HostRefused("no")] * 3}
        cell.begin(SERVER, ending)
        cell.run()
        assert cell.assert_clean(SERVER).vm_state == VmState.ACTIVE


@pytest.mark.parametrize("away", ["h1", "h2"])
def test_a_delete_of_a_moved_server_waits_for_each_host_that_has_something(cell: CellUnderTest, away: str) -> None:
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    be_away(cell, away)
    cell.begin(SERVER, Operation.DELETE)
    with pytest.raises(AssertionError, match="never ended"):
        cell.run(limit=8)
    assert cell.record(SERVER).deleted
    assert set(held(cell)) == {"h1", "h2"}
    be_away(cell, away, away=False)
    cell.run()
    assert cell.assert_clean(SERVER).deleted
    assert held(cell) == {}


def test_a_deleted_servers_move_is_over(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert (cell.assert_clean(SERVER).deleted, statuses(cell)) == (True, [MigrationStatus.CONFIRMED])


def test_a_move_that_a_soft_delete_could_not_end_is_over_once_the_server_is_restored(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    be_away(cell, "h1")
    with monkeypatch.context() as impatient:
        impatient.setitem(REGISTRY, Operation.SOFT_DELETE, replace(REGISTRY[Operation.SOFT_DELETE], deadline=-1.0))
        cell.begin(SERVER, Operation.SOFT_DELETE)
        cell.run()
    record = cell.record(SERVER)
    assert (record.vm_state, statuses(cell)) == (VmState.SOFT_DELETED, [MigrationStatus.FINISHED])
    for state in reset_state.RESETTABLE:
        with pytest.raises(errors.Conflict, match="soft-delete"):
            reset_state.reset_state(cell.database, CONTEXT, SERVER, state)
    be_away(cell, "h1", away=False)
    cell.begin(SERVER, Operation.RESTORE)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.host, statuses(cell)) == (VmState.ACTIVE, "h2", [MigrationStatus.CONFIRMED])
    assert held(cell) == {"h2": 2}
    cell.begin(SERVER, Operation.MIGRATE)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == VmState.RESIZED


@pytest.mark.parametrize("operation", [Operation.RESIZE, Operation.MIGRATE])
def test_no_move_begins_before_the_last_is_over(cell: CellUnderTest, operation: Operation) -> None:
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).values(vm_state=VmState.ACTIVE))
    with pytest.raises(errors.Conflict, match="neither confirmed nor reverted"):
        cell.begin(SERVER, operation)


def test_moves_are_confirmed_after_their_window(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    with cell.database.read() as connection:
        assert servers.list_unconfirmed(connection, 60.0, 10) == []
        assert servers.list_unconfirmed(connection, 0.0, 10) == [SERVER]
    cell.begin(SERVER, Operation.CONFIRM_RESIZE)
    with cell.database.read() as connection:
        assert servers.list_unconfirmed(connection, 0.0, 10) == []
    cell.run()
    with cell.database.read() as connection:
        assert servers.list_unconfirmed(connection, 0.0, 10) == []


def test_how_far_the_disks_are_is_shown_while_they_are_copied(cell: CellUnderTest) -> None:
    cell.lost = 1
    cell.begin(SERVER, Operation.RESIZE)
    record = cell.record(SERVER)
    told = replace(record.migrations[-1], status=MigrationStatus.MIGRATING, destination="h2")
    with cell.database.write() as connection:
        assert servers.change(connection, SERVER, servers.ServerChanges(migrations=(told,))) is not None

    def tell(host: str, generation: int, percent: int) -> int:
        event = GuestEvent(
            host=host, server_id=SERVER, generation=generation, power_state=0, run_id="r", step="s", progress=percent
        )
        guest_events.apply(cell.database, cell, [event])
        return cell.record(SERVER).progress

    assert tell("h2", record.generation, 40) == 40
    assert tell("h1", record.generation, 50) == 40
    assert tell("h2", record.generation - 1, 60) == 40


def test_a_delete_skips_what_a_move_would_have_to_undo(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host is asked to put back what is about to be removed."""
    cell.fail = {MoveBack: [errors.GuestFailed("it was asked")] * 9}
    workflow = REGISTRY[Operation.RESIZE]
    steps = []
    for step in workflow.steps:
        if step.name == "moves.arrive":
            do = step.do

            def deleting(context, services, do=do):  # type: ignore[no-untyped-def]
                cell.begin(SERVER, Operation.DELETE)
                return do(context, services)

            step = replace(step, do=deleting)  # noqa: PLW2901
        steps.append(step)
    monkeypatch.setitem(REGISTRY, Operation.RESIZE, replace(workflow, steps=tuple(steps)))
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    assert cell.assert_clean(SERVER).deleted
    assert len(cell.fail[MoveBack]) == 9


def test_a_network_service_that_is_away_keeps_a_move_waiting(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure, away = cell.networks.ensure_ports, [True, True]

    def first_away(**given: object) -> object:
        if away:
            away.pop()
            raise NETWORKING_AWAY
        return ensure(**given)  # type: ignore[arg-type]

    monkeypatch.setattr(cell.networks, "ensure_ports", first_away)
    cell.begin(SERVER, Operation.MIGRATE)
    cell.run()
    assert cell.assert_clean(SERVER).host == "h2"
