"""Limits of the embedded network service: exact whoever asks at once, given back whatever takes things away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.config import NetworkConfig
from cellcloud.db import network_quota_usages
from cellcloud.db.engine import Database
from cellcloud.db.top_schema import network_usages as table
from cellcloud.embedded import port_transactions
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network, NewPort, RequestedNetwork, Subnet
from tests.statements import counted

ADMIN = Viewer(project_id="admin", is_admin=True)
TENANT = Viewer(project_id="tenant")
SERVER = "11111111-0000-4000-8000-{:012}"


class World:
    """The service with small limits, and a network of the tenant's and one that it may use."""

    def __init__(self, database: Database, **limits: int) -> None:
        self.database = database
        self.networks = EmbeddedNetworks(database, NetworkConfig(**limits))
        self.shared = self.networks.create_network(ADMIN, Network(id="", project_id="admin", shared=True)).id
        self.add_subnet(self.shared, "10.8.0.0/26", ADMIN)  # 61 addresses
        self.own = self.networks.create_network(TENANT, Network(id="", project_id="tenant")).id
        self.add_subnet(self.own, "10.9.0.0/24", TENANT)

    def add_subnet(self, network_id: str, cidr: str, viewer: Viewer) -> str:
        wanted = Subnet(id="", network_id=network_id, cidr=cidr, project_id=viewer.project_id)
        return self.networks.create_subnet(viewer, wanted).id

    def add_ports(self, network_id: str, count: int = 1, **more: object) -> list[str]:
        new = NewPort(network_id=network_id, project_id="tenant", **more)  # type: ignore[arg-type]
        return [record.port.id for record in self.networks.create_ports(TENANT, [new] * count)]

    def ensure(self, number: int, networks: int = 1) -> None:
        self.ensure_on(number, [self.own] * networks)

    def ensure_on(self, number: int, network_ids: list[str]) -> None:
        self.networks.ensure_ports(
            server_id=SERVER.format(number),
            project_id="tenant",
            host="h",
            zone="",
            hostname="",
            requested=[RequestedNetwork(network_id=network_id) for network_id in network_ids],
        )

    def check_books(self) -> None:
        """Every counter is what there really is."""
        with self.database.write() as c:
            rows = [dict(row) for row in c.execute(sa.select(table)).mappings()]
            c.execute(sa.delete(table))
            real = [network_quota_usages.find(c, row["project_id"], row["resource"])[0] for row in rows]
            c.execute(sa.insert(table), rows)
            assert network_quota_usages.recount(c) == []
        assert [row["used"] for row in rows] == real

    def spoil(self) -> None:
        """Let every counter be wrong, see that it is told, and mend it."""
        with self.database.write() as c:
            c.execute(sa.update(table).values(used=table.c.used + 5))
            wrong = network_quota_usages.recount(c)
            assert all(counted == actual + 5 for *_, counted, actual in wrong)
            assert {each[:2] for each in wrong} == set(c.execute(sa.select(table.c.project_id, table.c.resource)))
            for project_id, resource, *_ in wrong:
                network_quota_usages.mend(c, project_id, resource)
        self.check_books()


def storm(work: Callable[[int], object], count: int = 24) -> int:
    """How many of that many calls at once succeed; the others are over quota."""

    def one(number: int) -> bool:
        try:
            work(number)
        except errors.QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(one, range(count)))


def test_parallel_requests_get_exactly_what_is_left(top_database: Database) -> None:
    world = World(top_database, quota_network=6, quota_subnet=7, quota_port=9)
    made = storm(lambda _: world.networks.create_network(TENANT, Network(id="", project_id="tenant")))
    assert made == 5  # it has one
    networks = [network.id for network in world.networks.list_networks(TENANT) if network.id != world.shared]
    assert storm(lambda n: world.add_subnet(networks[n % 6], f"10.{20 + n}.0.0/24", TENANT)) == 6
    assert storm(lambda n: world.ensure(n) if n % 2 else world.add_ports(world.own)) == 9
    assert world.networks.count_free_ports("tenant") == 0
    used = world.networks.list_quotas("tenant")
    assert {name: used[name] for name in ("network", "subnet", "port")} == {
        "network": (6, 6),
        "subnet": (7, 7),
        "port": (9, 9),
    }
    assert (used["security_group"], used["security_group_rule"]) == ((10, 1), (100, 4)), "one default group"
    world.check_books()
    world.spoil()

    # whatever takes things away gives them back, once
    servers = [n for n in range(24) if world.networks.list_ports(SERVER.format(n))]
    storm(lambda n: world.networks.delete_ports(SERVER.format(servers[n % len(servers)])), 2 * len(servers))
    mine = [record.port.id for record in world.networks.list_port_records(TENANT)]

    def delete(number: int) -> None:
        try:
            world.networks.delete_port(TENANT, mine[number % len(mine)])
        except errors.NotFound:
            assert number >= 0

    storm(delete, 2 * len(mine))
    assert world.networks.list_quotas("tenant")["port"] == (9, 0)
    world.networks.delete_network(TENANT, world.own)
    assert world.networks.list_quotas("tenant")["network"] == (6, 5)
    world.check_books()


