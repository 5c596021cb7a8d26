"""Storing many rows with one statement. SQLAlchemy writes it, and values are bound: as rows of the driver's, or as one
JSON text where the driver would send each row by itself (PostgreSQL)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import Json, utc_now

_NOW = sa.select(utc_now())
_ROWS = sa.bindparam("rows", type_=sa.Text)


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

    ``at``: more columns, which get the database's time. ``replace``: a row with the same primary key gets these values.
    """
    if not values:
        return
    dialect = connection.dialect
    try:
        if dialect.name == "postgresql":
            statement = _from_json(table, names, at, replace)
            connection.execute(statement, {"rows": msgspec.json.encode(values).decode()})
            return
        if at and dialect.name != "sqlite":  # whose driver knows how to send rows of values alone
            now = connection.execute(_NOW).scalar_one().replace(tzinfo=None)
            values, names, at = [(*row, *[now] * len(at)) for row in values], names + at, ()
        connection.exec_driver_sql(_text(dialect, table, names, at, replace), list(values))
    except sa.exc.IntegrityError as error:
        raise Exists(f"Some of the new {table.name} are there already.") from error


@functools.lru_cache(256)
def _text(dialect: sa.Dialect, table: sa.Table, names: tuple[str, ...], at: tuple[str, ...], replace: bool) -> str:
    """Return an INSERT as the driver has it, one place for each of ``names`` in their order."""
    values: dict[str, Any] = {name: sa.bindparam(name) for name in names} | dict.fromkeys(at, utc_now())
    keys, rest = _keys(table, names + at)
    if dialect.name == "sqlite":
        lite = sqlite.insert(_columns(table, names + at)).values(values)
        changed = {name: lite.excluded[name] for name in rest}
        statement: sa.Insert = lite.on_conflict_do_update(index_elements=keys, set_=changed) if replace else lite
    else:
        maria = mysql.insert(_columns(table, names + at)).values(values)
        statement = maria.on_duplicate_key_update({name: maria.inserted[name] for name in rest}) if replace else maria
    return str(statement.compile(dialect=dialect))


@functools.lru_cache(256)
def _from_json(table: sa.Table, names: tuple[str, ...], at: tuple[str, ...], replace: bool) -> sa.Insert:
    """Return an INSERT of ``rows``, a JSON list of lists of values."""
    row = sa.func.json_array_elements(sa.cast(_ROWS, sa.JSON)).column_valued("r")
    read = [sa.cast(row.op("->>")(sa.literal_column(str(n))), _kind(table.c[name])) for n, name in enumerate(names)]
    statement = postgresql.insert(_columns(table, names + at)).from_select(
        names + at, sa.select(*read, *[utc_now()] * len(at))
    )
    if not replace:
        return statement
    keys, rest = _keys(table, names + at)
    return statement.on_conflict_do_update(index_elements=keys, set_={name: statement.excluded[name] for name in rest})


def _kind(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    """Its type; that of text without its length, to which a cast would cut what is too long."""
    return sa.Text() if isinstance(column.type, sa.String | Json) else column.type


def _columns(table: sa.Table, names: tuple[str, ...]) -> sa.TableClause:
    """Return the table with these of its columns, in this order."""
    return sa.table(table.name, *(sa.column(name) for name in names))


def _keys(table: sa.Table, names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the columns of the primary key, and the others of ``names``."""
    keys = [column.name for column in table.primary_key]
    return keys, [name for name in names if name not in keys]
