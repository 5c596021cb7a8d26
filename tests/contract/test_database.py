"""What every database must do alike: claims, runs, the feed, holds, console tokens, migrations, the clock."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.schema import CreateTable

from cell.conductor.placement import reservation_batching, reservation_confirmation
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import cell_schema, claims, consoles, feed, hosts, migrate, runs, servers, top_schema
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Database, LostRace, retried, utc_after, utc_now
from cellcloud.launcher.database_servers import DatabaseServer
from cellcloud.model.allocation import Allocation
from cellcloud.model.decision import ClaimConflict
from cellcloud.model.guest_commands import GuestEvent
from cellcloud.model.run import Checkpoint, Lease, NewRun, OperationRequest
from tests.workflows.world import CellUnderTest, claim, make_report, make_spec

IDS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(100)]


def drop_tables(connection: sa.Connection, tree: migrate.Tree) -> None:
    migrate.METADATA[tree].drop_all(connection)
    migrate.VERSION.drop(connection, checkfirst=True)


def schema_of(connection: sa.Connection) -> dict[str, object]:
    """Everything that a database says of its tables, whatever the order of their columns."""
    known = sa.inspect(connection)
    found: dict[str, object] = {}
    for table in known.get_table_names():
        for column in known.get_columns(table):
            found[f"{table}.{column['name']}"] = (str(column["type"]), column["nullable"], column["default"])
        found[f"{table} key"] = str(known.get_pk_constraint(table))
        for index in known.get_indexes(table):
            options = {name: str(value) for name, value in index.pop("dialect_options", {}).items()}
            found[f"{table} index {index['name']}"] = (index, options)
        found[f"{table} unique"] = sorted(str(one) for one in known.get_unique_constraints(table))
        others = [{**one, "name": ""} for one in known.get_foreign_keys(table)]  # MariaDB numbers them as they come
        found[f"{table} others"] = sorted(map(str, others))
        found[f"{table} checks"] = sorted(str(one) for one in known.get_check_constraints(table))
    return found | {"revision": connection.execute(sa.select(migrate.VERSION)).scalars().all()}


@pytest.mark.parametrize("tree", ["cell", "top"])
def test_a_new_database_has_what_the_migrations_make(
    tree: migrate.Tree, cell_database: Database, top_database: Database
) -> None:
    """And so has one whose making broke off, which MariaDB leaves as it was at that moment."""
    database = cell_database if tree == "cell" else top_database
    metadata = migrate.METADATA[tree]
    with database.write() as connection:
        drop_tables(connection, tree)
        migrate.migrate(connection, tree)
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert [one for one in differences if isinstance(one, tuple) and "index" not in one[0]] == []
    with database.write() as connection:
        migrated = schema_of(connection)
        drop_tables(connection, tree)
    migrate.upgrade(database, tree)
    with database.write() as connection:
        assert schema_of(connection) == migrated
        drop_tables(connection, tree)
        migrate.VERSION.create(connection)
        for table in metadata.sorted_tables[: len(metadata.tables) // 2]:
            connection.execute(CreateTable(table))
    migrate.upgrade(database, tree)
    with database.write() as connection:
        assert schema_of(connection) == migrated


@pytest.mark.parametrize("tree", ["cell", "top"])
def test_migrating_twice_changes_nothing(tree: migrate.Tree, cell_database: Database, top_database: Database) -> None:
    database = cell_database if tree == "cell" else top_database
    with database.read() as connection:
        before = schema_of(connection)
    migrate.upgrade(database, tree)
    with database.read() as connection:
        assert schema_of(connection) == before
    scripts = Config()
    scripts.set_main_option("script_location", str(migrate.TREES / tree))
    assert ScriptDirectory.from_config(scripts).get_heads() == [migrate.find_newest(tree)]


def test_the_clock_is_the_databases_and_utc(cell_database: Database) -> None:
    with cell_database.read() as connection:
        now, later = connection.execute(sa.select(utc_now(), utc_after(90.5))).one()
    assert abs((dt.datetime.now(dt.UTC) - now).total_seconds()) < 5
    assert 89 < (later - now).total_seconds() < 92


def wanted(server_id: str, host: str = "h1", vcpus: int = 1) -> Claim:
    return Claim(server_id, server_id, host, Allocation(resources={"VCPU": vcpus, "MEMORY_MB": 128, "DISK_GB": 1}))


def test_forty_racing_claims_for_ten_slots(cell_database: Database) -> None:
    CellUnderTest(cell_database, ("h1",), vcpus=10)
    barrier = threading.Barrier(8)

    @retried
    def claim_one(database: Database, server_id: str) -> dict[str, ClaimConflict]:
        with database.write() as connection:
            return claim(connection, [wanted(server_id)])

    def race(ids: list[str]) -> int:
        barrier.wait(timeout=30)
        return sum(not claim_one(cell_database, server_id) for server_id in ids)

    with ThreadPoolExecutor(8) as pool:
        won = sum(pool.map(race, [IDS[n : n + 5] for n in range(0, 40, 5)]))
    assert won == 10
    with cell_database.read() as connection:
        assert claims.list_mismatches(connection) == []
        assert len(claims.list_owners(connection)) == 10


def test_claims_of_one_batch_share_a_host_and_the_losers_hold_nothing(cell_database: Database) -> None:
    CellUnderTest(cell_database, ("h1", "h2"), vcpus=4)
    with cell_database.write() as connection:
        lost = claim(connection, [wanted(one) for one in IDS[:6]] + [wanted(IDS[6], "h2", 5)])
    assert len(lost) == 3
    assert IDS[6] in lost
    with cell_database.write() as connection:
        assert not lost.keys() & set(claims.list_owners(connection))
        claims.release(connection, IDS[:7])
        claims.release(connection, IDS[:7])
    with cell_database.read() as connection:
        assert claims.list_mismatches(connection) == []
        assert claims.list_owners(connection) == []


def test_a_run_is_leased_once_and_again_when_the_lease_is_over(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(IDS[0])
    with ThreadPoolExecutor(4) as pool:

        def lease(owner: str) -> int:
            with cell_database.write() as connection:
                return len(runs.lease_due(connection, Lease(owner=owner, seconds=30), limit=5))

        assert sum(pool.map(lease, ["a", "b", "c", "d"])) == 1
    with cell_database.write() as connection:
        connection.execute(sa.update(cell_schema.runs).values(lease_until=utc_after(-1)))
        again = runs.lease_due(connection, Lease(owner="e", seconds=30), limit=5)
        assert [run.attempt for run in again] == [2]
    with cell_database.write() as connection:
        assert runs.list_leased(connection, {again[0].id: again[0].lease_number}, "a") == {}
        assert list(runs.list_leased(connection, {again[0].id: again[0].lease_number}, "e")) == [again[0].id]


def test_one_unfinished_run_a_server(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(IDS[0])
    new = NewRun(server_id=IDS[0], operation="stop", generation=2, asked=OperationRequest(), deadline=60)
    with pytest.raises(LostRace), cell_database.write() as connection:
        runs.insert(connection, [new])


def test_events_are_taken_once_and_stale_ones_dropped(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(IDS[0])
    with cell_database.write() as connection:
        run = runs.lease_due(connection, Lease(owner="a", seconds=30), limit=1)[0]
        event = GuestEvent(host="h1", server_id=IDS[0], generation=1, power_state=1, run_id=run.id, step="guests.wait")
        old = GuestEvent(host="h1", server_id=IDS[0], generation=0, power_state=1, run_id=run.id, step="other")
        assert runs.add_events(connection, [event, event, old], Lease(owner="b", seconds=30)) == ([], True)
        assert list(runs.list_leased(connection, {run.id: run.lease_number}, "a")[run.id][0]) == ["guests.wait"]


def test_a_run_that_waits_is_handed_to_whoever_hears_its_event(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(IDS[0])
    with cell_database.write() as connection:
        run = runs.lease_due(connection, Lease(owner="a", seconds=30), limit=1)[0]
        runs.save(connection, [Checkpoint(run=run, wait=60.0)])
    event = GuestEvent(host="h1", server_id=IDS[0], generation=1, power_state=1, run_id=run.id, step="guests.wait")
    with cell_database.write() as connection:
        taken, others = runs.add_events(connection, [event], Lease(owner="b", seconds=30))
        assert [(one.id, one.attempt, list(one.events)) for one in taken] == [(run.id, 2, ["guests.wait"])]
        assert not others
        runs.lease(connection, Lease(owner="b", seconds=30), [run.id])
        assert runs.lease_due(connection, Lease(owner="c", seconds=30), limit=5) == []
        assert list(runs.list_leased(connection, {run.id: taken[0].lease_number}, "b")) == [run.id]


def test_runs_may_be_leased_from_their_beginning(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.hold(IDS[0])
    lease = Lease(owner="a", seconds=30)
    _, begun = reservation_confirmation.confirm(cell_database, RequestContext(), [IDS[0]], lease)
    assert [(run.server_id, record.id, run.attempt) for run, record in begun] == [(IDS[0], IDS[0], 1)]
    with cell_database.write() as connection:
        assert runs.lease_due(connection, Lease(owner="b", seconds=30), limit=5) == []
        assert runs.list_leased(connection, {begun[0][0].id: 1}, "a") == {begun[0][0].id: ({}, False)}


def test_a_hold_that_ended_may_be_held_again_and_only_its_own_confirm_counts(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.hold(IDS[0])
    with cell_database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).values(hold_until=utc_after(-1.0)))
    assert reservation_confirmation.expire_holds(cell_database) == 1
    specs = [make_spec(IDS[0]), make_spec(IDS[1])]
    again, fresh = reservation_batching.reserve(cell_database, cell.scheduler, RequestContext(), specs, hold_seconds=60)
    assert again.outcome == fresh.outcome == "held"
    assert again.record is not None
    hold = again.record.version
    assert hold > 1

    def confirm(holds: dict[str, int]) -> list[str]:
        answers = reservation_confirmation.confirm(cell_database, RequestContext(), [IDS[0]], holds=holds)[0]
        return [answer.outcome for answer in answers]

    assert confirm({}) == ["gone"]
    assert confirm({IDS[0]: hold}) == ["settled"]
    assert confirm({IDS[0]: hold}) == ["settled"]
    with cell_database.read() as connection:
        assert claims.list_mismatches(connection) == []
        assert sorted(claims.list_owners(connection)) == sorted(IDS[:2])


def test_the_feed_has_no_gaps_and_keeps_its_order_under_racing_writers(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database, vcpus=100)
    records = [cell.create(server_id) for server_id in IDS[:4]]
    with cell_database.read() as connection:
        before = feed.list_after(connection, 0, 1).newest
    seen: list[int] = []
    done = threading.Event()

    @retried
    def append(database: Database, n: int) -> None:
        with database.write() as connection:
            feed.append(connection, [records[n % 4]])

    def read() -> None:
        cursor = before
        while True:
            finished = done.is_set()
            with cell_database.read() as connection:
                page = feed.list_after(connection, cursor, 7)
            seen.extend(entry.sequence for entry in page.entries)
            cursor = seen[-1] if seen else cursor
            if finished and not page.entries:
                return

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: append(cell_database, n), range(40)))
    done.set()
    reader.join(timeout=60)
    assert seen == list(range(before + 1, before + 41))


def test_a_hold_expires_by_the_databases_clock(cell_database: Database) -> None:
    CellUnderTest(cell_database)
    with cell_database.write() as connection:
        servers.insert_held(connection, [(make_spec(IDS[0]), "h1", "nova")], hold_seconds=-1)
        servers.insert_held(connection, [(make_spec(IDS[1]), "h1", "nova")], hold_seconds=60)
        assert servers.list_expired_holds(connection) == [IDS[0]]
        assert [r.id for r in servers.confirm_held(connection, IDS[:2], "networking", {})] == [IDS[1]]
        assert servers.drop_held(connection, IDS[:2]) == [IDS[0]]


def test_a_console_token_opens_once_and_dies_with_its_generation(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(IDS[0])
    cell.run()
    record = cell.record(IDS[0])
    with cell_database.write() as connection:
        for token, ttl in (("once", 60.0), ("late", -1.0), ("old", 60.0)):
            consoles.insert(connection, record, token_hash=token, protocol="vnc", user_id="u", ttl=ttl)
    with cell_database.write() as connection:
        for _ in range(2):
            assert consoles.find(connection, "once").host == record.host
        assert consoles.redeem(connection, "once").host == record.host
    for token in ("once", "late", "unknown"):
        for read in (consoles.redeem, consoles.find):
            with pytest.raises(errors.NotFound), cell_database.write() as connection:
                read(connection, token)
    with cell_database.write() as connection:
        servers.begin_operations(connection, [IDS[0]], "rebooting")
    for read in (consoles.redeem, consoles.find):
        with pytest.raises(errors.NotFound), cell_database.write() as connection:
            read(connection, "old")


def test_hosts_up_down_and_refused_reports(cell_database: Database) -> None:
    CellUnderTest(cell_database)
    with cell_database.write() as connection:
        connection.execute(
            sa.update(cell_schema.hosts).where(cell_schema.hosts.c.host == "h2").values(last_seen=utc_after(-60))
        )
        assert hosts.judge(connection, down_time=15) == 0  # the first look of a cell that may just be back
        assert {state.host: state.up for state in hosts.list_states(connection, down_time=15)} == {
            "h1": True,
            "h2": True,
        }
        connection.execute(sa.update(cell_schema.listening).values(since=utc_after(-16)))
        states = {state.host: state.up for state in hosts.list_states(connection, down_time=15)}
        assert states == {"h1": True, "h2": False}
        assert {host.host: host.up for host in hosts.list_hosts(connection, down_time=15)} == states
        assert not hosts.is_judged(connection, down_time=15)
        assert hosts.judge(connection, down_time=15) == 1
        assert hosts.judge(connection, down_time=15) == 0
        assert {state.host: state.up for state in hosts.list_states(connection)} == states
        assert hosts.report(connection, [make_report("h2")])
        assert {state.host: state.up for state in hosts.list_states(connection)} == {"h1": True, "h2": True}
        for seconds, judged in ((-60, False), (60, False), (0, True)):
            connection.execute(sa.update(cell_schema.listening).values(looked_at=utc_after(seconds)))
            assert hosts.is_judged(connection, down_time=400) == judged, seconds
        connection.execute(sa.update(cell_schema.hosts).values(last_seen=utc_after(-300)))
        assert not hosts.is_judged(connection, down_time=400), "nobody was heard"
        connection.execute(sa.update(cell_schema.hosts).values(last_seen=utc_after(0)))
        assert hosts.is_up(connection, "h1", down_time=15)
        assert not hosts.is_up(connection, "nowhere", down_time=15)


@pytest.mark.parametrize("taken", [0, 1, 5, 9])
def test_a_key_in_use_among_many_rows_costs_its_savepoint_alone(top_database: Database, taken: int) -> None:
    rows = [{"project_id": "p", "resource": f"r{number}", "used": 0} for number in range(10)]
    insert = sa.insert(top_schema.quota_usages)
    with top_database.write() as connection:
        connection.execute(insert, [rows[taken]])
        for _ in range(25):
            with pytest.raises(sa.exc.IntegrityError) as refused, connection.begin_nested():
                connection.execute(insert, rows)
            assert not refused.value.connection_invalidated
        assert connection.execute(sa.select(sa.func.count()).select_from(top_schema.quota_usages)).scalar_one() == 1


def test_an_unreachable_database_is_said_to_be_so() -> None:
    for url in ("mysql+mysqldb://u:p@127.0.0.1:9/x", "postgresql+psycopg://u:p@127.0.0.1:9/x"):
        database = Database(url)
        with pytest.raises(errors.Unreachable), database.read():
            pass
        database.close()


def test_reading_as_one_sees_one_state_and_leaves_nothing_behind(cell_database: Database, database_url: str) -> None:
    reader = Database(database_url, pool_size=1)
    state = "SELECT @@in_transaction" if reader.dialect in ("mysql", "mariadb") else "SELECT 0"

    def count(connection: sa.Connection) -> int:
        return len(hosts.list_states(connection))

    with reader.read_as_one() as connection:
        assert count(connection) == 0
        with cell_database.write() as writing:
            hosts.report(writing, [make_report("h1")])
        assert count(connection) == 0
    with reader.read() as connection:
        assert count(connection) == 1
        assert connection.exec_driver_sql(state).scalar() == 0
    with cell_database.write() as writing:
        hosts.report(writing, [make_report("h2")])
    with reader.read() as connection:
        assert count(connection) == 2
    with reader.write() as connection:
        hosts.report(connection, [make_report("h3")])
    with cell_database.read() as connection:
        assert count(connection) == 3
    reader.close()


def test_what_is_in_use_when_a_database_is_closed_is_closed_when_it_is_given_back(cell_database: Database) -> None:
    another = Database(cell_database.engine.url.render_as_string(hide_password=False))
    ended: list[object] = []
    sa.event.listen(another.engine, "close", lambda raw, _record: ended.append(raw))
    sa.event.listen(another.engine, "invalidate", lambda raw, _record, _error: ended.append(raw))
    with another.read() as connection:
        raw = connection.connection.dbapi_connection
        another.close()
        assert ended == []
        assert connection.execute(sa.select(sa.literal(1))).scalar() == 1
    assert raw in ended
    with another.read() as connection:  # who uses it none the less gets a new one
        assert connection.execute(sa.select(sa.literal(1))).scalar() == 1


def test_a_server_keeps_its_temporary_tables_where_no_other_removes_them(mariadb: DatabaseServer) -> None:
    top = Database(mariadb.url("top"), pool_size=1)
    with top.read() as connection:
        place = connection.exec_driver_sql("SELECT @@tmpdir").scalar_one()
    top.close()
    assert Path(place).parent in {mariadb.directory, Path(mariadb.home)}
