from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cell.compute.command_executor import CommandExecutor
from cellcloud import errors
from cellcloud.model.guest_commands import Destroy, FetchDisks, GuestCommand, Spawn, Start, Stop
from tests.unit.cell_world import eventually, make_command


class Bench:
    """An executor whose commands wait for ``go``."""

    def __init__(self, *, builds: int = 2) -> None:
        self.go = threading.Event()
        self.begun: list[GuestCommand] = []
        self.refused: list[GuestCommand] = []
        self.bench = CommandExecutor(self._perform, self._refuse, threads=8, builds_per_host=builds)

    def _perform(self, host: str, command: GuestCommand) -> None:
        self.begun.append(command)
        self.go.wait(10)

    def _refuse(self, host: str, command: GuestCommand, error: errors.CellcloudError) -> None:
        assert isinstance(error, errors.Stale)
        self.refused.append(command)

    def submit(self, *commands: GuestCommand, host: str = "h1") -> None:
        for command in commands:
            self.bench.submit(host, command)

    def finish(self) -> None:
        self.go.set()
        eventually(lambda: self.bench.count() == 0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.go.set()
    bench.bench.close(5)


def test_commands_of_one_generation_go_one_at_a_time(bench: Bench) -> None:
    bench.submit(make_command(Stop, step="one"), make_command(Start, step="two"))
    eventually(lambda: bench.begun)
    assert [type(command) for command in bench.begun] == [Stop]
    bench.finish()
    assert [type(command) for command in bench.begun] == [Stop, Start]
    assert bench.refused == []


def test_a_newer_command_reaches_the_driver_at_once(bench: Bench) -> None:
    bench.submit(make_command(Stop, generation=1), make_command(Destroy, generation=2))
    eventually(lambda: len(bench.begun) == 2)
    assert not bench.go.is_set()
    bench.finish()
    assert bench.refused == []


def test_a_repeated_command_is_done_once(bench: Bench) -> None:
    bench.submit(*[make_command(Stop)] * 3)
    bench.finish()
    assert len(bench.begun) == 1
    assert bench.refused == []


def test_the_newest_generation_wins_whatever_the_order(bench: Bench) -> None:
    newest = make_command(Destroy, generation=5)
    bench.submit(newest)
    eventually(lambda: bench.begun)
    bench.submit(make_command(Start, generation=2), make_command(Stop, generation=4))
    bench.finish()
    assert bench.begun == [newest]
    assert sorted(command.generation for command in bench.refused) == [2, 4]


def test_what_waits_is_overtaken_by_what_is_newer(bench: Bench) -> None:
    first = make_command(Stop, step="one")
    second = make_command(Start, step="two")
    newest = make_command(Destroy, generation=2)
    bench.submit(first, second, newest)
    eventually(lambda: len(bench.begun) == 2)
    bench.finish()
    assert bench.begun == [first, newest]
    assert bench.refused == [second]


def test_an_undo_of_the_same_generation_waits_its_turn(bench: Bench) -> None:
    spawn = make_command(Spawn)
    undo = make_command(Destroy, step="guests.spawn")
    bench.submit(spawn)
    eventually(lambda: bench.begun)
    bench.submit(undo, spawn)
    bench.finish()
    assert bench.begun == [spawn, undo]


@pytest.mark.parametrize("kind", [Spawn, FetchDisks])
def test_builds_are_bounded_on_each_host_and_other_commands_are_not(kind: type[GuestCommand]) -> None:
    bench = Bench(builds=2)
    bench.submit(*[make_command(kind, number) for number in range(5)])
    bench.submit(make_command(kind, 9), host="h2")
    bench.submit(make_command(Stop, 8))
    eventually(lambda: len(bench.begun) == 4)
    assert sum(isinstance(command, kind) for command in bench.begun) == 3
    assert sum(isinstance(command, Stop) for command in bench.begun) == 1
    bench.finish()
    assert len(bench.begun) == 7
    bench.bench.close(5)


def test_a_build_that_has_not_begun_gives_way() -> None:
    bench = Bench(builds=1)
    waiting = make_command(Spawn, 2)
    bench.submit(make_command(Spawn, 1), waiting, make_command(Destroy, 2, generation=2))
    eventually(lambda: len(bench.begun) == 2)
    assert bench.refused == [waiting]
    bench.finish()
    assert [type(command) for command in bench.begun] == [Spawn, Destroy]
    bench.bench.close(5)


def test_closing_lets_work_end_and_drops_what_waits(bench: Bench) -> None:
    bench.submit(make_command(Stop, step="one"), make_command(Start, step="two"))
    eventually(lambda: bench.begun)
    threading.Timer(0.1, bench.go.set).start()
    bench.bench.close(5)
    assert len(bench.begun) == 1
    bench.submit(make_command(Stop, 3))
    assert len(bench.begun) == 1
