"""Copies of a database that is in use, and putting one back.

A backup is a directory: what it is of, and the database's own form of a dump, of one moment. It appears when it is
whole. Putting one back begins another incarnation, so that whoever followed the database notices.
"""

from __future__ import annotations

import abc
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import msgspec
import psutil
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.db import database_incarnations, migrate
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.model.database_incarnation import Incarnation

ABOUT, DATA = "about.json", "data"
PAGES = 2000  # of SQLite, copied between two words of progress
LOOK = 0.1  # seconds between two looks at what goes on
LEAVING_SECONDS = 3.0  # that a server may still list a session whose client has closed it
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a backup is of: ``what``: "top", or a cell's name. ``revision``: of the schema."""

    what: str
    dialect: str
    taken_at: str
    incarnation: str
    revision: str


def take(url: str, what: str, target: Path, tell: Tell) -> About:
    """Copy a database into the new directory ``target`` while others use it. Raises Conflict, Misconfigured."""
    if target.exists():
        raise errors.Conflict(f"{target} exists already.")
    form = _form(url)
    if not form.is_there():
        raise errors.NotFound(f"There is no database of {what} yet.")
    database = Database(url, pool_size=1)
    try:
        with database.read_as_one() as connection:
            about = _about(connection, what, database.dialect)
    finally:
        database.close()
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    form.dump(partial / DATA, tell)
    (partial / ABOUT).write_bytes(msgspec.json.encode(asdict(about)))
    _flush(partial)
    partial.rename(target)
    return about


def read_about(source: Path) -> About:
    """Return what a backup is of. Raises Invalid."""
    try:
        return msgspec.json.decode((source / ABOUT).read_bytes(), type=About)
    except (OSError, msgspec.MsgspecError) as error:
        raise errors.Invalid(f"{source} is no backup.", detail=str(error)) from error


def put_back(url: str, what: str, source: Path, tell: Tell) -> Incarnation:
    """Replace a database that nobody uses by a backup of it. Raises Conflict, Invalid, Misconfigured.

    What was there is kept beside the backup. After a failure in the middle, do it again.
    """
    about = read_about(source)
    form = _form(url)
    if (about.what, about.dialect) != (what, form.dialect):
        raise errors.Conflict(f"{source} is a backup of {about.what} on {about.dialect}, not {what} on {form.dialect}.")
    end = time.monotonic() + LEAVING_SECONDS
    while (users := form.list_users()) and time.monotonic() < end:
        time.sleep(LOOK)
    if users:
        raise errors.Conflict("The database is in use: stop what uses it first.", detail=", ".join(users))
    if form.is_there():
        kept = source.with_name(f"{source.name}.replaced-{time.strftime('%Y%m%dT%H%M%S')}")
        tell(f"keeping what is there in {kept}")
        kept.mkdir(mode=0o700)
        form.keep(kept)
    return form.load(source / DATA, "top" if what == "top" else "cell", tell)


def begin_incarnation(connection: Connection, tree: str, reason: str) -> Incarnation:
    """Begin another incarnation of a database that was put back or promoted."""
    known = database_incarnations.ensure(connection)
    if tree == "top":
        return database_incarnations.begin_in_top(connection, reason)
    return database_incarnations.begin_in_cell(connection, known.id, reason)


def _about(connection: Connection, what: str, dialect: str) -> About:
    tables = set(sa.inspect(connection).get_table_names())
    proof = "server_index" if what == "top" else "inventories"
    if proof not in tables:
        raise errors.Misconfigured(f"This is not the database of {what}: it has no table {proof}.")
    found = database_incarnations.find(connection) if "incarnations" in tables else None
    return About(
        what=what,
        dialect=dialect,
        taken_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        incarnation=found.id if found else "",
        revision=str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or ""),
    )


