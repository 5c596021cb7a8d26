"""A server is deleted, or its create undone, while its host is away: users do not wait for the host, but what the guest
may still use is kept until the host, or an operator who fenced it, has spoken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from cell.conductor import audit, reconcile
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import cell_schema, claims, hosts, runs
from cellcloud.db.cell_schema import listening
from cellcloud.db.cell_schema import runs as table
from cellcloud.db.engine import Database, utc_after
from cellcloud.model.guest_commands import OrderKind, Spawn
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.operations import Operation
from cellcloud.model.run import Lease, LeasedRun
from tests.workflows.test_leases import end_leases
from tests.workflows.world import CellUnderTest, make_report

SERVER = "11111111-0000-4000-8000-000000000001"


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    return CellUnderTest(cell_database)


def turn(cell: CellUnderTest, times: int = 6) -> None:
    """Move what there is to move, without waiting for its end."""
    for _ in range(times):
        end_leases(cell.database)
        with pytest.raises(AssertionError):
            cell.run(limit=1)


def take_due(connection: sa.Connection) -> list[LeasedRun]:
    return runs.lease_due(connection, Lease(owner="other", seconds=15.0), limit=10)


def owners(cell: CellUnderTest) -> list[str]:
    with cell.database.read() as connection:
        return claims.list_owners(connection)


def assert_kept(cell: CellUnderTest) -> None:
    assert (owners(cell), list(cell.networks.ports), list(cell.guests)) == ([SERVER], [SERVER], [SERVER])
    with cell.database.read() as connection:
        assert runs.find_active(connection, SERVER) is not None


def running(cell: CellUnderTest) -> None:
    cell.create(SERVER)
    cell.run()


def test_a_delete_is_over_for_users_and_carried_out_when_the_host_is_back(cell: CellUnderTest) -> None:
    running(cell)
    cell.away.add("h1")
    cell.begin(SERVER, Operation.DELETE)
    turn(cell)
    record = cell.record(SERVER)
    assert (record.deleted, record.vm_state, record.host) == (True, "deleted", "h1")
    assert_kept(cell)
    found = [one for one in audit.check(cell.database, down_time=15) if one.severity != "ok" and one.check == "owners"]
    assert [(one.subject, one.severity) for one in found] == [(SERVER, "warning")]
    version = record.version
    turn(cell)
    assert cell.record(SERVER).version == version  # the wait is told once
    cell.away.clear()
    cell.run()
    assert cell.assert_clean(SERVER).deleted


@pytest.mark.parametrize("fenced", [False, True])
def test_an_operator_who_fenced_the_host_ends_the_wait(cell: CellUnderTest, fenced: bool) -> None:
    running(cell)
    cell.away.add("h1")
    cell.begin(SERVER, Operation.DELETE)
    turn(cell)
    assert owners(cell) == [SERVER]
    if fenced:
        cell.fenced.add("h1")
        cell.run()
        assert (owners(cell), cell.networks.ports) == ([], {})
    else:
        turn(cell)
        assert_kept(cell)


@pytest.mark.parametrize("how", ["back", "fenced"])
def test_a_host_that_is_away_is_asked_seldom_and_its_return_noticed_at_once(cell: CellUnderTest, how: str) -> None:
    running(cell)
    cell.away.add("h1")
    cell.begin(SERVER, Operation.DELETE)
    turn(cell)
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.hosts).where(cell_schema.hosts.c.host == "h1").values(up=False))
        wait = connection.execute(sa.select(table.c.run_at > utc_after(30.0)).where(table.c.active == 1)).scalar()
        assert wait
        hosts.report(connection, [make_report("h2")])
        assert take_due(connection) == []
        if how == "back":
            hosts.report(connection, [make_report("h1")])
        else:
            hosts.set_state(connection, "h1", enabled=None, disabled_reason=None, forced_down=True)
        assert len(take_due(connection)) == 1


@pytest.mark.parametrize("spawned", [False, True])
def test_the_delete_of_a_server_that_is_being_built(cell: CellUnderTest, spawned: bool) -> None:
    cell.create(SERVER)
    if not spawned:
        cell.away.add("h1")
    turn(cell, 1)
    cell.away.add("h1")
    cell.begin(SERVER, Operation.DELETE)
    turn(cell)
    assert (cell.record(SERVER).deleted, owners(cell), list(cell.networks.ports)) == (True, [SERVER], [SERVER])
    cell.away.clear()
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == "deleted"


def test_a_create_that_is_undone_shows_its_error_and_keeps_its_place(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRY, "create", replace(REGISTRY["create"], deadline=60.0))
    cell.create(SERVER)
    turn(cell, 1)
    cell.inbox.clear()
    cell.away.add("h1")
    with cell.database.write() as connection:
        connection.execute(sa.update(table).values(deadline=utc_after(-1)))
    turn(cell)
    record = cell.record(SERVER)
    assert (record.vm_state, record.task_state, record.host) == ("error", None, "h1")
    assert record.fault is not None
    assert_kept(cell)
    cell.away.clear()
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == "error"


def test_a_host_that_refuses_and_falls_silent_is_not_left_without_its_result(cell: CellUnderTest) -> None:
    cell.create(SERVER)
    cell.fail[Spawn] = [errors.HostRefused("No.")]
    turn(cell, 1)
    cell.away.add("h1")
    turn(cell)
    assert (cell.record(SERVER).host, owners(cell)) == ("h1", [SERVER])
    cell.away.clear()
    cell.run()
    assert cell.assert_clean(SERVER).host == "h2"


@pytest.mark.parametrize("operation", [Operation.DELETE, Operation.STOP])
def test_a_run_catches_up_with_a_host_that_obeyed_what_the_database_lost(
    cell: CellUnderTest, operation: Operation
) -> None:
    """The host refuses anything older: a delete, which goes on until it is obeyed, would ask in vain for ever."""
    running(cell)
    host, power, _ = cell.guests[SERVER]
    cell.guests[SERVER] = (host, power, 9)
    cell.begin(SERVER, operation)
    if operation is Operation.DELETE:
        turn(cell)
        assert_kept(cell)
    reconcile.compare(cell.database, host, [GuestState(server_id=SERVER, power_state=1, generation=9)], fence=False)
    cell.run()
    assert cell.assert_clean(SERVER).vm_state == {"delete": "deleted", "stop": "stopped"}[operation]


def test_what_was_shown_as_an_end_is_one(cell: CellUnderTest) -> None:
    """The last host refused, and fell silent before it was cleared: no other cell builds the server after all."""
    cell.max_attempts = 1
    cell.create(SERVER)
    cell.fail[Spawn] = [errors.HostRefused("No.")]
    turn(cell, 1)
    cell.away.add("h1")
    turn(cell)
    assert (cell.record(SERVER).vm_state, owners(cell)) == ("error", [SERVER])
    cell.away.clear()
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.deleted) == ("error", False)


# ---- who says that a host is away ------------------------------------------------------------------------------------
MINUTE = 60.0  # of the database's clock is a second in these tests: no machine is so slow that they would notice
DOWN = 15.0 * MINUTE


def up(database: Database) -> dict[str, bool]:
    """By every way in which it is read."""
    with database.write() as connection:
        if not hosts.is_judged(connection, down_time=DOWN):
            hosts.judge(connection, down_time=DOWN)
    with database.read() as connection:
        by_log = {state.host: state.up for state in hosts.list_states(connection)}
        by_clock = {state.host: state.up for state in hosts.list_states(connection, down_time=DOWN)}
        shown = {host.host: host.up for host in hosts.list_hosts(connection, down_time=DOWN)}
        asked = {host: hosts.is_up(connection, host, down_time=DOWN) for host in by_log}
    assert by_log == by_clock == shown == asked
    return by_log


def pass_time(database: Database, seconds: float) -> None:
    """As if all of it were that much older."""
    seconds *= MINUTE
    with database.write() as connection:
        for row in ("hosts SET last_seen", "services SET last_seen"):
            _set_back(connection, row, seconds)
        for column in ("since", "looked_at"):
            _set_back(connection, f"listening SET {column}", seconds)


def _set_back(connection: sa.Connection, what: str, seconds: float) -> None:
    column = what.rsplit(" ", 1)[1]
    connection.exec_driver_sql(f"UPDATE {what} = strftime('%Y-%m-%d %H:%M:%f000', {column}, '{-seconds} seconds')")


def listen(database: Database, seconds: int, names: tuple[str, ...] = ("h1", "h2")) -> dict[str, bool]:
    """A cell that is at work: these hosts report, and it judges, every second."""
    found: dict[str, bool] = {}
    for _ in range(seconds):
        pass_time(database, 1.0)
        with database.write() as connection:
            hosts.report(connection, [make_report(name) for name in names])
        found = up(database)
    return found


def test_a_host_that_alone_falls_silent_is_down(cell: CellUnderTest) -> None:
    assert listen(cell.database, 16) == {"h1": True, "h2": True}
    assert listen(cell.database, 10, ("h1",)) == {"h1": True, "h2": True}
    assert listen(cell.database, 6, ("h1",)) == {"h1": True, "h2": False}
    assert listen(cell.database, 1) == {"h1": True, "h2": True}


@pytest.mark.parametrize("seconds", [8.0, 16.0, 60.0, 86_400.0])
@pytest.mark.parametrize("looking", [False, True], ids=["standstill", "deaf"])
def test_nobody_is_judged_for_what_the_cell_did_not_hear(cell: CellUnderTest, seconds: float, looking: bool) -> None:
    """Its conductors, database or machine stood still; or they were at work, and the queue was away."""
    listen(cell.database, 16)
    for _ in range(int(seconds) if looking and seconds < 100 else 0):
        pass_time(cell.database, 1.0)
        assert set(up(cell.database).values()) == {True}
    if not looking or seconds >= 100:
        pass_time(cell.database, seconds)
    assert up(cell.database) == {"h1": True, "h2": True}
    assert listen(cell.database, 10, ("h1",)) == {"h1": True, "h2": True}  # the other has its time to be heard
    assert listen(cell.database, 6, ("h1",)) == {"h1": True, "h2": False}


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_steps_takes_no_host_down(cell: CellUnderTest, hours: int) -> None:
    listen(cell.database, 16)
    pass_time(cell.database, hours * 3600.0)
    assert up(cell.database) == {"h1": True, "h2": True}
    assert listen(cell.database, 5) == {"h1": True, "h2": True}


def test_the_last_host_is_judged_where_another_service_is_heard(cell: CellUnderTest) -> None:
    listen(cell.database, 16, ("h1", "h2"))
    for _ in range(17):
        pass_time(cell.database, 1.0)
        with cell.database.write() as connection:
            connection.execute(sa.text("DELETE FROM services"))
            connection.execute(
                sa.text(
                    "INSERT INTO services VALUES ('s', 'nova-scheduler', 'x', 'z', '2026-01-01 00:00:00.000000', "
                    "strftime('%Y-%m-%d %H:%M:%f000', 'now'))"
                )
            )
        found = up(cell.database)
    assert found == {"h1": False, "h2": False}
    with cell.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(listening)).scalar() == 1


def test_a_forced_down_host_is_down_at_once(cell: CellUnderTest) -> None:
    with cell.database.write() as connection:
        hosts.set_state(connection, "h1", enabled=None, disabled_reason=None, forced_down=True)
    assert up(cell.database) == {"h1": False, "h2": True}
    with cell.database.read() as connection:
        assert [hosts.is_fenced(connection, host) for host in ("h1", "h2", "unknown")] == [True, False, True]


@pytest.mark.parametrize("ends", [Operation.CONFIRM_RESIZE, None])
def test_what_a_move_on_one_host_left_aside_goes_when_the_host_is_back(
    cell: CellUnderTest, ends: Operation | None
) -> None:
    """It was confirmed while the host was forced down. One that is not over keeps what it has set aside."""
    with cell.database.write() as connection:
        hosts.set_state(connection, "h2", enabled=False, disabled_reason=None, forced_down=None)
    cell.same_host = True
    running(cell)
    cell.begin(SERVER, Operation.RESIZE)
    cell.run()
    aside = cell.record(SERVER).generation
    if ends is not None:
        cell.begin(SERVER, ends)
        cell.fenced.add("h1")
        cell.away.add("h1")
        cell.run()
    record = cell.record(SERVER)
    seen = GuestState(server_id=SERVER, power_state=1, generation=record.generation, beside=aside)
    told = reconcile.compare(cell.database, "h1", [seen], fence=False).orders
    expected = [(OrderKind.DISCARD, record.generation)] if ends else []
    assert [(order.kind, order.generation) for order in told] == expected
    assert record.host == "h1"
