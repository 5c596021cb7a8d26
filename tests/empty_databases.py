"""Migrated, empty databases on SQLite, made once a run and copied."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from cellcloud.db import migrate
from cellcloud.db.engine import Database
from tests.shared_statements import url_of

Tree = Literal["top", "cell"]


def make_empty(path: Path, tree: Tree) -> Database:
    """A new database as its migrations leave it, in a file of its own."""
    path.write_bytes(_migrated(tree))
    return Database(url_of(path))


@cache
def _migrated(tree: Tree) -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "database"
        database = Database(f"sqlite:///{path}")
        migrate.upgrade(database, tree)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("BEGIN")
        database.close()
        return path.read_bytes()
