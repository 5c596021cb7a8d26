"""From a handful of choices to a plan: directories, ports, secrets, option files, and the units to run.

Each pair of profile and driver keeps a world of its own below the state directory, so that trying another one
never mixes servers and guests that do not belong together.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from socket import AF_INET

import psutil

from cellcloud import config, errors
from cellcloud.launcher.certificate_authority import Authority, Certificate
from cellcloud.launcher.confinement import write_private
from cellcloud.launcher.database_servers import DatabaseAccount, MariaDb, PostgreSql
from cellcloud.launcher.libvirt_nodes import NodeConfig
from cellcloud.launcher.node_networks import INNER_BRIDGE
from cellcloud.launcher.rabbitmq_servers import Broker, is_listening
from cellcloud.model.metadata_signature import node_key
from cellcloud.rpc.accounts import EACH, Account, Role, host_account, volume_account

Options = dict[str, dict[str, str]]  # group -> option -> value

DEFAULT_PORT = 8774
ANY = "0.0.0.0"  # noqa: S104 -- what an operator may choose
TUNNELS, EXTERNAL = 100, 200  # third numbers of addresses: a cell's own is its number
MARIADB, POSTGRESQL = "mariadb", "postgresql"


class Profile(StrEnum):
    """How many processes serve."""

    EMBEDDED = "embedded"
    SERVICES = "services"


class DriverChoice(StrEnum):
    """What runs the guests."""

    LIBVIRT = "libvirt"
    FAKE = "fake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What an operator may choose. ``port`` is the API's; every other port keeps its distance from it.

    ``management``: the first two numbers of all addresses that hosts have, and of those of a new external network; one
    cloud of a machine each.
    ``cloud_name``: the cloud's name in the clouds file.
    """

    state: Path
    cache: Path
    profile: Profile = Profile.EMBEDDED
    driver: DriverChoice = DriverChoice.LIBVIRT
    hosts: int = 1
    port: int = DEFAULT_PORT
    bind_host: str = "127.0.0.1"
    virt_type: str = "auto"
    management: str = "auto"
    clouds_file: Path = Path("clouds.yaml")
    cloud_name: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlace:
    """A cell's name, its number from one, and which database server keeps its records (services profile)."""

    name: str
    number: int
    database: str


CELLS = (
    CellPlace(name="east", number=1, database=MARIADB),
    CellPlace(name="west", number=2, database=POSTGRESQL),
)


