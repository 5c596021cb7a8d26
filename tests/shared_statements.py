"""SQLite whose databases compile each statement once for all of a process: tests open a new database each.

Database(url_of(tmp_path / "cell.db"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

MOST = 3000  # statements; a whole run has fewer


class Statements(dict[Any, Any]):
    """What has been compiled, by statement; forgotten when it is too much."""

    def __setitem__(self, key: Any, compiled: Any) -> None:
        if len(self) >= MOST:
            self.clear()
        super().__setitem__(key, compiled)


class SharedDialect(SQLiteDialect_pysqlite):
    """SQLite's: all are equal, as what each compiles is."""

    supports_statement_cache = True
    statements = Statements()

    @classmethod
    def engine_created(cls, engine: sa.Engine) -> None:
        engine.update_execution_options(compiled_cache=cls.statements)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedDialect)

    def __hash__(self) -> int:
        return hash(SharedDialect)


registry.register("sqlite.shared", __name__, SharedDialect.__name__)


def url_of(path: Path) -> str:
    """Of a database in a file."""
    return f"sqlite+shared:///{path}"
