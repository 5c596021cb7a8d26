"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcloud.db import migrate
from cellcloud.db.engine import Database


@pytest.fixture(scope="session")
def cell_template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated, empty cell database, as the bytes of its file."""
    path = tmp_path_factory.mktemp("template") / "cell.db"
    database = Database(f"sqlite:///{path}")
    migrate.upgrade(database, "cell")
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    database.close()
    return path.read_bytes()


@pytest.fixture
def cell_database(tmp_path: Path, cell_template: bytes) -> Iterator[Database]:
    """An empty cell database on SQLite."""
    path = tmp_path / "cell.db"
    path.write_bytes(cell_template)
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()
