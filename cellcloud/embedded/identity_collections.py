"""Collections of the embedded identity's records: each change commits together with a new epoch, so that no process
answers by what was before."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from cellcloud.db import pagination_snapshots
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.db.identity_records import IdentityRecords
from cellcloud.db.identity_tokens import begin_epoch
from cellcloud.db.listing import ALL, Page


class _WithId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_WithId)
R = TypeVar("R")


def new_id() -> str:
    """Return an id as Keystone makes them."""
    return uuid.uuid4().hex


def change(database: Database, work: Callable[[Connection], R]) -> R:
    """Do the work in a transaction that ends every answer given before it."""

    def whole(c: Connection) -> R:
        done = work(c)
        begin_epoch(c)
        return done

    return transact(database, whole)


class IdentityCollection(Generic[T]):
    """One kind of record. ``insert``, ``update``, ``delete``: how one is stored, changed and deleted, where that takes
    more than its own row. Safe to use from several threads."""

    def __init__(
        self,
        database: Database,
        records: IdentityRecords[T],
        *,
        insert: Callable[[Connection, T], None] | None = None,
        update: Callable[[Connection, str, Mapping[str, Any]], T] | None = None,
        delete: Callable[[Connection, str], None] | None = None,
    ) -> None:
        self._database = database
        self._records = records
        self._insert = insert or records.insert
        self._update = update or records.update
        self._delete = delete or records.delete

    def list_all(self, page: Page = ALL, **equals: Any) -> list[T]:
        """Return a page of those with these values."""
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: self._records.list_all(c, page, **equals)
        )

    def get(self, record_id: str) -> T:
        """Return a record. Raises NotFound."""
        with self._database.read() as c:
            return self._records.get(c, record_id)

    def create(self, record: T) -> T:
        """Store a new record. Raises Conflict, Invalid, NotFound, Forbidden."""

        def work(c: Connection) -> T:
            self._insert(c, record)
            return self._records.get(c, record.id)

        return change(self._database, work)

    def update(self, record_id: str, changes: Mapping[str, Any]) -> T:
        """Change a record. Raises NotFound, Conflict, Invalid, Forbidden."""
        return change(self._database, lambda c: self._update(c, record_id, changes))

    def delete(self, record_id: str) -> None:
        """Delete a record and what goes with it. Raises NotFound, Forbidden."""
        change(self._database, lambda c: self._delete(c, record_id))
