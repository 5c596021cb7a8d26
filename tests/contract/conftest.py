"""One fixture for each kind of database and queue; the suites run on all of them."""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cell.compute.driver import Driver
from cellcloud.db import cell_schema, migrate, top_schema
from cellcloud.db.engine import Database
from cellcloud.launcher.database_servers import DatabaseServer, MariaDb, PostgreSql
from cellcloud.launcher.rabbitmq_servers import Broker
from cellcloud.rpc.transport import Transport
from tests.contract.driver_rigs import FakeRig, LibvirtRig, OneImage, Rig
from tests.daemons import running_broker, running_database
from tests.empty_databases import Tree, make_empty
from tests.libvirt_node import ON_DISK, LibvirtNode


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    with running_database(MariaDb, tmp_path_factory.mktemp("mariadb") / "data", ("top", "cell")) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    with running_database(PostgreSql, tmp_path_factory.mktemp("postgresql") / "data", ("top", "cell")) as server:
        yield server


@pytest.fixture(scope="session")
def migrated() -> set[str]:
    """URLs of the databases that have their tables."""
    return set()


@pytest.fixture
def open_empty(migrated: set[str]) -> Callable[[str, Tree], Database]:
    """Opens a database without a row; the first time it gets its tables."""

    def open_empty(url: str, tree: Tree) -> Database:
        known = sa.make_url(url)
        if known.get_backend_name() == "sqlite":
            database = make_empty(Path(known.database or ""), tree)
        else:
            database = Database(url)
            if url not in migrated:
                migrate.upgrade(database, tree)
                migrated.add(url)
        metadata = top_schema.metadata if tree == "top" else cell_schema.metadata
        with database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
        return database

    return open_empty


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of each kind; the server's one is shared by the whole run."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cell.db"
    server: DatabaseServer = request.getfixturevalue(request.param)
    return server.url("cell")


@pytest.fixture
def cell_database(database_url: str, open_empty: Callable[[str, Tree], Database]) -> Iterator[Database]:
    """An empty cell database of each kind."""
    database = open_empty(database_url, "cell")
    yield database
    database.close()


@pytest.fixture
def top_database(database_url: str, open_empty: Callable[[str, Tree], Database]) -> Iterator[Database]:
    """An empty top database of each kind."""
    database = open_empty(database_url.replace("/cell", "/top"), "top")
    yield database
    database.close()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("rabbitmq") / "data") as broker:
        yield broker


@pytest.fixture(scope="module", params=["memory", "rabbitmq"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Transport]]:
    """A queue of each kind, as the account named."""
    made: dict[str, Transport] = {}

    def connect(account: str) -> Transport:
        if account not in made:
            url = f"kombu+memory://{account}@memory"
            if request.param == "rabbitmq":
                url = request.getfixturevalue("rabbitmq").url(account)
            made[account] = Transport("east", url)
        return made[account]

    yield connect
    for transport in made.values():
        transport.close()


@pytest.fixture
def transport(connect: Callable[[str], Transport]) -> Transport:
    """A queue of each kind, as a conductor."""
    return connect("conductor")


# ---- drivers ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def node() -> Iterator[LibvirtNode]:
    node = LibvirtNode()
    yield node
    node.close()


@pytest.fixture
def images(tmp_path: Path) -> Iterator[OneImage]:
    path = tmp_path / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "64M"], check=True)
    with tempfile.NamedTemporaryFile(dir=ON_DISK, prefix="cellcloud-volume-") as volume:
        volume.truncate(8 << 20)
        yield OneImage(path, Path(volume.name))


@pytest.fixture(params=["fake", "libvirt"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, images: OneImage) -> Iterator[Rig]:
    if request.param == "fake":
        rig: FakeRig | LibvirtRig = FakeRig(tmp_path, images)
    else:
        rig = LibvirtRig(request.getfixturevalue("node"), images)
    yield rig
    rig.close()


@pytest.fixture
def driver(rig: Rig) -> Driver:
    return rig.open()


@pytest.fixture
def server_id() -> str:
    return str(uuid.uuid4())
