"""Each write of the embedded image and network services loses one race, at its commit, and is carried out once: rows
and files are those of the same write that nobody disturbs."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from cellcloud import errors
from cellcloud.db import image_tasks
from cellcloud.db import network_schema as more
from cellcloud.db import top_schema as top
from cellcloud.db.engine import Database
from cellcloud.embedded.image_contents import ImageLimits
from cellcloud.embedded.image_imports import EmbeddedImageImports
from cellcloud.embedded.image_members import EmbeddedImageMembers
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.image import Image, ImageTask
from cellcloud.model.network import Network, NewPort, RequestedNetwork, Subnet

MINE: dict[str, Any] = {"project_id": "p", "is_admin": False}
THEIRS: dict[str, Any] = {"project_id": "q", "is_admin": False}
VIEWER = Viewer(project_id="p")
SERVER = "11111111-0000-4000-8000-000000000001"
SERVICES = (EmbeddedImages, EmbeddedImageImports, EmbeddedImageMembers, EmbeddedNetworks)
_BY_LOT = frozenset({"segmentation_id", "digest", "device_index"})
READS = ("get_", "list_", "check_", "count_", "search_", "open_", "default_", "of")
TABLES = (
    top.images,
    top.image_members,
    top.image_tasks,
    top.networks,
    top.subnets,
    top.ports,
    top.network_usages,
    more.security_groups,
    more.security_group_rules,
)
RANDOM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|fa:16:3e(:[0-9a-f]{2}){3}|\.\d+$")


@dataclass
class World:
    """Both services over a database of their own, with a network, a subnet, a port and two images."""

    path: Path
    writes: int = 0  # transactions that wrote, since the last look
    lost: int = 0  # which of them is undone; 0: none
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.database = Database(f"sqlite:///{self.path}/top.db")
        top.metadata.create_all(self.database.engine)
        event.listen(self.database.engine, "before_cursor_execute", self._mark)
        dialect: Any = self.database.engine.dialect
        dialect.do_commit = self._commit
        self.images = EmbeddedImages(self.database, self.path / "images", max_bytes=64, limits=ImageLimits(count=9))
        self.images.imports.start = lambda _, work: work()
        self.networks = EmbeddedNetworks(self.database)
        wanted = Image(id="", name="i", disk_format="raw", container_format="bare", owner="p", visibility="shared")
        self.queued = self.images.create_image(wanted).id
        self.active = self.images.create_image(wanted).id
        self.images.upload(self.active, [b"before"], **MINE)
        self.images.members.create_member(self.active, "q", **MINE)
        self.network = self.networks.create_network(VIEWER, Network(id="", project_id="p")).id
        self.spare = self.networks.create_network(VIEWER, Network(id="", project_id="p")).id
        wide = Subnet(id="", network_id=self.network, cidr="10.9.0.0/24", project_id="p")
        self.subnet = self.networks.create_subnet(VIEWER, wide).id
        second = Subnet(id="", network_id=self.network, cidr="10.8.0.0/24", project_id="p")
        self.empty = self.networks.create_subnet(VIEWER, second).id
        self.port = self.networks.create_ports(VIEWER, [self.new()])[0].port.id
        self.writes = 0

    def new(self) -> NewPort:
        return NewPort(network_id=self.network, project_id="p", addresses=((self.subnet, None),))

    def ensure(self) -> None:
        asked = [RequestedNetwork(network_id=self.network), RequestedNetwork(port_id=self.port)]
        where = {"host": "h", "zone": "", "hostname": ""}
        self.networks.ensure_ports(server_id=SERVER, project_id="p", requested=asked, **where)

    def release(self) -> None:
        with self.undisturbed():
            self.ensure()
        self.networks.delete_ports(SERVER)

    def attach(self) -> None:
        self.networks.add_port(SERVER, "p", RequestedNetwork(port_id=self.port), zone="")

    def detach(self) -> None:
        with self.undisturbed():
            self.attach()
        self.networks.release_port(SERVER, self.port)

    def readdress(self) -> None:
        port = self.networks.get_port(VIEWER, self.port).port
        self.networks.set_addresses(port, [(self.subnet, "10.9.0.99")])

    def sweep(self) -> None:
        with self.undisturbed(), self.database.write() as c:
            long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
            query = sa.update(top.images).where(top.images.c.id == self.queued)
            c.execute(query.values(status="saving", updated_at=long_ago))
        self.images.sweep()

    def refused_upload(self) -> None:
        with suppress(errors.TooLarge):
            self.images.upload(self.queued, [b"x" * 65], **MINE)

    def imported(self) -> None:
        with self.undisturbed():
            self.images.stage(self.queued, [b"some", b" bytes"], **MINE)
        self.images.imports.begin_import(self.queued, {"method": {"name": "glance-direct"}}, **MINE)

    def sweep_tasks(self) -> None:
        now = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        names = ("owner", "user_id", "request_id")
        task = ImageTask(id=SERVER, image_id=self.active, type="api_image_import", status="pending", input={},
                         created_at=now, updated_at=now, **dict.fromkeys(names, "p"))  # fmt: skip
        with self.undisturbed(), self.database.write() as c:
            image_tasks.insert(c, task)
            c.execute(sa.update(top.image_tasks).values(updated_at=now))
        self.images.imports.sweep_tasks(set())

    def reactivate(self) -> None:
        with self.undisturbed():
            self.images.deactivate(self.active, **MINE)
        self.images.reactivate(self.active, **MINE)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        before, self.lost = self.lost, 0
        yield
        self.lost, self.writes = before, 0

    def look(self) -> list[str]:
        """Rows and files, without what is drawn by lot."""
        with self.database.read() as c:
            rows = [(table.name, *row) for table in TABLES for row in c.execute(sa.select(*_drawn_by_nobody(table)))]
        files = [("file", path.name, path.read_bytes()) for path in (self.path / "images").iterdir()]
        return sorted(_steady(one) for one in (*rows, *files))

    def _mark(self, connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            connection.info["wrote"] = True

    def _commit(self, raw: Any) -> None:
        if raw.info.pop("wrote", False):
            self.writes += 1
            if self.writes == self.lost:
                raise sqlite3.OperationalError("database is locked")
        raw.commit()


def _drawn_by_nobody(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.c if column.name not in _BY_LOT]


def _steady(values: tuple[object, ...]) -> str:
    return str(["now" if isinstance(one, dt.datetime) else RANDOM.sub("#", str(one)) for one in values])


def _renamed(image: Image) -> Image:
    return replace(image, name=f"{image.name}+")


PUTS_BACK = {"upload refused", "sweep", "reactivate"}  # the image is queued as it was
# Each with how many transactions write.
Act = Callable[[World], object]
WRITES: dict[str, tuple[int, Act]] = {
    "create_image": (1, lambda w: w.images.create_image(Image(id="", name="n", owner="p"))),
    "change_image": (1, lambda w: w.images.change_image(w.active, _renamed, **MINE)),
    "delete_image": (1, lambda w: w.images.delete_image(w.active, **MINE)),
    "edit_properties": (1, lambda w: w.images.edit_properties(w.active, lambda _: {"os_distro": "none"}, **MINE)),
    "discard_image": (1, lambda w: w.images.discard_image(w.active)),
    "ensure_image": (1, lambda w: w.images.ensure_image(Image(id=SERVER, name="n", owner="p"))),
    "fill_image": (2, lambda w: w.images.fill_image(w.queued, 10, [b"some", b" bytes"])),
    "upload": (2, lambda w: w.images.upload(w.queued, [b"some", b" bytes"], **MINE)),
    "stage": (2, lambda w: w.images.stage(w.queued, [b"some", b" bytes"], **MINE)),
    "deactivate": (1, lambda w: w.images.deactivate(w.active, **MINE)),
    "reactivate": (1, World.reactivate),
    "create_member": (1, lambda w: w.images.members.create_member(w.queued, "q", **MINE)),
    "update_member": (1, lambda w: w.images.members.update_member(w.active, "q", "accepted", **THEIRS)),
    "delete_member": (1, lambda w: w.images.members.delete_member(w.active, "q", **MINE)),
    "begin_import": (4, World.imported),
    "sweep_tasks": (1, World.sweep_tasks),
    "upload refused": (2, World.refused_upload),
    "sweep": (1, World.sweep),
    "create_network": (1, lambda w: w.networks.create_network(VIEWER, Network(id="", project_id="p"))),
    "create_networks": (1, lambda w: w.networks.create_networks(VIEWER, [Network(id="", project_id="p")] * 2)),
    "create_subnets": (
        1,
        lambda w: w.networks.create_subnets(VIEWER, [(Subnet(id="", network_id=w.spare, cidr="10.7.0.0/24"), True)]),
    ),
    "update_network": (1, lambda w: w.networks.update_network(VIEWER, w.network, {"name": "other"})),
    "delete_network": (1, lambda w: w.networks.delete_network(VIEWER, w.spare)),
    "create_subnet": (
        1,
        lambda w: w.networks.create_subnet(VIEWER, Subnet(id="", network_id=w.spare, cidr="10.7.0.0/24")),
    ),
    "update_subnet": (1, lambda w: w.networks.update_subnet(VIEWER, w.subnet, {"name": "other"})),
    "delete_subnet": (1, lambda w: w.networks.delete_subnet(VIEWER, w.empty)),
    "create_ports": (1, lambda w: w.networks.create_ports(VIEWER, [w.new(), w.new()])),
    "update_port": (1, lambda w: w.networks.update_port(VIEWER, w.port, {"name": "other"})),
    "delete_port": (1, lambda w: w.networks.delete_port(VIEWER, w.port)),
    "ensure_ports": (1, World.ensure),
    "delete_ports": (1, World.release),
    "add_port": (1, World.attach),
    "release_port": (1, World.detach),
    "set_addresses": (1, World.readdress),
    "set_quotas": (1, lambda w: w.networks.set_quotas("p", {"port": 7, "network": 3})),
}


@pytest.mark.parametrize(("name", "lost"), [(name, n + 1) for name, (most, _) in WRITES.items() for n in range(most)])
def test_a_write_that_loses_a_race_is_carried_out_once(tmp_path: Path, name: str, lost: int) -> None:
    count, act = WRITES[name]
    found = []
    for which in (0, lost):
        world = World(_made(tmp_path / str(which)))
        before = world.look()
        world.lost = which
        act(world)
        assert world.writes == count + bool(which)  # so the race was lost, and no other write was added
        found.append(world.look())
        assert (found[-1] == before) == (name in PUTS_BACK)
        world.database.close()
    assert found[0] == found[1]


def test_the_table_has_every_public_write() -> None:
    public = {name for service in SERVICES for name in vars(service) if name[0] != "_"}
    assert {name for name in public if not name.startswith(READS)} == {name.split()[0] for name in WRITES}


def _made(path: Path) -> Path:
    path.mkdir()
    return path
