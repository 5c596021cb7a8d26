"""Storing many rows with one statement, which each database wants to be told in its own way."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors


class Exists(errors.Conflict):
    """A row with one of the keys is there already; the transaction must be given up."""


def insert(connection: Connection, table: sa.Table, names: tuple[str, ...], values: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of these columns: text, whole numbers, times, or ready JSON text. Raises Exists."""
    if not values:
        return
    statement = _statement(connection.dialect.name, table, names)
    try:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(statement, (msgspec.json.encode(values).decode(),))
        else:
            connection.exec_driver_sql(statement, values)
    except sa.exc.IntegrityError as error:
        raise Exists(f"Some of the new {table.name} are there already.") from error


@functools.cache
def _statement(dialect: str, table: sa.Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(names)
    if dialect == "postgresql":
        parts = ", ".join(f"(r->>{n})::{_kind(table.c[name])}" for n, name in enumerate(names))
        return f"INSERT INTO {table.name} ({columns}) SELECT {parts} FROM json_array_elements(%s::json) AS r"  # noqa: S608
    mark = "?" if dialect == "sqlite" else "%s"
    return f"INSERT INTO {table.name} ({columns}) VALUES ({', '.join([mark] * len(names))})"  # noqa: S608


def _kind(column: sa.Column[Any]) -> str:
    return {
        "BIGINT": "bigint",
        "INTEGER": "integer",
        "BOOLEAN": "boolean",
        "DATETIME": "timestamp",
        "FLOAT": "double precision",
    }.get(str(column.type), "text")
