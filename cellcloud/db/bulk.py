"""Storing many rows with one statement, which each database wants to be told in its own way."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_now

_AS_WRITTEN = {"no_parameters": True}  # of a statement in which a percent sign is one
_REPLACING = " ON CONFLICT ({keys}) DO UPDATE SET {rest}"


class Exists(errors.Conflict):
    """A row with one of the keys is there already; the transaction must be given up."""


def insert(
    connection: Connection,
    table: sa.Table,
    names: tuple[str, ...],
    values: Sequence[tuple[Any, ...]],
    *,
    at: tuple[str, ...] = (),
    replace: bool = False,
) -> None:
    """Insert rows of these columns: text, whole numbers, times, or ready JSON text. Raises Exists.

    ``at``: more columns, which get the database's time. ``replace``: a row with the same primary key goes.
    """
    if not values:
        return
    head, row, tail = _parts(connection.dialect, table, names, at, replace)
    try:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(head + row + tail, (msgspec.json.encode(values).decode(),))
        elif connection.dialect.name == "sqlite":
            connection.exec_driver_sql(head + row, values)
        elif written := _written(values, tail):
            connection.exec_driver_sql(head + written, execution_options=_AS_WRITTEN)
        else:
            rows = ",".join([row] * len(values))
            connection.exec_driver_sql(head + rows, tuple([value for each in values for value in each]))
    except sa.exc.IntegrityError as error:
        raise Exists(f"Some of the new {table.name} are there already.") from error


def execute(connection: Connection, statement: str, texts: Sequence[str]) -> sa.CursorResult[Any]:
    """Execute a statement with the driver's marks for so many texts, and no percent sign else."""
    if connection.dialect.name in ("mysql", "mariadb") and _is_plain("".join(texts), quotes=0):
        written = statement.replace("%s", "'%s'") % tuple(texts)
        return connection.exec_driver_sql(written, execution_options=_AS_WRITTEN)
    return connection.exec_driver_sql(statement, tuple(texts))


def _written(rows: Sequence[Sequence[Any]], tail: str) -> str:
    """Rows as a statement for MariaDB has them, each with ``tail`` behind its values; "" when one is no text or not
    plain. Its driver takes longer to write a value than the database to store it."""
    try:
        text = f"'{tail}),('".join(["','".join(row) for row in rows])
    except TypeError:
        return ""
    return f"('{text}'{tail})" if _is_plain(text, quotes=2 * sum(map(len, rows)) - 2) else ""


def _is_plain(text: str, *, quotes: int) -> bool:
    """Whether there is nothing in it that would end a text between quotes, but for so many quotes."""
    return text.count("'") == quotes and "\\" not in text and "\0" not in text


@functools.lru_cache(256)
def _parts(
    dialect: sa.Dialect, table: sa.Table, names: tuple[str, ...], at: tuple[str, ...], replace: bool
) -> tuple[str, str, str]:
    """What comes before the rows, one row with its marks, and what comes behind them (PostgreSQL) or behind the values
    of each (MariaDB)."""
    now = [str(utc_now().compile(dialect=dialect))] * len(at)
    verb = "REPLACE INTO" if replace and dialect.name != "postgresql" else "INSERT INTO"
    head = f"{verb} {table.name} ({', '.join(names + at)}) "
    if dialect.name == "postgresql":
        parts = [f"(r->>{n})::{_kind(table.c[name])}" for n, name in enumerate(names)]
        tail = _REPLACING.format(
            keys=", ".join(column.name for column in table.primary_key),
            rest=", ".join(f"{name} = excluded.{name}" for name in names + at if not table.c[name].primary_key),
        )
        row = f"SELECT {', '.join(parts + now)} FROM json_array_elements(%s::json) AS r"  # noqa: S608 -- our own names
        return head, row, tail if replace else ""
    mark = "?" if dialect.name == "sqlite" else "%s"
    row = f"({', '.join([mark] * len(names) + now)})"
    return head + "VALUES ", row, "".join(f", {each}" for each in now)


def _kind(column: sa.Column[Any]) -> str:
    return {
        "BIGINT": "bigint",
        "INTEGER": "integer",
        "BOOLEAN": "boolean",
        "DATETIME": "timestamp",
        "FLOAT": "double precision",
    }.get(str(column.type), "text")
