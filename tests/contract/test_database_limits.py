"""No call to a database waits for ever, and what loses a race is done again as a whole: on all three."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.db.cell_schema import services
from cellcloud.db.engine import Connection, Database, retried, utc_now

SLEEP = {"postgresql": "SELECT pg_sleep(60)", "mariadb": "SELECT SLEEP(60)"}


@pytest.fixture
def quick(cell_database: Database) -> Iterator[Database]:
    """The same database, with a second for each statement."""
    made = Database(cell_database.engine.url.render_as_string(hide_password=False), timeout=1.0)
    yield made
    made.close()


def add(database: Database, *names: str) -> None:
    with database.write() as connection:
        for name in names:
            row = {"id": name, "binary": "b", "host": name, "created_at": utc_now(), "last_seen": utc_now()}
            connection.execute(sa.insert(services).values(row))


def touch(connection: Connection, name: str) -> None:
    connection.execute(sa.update(services).where(services.c.id == name).values(zone="z"))


def in_time(work: Callable[[], object], seconds: float = 20.0) -> None:
    begun = time.monotonic()
    with pytest.raises((errors.Busy, errors.Unreachable)):
        work()
    assert time.monotonic() - begun < seconds


def test_a_statement_that_takes_too_long_is_given_up(quick: Database) -> None:
    statement = SLEEP.get(quick.dialect.replace("mysql", "mariadb"))
    if statement is None:  # SQLite is in this process
        return

    def ask() -> None:
        with quick.read() as connection:
            connection.exec_driver_sql(statement)

    in_time(ask)
    with quick.read() as connection:
        assert connection.execute(sa.select(sa.literal(1))).scalar() == 1


def test_a_lock_that_is_not_given_back_is_not_waited_for(quick: Database) -> None:
    add(quick, "a")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with quick.write() as connection:
            touch(connection, "a")
            held.set()
            done.wait(60)

    def want() -> None:
        with quick.write() as connection:
            touch(connection, "a")

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    in_time(want)
    done.set()
    holder.join()
    want()


def test_a_pool_without_a_free_connection_is_not_waited_for_for_ever(cell_database: Database) -> None:
    url = cell_database.engine.url.render_as_string(hide_password=False)
    small = Database(url, pool_size=1, timeout=1.0)

    def ask() -> None:
        with small.read():
            pass

    with small.read(), ThreadPoolExecutor(1) as pool:
        in_time(lambda: pool.submit(ask).result())
    small.close()


class Hole:
    """A way to a server that swallows what goes through it, once told to."""

    def __init__(self, host: str, port: int) -> None:
        self.swallows = False
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                other = socket.create_connection(self._target)
                self._open += [one, other]
                for source, sink in ((one, other), (other, one)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.swallows:
                    sink.sendall(data)

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.mark.parametrize("known", [True, False], ids=["established", "new"])
def test_a_server_that_falls_silent_is_given_up(quick: Database, known: bool) -> None:
    url = quick.engine.url
    if url.port is None:  # SQLite is in this process
        return
    hole = Hole("127.0.0.1", url.port)
    through = Database(url.set(host="127.0.0.1", port=hole.port).render_as_string(hide_password=False), timeout=1.0)

    def ask() -> None:
        with through.write() as connection:
            connection.execute(sa.select(sa.func.count()).select_from(services))

    if known:
        ask()
    hole.swallows = True
    in_time(ask, seconds=12.0)
    hole.swallows = False
    ask()
    through.close()
    hole.close()


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "savepoint"])
def test_a_deadlock_is_a_lost_race_and_the_whole_is_done_again(cell_database: Database, inside: bool) -> None:
    """In a savepoint too, where MariaDB, having undone the whole transaction, says that the savepoint is gone."""
    add(cell_database, "a", "b")
    together = threading.Barrier(2)
    attempts: list[str] = []

    @retried
    def cross(database: Database, first: str, second: str) -> None:
        attempts.append(first)
        with database.write() as connection:
            touch(connection, first)
            if len(attempts) <= 2 and database.dialect != "sqlite":
                together.wait(60)
            with connection.begin_nested() if inside else contextlib.nullcontext():
                touch(connection, second)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(cross, cell_database, *pair) for pair in (("a", "b"), ("b", "a"))]:
            future.result(timeout=60)
    if cell_database.dialect == "sqlite":
        assert len(attempts) == 2
    else:  # more where a busy machine lets the wait for a lock time out before the deadlock is found
        assert len(attempts) >= 3
