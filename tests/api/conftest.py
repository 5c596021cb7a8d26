"""A fresh API for each test, from a migrated database that is copied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcloud.db import flavors, top_schema
from cellcloud.db.engine import Database
from tests.api.world import World
from tests.shared_statements import url_of


@pytest.fixture(scope="session")
def top_template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A top database with the first flavors alone, as the bytes of its file."""
    path = tmp_path_factory.mktemp("template") / "top.db"
    database = Database(f"sqlite:///{path}")
    with database.write() as connection:
        top_schema.metadata.create_all(connection)
        flavors.ensure_starters(connection)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    database.close()
    return path.read_bytes()


@pytest.fixture
def top_database(tmp_path: Path, top_template: bytes) -> Iterator[Database]:
    path = tmp_path / "top.db"
    path.write_bytes(top_template)
    database = Database(url_of(path))
    yield database
    database.close()


@pytest.fixture
def world(top_database: Database, tmp_path: Path) -> Iterator[World]:
    made = World(top_database, tmp_path)
    yield made
    made.close()
