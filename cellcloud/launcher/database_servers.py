"""Private MariaDB and PostgreSQL servers: on loopback, password required, every commit flushed to disk.

Each unit's process first makes what is missing (data directory, databases, accounts) and then becomes the server,
so that a first start and every later one are the same.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any, ClassVar

from cellcloud import errors
from cellcloud.launcher.certificate_authority import Certificate
from cellcloud.launcher.confinement import Confinement, give_to, write_private
from cellcloud.launcher.process_units import Unit, UnitKind

INITIALISED = "initialised"
MARIADB_SETTINGS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_nopad_bin",  # text compares as in the other two databases
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=128M",
    "--innodb-log-file-size=256M",
    "--innodb-log-buffer-size=4M",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=1M",
    "--performance-schema=off",
    "--max-connections=300",
    "--table-open-cache=400",
)
MARIADB_TLS = (
    "--ssl-ca={place}/authority.pem --ssl-cert={place}/server.pem --ssl-key={place}/server.key"
    " --tls-version=TLSv1.2,TLSv1.3 --require-secure-transport=ON"
)
POSTGRESQL_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "24MB",
    "max_connections": "150",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "max_parallel_workers": "0",
    "jit": "off",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAccount:
    """A database and the user who owns it, of the same name."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseServer(ABC):
    """A server with a directory, a port and accounts; as root it runs as a system user of its own."""

    name: str
    directory: Path
    port: int
    accounts: Sequence[DatabaseAccount]
    tls: Certificate | None = None  # what it proves itself with; None: nothing is encrypted

    user: ClassVar[str]
    home: ClassVar[str]
    dialect: ClassVar[str]
    stop_signal: ClassVar[int]

    def url(self, account: str) -> str:
        """Return the SQLAlchemy URL of one account's database."""
        password = next(each.password for each in self.accounts if each.name == account)
        return f"{self.dialect}://{account}:{password}@127.0.0.1:{self.port}/{account}{self._url_options()}"

    def unit(self) -> Unit:
        """Return the server as the supervisor runs it."""
        return Unit(
            name=self.name,
            kind=UnitKind.DAEMON,
            run=self._run,
            ready=self.answers,
            stop_signal=self.stop_signal,
            grace=20.0,
        )

    def answers(self) -> bool:
        """Return whether every account can log in."""
        where = {"host": "127.0.0.1", "port": self.port, "connect_timeout": 2}
        return all(self._lets_in(each.name, user=each.name, password=each.password, **where) for each in self.accounts)

    @abstractmethod
    def _lets_in(self, database: str, **given: Any) -> bool:
        """Return whether one account can log in."""

    @abstractmethod
    def _url_options(self) -> str:
        """Return how clients verify the server, as the query of a URL."""

    @abstractmethod
    def _initialise(self) -> None:
        """Fill the empty directory."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the server's command line."""

    def _run(self) -> None:
        done = self.directory / INITIALISED
        if not done.exists():
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.mkdir(mode=0o700, parents=True)
            self._initialise()
            write_private(done, "")
        if self.tls:
            self.tls.copy_to(self.directory)
        command = self._confined(self._command())
        os.execvp(command[0], command)  # noqa: S606 - the process is to become this program

    def _place(self) -> str:
        """Return where the server sees its directory."""
        return self.home if os.geteuid() == 0 else str(self.directory)

    def _do(self, argv: list[str], text: str = "") -> None:
        subprocess.run(self._confined(argv), input=text, text=True, check=True, stdout=subprocess.DEVNULL)

    def _confined(self, argv: list[str]) -> list[str]:
        if os.geteuid() != 0:
            return argv
        give_to(self.user, self.directory)
        return Confinement(user=self.user, data=self.directory, home=self.home).wrap(argv)


