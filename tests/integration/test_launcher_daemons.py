"""Private brokers and databases, really started: login, isolation, kill, restart, end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import amqp
import kombu
import MySQLdb
import psutil
import psycopg
import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.launcher.certificate_authority import Authority
from cellcloud.launcher.database_servers import DatabaseAccount, DatabaseServer, MariaDb, PostgreSql
from cellcloud.launcher.process_records import ProcessRecord, Records
from cellcloud.launcher.process_units import Unit
from cellcloud.launcher.rabbitmq_servers import Broker
from cellcloud.launcher.supervisor import Supervisor
from tests.daemons import free_ports


def until(fact: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a fact; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Supervised:
    """Units under a supervisor in a process of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.records = Records(place / "run")
        self._process: multiprocessing.process.BaseProcess | None = None

    def start(self, units: list[Unit]) -> None:
        """Return when all are ready."""
        serving = self.place / "serving"
        serving.unlink(missing_ok=True)
        # fork: units hold functions of their own, which a fresh interpreter could not be sent
        self._process = multiprocessing.get_context("fork").Process(target=self._run, args=(units, serving))
        self._process.start()
        until(serving.exists)

    def stop(self) -> None:
        """End all; nothing it started may be left."""
        process, self._process = self._process, None
        if process is None or process.pid is None:
            return
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.join(60)
        assert psutil.wait_procs(family, timeout=30)[1] == []  # nobody's children are buried in the machine's own time

    def kill(self, name: str) -> None:
        """kill -9 of a unit, and wait until it is back."""
        before = self.ready(name)
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        until(lambda: (now := self.ready(name)) is not None and now.pid != before.pid)

    def ready(self, name: str) -> ProcessRecord | None:
        """The record of a unit that is ready."""
        record = self.records.find(name)
        return record if record and record.state == "ready" and record.is_alive() else None

    def _run(self, units: list[Unit], serving: Path) -> None:
        os.umask(0o077)
        logs = self.place / "log"
        Supervisor(units, records=self.records, logs=logs, report=print).run(on_ready=serving.touch)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    made = Supervised(tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("kind", [MariaDb, PostgreSql])
def test_a_database_keeps_what_was_committed(
    kind: type[DatabaseServer], supervised: Supervised, tmp_path: Path
) -> None:
    accounts = [
        DatabaseAccount(name="one", password="first-secret"),
        DatabaseAccount(name="two", password="second-secret"),
    ]
    server = kind(name="database", directory=tmp_path / "database", port=free_ports(1), accounts=accounts)
    supervised.start([server.unit()])
    engine = sa.create_engine(server.url("one"), pool_pre_ping=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO kept VALUES (7)")
    supervised.kill("database")
    assert _kept(engine) == 7
    supervised.stop()
    supervised.start([server.unit()])
    assert _kept(engine) == 7
    engine.dispose()
    _check_private(tmp_path / "database")
    _check_strangers_are_refused(server)


def _kept(engine: sa.Engine) -> object:
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT n FROM kept").scalar()


def _check_strangers_are_refused(server: DatabaseServer) -> None:
    """A wrong password, no password, and another account's database."""
    for password, database in (("wrong", "one"), ("", "one"), ("first-secret", "two")):
        given = {"host": "127.0.0.1", "port": server.port, "user": "one", "password": password}
        if isinstance(server, MariaDb):
            with pytest.raises(MySQLdb.Error):
                MySQLdb.connect(**given, database=database)
        else:
            with pytest.raises(psycopg.Error):
                psycopg.connect(**given, dbname=database)


def test_a_broker_serves_its_own_user_only(supervised: Supervised, tmp_path: Path) -> None:
    broker = Broker(
        name="cell.broker",
        cell="cell",
        directory=tmp_path / "broker",
        port=free_ports(3),
        passwords={"conductor": "broker-secret"},
        cookie="COOKIE",
    )
    supervised.start(broker.units())
    assert _can_use(broker.url("conductor"))
    assert not _can_use(broker.url("conductor").replace("broker-secret", "wrong"))
    assert not _can_use(f"amqp://guest:guest@127.0.0.1:{broker.port}//")
    for port in range(broker.port, broker.port + 3):
        addresses = {each.laddr.ip for each in psutil.net_connections("tcp") if each.laddr.port == port}
        assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    supervised.kill("cell.broker")
    assert _can_use(broker.url("conductor"))
    _check_private(tmp_path / "broker")
    for process in psutil.process_iter(["cmdline"]):
        assert "broker-secret" not in " ".join(process.info["cmdline"] or [])


def test_what_is_encrypted_is_so_for_everybody(supervised: Supervised, tmp_path: Path) -> None:
    """Clients that know the authority get in; others, and those who speak plainly, do not."""
    authority = Authority(tmp_path / "tls")
    tls = authority.issue("here", ["127.0.0.1"])
    stranger = Authority(tmp_path / "other").issue("here", ["127.0.0.1"])
    accounts = [DatabaseAccount(name="one", password="secret")]
    port = free_ports(5)
    databases = [
        kind(name=kind.__name__, directory=tmp_path / kind.__name__, port=port + place, accounts=accounts, tls=tls)
        for place, kind in enumerate((MariaDb, PostgreSql))
    ]
    broker = Broker(
        name="cell.broker",
        cell="cell",
        directory=tmp_path / "broker",
        port=port + 2,
        passwords={"conductor": "secret"},
        cookie="COOKIE",
        tls=tls,
    )
    supervised.start([*(server.unit() for server in databases), *broker.units()])
    for server, plain in zip(databases, ("?ssl_mode=DISABLED", "?sslmode=disable"), strict=True):
        url = server.url("one")
        with closing(Database(url)) as database, database.read() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        for wrong in (url.split("?")[0] + plain, url.replace(tls.authority_in_url, stranger.authority_in_url)):
            with closing(Database(wrong)) as database, pytest.raises(errors.Unreachable), database.read():
                pass
    trusting = {"ca_certs": str(tls.authority), "server_hostname": "127.0.0.1", "cert_reqs": ssl.CERT_REQUIRED}
    url = broker.url("conductor").split("?")[0]
    assert _can_use(url, ssl=trusting)
    assert not _can_use(url, ssl=trusting | {"ca_certs": str(stranger.authority)})
    assert not _can_use(url)


def _can_use(url: str, **options: Any) -> bool:
    connection = kombu.Connection(url.replace("rabbit://", "amqp://"), connect_timeout=5, **options)
    try:
        connection.connect()
        exchange = kombu.Exchange("cell/conductor", "direct")
        queue = kombu.Queue("cell/conductor/q", exchange, routing_key="q")(connection.channel())
        queue.declare()
        connection.Producer().publish("hello", exchange=exchange, routing_key="q")
        found = []
        until(lambda: found.append(queue.get(no_ack=True)) or found[-1] is not None, 5)
        return bool(found[-1].payload == "hello")
    except (OSError, kombu.exceptions.OperationalError, amqp.exceptions.AMQPError):
        return False
    finally:
        connection.release()


def _check_private(directory: Path) -> None:
    """Nothing below it can be read by others."""
    assert directory.stat().st_mode & 0o077 == 0
    for name in ("rabbitmq.conf", "accounts.sql"):
        if (directory / name).exists():
            assert (directory / name).stat().st_mode & 0o077 == 0