def _flush(directory: Path) -> None:
    for path in (*directory.iterdir(), directory):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Sqlite:
    """Through SQLite's own online copy, which others' writes restart or join."""

    dialect = "sqlite"

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        if not self._url.database:
            raise errors.Misconfigured("A database in memory cannot be copied.")
        self._path = Path(self._url.database)

    def is_there(self) -> bool:
        return self._path.exists()

    def list_users(self) -> list[str]:
        users = []
        mine = os.path.realpath(self._path)
        for process in psutil.process_iter(["pid", "name"]):
            try:
                paths = {os.path.realpath(file.path) for file in process.open_files()}
            except psutil.Error:
                continue
            if mine in paths:
                users.append(f"process {process.pid} ({process.name()})")
        return users

    def dump(self, target: Path, tell: Tell) -> None:
        def note(_status: int, remaining: int, total: int) -> None:
            tell(f"{100 - remaining * 100 // max(total, 1):3} % of {total} pages")

        source = f"file:{self._path}?mode=ro"
        with closing(sqlite3.connect(source, uri=True, timeout=20)) as live, closing(sqlite3.connect(target)) as copy:
            live.backup(copy, pages=PAGES, progress=note, sleep=0.01)
            copy.execute("PRAGMA journal_mode=DELETE")
            wrong = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if wrong != "ok":
            raise errors.CallHuman("The copy is damaged.", detail=str(wrong))

    def keep(self, kept: Path) -> None:
        """As it is, whole or not."""
        for path in self._files():
            if path.exists():
                shutil.copy2(path, kept / path.name)

    def load(self, source: Path, tree: str, tell: Tell) -> Incarnation:
        made = self._path.with_name(f"{self._path.name}.restored")
        for path in (made, Path(f"{made}-wal"), Path(f"{made}-shm")):
            path.unlink(missing_ok=True)
        shutil.copyfile(source, made)
        made.chmod(0o600)
        begun = _renew(f"sqlite:///{made}", tree)
        with closing(sqlite3.connect(made)) as copy:
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            copy.execute("PRAGMA journal_mode=DELETE")
        for path in self._files()[1:]:  # of the old one: they must not be taken for the new one's
            path.unlink(missing_ok=True)
        made.rename(self._path)
        _flush(self._path.parent)
        tell("restored")
        return begun

    def _files(self) -> tuple[Path, ...]:
        return self._path, Path(f"{self._path}-wal"), Path(f"{self._path}-shm")


class _Served(abc.ABC):
    """Through the dump programs of a database server."""

    dialect = ""

    def __init__(self, url: str) -> None:
        self._text = url
        self._url = sa.make_url(url)

    def is_there(self) -> bool:
        with self._open() as database, database.read() as connection:
            return bool(sa.inspect(connection).get_table_names())

    def list_users(self) -> list[str]:
        with self._open() as database, database.read() as connection:
            return [str(row[0]) for row in connection.execute(self._sessions(), {"name": self._url.database})]

    def keep(self, kept: Path) -> None:
        """As it is, whole or not."""
        self.dump(kept / DATA, _in_silence)

    def load(self, source: Path, tree: str, tell: Tell) -> Incarnation:
        with self._open() as database:
            transact(database, _drop_all)
        self._restore(source, tell)
        begun = _renew(self._text, tree)
        tell("restored")
        return begun

    @contextmanager
    def _open(self) -> Iterator[Database]:
        database = Database(self._text, pool_size=1)
        try:
            yield database
        finally:
            database.close()

    @abc.abstractmethod
    def dump(self, target: Path, tell: Tell) -> None:
        """Write the database's dump of one moment into ``target``."""

    @abc.abstractmethod
    def _restore(self, source: Path, tell: Tell) -> None:
        """Read the dump in ``source`` into the emptied database."""

    @abc.abstractmethod
    def _sessions(self) -> sa.TextClause:
        """Return the query for who else uses the database."""


