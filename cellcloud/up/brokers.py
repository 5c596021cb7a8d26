"""One private RabbitMQ for each cell, on loopback, with an epmd, a cookie and a user of its own.

Everything it needs lies in one directory. Its only user and virtual host come from its configuration file at
the first boot, so the well-known ``guest`` never exists and no control command has to be waited for.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cellcloud.up.confinement import Confinement, give_to, write_private
from cellcloud.up.units import Kind, Unit

HOME = "/var/lib/rabbitmq"
INSTALLED = Path("/usr/lib/rabbitmq/lib")
SERVER = ["erl", "-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "+W", "w", "+S", "1:1", "+IOt", "1"]
SERVER += ["+sbwt", "very_short", "+sbwtdcpu", "none", "+sbwtdio", "very_short", "-syslog", "logger", "[]"]
SERVER += ["-syslog", "syslog_error_logger", "false", "-kernel", "prevent_overlapping_partitions", "false"]
CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_vhost = {vhost}
default_user = {user}
default_pass = {password}
default_user_tags.administrator = false
vm_memory_high_watermark.absolute = 256MB
disk_free_limit.absolute = 50MB
log.file = false
log.console = true
log.console.level = warning
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """``port`` is AMQP's; the next two are taken by Erlang's name service and its distribution."""

    name: str
    directory: Path
    port: int
    user: str
    password: str = field(repr=False)
    cookie: str = field(repr=False)
    vhost: str = "cell"

    @property
    def url(self) -> str:
        """The transport URL of the cell's services."""
        return f"rabbit://{self.user}:{self.password}@127.0.0.1:{self.port}/{self.vhost}"

    def units(self) -> list[Unit]:
        """The name service, and the broker behind it."""
        names = Unit(
            name=f"{self.name}.epmd",
            kind=Kind.DAEMON,
            run=self._run_name_service,
            ready=lambda: is_listening(self.port + 1),
            grace=1.0,
        )
        broker = Unit(
            name=self.name,
            kind=Kind.DAEMON,
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
        settings = CONFIGURATION.format(port=self.port, vhost=self.vhost, user=self.user, password=self.password)
        for name, text, mode in (
            ("rabbitmq.conf", settings, 0o600),
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

    def _execute(self, argv: list[str]) -> None:
        """Replace this process. Its data is found at the user's home when confined, else where it lies."""
        confined = os.geteuid() == 0
        home = HOME if confined else str(self.directory)
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


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on loopback at that port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def needed_libraries(application: str) -> set[Path]:
    """The installed directories of a broker application and all it needs.

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
