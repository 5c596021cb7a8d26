"""A mark outside a database of how far its history was seen, by which one that was put back silently is known.

Every state directory has a row of its own in the database and a file beside it. Both have a number that is raised at
each look, in the database first: a database whose number is smaller, or that lacks the row, has lost what was committed
since. No clock takes part. The file has the incarnation too, since one that has begun meanwhile was announced.
"""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db import database_incarnations
from cellcloud.db.engine import Database, racing, transact, utc_after, utc_now
from cellcloud.db.top_schema import incarnations
from cellcloud.db.top_schema import marks as table
from cellcloud.model.database_incarnation import Incarnation

LOG = logging.getLogger(__name__)
INTERVAL = 1.0  # seconds between two looks: a shorter fall-back may pass by
KEPT_SECONDS = 90 * 86400.0  # that rows of directories that are gone are kept
BEHIND = "it is behind a mark outside it"
UNREADABLE = "the mark outside it cannot be read"

Begin = Callable[[Connection, str, str, int], Incarnation]
"""Begin another incarnation with at least that number, unless the one named is not the present one any more."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a file has. ``directory``: whose row it is; ``number``: of looks; the rest: the incarnation at the last."""

    directory: str
    number: int
    incarnation: str
    incarnation_number: int


class Marker:
    """Looks at one database for one state directory. Processes that share the directory take turns."""

    def __init__(self, database: Database, state_dir: Path, name: str, begin: Begin) -> None:
        self._database = database
        self._path = state_dir / "marks" / f"{name}.json"
        self._begin = begin

    def look(self) -> bool:
        """Return True when the database has fallen back since the last look; another incarnation of it has begun then.

        A directory without a mark begins one. A mark that is there and is none proves nothing, so that the database is
        taken for fallen back: the price is one comparison. Raises TryLater when directory or database is away.
        """
        try:
            with self._turn():
                kept, broken = self._read()
                begun, mark = transact(self._database, lambda connection: self._advance(connection, kept, broken))
                self._write(mark)
        except OSError as error:
            raise errors.TryLater("The mark of the database cannot be kept.", detail=str(error)) from error
        if begun is None:
            return False
        LOG.error("the database has fallen back", extra={"mark": str(self._path), "why": begun.reason})
        return True

    def _advance(self, connection: Connection, kept: Mark | None, broken: bool) -> tuple[Incarnation | None, Mark]:
        """Return the incarnation that had to begin, and the mark from now on."""
        if kept and not broken and _raise(connection, kept):
            return None, structs.replace(kept, number=kept.number + 1)
        present = database_incarnations.ensure(connection)
        begun: Incarnation | None = None
        known = _number_of(connection, kept.directory) if kept else None
        if broken or (kept is not None and _is_behind(kept, present, known)):
            least = kept.incarnation_number + 1 if kept else 0
            after = self._begin(connection, present.id, UNREADABLE if broken else BEHIND, least)
            begun, present = (after if after.id != present.id else None), after
        directory = kept.directory if kept else str(uuid.uuid4())
        number = max(known or 0, kept.number if kept else 0) + 1
        _store(connection, directory, number)
        return begun, Mark(
            directory=directory, number=number, incarnation=present.id, incarnation_number=present.number
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _read(self) -> tuple[Mark | None, bool]:
        """Return the mark, if there is one; and whether what is there is none."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Mark), False
        except FileNotFoundError:
            LOG.warning(
                "a first mark of a database: what it lost before cannot be known", extra={"mark": str(self._path)}
            )
            return None, False
        except msgspec.MsgspecError as error:
            LOG.error("a mark cannot be read", extra={"mark": str(self._path), "why": str(error)})
            return None, True

    def _write(self, mark: Mark) -> None:
        """Whole or not at all, and on the disk."""
        fresh = self._path.with_suffix(".new")
        with open(fresh, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(msgspec.json.encode(mark))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        handle = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def top_marker(database: Database, state_dir: Path) -> Marker:
    """Of the top's database."""

    def begin(connection: Connection, known: str, reason: str, least: int) -> Incarnation:
        return database_incarnations.begin_in_top(connection, reason, known=known, least=least)

    return Marker(database, state_dir, "top", begin)


def cell_marker(database: Database, state_dir: Path, cell: str) -> Marker:
    """Of a cell's database."""

    def begin(connection: Connection, known: str, reason: str, least: int) -> Incarnation:
        return database_incarnations.begin_in_cell(connection, known, reason, least=least)

    return Marker(database, state_dir, f"cell-{cell}", begin)


def _is_behind(kept: Mark, present: Incarnation, number: int | None) -> bool:
    if present.number != kept.incarnation_number:
        return present.number < kept.incarnation_number
    if present.id != kept.incarnation:
        return False  # announced since, of an earlier state
    return number is None or number < kept.number


_RAISE = (
    sa.update(table)
    .where(
        table.c.directory == sa.bindparam("mine"),
        table.c.number == sa.bindparam("kept"),
        sa.exists().where(
            incarnations.c.value == sa.bindparam("incarnation"),
            incarnations.c.number == sa.bindparam("incarnation_number"),
        ),
    )
    .values(number=table.c.number + 1, updated_at=utc_now())
)


def _raise(connection: Connection, kept: Mark) -> bool:
    """Raise the number in the database where it and the incarnation are those of the file; whether they were."""
    known = {"mine": kept.directory, "kept": kept.number}
    present = {"incarnation": kept.incarnation, "incarnation_number": kept.incarnation_number}
    return connection.execute(_RAISE, known | present).rowcount == 1


def _number_of(connection: Connection, directory: str) -> int | None:
    return connection.execute(sa.select(table.c.number).where(table.c.directory == directory)).scalar()


def _store(connection: Connection, directory: str, number: int) -> None:
    values = {"number": number, "updated_at": utc_now()}
    if connection.execute(sa.update(table).where(table.c.directory == directory).values(values)).rowcount == 0:
        connection.execute(sa.delete(table).where(table.c.updated_at < utc_after(-KEPT_SECONDS)))
        with racing():
            connection.execute(sa.insert(table).values(directory=directory, **values))
