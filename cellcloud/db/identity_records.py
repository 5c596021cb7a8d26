"""What all kinds of records of the embedded identity have in common: found by id, listed by page, names told apart
without regard to case, attributes of the client's own and options kept beside the columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.listing import ALL, Columns, Page, rows_of

T = TypeVar("T")
MAX_EXTRA = 16384  # bytes of JSON
_IMMUTABLE = "It is immutable: set its option immutable to false first, and nothing else with it."
_RELEASES = tuple({"extra": {"options": {"immutable": value}}} for value in (False, None))


class IdentityRecords(Generic[T]):
    """One kind of record in one table. ``within``: the columns beside the name that tell two of one name apart; None:
    names may be used again. ``hidden``: columns that no record shows."""

    def __init__(
        self,
        kind: str,
        table: sa.Table,
        model: type[T],
        *,
        columns: Columns,
        within: Sequence[str] | None = None,
        hidden: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.table = table
        self.columns = columns
        self._model = model
        self._within = within
        self._shown = [column for column in table.c if column.name not in hidden]
        self._has_extra = "extra" in table.c

    def select(self) -> sa.Select[Any]:
        """Return the query for every record."""
        return sa.select(*self._shown)

    def list_all(self, c: Connection, page: Page = ALL, *where: sa.ColumnElement[bool], **equals: Any) -> list[T]:
        """Return records with these values: a page by id, all by name, or as the page says."""
        query = self.select().where(*self._equal(equals), *where)
        if not page.sort and page.limit is None and page.after is None and "name" in self.table.c:
            query = query.order_by(self.table.c.name)
        rows = rows_of(c, query, self.table.c.id, self.columns, page)
        return [self.read(row._mapping) for row in rows]

    def read(self, row: Mapping[Any, Any]) -> T:
        """Return the record of a row of ``select``."""
        values = dict(row)
        if self._has_extra:
            values["extra"] = values["extra"] or {}
        if "tags" in values:
            values["tags"] = values["tags"] or ()
        return self._model(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})

    def find(self, c: Connection, *, lock: bool = False, **equals: Any) -> T | None:
        """Return the first record with these values. ``lock``: until the transaction's end."""
        query = self.select().where(*self._equal(equals)).limit(1)
        row = c.execute(query.with_for_update() if lock else query).mappings().one_or_none()
        return None if row is None else self.read(row)

    def get(self, c: Connection, record_id: str, *, lock: bool = False) -> T:
        """Return the record. Raises NotFound."""
        found = self.find(c, lock=lock, id=record_id[:255])
        if found is None:
            raise self.absent(record_id)
        return found

    def absent(self, record_id: str) -> errors.NotFound:
        """Return the error for an id that no record has."""
        return errors.NotFound(f"Could not find {self.kind}: {record_id[:64]}.")

    def insert(self, c: Connection, record: T, **hidden: Any) -> None:
        """Store a record. Raises Conflict for a name in use, Invalid for too much of the client's own."""
        values = {column.name: getattr(record, column.name) for column in self._shown}
        if self._has_extra:
            values["extra"] = _merged({}, values["extra"])
        self._check_name(c, values)
        with self._unique():
            c.execute(self.table.insert().values(**values, **hidden))

    def update(self, c: Connection, record_id: str, changes: Mapping[str, Any]) -> T:
        """Change columns, of ``extra`` those that are given. Raises NotFound, Conflict, Forbidden."""
        before = self.get(c, record_id, lock=True)
        if self._has_extra and is_immutable(before) and changes not in _RELEASES:
            raise errors.Forbidden(_IMMUTABLE)
        changes = dict(changes)
        if "extra" in changes:
            changes["extra"] = _merged(getattr(before, "extra"), changes["extra"])  # noqa: B009
        if "name" in changes:
            values = {name: getattr(before, name) for name in ("id", *(self._within or ()))}
            self._check_name(c, values | changes)
        if changes:
            with self._unique():
                c.execute(self.table.update().where(self.table.c.id == record_id).values(**changes))
        return self.get(c, record_id)

    def delete(self, c: Connection, record_id: str) -> None:
        """Delete the record alone. Raises NotFound, Forbidden."""
        before = self.get(c, record_id, lock=True)
        if self._has_extra and is_immutable(before):
            raise errors.Forbidden(_IMMUTABLE)
        c.execute(self.table.delete().where(self.table.c.id == record_id))

    def _check_name(self, c: Connection, values: Mapping[str, Any]) -> None:
        if self._within is None:
            return
        same = {name: values[name] for name in ("name", *self._within)}
        other = self.find(c, **same)
        if other is not None and getattr(other, "id") != values["id"]:  # noqa: B009
            raise errors.Conflict(self._taken)

    @property
    def _taken(self) -> str:
        return f"Conflict occurred attempting to store {self.kind} - one of that name exists already."

    @contextmanager
    def _unique(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.IntegrityError as error:
            raise errors.Conflict(self._taken) from error

    def _equal(self, equals: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
        return [
            sa.func.lower(self.table.c[name]) == value.lower() if name == "name" else self.table.c[name] == value
            for name, value in equals.items()
        ]


def is_immutable(record: Any) -> bool:
    """Return whether the record's own option keeps it as it is."""
    return bool(record.extra.get("options", {}).get("immutable"))


def _merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept from now on; an option without a value is forgotten. Raises Invalid."""
    options = {**before.get("options", {}), **given.get("options", {})}
    merged = {**before, **given, "options": {name: value for name, value in options.items() if value is not None}}
    if len(msgspec.json.encode(merged)) > MAX_EXTRA:
        raise errors.Invalid(f"Attributes of its own have at most {MAX_EXTRA} bytes.")
    return merged
