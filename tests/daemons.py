"""Real brokers and databases for tests: private, on loopback, ended with the test run."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cellcloud.launcher.database_servers import DatabaseAccount, DatabaseServer
from cellcloud.launcher.process_units import Unit
from cellcloud.launcher.rabbitmq_servers import Broker
from cellcloud.rpc.accounts import EACH, Account, Role, host_account, volume_account

PORTS = range(15000, 32000)  # below those that the system gives to whoever asks for any


def free_ports(count: int) -> int:
    """The first of ``count`` neighbouring ports that nobody listens on; no other process is given them for a while."""
    with Path(tempfile.gettempdir(), f"cellcloud-test-ports-{os.getuid()}").open("a+") as last:
        fcntl.flock(last, fcntl.LOCK_EX)
        last.seek(0)
        first = int(last.read() or PORTS.start)
        for _ in PORTS:
            first = first if first + count in PORTS else PORTS.start
            if _are_free(first, count):
                last.truncate(0)
                last.write(str(first + count))
                return first
            first += 1
    raise RuntimeError("no free ports")


def _are_free(first: int, count: int) -> bool:
    with ExitStack() as held, suppress(OSError):
        for port in range(first, first + count):
            held.enter_context(socket.socket()).bind(("127.0.0.1", port))
        return True
    return False


@contextmanager
def running(unit: Unit, seconds: float = 60.0) -> Iterator[int]:
    """The unit's process, ready; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            log = os.open("/dev/null", os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(log, stream)
            unit.run()
        finally:
            os._exit(1)
    try:
        end = time.monotonic() + seconds
        while not unit.ready():
            assert time.monotonic() < end, f"{unit.name} did not get ready"
            assert os.waitpid(pid, os.WNOHANG)[0] == 0, f"{unit.name} died"
            time.sleep(0.1)
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    break
            except ChildProcessError:
                break
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


@contextmanager
def running_broker(directory: Path, cell: str = "east", hosts: tuple[str, ...] = ("h1", "h2")) -> Iterator[Broker]:
    """A RabbitMQ of a cell with its name service, and an account for each role and host."""
    accounts = [Account(role) for role in Role if role not in EACH]
    accounts += [account for host in hosts for account in (host_account(host), volume_account(host))]
    broker = Broker(
        name="test",
        cell=cell,
        directory=directory,
        port=free_ports(3),
        passwords={account.name: f"p4ssw0rd-{account.name}" for account in accounts},
        cookie="c00kie",
    )
    with ExitStack() as stack:
        for unit in broker.units():
            stack.enter_context(running(unit))
        yield broker


@contextmanager
def running_database(kind: type[DatabaseServer], directory: Path, names: tuple[str, ...]) -> Iterator[DatabaseServer]:
    """A database server with an account and database for each name."""
    server = kind(
        name="test",
        directory=directory,
        port=free_ports(1),
        accounts=[DatabaseAccount(name=name, password="p4ssw0rd") for name in names],
    )
    with running(server.unit()):
        yield server