@dataclass(frozen=True)
class Layout:
    """Where everything of one cloud is: paths, addresses, URLs. Secrets are made when first asked for."""

    choices: Choices

    @property
    def run(self) -> Path:
        return self.choices.state / "run"

    @property
    def logs(self) -> Path:
        return self.choices.state / "log"

    @cached_property
    def world(self) -> Path:
        """The directory of this profile and driver: all that must survive a restart."""
        return self.choices.state / f"{self.choices.profile}-{self.choices.driver}"

    @property
    def images(self) -> Path:
        """Where the embedded image service keeps its files."""
        return self.world / "images"

    @property
    def in_processes(self) -> bool:
        return self.choices.profile is Profile.SERVICES

    @property
    def real_guests(self) -> bool:
        return self.choices.driver is DriverChoice.LIBVIRT

    @property
    def public_url(self) -> str:
        host = "127.0.0.1" if self.choices.bind_host == ANY else self.choices.bind_host
        return f"{'https' if self.in_processes else 'http'}://{host}:{self.choices.port}"

    @property
    def cafile(self) -> str:
        """What clients verify the API by; "": there is nothing to verify."""
        return str(self.authority.certificate) if self.in_processes else ""

    @cached_property
    def prefix(self) -> str:
        """Begins the names of this cloud's network devices."""
        return "cc" + hashlib.sha256(str(self.world).encode()).hexdigest()[:4]

    def secret(self, name: str) -> str:
        """Return a secret of this cloud, made at its first use; hexadecimal, 192 bits."""
        path = self.world / "secrets" / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, secrets.token_hex(24))
        return path.read_text()

    def gateway(self, cell: CellPlace) -> str:
        """Return the cell's own address on its management network."""
        return f"{self.choices.management}.{cell.number}.1" if self.real_guests else "127.0.0.1"

    def node(self, cell: CellPlace, index: int, virt_type: str = "qemu") -> NodeConfig:
        """Return the cell's node number ``index``, from one."""
        return NodeConfig(
            name=f"{cell.name}-{index}",
            state_dir=self.world,
            prefix=self.prefix,
            bridge=f"{self.prefix}-{cell.name}",
            ip=f"{self.choices.management}.{cell.number}.{10 + index}",
            gateway_ip=self.gateway(cell),
            virt_type=virt_type,
            tunnel_bridge=f"{self.prefix}-tunnel",
            tunnel_address=f"{self.choices.management}.{TUNNELS + cell.number}.{10 + index}/22",
            external_bridge=self.external_bridge,
        )

    @property
    def external_bridge(self) -> str:
        """Where the machine reaches floating IPs."""
        return f"{self.prefix}-ext"

    @property
    def external_cidr(self) -> str:
        """The external network's range, where it is new."""
        return f"{self.choices.management}.{EXTERNAL}.0/24"

    def nodes(self, cell: CellPlace, virt_type: str = "qemu") -> list[NodeConfig]:
        """Every node of the cell; none with the fake driver."""
        count = self.choices.hosts if self.real_guests else 0
        return [self.node(cell, index, virt_type) for index in range(1, count + 1)]

    def broker(self, cell: CellPlace) -> Broker:
        name = f"{cell.name}.broker"
        return Broker(
            name=name,
            cell=cell.name,
            directory=self.world / "cells" / cell.name / "broker",
            port=self.choices.port + 20 + 3 * (cell.number - 1),
            passwords={account.name: self.secret(f"{name}.{account.name}") for account in self.accounts(cell)},
            cookie=self.secret(f"{name}.cookie"),
            tls=self._certificate(name),
        )

    @cached_property
    def authority(self) -> Authority:
        """What this cloud's own servers are verified by (services profile)."""
        return Authority(self.world / "tls")

    def _certificate(self, name: str, *addresses: str) -> Certificate:
        return self.authority.issue(name, ["127.0.0.1", "localhost", *addresses])

    def accounts(self, cell: CellPlace) -> list[Account]:
        """Those of the cell's queue: one a role, and one a compute service and a volume service."""
        roles = [Account(role) for role in Role if role not in EACH]
        return [*roles, volume_account(cell.name), *(host_account(host) for host in self.compute_hosts(cell))]

    @property
    def mariadb(self) -> MariaDb:
        accounts = ["top", *(cell.name for cell in CELLS if cell.database == MARIADB)]
        return MariaDb(
            name=MARIADB,
            directory=self.world / MARIADB,
            port=self.choices.port + 10,
            accounts=[DatabaseAccount(name=name, password=self.secret(f"{MARIADB}.{name}")) for name in accounts],
            tls=self._certificate(MARIADB),
        )

    @property
    def postgresql(self) -> PostgreSql:
        accounts = [cell.name for cell in CELLS if cell.database == POSTGRESQL]
        return PostgreSql(
            name=POSTGRESQL,
            directory=self.world / POSTGRESQL,
            port=self.choices.port + 11,
            accounts=[DatabaseAccount(name=name, password=self.secret(f"{POSTGRESQL}.{name}")) for name in accounts],
            tls=self._certificate(POSTGRESQL),
        )

    def cell_database_url(self, cell: CellPlace) -> str:
        if not self.in_processes:
            return f"sqlite:///{self.world}/cells/{cell.name}/cell.sqlite"
        server = self.mariadb if cell.database == MARIADB else self.postgresql
        return server.url(cell.name)

    @property
    def top_database_url(self) -> str:
        return self.mariadb.url("top") if self.in_processes else f"sqlite:///{self.world}/top/top.sqlite"

    def transport_url(self, cell: CellPlace, account: Account) -> str:
        return self.broker(cell).url(account.name) if self.in_processes else f"kombu+memory://{account.name}@memory"

    @property
    def top_file(self) -> Path:
        return self.world / "top" / "cellcloud.conf"

    def cell_file(self, cell: CellPlace) -> Path:
        """Return the conductors' file, which is the operators' too."""
        return self.world / "cells" / cell.name / "cellcloud.conf"

    def role_file(self, cell: CellPlace, role: Role) -> Path:
        """Return the file of one of the cell's services."""
        return self.cell_file(cell) if role is Role.CONDUCTOR else self.cell_file(cell).with_name(f"{role}.conf")

    @property
    def virt_file(self) -> Path:
        """Holds how guests run: qemu or kvm."""
        return self.world / "virt_type"

    def host_file(self, cell: CellPlace, host: str) -> Path:
        return self.world / "cells" / cell.name / "hosts" / f"{host}.conf"

    def write_option_files(self, virt_type: str = "qemu") -> None:
        """Write the top cell's file, and one for each kind of service of a cell and for each host. Each holds the
        secrets of that one alone; a database's URL is only in the conductors'."""
        write_options(self.top_file, self._top_options())
        for cell in CELLS:
            options = self._cell_options(cell, virt_type)
            for role in (Role.CONDUCTOR, Role.SCHEDULER, Role.CONSOLEAUTH, Role.METADATA):
                mine = options | {"cell": options["cell"] | {"transport_url": self.transport_url(cell, Account(role))}}
                if role is Role.CONDUCTOR:
                    mine["cell"]["connection"] = self.cell_database_url(cell)
                    mine |= self._adapter_options()
                if role is Role.METADATA:
                    mine["metadata"] = options["metadata"] | {"secret": self.secret(f"{cell.name}.metadata")}
                write_options(self.role_file(cell, role), mine)
            write_options(self.role_file(cell, Role.VOLUME), self._volume_options(cell, options))
            for host in self.compute_hosts(cell):
                write_options(self.host_file(cell, host), self._host_options(cell, host, options))

    def point_here(self) -> None:
        """Let ``top`` and ``cells`` in the state directory lead to this world: the one that runs."""
        for name in ("top", "cells"):
            link = self.choices.state / name
            link.unlink(missing_ok=True)
            link.symlink_to(self.world / name)

    def compute_hosts(self, cell: CellPlace) -> list[str]:
        """Return the names of the cell's compute services: one a node, or one for all its fake hosts."""
        return [node.name for node in self.nodes(cell)] or [cell.name]

    def _top_options(self) -> Options:
        cells = ",".join(f"{cell.name}:{self.transport_url(cell, Account(Role.TOP))}" for cell in CELLS)
        return {
            "DEFAULT": {"state_dir": str(self.world), "host": "top"},
            "top": {
                "connection": self.top_database_url,
                "bind_host": self.choices.bind_host,
                "bind_port": str(self.choices.port),
                "public_url": self.public_url,
                "workers": str(max(2, os.cpu_count() or 1)),
                "cells": cells,
                "placements_key": self.secret("top.placements"),
                **self._api_tls(),
            },
            # a port for each server that a project may have
            "network": {"quota_port": str(config.load().quota.instances)},
        }

    def _api_tls(self) -> dict[str, str]:
        if not self.in_processes:
            return {}
        addresses = [
            each.address for all_of in psutil.net_if_addrs().values() for each in all_of if each.family == AF_INET
        ]
        made = self._certificate("api", self.choices.bind_host, *(addresses if self.choices.bind_host == ANY else ()))
        return {"tls_certificate": str(made.certificate), "tls_key": str(made.key)}

    def _cell_options(self, cell: CellPlace, virt_type: str) -> Options:
        """Return what all of a cell's files say, without any secret."""
        console = 6080 + self.choices.port - DEFAULT_PORT + cell.number - 1
        metadata = 8775 if self.real_guests else self.choices.port + 40 + cell.number
        return {
            "DEFAULT": {"state_dir": str(self.world), "host": cell.name},
            "top": {"public_url": self.public_url},
            "cell": {
                "name": cell.name,
            },
            "compute": {
                "driver": self.choices.driver,
                "fake_hosts": str(self.choices.hosts),
                "virt_type": virt_type,
                "external_bridge": INNER_BRIDGE if self.real_guests else "",
            },
            "console": {
                "bind_host": self.choices.bind_host,
                "bind_port": str(console),
                "serial_enabled": "true",
            },
            "metadata": {
                "bind_host": self.gateway(cell),
                "bind_port": str(metadata),
            },
        }

    def _volume_options(self, cell: CellPlace, options: Options) -> Options:
        account = volume_account(cell.name)
        return {
            **options,
            **self._adapter_options(),
            "cell": options["cell"] | {"transport_url": self.transport_url(cell, account)},
            "volume": {"driver": "nbd" if self.real_guests else "fake"},
        }

    def _host_options(self, cell: CellPlace, host: str, options: Options) -> Options:
        key = node_key(self.secret(f"{cell.name}.metadata").encode(), host).hex()
        return {
            **options,
            **self._adapter_options(),
            "DEFAULT": options["DEFAULT"] | {"host": host},
            "cell": options["cell"] | {"transport_url": self.transport_url(cell, host_account(host))},
            "metadata": options["metadata"] | {"node_key": key},
        }

    def _adapter_options(self) -> Options:
        """Return how a cell in processes of its own reaches images and networks: as it would reach anybody's."""
        if not self.in_processes:
            return {}
        from cellcloud.embedded.identity import SERVICE_PROJECT, SERVICE_USER

        login = {
            "adapter": "keystone",
            "auth_url": f"{self.public_url}/identity/v3",
            "cafile": self.cafile,
            "username": SERVICE_USER,
            "password": self.secret("user.service"),
            "project_name": SERVICE_PROJECT,
        }
        adapters = {
            "image_adapter": "glance",
            "network_adapter": "neutron",
        }
        return {"identity": login, "adapters": adapters}


