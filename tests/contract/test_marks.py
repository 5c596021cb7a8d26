"""Marks, what waits for the comparison after a fall-back, and hosts read some at a time: alike on every database."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcloud import errors
from cellcloud.db import cells, database_incarnations, hosts, rollback_detection
from cellcloud.db.engine import Database
from tests.workflows.world import make_report


def test_a_top_that_is_behind_is_noticed_once_and_gives_nothing_until_compared(
    top_database: Database, tmp_path: Path
) -> None:
    with top_database.write() as connection:
        database_incarnations.ensure(connection)
        cells.register_cell(connection, "east", "kombu+memory://")
        database_incarnations.check_compared(connection)
    marker = rollback_detection.top_marker(top_database, tmp_path)
    assert [marker.look() for _ in range(3)] == [False] * 3
    with top_database.write() as connection:
        connection.exec_driver_sql("DELETE FROM marks")
    assert [marker.look() for _ in range(3)] == [True, False, False]
    with top_database.write() as connection:
        with pytest.raises(errors.TryLater):
            database_incarnations.check_compared(connection)
        assert database_incarnations.list_uncompared(connection) == ["east"]
        cells.note_compared(connection, "east", database_incarnations.ensure(connection).id)
        database_incarnations.check_compared(connection)
        assert database_incarnations.list_uncompared(connection) == []


def test_a_cell_that_is_behind_is_noticed_and_tells_of_its_hosts_by_pages(
    cell_database: Database, tmp_path: Path
) -> None:
    marker = rollback_detection.cell_marker(cell_database, tmp_path, "east")
    assert not marker.look()
    with cell_database.write() as connection:
        hosts.report(connection, [make_report(f"h{number}") for number in range(9)])
        connection.exec_driver_sql("DELETE FROM marks")
    assert [marker.look() for _ in range(2)] == [True, False]
    with cell_database.read() as connection:
        for read in (hosts.list_hosts, hosts.list_states):
            whole = read(connection, down_time=15)
            assert [one.host for one in whole] == [f"h{number}" for number in range(9)]
            assert read(connection, down_time=15, after="h3", most=3) == whole[4:7]
            assert read(connection, down_time=15, after="h8", most=3) == []
