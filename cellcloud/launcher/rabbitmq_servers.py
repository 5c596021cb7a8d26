"""One private RabbitMQ for each cell, on loopback, with an epmd, a cookie and accounts of its own.

Everything it needs lies in one directory. Its virtual host, its accounts and what each of them may do come from a file
of definitions at each boot, so the well-known ``guest`` never exists and no control command has to be waited for. It
begins empty each time: what must survive lies in databases, and queues are made by those who receive from them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cellcloud.launcher.certificate_authority import Certificate
from cellcloud.launcher.confinement import Confinement, give_to, write_private
from cellcloud.launcher.process_units import Unit, UnitKind
from cellcloud.model.metadata_signature import node_key
from cellcloud.rpc.accounts import EACH, Account, Role, account_of, host_account, volume_account

HOME = "/var/lib/rabbitmq"
VHOST = "cell"
INSTALLED = Path("/usr/lib/rabbitmq/lib")
SERVER = ["erl", "-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "+W", "w", "+S", "1:1", "+IOt", "1"]
SERVER += ["+sbwt", "very_short", "+sbwtdcpu", "none", "+sbwtdio", "very_short", "-syslog", "logger", "[]"]
SERVER += ["-syslog", "syslog_error_logger", "false", "-kernel", "prevent_overlapping_partitions", "false"]
PLAIN = "listeners.tcp.1 = 127.0.0.1:{port}\n"
ENCRYPTED = """\
listeners.tcp = none
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {home}/authority.pem
ssl_options.certfile = {home}/server.pem
ssl_options.keyfile = {home}/server.key
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
"""
CONFIGURATION = """\
load_definitions = {home}/definitions.json
vm_memory_high_watermark.absolute = 256MB
disk_free_limit.absolute = 50MB
log.file = false
log.console = true
log.console.level = warning
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """``port`` is AMQP's; the next two are taken by Erlang's name service and its distribution. ``passwords``: of each
    account, by its name. ``tls``: what it proves itself with; None: nothing is encrypted."""

    name: str
    cell: str
    directory: Path
    port: int
    passwords: Mapping[str, str] = field(repr=False)
    cookie: str = field(repr=False)
    tls: Certificate | None = None

    def url(self, account: str) -> str:
        """Return the transport URL of one account."""
        options = f"?ssl=1&ssl_ca_file={self.tls.authority_in_url}" if self.tls else ""
        return f"rabbit://{account}:{self.passwords[account]}@127.0.0.1:{self.port}/{VHOST}{options}"

    def units(self) -> list[Unit]:
        """Return the name service, and the broker behind it."""
        names = Unit(
            name=f"{self.name}.epmd",
            kind=UnitKind.DAEMON,
            run=self._run_name_service,
            ready=lambda: is_listening(self.port + 1),
            grace=1.0,
        )
        broker = Unit(
            name=self.name,
            kind=UnitKind.DAEMON,
            run=self._run_broker,
            ready=lambda: is_listening(self.port),
            after=(names.name,),
            grace=20.0,
        )
        return [names, broker]

    def _run_name_service(self) -> None:
        self._prepare()
        self._execute(["epmd", "-address", "127.0.0.1", "-port", str(self.port + 1)])

    def _run_broker(self) -> None:
        self._prepare()
        self._execute(SERVER)

    def _prepare(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self.directory / "mnesia", ignore_errors=True)
        if self.tls:
            self.tls.copy_to(self.directory)
        settings = ((ENCRYPTED if self.tls else PLAIN) + CONFIGURATION).format(port=self.port, home=self._home)
        for name, text, mode in (
            ("rabbitmq.conf", settings, 0o600),
            ("definitions.json", json.dumps(definitions(self.cell, self.passwords)), 0o600),
            (".erlang.cookie", self.cookie, 0o400),
            ("enabled_plugins", "[].\n", 0o600),
            ("rabbitmq-env.conf", "", 0o600),
        ):
            write_private(self.directory / name, text, mode)
        libraries = self.directory / "lib"
        libraries.mkdir(exist_ok=True)
        for path in needed_libraries("rabbit"):
            with suppress(FileExistsError):
                (libraries / path.name).symlink_to(path)
        if os.geteuid() == 0:
            give_to("rabbitmq", self.directory)

    @property
    def _home(self) -> str:
        """Where the broker sees its directory."""
        return HOME if os.geteuid() == 0 else str(self.directory)

    def _execute(self, argv: list[str]) -> None:
        """Replace this process. Its data is found at the user's home when confined, else where it lies."""
        confined = os.geteuid() == 0
        home = self._home
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": home,
            "ERL_EPMD_PORT": str(self.port + 1),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_AFLAGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": f"{self.name.replace('.', '-')}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.port + 2),
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/rabbitmq-env.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_PLUGINS_DIR": f"{home}/lib",
            "ERL_LIBS": f"{home}/lib",
        }
        command = Confinement(user="rabbitmq", data=self.directory, home=HOME).wrap(argv) if confined else argv
        os.execvpe(command[0], command, environment)  # noqa: S606 - the process is to become this program


