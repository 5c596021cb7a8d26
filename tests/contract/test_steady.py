"""The database's clock is set by an hour, either way: what is decided by times goes on as if it had not been."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cell.conductor import rpc_endpoint as conductor_service
from cell.conductor.placement import reservation_confirmation
from cell.conductor.workflows import REGISTRY
from cellcloud.db import cell_schema, hosts, runs, top_schema
from cellcloud.db.clock_step_compensation import CELL_TIMES, LONGEST_RUN, TOP_TIMES, Decisive, SteadyClock, TimeKind
from cellcloud.db.engine import Database, UtcDateTime, utc_after, utc_now
from cellcloud.model.host import HostMachine
from cellcloud.model.operations import Operation
from cellcloud.model.run import Lease
from tests.workflows.world import CellUnderTest

HOUR = 3600.0
LENGTHS = {
    "hold_seconds": 30.0,
    "run_lease": 15.0,
    "service_down_time": 15.0,
    "intent_lease": 20.0,
    "intent_deadline": 300.0,
    "token_seconds": 8 * HOUR,
}
SERVER = "11111111-0000-4000-8000-000000000001"
PAST = {
    "created_at", "updated_at", "launched_at", "terminated_at", "deleted_at", "finished_at", "started_at", "used_at",
    "issued_at", "attached_at", "first_seen", "rival_at", "mended_at",
    "compared_at", "replaced_at", "at", "digest_at", "since", "step_since",
}  # fmt: skip
# Dates that people chose: they are what the clock says, whoever sets it.
CALENDAR = {"identity_users.password_expires_at", "identity_application_credentials.expires_at"}
ALSO_PAST = {"cells.last_seen", *CALENDAR}


def longest_of(one: Decisive) -> float:
    return LENGTHS[one.longest] if isinstance(one.longest, str) else one.longest


@pytest.mark.parametrize(
    ("metadata", "times"), [(cell_schema.metadata, CELL_TIMES), (top_schema.metadata, TOP_TIMES)], ids=["cell", "top"]
)
def test_every_time_is_either_decisive_or_of_the_past(metadata: sa.MetaData, times: tuple[Decisive, ...]) -> None:
    decisive = {one.name for one in times}
    columns = {
        f"{table.name}.{column.name}": column.name
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, UtcDateTime)
    }
    assert {name for name, short in columns.items() if short not in PAST} - ALSO_PAST <= decisive
    assert decisive <= columns.keys()
    assert max(workflow.deadline for workflow in REGISTRY.values()) <= LONGEST_RUN


class WallClock:
    """SQLite's clock, ahead of the machine's by ``ahead`` seconds."""

    def __init__(self, database: Database) -> None:
        self.ahead = 0.0
        self._own = sqlite3.connect(":memory:", check_same_thread=False)
        self._lock = threading.Lock()
        sa.event.listen(database.engine, "connect", self._replace)

    def _replace(self, raw: Any, _record: Any) -> None:
        raw.create_function("julianday", 1, self._day)
        raw.create_function("strftime", 2, lambda form, when: self._ask("SELECT strftime(?, ?)", form, self._day(when)))

    def _day(self, when: Any) -> Any:
        day = when if isinstance(when, float) else self._ask("SELECT julianday(?)", when)
        return day + self.ahead / 86400.0 if when == "now" and day is not None else day

    def _ask(self, query: str, *given: Any) -> Any:
        with self._lock:
            return self._own.execute(query, given).fetchone()[0]

    def close(self) -> None:
        self._own.close()


@dataclass
class World:
    database: Database
    wall: WallClock
    steady: SteadyClock

    def step(self, seconds: float) -> None:
        """The clock is set; every process looks again before it judges."""
        self.wall.ahead += seconds
        time.sleep(0.26)
        self.steady.compensate()

    def ask(self, *columns: Any) -> Any:
        with self.database.read() as connection:
            return connection.execute(sa.select(*columns)).one()


def open_world(path: Path, metadata: sa.MetaData, times: tuple[Decisive, ...]) -> tuple[World, Callable[[], None]]:
    database = Database(f"sqlite:///{path}/db")
    wall = WallClock(database)
    with database.write() as connection:
        metadata.create_all(connection)
    world = World(database, wall, SteadyClock(database, times, LENGTHS))
    world.steady.compensate()

    def close() -> None:
        database.close()
        wall.close()

    return world, close


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made, close = open_world(tmp_path, cell_schema.metadata, CELL_TIMES)
    yield made
    close()


@pytest.fixture(params=["cell", "top"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[World, tuple[Decisive, ...]]]:
    metadata, times = (
        (cell_schema.metadata, CELL_TIMES) if request.param == "cell" else (top_schema.metadata, TOP_TIMES)
    )
    made, close = open_world(tmp_path, metadata, times)
    yield made, times
    close()


def fill(world: World, one: Decisive, ahead: float, number: int = 0) -> None:
    """A row whose time lies so far ahead, and that counts."""
    table = one.column.table
    values: dict[str, Any] = {}
    for column in table.columns:
        if column.computed is not None:
            continue
        if column.name == one.column.name:
            values[column.name] = utc_after(ahead)
        elif column.name == "active":
            values[column.name] = 1
        elif column.name == "held":
            values[column.name] = True
        elif column.name == "state":
            values[column.name] = "pending"
        elif isinstance(column.type, UtcDateTime):
            values[column.name] = utc_now()
        elif isinstance(column.type, sa.Boolean):
            values[column.name] = False
        elif isinstance(column.type, sa.Integer):
            values[column.name] = number
        elif not column.nullable or column.primary_key:
            values[column.name] = b"" if isinstance(column.type, sa.LargeBinary) else f"x{number}"
    with world.database.write() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(sa.delete(table))
        connection.execute(sa.insert(table).values(values))


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_what_had_not_run_out_goes_on_and_nothing_lasts_longer_than_it_was_given(
    either: tuple[World, tuple[Decisive, ...]], step: float
) -> None:
    world, times = either
    if times is TOP_TIMES:
        with world.database.write() as connection:
            connection.execute(sa.insert(top_schema.identity_schema.identity_domains).values(id="x0", name="x0"))
    for one in times:
        longest = longest_of(one)
        ahead = {TimeKind.UNTIL: longest / 2, TimeKind.DUE: longest / 2, TimeKind.SEEN: -1.0}[one.kind]
        with world.database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        fill(world, one, ahead)
        world.step(step)
        then, now = world.ask(one.column, utc_now())
        left = (then - now).total_seconds()
        if one.kind is TimeKind.UNTIL:
            assert 0 < left <= longest + 1, one.name
        elif one.kind is TimeKind.DUE:
            assert left <= longest + 1, one.name
        else:
            assert -5 < left <= 1, one.name


def test_what_had_run_out_stays_so(world: World) -> None:
    for one in CELL_TIMES:
        if one.kind is TimeKind.UNTIL:
            fill(world, one, -30.0)
            world.step(HOUR)
            then, now = world.ask(one.column, utc_now())
            assert then < now, one.name


def lease(world: World, owner: str) -> list[str]:
    with world.database.write() as connection:
        return [run.id for run in runs.lease_due(connection, Lease(owner=owner, seconds=15.0), limit=10)]


@pytest.fixture
def cell(world: World) -> CellUnderTest:
    return CellUnderTest(world.database, ("h1",))


def test_after_a_step_forward_nothing_is_taken_from_whoever_lives(world: World, cell: CellUnderTest) -> None:
    first, second = HostMachine(identity="a", place="1"), HostMachine(identity="a", place="2")
    assert conductor_service._hold(world.database, ["h1"], first, 15.0) == {}
    cell.create(SERVER)
    cell.hold("11111111-0000-4000-8000-000000000002")
    assert len(lease(world, "first")) == 1
    world.step(HOUR)
    assert lease(world, "second") == []
    assert conductor_service._hold(world.database, ["h1"], second, 15.0) != {}
    assert reservation_confirmation.expire_holds(world.database) == 0
    assert conductor_service._judge(world.database, 15.0) == 0
    with world.database.read() as connection:
        assert runs.list_overdue(connection, 0.0) == []
        assert [host.up for host in hosts.list_hosts(connection, down_time=15.0)] == [True]


def test_after_a_step_back_the_dead_are_still_found_dead(world: World, cell: CellUnderTest) -> None:
    """For an hour nobody adopted their runs, gave up their holds, or saw that their hosts are mute."""
    cell.create(SERVER)
    cell.hold("11111111-0000-4000-8000-000000000002")
    assert len(lease(world, "dead")) == 1
    world.step(-HOUR)
    world.wall.ahead += 31
    assert len(lease(world, "second")) == 1
    assert reservation_confirmation.expire_holds(world.database) == 1
    with world.database.read() as connection:
        columns = cell_schema.hosts.c
        mute = sa.select(columns.host).where(columns.last_seen < utc_after(-15.0))
        assert list(connection.execute(mute).scalars()) == ["h1"]


def test_a_run_that_waits_is_due_again_though_the_clock_fell_back(world: World, cell: CellUnderTest) -> None:
    cell.create(SERVER)
    with world.database.write() as connection:
        connection.execute(sa.update(cell_schema.runs).values(run_at=utc_after(10.0)))
    world.step(-HOUR)
    assert len(lease(world, "any")) == 1


def test_of_several_processes_one_mends_a_step(world: World, cell: CellUnderTest) -> None:
    others = [SteadyClock(world.database, CELL_TIMES, LENGTHS) for _ in range(3)]
    for other in others:
        other.compensate()
    cell.create(SERVER)
    left = (cell_schema.runs.c.deadline, utc_now())
    before, now = world.ask(*left)
    world.step(600.0)
    for other in others:
        other.compensate()
    assert world.ask(cell_schema.clock_steps.c.number) == (1,)
    after, then = world.ask(*left)
    assert abs((after - then) - (before - now)) < dt.timedelta(seconds=10)


def test_a_clock_that_runs_evenly_is_left_alone(world: World, cell: CellUnderTest) -> None:
    cell.create(SERVER)
    before = world.ask(cell_schema.runs.c.deadline)
    for ahead in (0.5, 1.0, 0.0, -1.0):
        world.step(ahead)
    assert world.ask(cell_schema.runs.c.deadline) == before


@pytest.mark.parametrize("tree", ["cell", "top"])
def test_every_database_mends(cell_database: Database, top_database: Database, tree: str) -> None:
    """The even clock falls back here, which looks the same."""
    database, times = (cell_database, CELL_TIMES) if tree == "cell" else (top_database, TOP_TIMES)
    if tree == "cell":
        CellUnderTest(cell_database, ("h1",)).create(SERVER)
    even = itertools.chain([HOUR, HOUR], itertools.repeat(0.0))
    steady = SteadyClock(database, times, LENGTHS, even=lambda: next(even))
    steady.compensate()
    steady.compensate()
    table = (cell_schema if tree == "cell" else top_schema).clock_steps
    with database.read() as connection:
        assert connection.execute(sa.select(table.c.number)).scalar() == 1
        if tree == "cell":
            left = connection.execute(sa.select(cell_schema.runs.c.deadline, utc_now())).one()
            assert REGISTRY[Operation.CREATE].deadline - 10 < (left[0] - left[1]).total_seconds() <= LONGEST_RUN + 1