def test_ports_that_end_together_are_counted_down_together(top_database: Database) -> None:
    """One statement a port, which says whether it is still as it was, and a few for all."""
    world = World(top_database)
    mine = world.add_ports(world.own, 16)
    with counted(top_database) as statements:
        port_transactions.end_ports(top_database, [(TENANT, port_id) for port_id in mine])
    assert sum("ports" in one for one in statements) <= len(mine) + 8
    assert world.networks.list_quotas("tenant")["port"] == (500, 0)
    world.check_books()
    for wanted in ([mine[0]], [*world.add_ports(world.own), mine[0]]):
        with pytest.raises(errors.NotFound):
            port_transactions.end_ports(top_database, [(TENANT, port_id) for port_id in wanted])
    assert world.networks.list_quotas("tenant")["port"] == (500, 1), "one that was not there took another with it"
    world.check_books()


def test_ports_of_servers_cost_no_more_statements(top_database: Database) -> None:
    """What is more than this is a change to be made on purpose."""
    world = World(top_database)
    world.ensure(0)
    world.add_ports(world.shared)
    several = [world.own, world.shared]
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "a port": (12, lambda: world.ensure(1)),
        "that it has": (3, lambda: world.ensure(1)),
        "three ports": (12, lambda: world.ensure(2, networks=3)),
        "its end": (7, lambda: world.networks.delete_ports(SERVER.format(1))),
        "the end of three": (7, lambda: world.networks.delete_ports(SERVER.format(2))),
        "its end again": (2, lambda: world.networks.delete_ports(SERVER.format(1))),
        "a port on each of two": (16, lambda: world.ensure_on(3, several)),
        "the end of both": (8, lambda: world.networks.delete_ports(SERVER.format(3))),
    }
    over = {}
    for name, (most, one) in work.items():
        with counted(top_database) as statements:
            one()
        if len(statements) > most:
            over[name] = statements
    assert over == {}
    world.check_books()


@pytest.mark.parametrize("missing", ["port", "addresses", "both"])
def test_counters_are_begun_whichever_is_missing(top_database: Database, missing: str) -> None:
    world = World(top_database, quota_port=3)
    world.add_ports(world.own, 2)
    of_network = network_quota_usages.addresses_of(world.own)
    going = {"port": ["port"], "addresses": [of_network], "both": ["port", of_network]}[missing]
    with top_database.write() as c:
        c.execute(sa.delete(table).where(table.c.resource.in_(going)))
    with pytest.raises(errors.QuotaExceeded):
        world.add_ports(world.own, 2)
    world.ensure(1)
    world.check_books()
    with pytest.raises(errors.QuotaExceeded):
        world.ensure(2)
    assert world.networks.list_quotas("tenant")["port"] == (3, 3)


def test_no_project_takes_all_of_a_shared_network(top_database: Database) -> None:
    world = World(top_database, shared_network_percent=50)
    assert storm(lambda _: world.add_ports(world.shared, 2)) == 15  # 30 of 61
    with pytest.raises(errors.QuotaExceeded, match="30 of the 61 addresses"):
        world.add_ports(world.shared)
    subnet = world.networks.get_network(TENANT, world.shared).subnet_ids[0]
    with pytest.raises(errors.QuotaExceeded):  # nor with a port that has several
        world.add_ports(world.shared, addresses=((subnet, None), (subnet, None)))
    assert world.add_ports(world.own, 40)
    other = NewPort(network_id=world.shared, project_id="admin")
    assert len(world.networks.create_ports(ADMIN, [other] * 31)) == 31  # whose network it is may have the rest
    world.check_books()


def test_what_was_there_before_is_counted(top_database: Database) -> None:
    world = World(top_database, quota_port=5)
    world.add_ports(world.own, 4)
    with top_database.write() as c:
        c.execute(sa.delete(table))
    assert world.networks.count_free_ports("tenant") == 1
    assert storm(lambda _: world.add_ports(world.own), 8) == 1
    world.check_books()


def test_all_or_none(top_database: Database) -> None:
    world = World(top_database, quota_port=5)
    for too_many in (lambda: world.add_ports(world.own, 6), lambda: world.ensure(1, networks=6)):
        with pytest.raises(errors.QuotaExceeded):
            too_many()
    assert world.networks.list_port_records(ADMIN) == []
    assert world.networks.count_free_ports("tenant") == 5
    world.add_ports(world.own, 5)
    world.check_books()


def test_a_projects_own_limit(top_database: Database) -> None:
    world = World(top_database, quota_port=5)
    world.networks.set_quotas("tenant", {"port": 7, "network": 1})
    assert storm(lambda _: world.add_ports(world.own), 12) == 7
    assert storm(lambda _: world.networks.create_network(TENANT, Network(id="", project_id="tenant")), 2) == 0
    world.networks.set_quotas("tenant", {"port": -1})
    world.add_ports(world.own, 20)
    assert world.networks.list_limited_projects() == ["tenant"]
    world.networks.set_quotas("tenant", {"port": None, "network": None})
    assert world.networks.list_quotas("tenant")["port"] == (5, 27)
    assert world.networks.count_free_ports("tenant") == 0
    assert world.networks.list_limited_projects() == []
    world.check_books()


def test_no_limit(top_database: Database) -> None:
    world = World(top_database, quota_network=-1, quota_subnet=-1, quota_port=-1, shared_network_percent=100)
    assert len(world.add_ports(world.shared, 61)) == 61
    assert world.networks.count_free_ports("tenant") is None
    world.check_books()
