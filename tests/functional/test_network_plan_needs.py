"""Which plans a cell needs: what is read again by what changed is what reading all anew finds, whatever happens."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cellcloud.db import network_hosts, security_groups
from cellcloud.db.engine import transact
from cellcloud.db.network_schema import router_hosts
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import NewPort, RequestedNetwork
from cellcloud.model.network_plan import HostEndpoint
from cellcloud.model.router import VirtualRouter
from cellcloud.model.security_group import SecurityGroup, SecurityGroupRule
from tests.embedded_cloud import EmbeddedCloud, make_cloud, make_top_database
from tests.statements import counted
from top_api.network_plan_needs import PlanNeeds
from top_api.network_plans import Needs, read_stamp

CELLS = {"east": ("e1", "e2", "e3"), "west": ("w1",)}
HOSTS = [host for names in CELLS.values() for host in names]
ADMIN = Viewer(project_id="", is_admin=True)
STEPS = 40


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EmbeddedCloud]:
    database = make_top_database(tmp_path / "top.db")
    made = make_cloud(database, tmp_path)
    for cell, names in CELLS.items():
        note_hosts(made, cell, names)
    yield made
    database.close()


def note_hosts(cloud: EmbeddedCloud, cell: str, names: tuple[str, ...]) -> None:
    told = [HostEndpoint(host=name, address=f"10.0.0.{HOSTS.index(name) + 1}") for name in names]
    transact(cloud.database, lambda connection: network_hosts.note_endpoints(connection, cell, told))


def read(cloud: EmbeddedCloud, needs: PlanNeeds) -> Needs:
    with cloud.database.read_as_one() as connection:
        return needs.read(connection, read_stamp(connection))


class Changes:
    """What may happen to networks, each at random."""

    def __init__(self, cloud: EmbeddedCloud, chance: random.Random) -> None:
        self.cloud, self.chance = cloud, chance
        self.project = cloud.project("demo")
        self.networks = [cloud.network(self.project, f"10.{number}.0.0/24") for number in range(4)]
        self.groups = [self._make_group(str(number)) for number in range(4)]
        self.servers: list[str] = []
        self.ports: list[str] = []
        self.rules: list[SecurityGroupRule] = []
        self.routers = [
            cloud.networks.routers.create_router(
                ADMIN, VirtualRouter(id="", project_id=self.project, name=name), None
            ).id
            for name in ("r1", "r2")
        ]
        self.joined: list[tuple[str, str]] = []

    def _make_group(self, name: str) -> str:
        group = SecurityGroup(id=str(uuid.uuid4()), name=name, project_id=self.project)
        return self.cloud.networks.security_groups.create_groups([group])[0].id

    def boot(self) -> None:
        server = str(uuid.uuid4())
        self.cloud.networks.ensure_ports(
            server_id=server,
            project_id=self.project,
            host=self.chance.choice(HOSTS),
            zone="nova",
            hostname="h",
            requested=[RequestedNetwork(network_id=self.chance.choice(self.networks).id)],
        )
        self.servers.append(server)

    def delete(self) -> None:
        if self.servers:
            self.cloud.networks.delete_ports(self.servers.pop(self.chance.randrange(len(self.servers))))

    def move(self) -> None:
        """A server goes to another host."""
        if self.servers:
            (port,) = self.cloud.networks.list_ports(self.chance.choice(self.servers))
            self.cloud.networks.update_port(ADMIN, port.id, {"host_id": self.chance.choice(HOSTS)})

    def regroup(self) -> None:
        if self.servers:
            (port,) = self.cloud.networks.list_ports(self.chance.choice(self.servers))
            groups = tuple(self.chance.sample(self.groups, self.chance.randrange(3)))
            self.cloud.networks.update_port(ADMIN, port.id, {"security_groups": groups})

    def free_port(self) -> None:
        wanted = NewPort(network_id=self.chance.choice(self.networks).id, project_id=self.project)
        self.cloud.networks.create_ports(ADMIN, [wanted])

    def name_group(self) -> None:
        group, remote = self.chance.choice(self.groups), self.chance.choice(self.groups)
        rule = SecurityGroupRule(
            id=str(uuid.uuid4()),
            security_group_id=group,
            protocol=str(len(self.rules)),
            remote_group_id=remote,
            project_id=self.project,
        )
        with self.cloud.database.write() as connection:
            security_groups.insert_rules(connection, [rule], limit=-1)
        self.rules.append(rule)

    def drop_rule(self) -> None:
        if self.rules:
            rule = self.rules.pop(self.chance.randrange(len(self.rules)))
            with self.cloud.database.write() as connection:
                security_groups.delete_rule(connection, rule)

    def join(self) -> None:
        router, network = self.chance.choice(self.routers), self.chance.choice(self.networks).id
        subnet = next(one for one in self.cloud.networks.list_subnets(ADMIN) if one.network_id == network).id
        taken = {known for _, known in self.joined}
        if subnet not in taken:
            self.cloud.networks.routers.add_interface(ADMIN, router, subnet_id=subnet)
            self.joined.append((router, subnet))

    def part(self) -> None:
        if self.joined:
            router, subnet = self.joined.pop(self.chance.randrange(len(self.joined)))
            self.cloud.networks.routers.remove_interface(ADMIN, router, subnet_id=subnet)

    def place(self) -> None:
        transact(self.cloud.database, network_hosts.place_routers)

    def replace_router(self) -> None:
        router, host = self.chance.choice(self.routers), self.chance.choice(HOSTS)
        with self.cloud.database.write() as connection:
            connection.execute(sa.update(router_hosts).where(router_hosts.c.router_id == router).values(host=host))

    def hosts(self) -> None:
        cell = self.chance.choice(list(CELLS))
        note_hosts(self.cloud, cell, CELLS[cell][: self.chance.randint(1, len(CELLS[cell]))])


@pytest.mark.parametrize("seed", range(2))
def test_what_changed_is_all_that_is_read_again(cloud: EmbeddedCloud, seed: int) -> None:
    chance = random.Random(seed)
    changes = Changes(cloud, chance)
    ways: list[Callable[[], None]] = [
        *(changes.boot,) * 4,
        changes.delete,
        changes.move,
        changes.regroup,
        changes.regroup,
        changes.free_port,
        changes.name_group,
        changes.name_group,
        changes.drop_rule,
        changes.join,
        changes.part,
        changes.place,
        changes.replace_router,
        changes.hosts,
    ]
    kept = {cell: PlanNeeds(cell) for cell in CELLS}
    seen: set[str] = set()
    for _ in range(STEPS):
        for _ in range(chance.randint(1, 3)):
            chance.choice(ways)()
        for cell, needs in kept.items():
            found = read(cloud, needs)
            assert found == read(cloud, PlanNeeds(cell))
            seen |= {key.partition("/")[0] for key in found}
    assert seen == {"network", "group", "router"}


def test_a_change_reads_the_ports_of_its_network_alone(cloud: EmbeddedCloud) -> None:
    changes = Changes(cloud, random.Random(1))
    for _ in range(8):
        changes.boot()
    needs = PlanNeeds("east")
    read(cloud, needs)
    with counted(cloud.database) as seen:
        assert read(cloud, needs)
    assert not [one for one in seen if "FROM ports" in one or "security_group_rules" in one]
    changes.boot()
    rows = []
    with pytest.MonkeyPatch.context() as patch:
        real = network_hosts.list_bound_ports

        def noted(*args: object) -> list[tuple[str, str, list[str]]]:
            found = real(*args)  # type: ignore[arg-type]
            rows.append({network for network, _, _ in found})
            return found

        patch.setattr(network_hosts, "list_bound_ports", noted)
        read(cloud, needs)
    assert len(rows) == 1
    assert len(rows[0]) <= 1