def definitions(cell: str, passwords: Mapping[str, str]) -> dict[str, Any]:
    """RabbitMQ's definitions of a cell's virtual host, of its accounts and of what each may do."""
    from cellcloud.rpc.rights import rights_of

    accounts = [account for name in passwords if (account := account_of(name)) is not None]
    return {
        "vhosts": [{"name": VHOST}],
        "users": [
            {
                "name": account.name,
                "password_hash": _hashed(passwords[account.name]),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "",
            }
            for account in accounts
        ],
        "permissions": [
            {"user": account.name, "vhost": VHOST}
            | {right: rf"^({pattern})\z" for right, pattern in asdict(rights_of(account, cell)).items()}
            for account in accounts
        ],
    }


def keep_accounts(cell: str, hosts: Iterable[str], kept: Path) -> dict[str, Any]:
    """Return the definitions for a broker of somebody else, with a password for each account and a key for each host's
    metadata; those are added to a file. Raises Misconfigured for a name that cannot be a cell's or a host's."""
    known: dict[str, dict[str, str]] = json.loads(kept.read_text()) if kept.exists() else {}
    found = [Account(role) for role in Role if role not in EACH]
    found += [account for host in hosts for account in (host_account(host), volume_account(host))]
    passwords, metadata = known.setdefault("passwords", {}), known.setdefault("metadata", {})
    secret = metadata.setdefault("secret", secrets.token_hex(24))
    for account in found:
        passwords.setdefault(account.name, secrets.token_hex(24))
        if account.role is Role.HOST:
            metadata[f"node_key of {account.host}"] = node_key(secret.encode(), account.host).hex()
    made = definitions(cell, passwords)
    write_private(kept, json.dumps(known, indent=1))
    return made


def _hashed(password: str) -> str:
    """As RabbitMQ keeps passwords: four bytes of salt, and their SHA-256 with the password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def is_listening(port: int) -> bool:
    """Return whether somebody accepts connections on loopback at that port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def needed_libraries(application: str) -> set[Path]:
    """Return the installed directories of a broker application and all it needs.

    Erlang searches every library directory for every module it loads; with only these on its path, instead of all
    the plugins a distribution ships, a broker starts in a fraction of the time.
    """
    found: dict[str, Path] = {}
    waiting = {application}
    while waiting:
        name = waiting.pop()
        for description in INSTALLED.glob(f"*/plugins/{name}-*/ebin/{name}.app"):
            found[name] = description.parents[1]
            needs = re.search(r"\{applications,\s*\[([^\]]*)\]", description.read_text())
            waiting |= set(re.findall(r"\w+", needs.group(1) if needs else "")) - set(found)
    return set(found.values())