def write_options(path: Path, options: Mapping[str, Mapping[str, str]]) -> None:
    """Write an option file only its owner can read; ``$`` is escaped as oslo.config wants it."""
    parser = configparser.RawConfigParser()
    parser.read_dict({group: {n: v.replace("$", "$$") for n, v in each.items()} for group, each in options.items()})
    text = io.StringIO()
    parser.write(text)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, text.getvalue())


def check(choices: Choices) -> None:
    """Refuse what cannot work. Raises Misconfigured."""
    if choices.driver is DriverChoice.LIBVIRT and os.geteuid() != 0:
        raise errors.Misconfigured("Real guests need root; choose --driver fake to do without.")
    if not 1 <= choices.hosts <= (200 if choices.driver is DriverChoice.LIBVIRT else 10000):
        raise errors.Misconfigured("--hosts must be from 1 to 200 (libvirt) or 10000 (fake).")
    if not 1024 <= choices.port <= 60000:
        raise errors.Misconfigured("--port must be from 1024 to 60000.")
    if choices.management != "auto" and not _is_network(choices.management):
        raise errors.Misconfigured("--management must be the first two numbers of an IPv4 address, as 10.77.")
    if is_listening(choices.port):
        raise errors.Misconfigured(f"Somebody listens on port {choices.port} already; choose another --port.")


