"""A database that was put back without a word is known by a mark outside it, and handled as one that was announced."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cell.conductor.__main__ import build as build_conductor
from cell.conductor.database_rollback_detection import DatabaseWatch
from cellcloud import config as options
from cellcloud import errors
from cellcloud.db import cell_schema, cells, database_incarnations, ports, rollback_detection, top_schema
from cellcloud.db.engine import Database
from cellcloud.db.network_quota_usages import Bounds
from cellcloud.model.database_incarnation import LEAP
from cellcloud.rpc.transport import Transport
from tests.functional.router_world import Line, World
from tests.functional.test_top_fall_back import Backup, assert_agreed, follow
from tests.workflows.world import CellUnderTest, FakeNetworks
from top_api.router.__main__ import build as build_router

TREES = {"top": top_schema.metadata, "cell": cell_schema.metadata}
SERVER = "11111111-0000-4000-8000-000000000001"


class Kept:
    """A database of one tree, its backups, and a state directory."""

    def __init__(self, folder: Path, tree: str) -> None:
        self.folder, self.tree, self.state = folder, tree, folder / "state"
        self.database = self._open()
        with self.database.write() as connection:
            TREES[tree].create_all(connection)
            database_incarnations.ensure(connection)
        self.put_aside()

    def _open(self) -> Database:
        return Database(f"sqlite:///{self.folder}/live.db")

    def put_aside(self) -> None:
        self._copy("live.db", "backup.db")

    def put_back(self) -> None:
        self.database.close()
        self._copy("backup.db", "live.db")
        self.database = self._open()

    def _copy(self, source: str, target: str) -> None:
        with sqlite3.connect(self.folder / source) as before, sqlite3.connect(self.folder / target) as after:
            before.backup(after)
        before.close()
        after.close()

    def marker(self, state: str = "state") -> rollback_detection.Marker:
        make = (
            rollback_detection.top_marker
            if self.tree == "top"
            else lambda d, s: rollback_detection.cell_marker(d, s, "east")
        )
        return make(self.database, self.folder / state)

    @property
    def file(self) -> Path:
        return next((self.state / "marks").glob("*.json"))

    def begin(self) -> None:
        with self.database.write() as connection:
            if self.tree == "top":
                database_incarnations.begin_in_top(connection, "promoted")
            else:
                database_incarnations.begin_in_cell(connection, database_incarnations.ensure(connection).id, "promoted")

    def incarnation(self) -> tuple[int, str]:
        with self.database.read() as connection:
            found = database_incarnations.find(connection)
        assert found is not None
        return found.number, found.reason


@pytest.fixture(params=TREES)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path, request.param)
    yield made
    made.database.close()


def _nothing(kept: Kept) -> None: ...


def _put_back_later(kept: Kept) -> None:
    kept.put_aside()
    kept.marker().look()
    kept.put_back()


def _another_directory_went_on(kept: Kept) -> None:
    kept.put_back()
    for _ in range(20):
        kept.marker("other").look()


def _announced(kept: Kept) -> None:
    kept.put_back()
    kept.begin()


def _announced_before(kept: Kept) -> None:
    kept.begin()
    kept.marker().look()
    kept.put_back()


def _no_mark(kept: Kept) -> None:
    kept.put_back()
    shutil.rmtree(kept.state)


def _broken(text: bytes) -> Callable[[Kept], None]:
    def spoil(kept: Kept) -> None:
        kept.file.write_bytes(text)

    return spoil


def _not_written(kept: Kept) -> None:
    """A process that died between the database and the file."""
    before = kept.file.read_bytes()
    kept.marker().look()
    kept.file.write_bytes(before)


CASES: dict[str, tuple[Callable[[Kept], None], bool]] = {
    "nothing happened": (_nothing, False),
    "put back to before the first mark": (Kept.put_back, True),
    "put back by one look": (_put_back_later, True),
    "another directory went on since": (_another_directory_went_on, True),
    "put back to before an announced one": (_announced_before, True),
    "announced": (_announced, False),
    "no mark": (_no_mark, False),
    "an empty mark": (_broken(b""), True),
    "a mark cut off": (_broken(b'{"directory":"x","num'), True),
    "a mark of other types": (_broken(b'{"directory":"x","number":"1"}'), True),
    "died before the file": (_not_written, False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_behind_its_mark_has_fallen_back(kept: Kept, case: str) -> None:
    for _ in range(3):
        assert not kept.marker().look()
    happen, fell = CASES[case]
    happen(kept)
    before = kept.incarnation()
    assert kept.marker().look() == fell
    after = kept.incarnation()
    assert (after != before) == fell
    if fell:
        assert "mark" in after[1]
    for state in ("state", "other", "state"):
        assert not kept.marker(state).look()  # noticed once, whoever looks
    assert kept.incarnation() == after


def test_of_several_directories_one_begins_the_incarnation(kept: Kept) -> None:
    kept.begin()
    for state in ("a", "b", "c") * 2:
        kept.marker(state).look()
    kept.put_back()
    assert [kept.marker(state).look() for state in "abc"] == [True, False, False]
    assert kept.incarnation()[0] == 3  # above all that was ever seen


def test_processes_of_one_directory_take_turns(kept: Kept) -> None:
    found: list[bool] = []

    def look() -> None:
        marker = kept.marker()
        found.extend(marker.look() for _ in range(10))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [False] * 40
    assert b'"number":40' in kept.file.read_bytes()


def test_a_directory_that_cannot_be_written_is_told(kept: Kept) -> None:
    kept.state.write_text("a file")
    with pytest.raises(errors.TryLater, match="mark"):
        kept.marker().look()


def test_a_conductor_without_a_mark_sees_what_it_saw_itself(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "cell")
    kept.state.write_text("a file")
    watch = DatabaseWatch(kept.database, kept.marker())
    with pytest.raises(errors.TryLater):
        watch.look()
    CellUnderTest(kept.database).create(SERVER)
    with pytest.raises(errors.TryLater):
        watch.look()
    kept.put_back()
    watch._database = kept.database
    assert watch.look()
    assert kept.incarnation() == (2, "its sequences were seen further by a conductor")
    kept.database.close()


def test_a_cell_put_back_twice_numbers_above_both(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "cell")
    CellUnderTest(kept.database).create(SERVER)
    kept.marker().look()
    kept.put_aside()
    kept.marker().look()
    seen = []
    for _ in range(3):
        kept.put_back()
        assert kept.marker().look()
        cell = CellUnderTest(kept.database)
        seen.append((cell.record(SERVER).version, cell.record(SERVER).generation))
    assert seen == sorted(set(seen))
    assert all(later[0] - one[0] >= LEAP for one, later in itertools.pairwise(seen))
    kept.database.close()


# ---- the services ----------------------------------------------------------------------------------------------------
def test_a_conductor_notices_at_its_start(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "cell")
    settings = options.load()
    settings = replace(settings, state_dir=kept.state, cell=replace(settings.cell, name="east"))
    transport = Transport("marks", "kombu+memory://")
    for expected in (1, 2):
        process = build_conductor(settings, transport=transport, database=kept.database, networks=FakeNetworks())  # type: ignore[arg-type]
        process.start()
        assert kept.incarnation()[0] == expected
        process.stop()
        kept.put_back()
    kept.database.close()
    transport.close()


@pytest.fixture
def world(world: World) -> World:
    with world.database.write() as connection:
        database_incarnations.ensure(connection)
    return world


def _run_router(world: World, lines: list[Line], until: Callable[[], bool]) -> None:
    router = build_router(world.config, world.database, {line.name: line.transport for line in lines})
    router.start()
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)
    router.stop()


def test_servers_of_which_nothing_waits_come_back_into_the_index(
    world: World, lines: list[Line], tmp_path: Path
) -> None:
    old = world.accept(3)
    world.deliver()
    follow(world)
    _run_router(world, lines, lambda: True)
    backup = Backup(world, tmp_path)
    deleted, *_ = old
    new = world.accept(8)
    world.deliver()
    world.delete(deleted)
    world.deliver()
    follow(world)
    for line in world.lines.values():
        line.cell.oldest = len(line.cell.feed) + 1  # what the feed had of it is gone
    _run_router(world, lines, lambda: True)
    backup.put_back(told=False)
    with world.database.write() as connection:  # the cursors are where they were: nothing else tells of the loss
        for name, line in world.lines.items():
            cells.move_cursor(connection, name, after=len(line.cell.feed))
    assert {world.record(server_id) for server_id in new} == {None}
    _run_router(world, lines, lambda: all(world.record(server_id) for server_id in new))
    assert world.record(deleted) is None
    later = world.accept(3)
    world.deliver()
    world.assert_started_once([*old[1:], *new, *later])
    assert_agreed(world)


def test_no_address_is_given_until_the_cells_were_compared(world: World) -> None:
    def ask() -> None:
        with world.database.write() as connection:
            ports.make_ports(connection, [], project_id=None, bounds=Bounds())

    ask()
    with world.database.write() as connection:
        begun = database_incarnations.begin_in_top(connection, "put back")
    for name in world.lines:
        with pytest.raises(errors.TryLater):
            ask()
        with world.database.write() as connection:
            cells.note_compared(connection, name, begun.id)
    ask()
