"""Opening databases, transactions, and the database's own clock.

SQLite, MariaDB and PostgreSQL behave alike above this module: read committed (SQLite: serialised writers), times
are the database's, UTC with microseconds, and lost races show as row counts.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from cellcloud import errors, metrics
from cellcloud.db import mysql_dialect, postgresql_socket_timeouts
from cellcloud.socket_readability import is_readable

__all__ = [
    "Connection",
    "Database",
    "Json",
    "LostRace",
    "UtcDateTime",
    "racing",
    "retried",
    "transact",
    "utc_after",
    "utc_now",
]

P = ParamSpec("P")
R = TypeVar("R")

_SQLITE_KEYS = frozenset(f"SQLITE_CONSTRAINT_{kind}" for kind in ("UNIQUE", "PRIMARYKEY", "FOREIGNKEY"))
RETRIED_SECONDS = 20.0
POOLED = "pooled"  # in what is known of a connection: it was used before
_ONE_STATE = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT")
STEADY = {"mysql": _ONE_STATE, "mariadb": _ONE_STATE, "postgresql": ("BEGIN ISOLATION LEVEL REPEATABLE READ",)}
"""By dialect: how a transaction begins whose queries all see one state. Not by the connection's isolation level: set
back, it would leave the connection without autocommit."""


class UtcDateTime(sa.types.TypeDecorator[dt.datetime]):
    """Aware UTC datetimes with microseconds on every database."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        return None if value is None else value.astimezone(dt.UTC).replace(tzinfo=None)

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        return None if value is None else value.replace(tzinfo=dt.UTC)


LongText = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")  # MariaDB's Text has 64 KiB


class Json(sa.types.TypeDecorator[Any]):
    """Any value msgspec can write, as JSON text."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(LongText)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


class utc_now(FunctionElement[dt.datetime]):
    """The database's clock now (not at the start of the transaction), UTC."""

    type = UtcDateTime()
    inherit_cache = True
    name = "utc_now"


