"""What conductors forget by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from cell.conductor.rpc_endpoint import ConductorService
from cellcloud import config as options
from cellcloud.db import cell_schema, feed
from cellcloud.db.engine import Database
from tests.workflows.world import CellUnderTest


def test_a_conductor_keeps_the_newest_entries_of_the_feed(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database)
    cell.create("11111111-0000-4000-8000-000000000001")
    cell.run()
    given: Any = (cell.scheduler, cell, cell.executor, None)
    service = ConductorService(replace(options.load().cell, feed_entries=1), cell_database, *given)
    with cell_database.read() as connection:
        newest = feed.newest(connection)
    assert newest > 1
    while service.prune():
        pass
    with cell_database.read() as connection:
        assert connection.execute(sa.select(cell_schema.feed.c.sequence)).scalars().all() == [newest]