class MariaDb(DatabaseServer):
    """MariaDB. Accounts and databases are ensured by a file it reads at each start."""

    __slots__ = ()
    user = "mysql"
    home = "/var/lib/mysql"
    dialect = "mysql+mysqldb"
    stop_signal = SIGTERM

    def _lets_in(self, database: str, **given: Any) -> bool:
        import MySQLdb

        if self.tls:
            given |= {"ssl_mode": "VERIFY_IDENTITY", "ssl": {"ca": str(self.tls.authority)}}
        with suppress(MySQLdb.Error), closing(MySQLdb.connect(database=database, **given)):
            return True
        return False

    def _url_options(self) -> str:
        return f"?ssl_mode=VERIFY_IDENTITY&ssl_ca={self.tls.authority_in_url}" if self.tls else ""

    def _initialise(self) -> None:
        data = f"--datadir={self._place()}/data"
        method = "--auth-root-authentication-method=socket"
        options = ["--skip-test-db", self._temporary(), *MARIADB_SETTINGS[:2]]
        self._do(["mariadb-install-db", "--no-defaults", data, method, *options])

    def _temporary(self) -> str:
        """Make a place for temporary tables: in a shared one, any MariaDB that starts removes all it finds."""
        (self.directory / "temporary").mkdir(mode=0o700, exist_ok=True)
        return f"--tmpdir={self._place()}/temporary"

    def _command(self) -> list[str]:
        write_private(self.directory / "accounts.sql", "".join(self._statements()))
        place = self._place()
        return [
            "mariadbd",
            "--no-defaults",
            f"--datadir={place}/data",
            f"--socket={place}/socket",
            f"--pid-file={place}/pid",
            f"--port={self.port}",
            f"--init-file={place}/accounts.sql",
            self._temporary(),
            *MARIADB_SETTINGS,
            *(MARIADB_TLS.format(place=place).split() if self.tls else ()),
        ]

    def _statements(self) -> Iterator[str]:
        for account in self.accounts:
            digest = hashlib.sha1(hashlib.sha1(account.password.encode()).digest()).hexdigest()  # noqa: S324
            who = f"'{account.name}'@'127.0.0.1'"
            yield f"CREATE DATABASE IF NOT EXISTS `{account.name}`;\n"
            yield f"CREATE USER IF NOT EXISTS {who};\n"
            yield f"ALTER USER {who} IDENTIFIED BY PASSWORD '*{digest.upper()}';\n"
            yield f"GRANT ALL ON `{account.name}`.* TO {who};\n"


class PostgreSql(DatabaseServer):
    """PostgreSQL. Accounts and databases are made once, in its single-user mode."""

    __slots__ = ()
    user = "postgres"
    home = "/var/lib/postgresql"
    dialect = "postgresql+psycopg"
    stop_signal = SIGINT  # ends sessions; SIGTERM would wait for clients to leave

    def _lets_in(self, database: str, **given: Any) -> bool:
        import psycopg

        if self.tls:
            given |= {"sslmode": "verify-full", "sslrootcert": str(self.tls.authority)}
        with suppress(psycopg.Error), closing(psycopg.connect(dbname=database, **given)):
            return True
        return False

    def _url_options(self) -> str:
        return f"?sslmode=verify-full&sslrootcert={self.tls.authority_in_url}" if self.tls else ""

    def _initialise(self) -> None:
        place = self._place()
        key = self.directory / "password"
        write_private(key, secrets.token_hex(24))
        method = ["--auth=scram-sha-256", "--username=postgres", f"--pwfile={place}/password"]
        plain = ["--no-locale", "--encoding=UTF8", "--no-sync"]
        self._do([_postgresql("initdb"), f"--pgdata={place}/data", *method, *plain])
        key.unlink()
        self._do([_postgresql("postgres"), "--single", "-D", f"{place}/data", "postgres"], self._statements())

    def _statements(self) -> str:
        return "".join(
            f"CREATE ROLE {each.name} LOGIN PASSWORD '{each.password}';\n"
            f"CREATE DATABASE {each.name} OWNER {each.name};\n"
            f"REVOKE CONNECT ON DATABASE {each.name} FROM PUBLIC;\n"
            for each in self.accounts
        )

    def _command(self) -> list[str]:
        place = self._place()
        options = {**POSTGRESQL_SETTINGS, "port": str(self.port)}
        if self.tls:
            options |= {"ssl": "on", "ssl_cert_file": f"{place}/server.pem", "ssl_key_file": f"{place}/server.key"}
        kind = "hostssl" if self.tls else "host"
        write_private(self.directory / "data" / "pg_hba.conf", f"{kind} all all 127.0.0.1/32 scram-sha-256\n")
        settings = [f"--{name}={value}" for name, value in options.items()]
        return [_postgresql("postgres"), "-D", f"{place}/data", *settings]


def _postgresql(program: str) -> str:
    """Return the newest installed version's program; Debian keeps them off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if not found:
        raise errors.Misconfigured(f"PostgreSQL is not installed: there is no {program}.")
    return str(found[-1])