@compiles(utc_now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(utc_now, "mysql")
@compiles(utc_now, "mariadb")
def _now_mysql(element: Any, compiler: Any, **kw: Any) -> str:
    return "UTC_TIMESTAMP(6)"


@compiles(utc_now, "postgresql")
def _now_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return "timezone('utc', clock_timestamp())"


class utc_after(FunctionElement[dt.datetime]):
    """The database's clock plus a number of seconds."""

    type = UtcDateTime()
    inherit_cache = True
    name = "utc_after"

    def __init__(self, seconds: float | sa.BindParameter[float]) -> None:
        super().__init__(sa.literal(float(seconds), sa.Float) if isinstance(seconds, int | float) else seconds)


@compiles(utc_after, "sqlite")
def _after_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f000', julianday('now') + {seconds} / 86400.0)"


@compiles(utc_after, "mysql")
@compiles(utc_after, "mariadb")
def _after_mysql(element: Any, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"DATE_ADD(UTC_TIMESTAMP(6), INTERVAL CAST({seconds} * 1000000 AS SIGNED) MICROSECOND)"


@compiles(utc_after, "postgresql")
def _after_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"timezone('utc', clock_timestamp()) + make_interval(secs => {seconds})"


_SQLITE_SETTINGS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=20000",
    f"mmap_size={2 << 30}",  # else each page is copied, anew after each commit
)


def _set_up_sqlite(raw: Any, _record: Any) -> None:
    raw.isolation_level = None
    cursor = raw.cursor()
    for pragma in _SQLITE_SETTINGS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    readonly = connection.get_execution_options().get("readonly", False)
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")


def _begin_on_server(connection: Connection) -> None:
    """Read committed gives each statement a view of its own, so what only reads needs no transaction: one message to
    the server a statement, and none to begin or end."""
    options = connection.get_execution_options()
    if options.get("readonly", False) and not options.get("steady", False):
        return
    connection.info[mysql_dialect.BEGUN] = True
    for statement in STEADY[connection.dialect.name] if options.get("steady", False) else ("BEGIN",):
        connection.exec_driver_sql(statement)


def _bounds(dialect: str, seconds: float) -> dict[str, Any]:
    if dialect == "postgresql":
        return postgresql_socket_timeouts.bounds(seconds)
    settings = f"lock_wait_timeout={int(seconds)}, innodb_lock_wait_timeout={max(1, int(seconds / 2))}"
    bounds = {
        "read_timeout": math.ceil(postgresql_socket_timeouts.longest(seconds)),
        "write_timeout": math.ceil(postgresql_socket_timeouts.longest(seconds)),
        "init_command": f"SET SESSION max_statement_time={seconds}, {settings}",
    }
    return {"charset": "utf8mb4", **(bounds if seconds else {})}


def _set_up_postgresql(raw: Any, _record: Any) -> None:
    raw.autocommit = True


def _set_up_mysql(raw: Any, _record: Any) -> None:
    raw.autocommit(True)


class _Reader(Connection):
    """Each statement sees a state of its own, so one whose connection ended is asked again on another."""

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().execute(*args, **kwargs)
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self.rollback()
            return super().execute(*args, **kwargs)


def _look_at_pooled(engine: Engine) -> None:
    """Let no connection out of the pool that the server has closed: where something has come in that nobody asked
    for, the server is asked, and one that does not answer is replaced."""
    dialect = engine.dialect

    def look(raw: Any, record: Any, _proxy: Any) -> None:
        if not record.info.get(POOLED):  # it was opened just now
            record.info[POOLED] = True
            return
        try:
            if is_readable(raw.fileno()):
                dialect.do_ping(raw)
        except dialect.loaded_dbapi.Error as error:
            raise sa.exc.DisconnectionError from error

    event.listen(engine, "checkout", look)


# SQLite's waiting writers poll, and some starve. The writers of one process queue up here instead; those of others
# still meet in SQLite.
_WRITERS: dict[str, threading.RLock] = {}


def _connections_in_use(engine: weakref.ref[Engine]) -> float:
    known = engine()
    return 0.0 if known is None or not isinstance(known.pool, sa.QueuePool) else float(known.pool.checkedout())


@contextmanager
def _turn(lock: threading.RLock, seconds: float) -> Iterator[None]:
    """Wait for the lock. Raises Busy after that time; 0 waits on."""
    if not lock.acquire(timeout=seconds or -1):
        raise errors.Busy("Too much work at once; try again shortly.", detail="the database is being written")
    try:
        yield
    finally:
        lock.release()


class Database:
    """One database. ``write()`` and ``read()`` give a connection inside a transaction.

    ``timeout``: seconds that a statement may take, and twice what it may wait for a lock; 0 for work that takes as long
    as it does, as migrations.
    """

    def __init__(self, url: str, *, pool_size: int = 16, timeout: float = 20.0) -> None:
        if not url:
            raise errors.Misconfigured("No database is configured: set 'connection' in the option file.")
        parsed = sa.make_url(url)
        self.dialect = parsed.get_backend_name()
        waits = {"pool_timeout": timeout / 2 or 10, "pool_use_lifo": True}
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0} | waits
        if self.dialect == "sqlite":
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            options["connect_args"] = {"timeout": 20, "check_same_thread": False}
        else:
            options |= {"pool_recycle": 1800, "isolation_level": "READ COMMITTED", "pool_reset_on_return": None}
            options["connect_args"] = {"connect_timeout": 3} | _bounds(self.dialect, timeout)
        if self.dialect in ("mysql", "mariadb"):
            parsed = parsed.set(drivername=mysql_dialect.DRIVER)
        self.engine: Engine = sa.create_engine(parsed, **options)
        if self.dialect == "sqlite":
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        elif self.dialect == "postgresql":
            event.listen(
                self.engine,
                "do_connect",
                lambda _dialect, _record, args, given: postgresql_socket_timeouts.connect(timeout, *args, **given),
            )
            event.listen(self.engine, "connect", _set_up_postgresql)
            event.listen(self.engine, "begin", _begin_on_server)
        else:
            event.listen(self.engine, "connect", _set_up_mysql)
            event.listen(self.engine, "begin", _begin_on_server)
        if self.dialect != "sqlite":
            _look_at_pooled(self.engine)
        self._is_closed = False
        event.listen(self.engine, "checkin", self._close_late)
        self._queue: Callable[[], AbstractContextManager[None]] = nullcontext
        if self.dialect == "sqlite" and parsed.database:
            lock = _WRITERS.setdefault(str(Path(parsed.database).resolve()), threading.RLock())
            self._queue = functools.partial(_turn, lock, timeout)
        name = parsed.database or self.dialect
        metrics.POOL_SIZE.labels(name).set(pool_size)
        metrics.POOL.labels(name).set_function(functools.partial(_connections_in_use, weakref.ref(self.engine)))
        self._reader = self.engine.execution_options(readonly=True)
        self._steady_reader = self.engine.execution_options(readonly=True, steady=True)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block. Raises LostConnection where it ended before that,
        and Unreachable with the database away, or where nobody knows what became of the commit."""
        whole = False
        with self._queue(), _translated(lambda: not whole), _transaction(self.engine) as connection:
            yield connection
            whole = True

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that only reads."""
        with _translated(), _Reader(self._reader) as connection:
            yield connection
            connection.commit()

    @contextmanager
    def read_as_one(self) -> Iterator[Connection]:
        """Yield a transaction that only reads, and whose queries all see the same committed state."""
        with _translated(), _transaction(self._steady_reader) as connection:
            yield connection

    def close(self) -> None:
        """Close every pooled connection, and those still in use as soon as they are given back."""
        self._is_closed = True
        self.engine.dispose()

    def _close_late(self, _raw: Any, record: Any) -> None:
        if self._is_closed:
            record.invalidate()