def _is_network(half: str) -> bool:
    try:
        return str(ipaddress.IPv4Network(f"{half}.0.0/16")) == f"{half}.0.0/16"
    except ValueError:
        return False


def living_nodes(state: Path) -> Iterator[NodeConfig]:
    """Every node on record in every world below a state directory."""
    for record in sorted(state.glob("*/nodes/*/node.json")):
        profile, _, driver = record.parents[2].name.partition("-")
        layout = Layout(Choices(state=state, cache=state, profile=Profile(profile), driver=DriverChoice(driver)))
        cell_name, _, index = record.parent.name.rpartition("-")
        yield layout.node(next(cell for cell in CELLS if cell.name == cell_name), int(index))


def settled_management(choices: Choices) -> str:
    """Return the first half of the management networks' addresses: as chosen, as before, or one free on this machine.

    Clouds begin to look at different numbers, so that two which start at the same time do not find the same one.
    """
    if choices.management != "auto":
        return choices.management
    layout = Layout(choices)
    known = layout.world / "management"
    taken = {
        address.address.rpartition(".")[0].rpartition(".")[0]
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if not name.startswith(layout.prefix)
    }
    if not known.exists() or known.read_text() in taken:
        first = int(layout.prefix.removeprefix("cc"), 16)
        halves = (f"10.{101 + (first + step) % 150}" for step in range(150))
        known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(known, next(half for half in halves if half not in taken))
    return known.read_text()
