"""What makes the top leave a cell alone, what does not, and how long it tries one that it believes to be away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellcloud import clock, errors
from cellcloud import config as options
from cellcloud.clock import ManualClock
from cellcloud.context import RequestContext, service_context
from cellcloud.db import cells as cells_table
from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from cellcloud.model.placement_messages import CellDigest
from top_api.cell_clients import TRIAL_BUDGET, Cells

BREAKER_SECONDS = 3.0


class Line:
    """A cell's transport whose services all answer alike, or not at all."""

    def __init__(self) -> None:
        self.budgets: list[float] = []
        self.error: errors.CellcloudError | None = None

    def client(self, interface: type[Any]) -> Line:
        return self

    def __getattr__(self, verb: str) -> Any:
        def send(context: RequestContext, *_: object) -> list[Any]:
            self.budgets.append(context.remaining())
            if self.error is not None:
                raise self.error
            return []

        return send


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/top.sqlite")) as made:
        with made.write() as connection:
            top_schema.metadata.create_all(connection)
            cells_table.register_cell(connection, "east", "kombu+memory://")
            cells_table.set_health(connection, "east", health="up")
        yield made


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def hand() -> Iterator[ManualClock]:
    """What moves the time."""
    made = ManualClock()
    with clock.using(made):
        yield made


@pytest.fixture
def cells(database: Database, line: Line, hand: ManualClock) -> Iterator[Cells]:
    top = replace(options.load().top, breaker_seconds=BREAKER_SECONDS)
    transports: Any = {"east": line}
    with closing(Cells(database, top, transports)) as made:
        yield made


def see(database: Database) -> None:
    """The router is answered by the cell."""
    with database.write() as connection:
        digest = CellDigest(cell="east", hosts_total=1, hosts_up=1)
        cells_table.set_health(connection, "east", health="up", digest=digest)


def ask(cells: Cells) -> Any:
    return cells.conductor("east").list_hosts(service_context(8.0))


def test_silence_is_met_with_silence_and_then_with_a_short_try(cells: Cells, line: Line, hand: ManualClock) -> None:
    line.error = errors.Unreachable("Nobody answered.")
    for _ in range(3):
        with pytest.raises(errors.Unreachable):
            ask(cells)
    assert line.budgets == [8.0]
    assert cells.is_unreachable("east")
    hand.advance(BREAKER_SECONDS)
    with pytest.raises(errors.Unreachable):
        ask(cells)
    assert line.budgets == [8.0, TRIAL_BUDGET]
    line.error = None
    hand.advance(BREAKER_SECONDS)
    ask(cells)
    ask(cells)
    assert line.budgets == [8.0, TRIAL_BUDGET, TRIAL_BUDGET, 8.0]


def test_an_answer_that_something_behind_the_cell_is_away_is_an_answer(cells: Cells, line: Line) -> None:
    line.error = errors.Unreachable("A host does not answer.")
    line.error.relayed = True
    for _ in range(3):
        with pytest.raises(errors.Unreachable):
            ask(cells)
    assert line.budgets == [8.0] * 3
    assert not cells.is_unreachable("east")


def test_good_requests_are_let_through_when_the_router_hears_of_the_cell(
    cells: Cells, line: Line, database: Database, hand: ManualClock
) -> None:
    see(database)
    cells.list_cells()
    line.error = errors.Unreachable("Nobody answered.")
    for ask_one in (ask, lambda known: known.consoleauth("east").check(service_context(8.0), "id", 1)):
        with pytest.raises(errors.Unreachable):
            ask_one(cells)
    line.error = None
    hand.advance(1.1)
    see(database)  # just before the silence, for all that is known here
    cells.list_cells()
    assert cells.is_unreachable("east")
    hand.advance(1.1)
    see(database)
    ask(cells)
    assert line.budgets[-1] == 8.0
    cells.consoleauth("east").check(service_context(8.0), "id", 1)
    assert line.budgets[-1] == TRIAL_BUDGET


def test_one_service_that_is_silent_does_not_silence_the_others(cells: Cells, line: Line) -> None:
    line.error = errors.Unreachable("Nobody answered.")
    with pytest.raises(errors.Unreachable):
        cells.consoleauth("east").check(service_context(8.0), "id", 1)
    line.error = None
    ask(cells)
    assert not cells.is_unreachable("east")


def test_a_cell_that_is_said_to_be_down_is_not_waited_for(
    cells: Cells, line: Line, database: Database, hand: ManualClock
) -> None:
    with database.write() as connection:
        cells_table.set_health(connection, "east", health="down")
    with pytest.raises(errors.Unreachable):
        ask(cells)
    assert line.budgets == []
    hand.advance(BREAKER_SECONDS)
    ask(cells)
    assert line.budgets == [TRIAL_BUDGET]