class LostRace(errors.Busy):
    """Another transaction won (deadlock, lock wait, serialisation, a row that it has just made or deleted): the whole
    block may be run again, and then sees what the other one did."""


@contextmanager
def racing() -> Iterator[None]:
    """Take a key in use for another request that came first: raises LostRace, and the transaction may be run again."""
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise LostRace("The database is contended; try again shortly.", detail=str(error.orig)) from error


def _begin(engine: Engine) -> tuple[Connection, sa.RootTransaction]:
    connection = engine.connect()
    try:
        return connection, connection.begin()
    except BaseException:
        connection.close()
        raise


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    """Open a transaction. A pooled connection that has ended, which shows as it begins, is replaced: nothing is done
    yet."""
    try:
        connection, transaction = _begin(engine)
    except sa.exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
        connection, transaction = _begin(engine)
    with connection, transaction:
        yield connection


@contextmanager
def _translated(is_undone: Callable[[], bool] = lambda: True) -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise errors.Busy("Too much work at once; try again shortly.", detail=str(error)) from error
    except sa.exc.DBAPIError as error:
        if any(_is_race(each) for each in _chain(error)) or _is_race_for_key(error):
            raise LostRace("The database is contended; try again shortly.", detail=str(error.orig)) from error
        if any(_is_slow(each) for each in _chain(error)):
            raise errors.Busy("The database takes too long; try again shortly.", detail=str(error.orig)) from error
        if error.connection_invalidated and is_undone():
            raise errors.LostConnection("The database does not answer.", detail=str(error.orig)) from error
        if _is_away(error):
            raise errors.Unreachable("The database does not answer.", detail=str(error.orig)) from error
        raise


def _chain(error: BaseException | None) -> Iterator[sa.exc.DBAPIError]:
    """Yield the error and those before it: a deadlock in a savepoint undoes the whole transaction, and what is told is
    that the savepoint is gone."""
    while error is not None:
        if isinstance(error, sa.exc.DBAPIError):
            yield error
        error = error.__cause__ or error.__context__


def _is_slow(error: sa.exc.DBAPIError) -> bool:
    args: tuple[object, ...] = getattr(error.orig, "args", ())
    return getattr(error.orig, "sqlstate", None) == "57014" or bool(args and args[0] in (1969, 3024))


def _is_race(error: sa.exc.DBAPIError) -> bool:
    code = getattr(error.orig, "sqlstate", None)
    if code in ("40001", "40P01", "55P03"):
        return True
    args: tuple[object, ...] = getattr(error.orig, "args", ())
    return bool(args) and (args[0] in (1205, 1213, 1020) or "database is locked" in str(args[0]))


def _is_race_for_key(error: sa.exc.DBAPIError) -> bool:
    """Return a unique key is taken, or the row that a foreign key names is gone."""
    if getattr(error.orig, "sqlstate", None) in ("23505", "23503"):
        return True
    if getattr(error.orig, "sqlite_errorname", "") in _SQLITE_KEYS:
        return True
    args: tuple[object, ...] = getattr(error.orig, "args", ())
    return bool(args) and args[0] in (1062, 1451, 1452)


def _is_away(error: sa.exc.DBAPIError) -> bool:
    return error.connection_invalidated or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)


def retried(
    function: Callable[Concatenate[Database, P], R],
) -> Callable[Concatenate[Database, P], R]:
    """Run a function of (database, ...) again, up to eight times, when its transaction lost a race or its connection.
    Raises Busy or LostConnection."""

    @functools.wraps(function)
    def again(database: Database, *args: P.args, **kwargs: P.kwargs) -> R:
        end = time.monotonic() + RETRIED_SECONDS
        problem: errors.CellcloudError = errors.Busy("The database is contended; try again shortly.")
        for attempt in range(8):
            try:
                return function(database, *args, **kwargs)
            except errors.LostConnection as error:
                problem = error
            except LostRace:
                metrics.RACES.inc()
                problem = errors.Busy("The database is contended; try again shortly.")
            if time.monotonic() > end:
                break
            time.sleep(random.uniform(0.0, 0.02 * 2**attempt))  # noqa: S311 -- spreading, no secret
        raise problem

    return cast("Callable[Concatenate[Database, P], R]", again)


@retried
def transact(database: Database, work: Callable[[Connection], R]) -> R:
    """Return what ``work`` returns from a transaction that commits; it may be asked again, after a lost race."""
    with database.write() as connection:
        return work(connection)