class _MariaDb(_Served):
    dialect = "mysql"

    def dump(self, target: Path, tell: Tell) -> None:
        options = ["--single-transaction", "--hex-blob", "--default-character-set=utf8mb4", "--no-tablespaces"]
        with self._login() as login:
            _run(["mariadb-dump", login, *options, str(self._url.database)], {}, tell, output=target)

    def _restore(self, source: Path, tell: Tell) -> None:
        with self._login() as login:
            argv = ["mariadb", login, "--default-character-set=utf8mb4", str(self._url.database)]
            _run(argv, {}, tell, source=source)

    def _sessions(self) -> sa.TextClause:
        return sa.text(
            "SELECT concat('session ', id) FROM information_schema.processlist"
            " WHERE db = :name AND id <> connection_id()"
        )

    @contextmanager
    def _login(self) -> Iterator[str]:
        """Not in the command line, which everybody may read."""
        with tempfile.NamedTemporaryFile("w", prefix="cellcloud-", suffix=".cnf") as file:
            url = self._url
            lines = ["[client]", f"host={url.host}", f"port={url.port or 3306}", f"user={url.username}"]
            file.write("\n".join([*lines, f'password="{url.password}"', "protocol=tcp", ""]))
            file.flush()
            yield f"--defaults-file={file.name}"


class _PostgreSql(_Served):
    dialect = "postgresql"

    def dump(self, target: Path, tell: Tell) -> None:
        argv = ["pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--no-password"]
        _run(argv, self._login(), tell, output=target)

    def _restore(self, source: Path, tell: Tell) -> None:
        argv = ["pg_restore", "--no-owner", "--no-privileges", "--no-password", "--exit-on-error"]
        argv += ["--single-transaction", f"--dbname={self._url.database}"]
        _run(argv, self._login(), tell, source=source)

    def _sessions(self) -> sa.TextClause:
        return sa.text(
            "SELECT 'session ' || pid FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
        )

    def _login(self) -> dict[str, str]:
        url = self._url
        return {
            "PGHOST": url.host or "",
            "PGPORT": str(url.port or 5432),
            "PGUSER": url.username or "",
            "PGPASSWORD": str(url.password or ""),
            "PGDATABASE": url.database or "",
        }


def _in_silence(_line: str) -> None:
    """Tell nobody."""


def _form(url: str) -> _Sqlite | _MariaDb | _PostgreSql:
    kind = sa.make_url(url).get_backend_name()
    if kind == "sqlite":
        return _Sqlite(url)
    return _PostgreSql(url) if kind == "postgresql" else _MariaDb(url)


def _drop_all(connection: Connection) -> None:
    tables = sa.MetaData()
    tables.reflect(connection)
    tables.drop_all(connection)


def _renew(url: str, tree: str) -> Incarnation:
    database = Database(url, pool_size=2, timeout=0)
    try:
        migrate.upgrade(database, "top" if tree == "top" else "cell")
        return transact(database, lambda c: begin_incarnation(c, tree, "restored from a backup"))
    finally:
        database.close()


def _run(
    argv: Sequence[str],
    settings: Mapping[str, str],
    tell: Tell,
    *,
    output: Path | None = None,
    source: Path | None = None,
) -> None:
    """Run a program of the database's and tell how far it is. Raises Misconfigured, CallHuman."""

    def opened(path: Path | None, mode: str) -> IO[bytes] | None:
        return None if path is None else path.open(mode)

    given, made = opened(source, "rb"), opened(output, "wb")
    try:
        with tempfile.TemporaryFile() as complaints:
            environment = {**os.environ, **settings}
            try:
                program = subprocess.Popen(
                    list(argv),
                    stdin=given or subprocess.DEVNULL,
                    stdout=made or subprocess.DEVNULL,
                    stderr=complaints,
                    env=environment,
                )
            except FileNotFoundError as error:
                raise errors.Misconfigured(f"{argv[0]} is not installed.") from error
            told = 0.0
            while program.poll() is None:
                time.sleep(LOOK)
                if time.monotonic() - told > 1.0 and output is not None:
                    told = time.monotonic()
                    tell(f"{output.stat().st_size / 1e6:.1f} MB written")
            complaints.seek(0)
            if program.returncode:
                text = complaints.read(2000).decode(errors="replace")
                raise errors.CallHuman(f"{argv[0]} failed.", detail=text.strip())
    finally:
        for file in (given, made):
            if file is not None:
                file.close()
