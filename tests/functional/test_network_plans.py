"""How what a tenant says of networks comes to hosts: from the top's tables by a cell's store to its drivers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.sql import Executable

from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cell.compute.network_plans import PlanKeeper
from cell.conductor.network_store import NetworkStoreService
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import hosts, network_hosts, network_plans, security_groups
from cellcloud.db.engine import Database
from cellcloud.db.network_schema import network_hosts as hosts_table
from cellcloud.db.network_schema import router_interfaces, routers
from cellcloud.db.network_schema import security_groups as groups_table
from cellcloud.db.top_schema import networks, subnets
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.host import HostReport
from cellcloud.model.network import Network, Port, RequestedNetwork
from cellcloud.model.network_plan import NetworkPlan, NetworkPlans, PlanChanges, key_of
from cellcloud.model.security_group import SecurityGroupRule
from tests.embedded_cloud import EmbeddedCloud, make_cloud, make_top_database
from tests.empty_databases import make_empty
from tests.statements import counted
from top_api import network_plan_copies
from top_api.network_plan_copies import PlanCopyKeeper
from top_api.network_plan_documents import PlanDocuments
from top_api.router.waiting_work import WaitingWorkWatch


@dataclass
class CellHosts:
    """A cell with hosts of the fake driver; what is cast to them may be lost."""

    name: str
    database: Database
    lossy: bool = False

    def __post_init__(self) -> None:
        self.hypervisor = FakeHypervisor()
        self.names = [f"{self.name}-{number}" for number in (1, 2)]
        self.drivers = {name: FakeDriver(self.hypervisor, name) for name in self.names}
        self.store = NetworkStoreService(self.database, self._compute_of)
        self.keeper = PlanKeeper(cast(Any, self.store), self.drivers)
        self.casts: list[list[str]] = []
        for number, (name, driver) in enumerate(self.drivers.items()):
            self.report(name, driver, address=f"10.0.0.{number + 1}")

    def report(self, name: str, driver: FakeDriver, *, address: str, external: bool = False) -> None:
        facts = replace(driver.get_facts(), host_ip=address, external_networks=external)
        with self.database.write() as connection:
            hosts.report(connection, [HostReport(host=name, facts=facts)])

    def _compute_of(self, host: str) -> Any:
        if host not in self.drivers:
            raise errors.NotFound("no such host")
        return self

    def change_plans(self, _context: object, names: list[str], plans: Any, removed: Any) -> None:
        self.casts.append(names)
        if not self.lossy:
            self.keeper.change(names, plans, removed)

    def check_networks(self, _context: object, names: list[str]) -> dict[str, list[str]]:
        return {name: self.keeper.list_faults(name) for name in names}

    def held(self, host: str) -> NetworkPlans:
        return self.hypervisor.plans[host]


@dataclass
class World:
    cloud: EmbeddedCloud
    cells: dict[str, CellHosts]
    keepers: dict[str, PlanCopyKeeper]

    def look(self) -> None:
        for keeper in self.keepers.values():
            keeper.look()

    def boot(self, network: Network, host: str) -> Port:
        """A server's port on a host."""
        (port,) = self.cloud.networks.ensure_ports(
            server_id=str(uuid.uuid4()),
            project_id=network.project_id,
            host=host,
            zone="nova",
            hostname="h",
            requested=[RequestedNetwork(network_id=network.id)],
        )
        return port

    def network(self, cidr: str = "10.1.0.0/24") -> Network:
        return self.cloud.network(self.cloud.project("demo"), cidr)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(network_plan_copies, "PAUSE", 0.0)
    monkeypatch.setattr(network_plan_copies, "LEISURE", 0.0)
    monkeypatch.setattr(network_plan_copies, "ENDPOINTS_SECONDS", 0.0)
    top = make_top_database(tmp_path / "top.db")
    cells = {name: CellHosts(name, make_empty(tmp_path / f"{name}.db", "cell")) for name in ("east", "west")}
    documents = PlanDocuments(top)
    keepers = {name: PlanCopyKeeper(top, name, cast(Any, cell.store), 5.0, documents) for name, cell in cells.items()}
    yield World(make_cloud(top, tmp_path), cells, keepers)
    for database in (top, *(cell.database for cell in cells.values())):
        database.close()


def test_hosts_hold_what_their_ports_need_and_no_more(world: World) -> None:
    """Two hosts of one cell and one of another carry a network; the fourth nothing."""
    east, west = world.cells.values()
    network, other = world.network(), world.network()
    world.look()
    ports = [world.boot(network, host) for host in ("east-1", "east-2", "west-1")]
    alone = world.boot(other, "east-1")
    for _ in range(2):  # endpoints of all cells are known by the second
        world.look()
    plan = east.held("east-1").networks[network.id]
    assert {port.id: port.host for port in plan.ports} == {port.id: port.host_id for port in ports}
    assert plan.endpoints == {"east-1": "10.0.0.1", "east-2": "10.0.0.2", "west-1": "10.0.0.1"}
    assert plan.vni
    assert [subnet.cidr for subnet in plan.subnets] == ["10.1.0.0/24"]
    assert east.held("east-2").networks == west.held("west-1").networks == {network.id: plan}
    assert set(east.held("east-1").networks) == {network.id, other.id}
    assert west.held("west-2").versions() == {}
    (group,) = ports[0].security_groups
    held = east.held("east-1").groups[group]
    assert set(held.members) == {fixed.ip_address for port in (*ports, alone) for fixed in port.fixed_ips}
    assert {(rule.ingress, rule.ipv6, rule.remote_group) for rule in held.rules} == {
        *((True, ipv6, group) for ipv6 in (False, True)),
        *((False, ipv6, "") for ipv6 in (False, True)),
    }

    before = len(east.casts)
    world.look()
    assert len(east.casts) == before  # nothing is told twice
    world.cloud.networks.delete_ports(alone.device_id)
    world.look()
    assert set(east.held("east-1").networks) == {network.id}
    for port in ports:
        world.cloud.networks.delete_ports(port.device_id)
    world.look()
    assert east.held("east-1").versions() == east.held("east-2").versions() == west.held("west-1").versions() == {}
    with east.database.read() as connection:
        assert network_plans.list_versions(connection) == []


def test_a_rule_is_on_its_hosts_after_one_look(world: World) -> None:
    east = world.cells["east"]
    port = world.boot(world.network(), "east-1")
    world.look()
    (group,) = port.security_groups
    for protocol, expected in (("tcp", 6), ("udp", 17), ("icmp", 1), ("47", 47), (None, None), ("vrrp", 112)):
        rule = SecurityGroupRule(
            id=str(uuid.uuid4()),
            security_group_id=group,
            protocol=protocol,
            port_range_min=22 if expected in (6, 17) else None,
            port_range_max=23 if expected in (6, 17) else None,
            remote_ip_prefix="10.0.0.0/8",
            project_id=port.project_id,
        )
        with world.cloud.database.write() as connection:
            security_groups.insert_rules(connection, [rule], limit=-1)
        world.look()
        (told,) = (one for one in east.held("east-1").groups[group].rules if one.remote)
        assert (told.protocol, told.remote) == (expected, "10.0.0.0/8")
        assert (told.first, told.last) == ((22, 23) if expected in (6, 17) else (None, None))
        with world.cloud.database.write() as connection:
            security_groups.delete_rule(connection, rule)
    world.look()
    assert not any(one.remote for one in east.held("east-1").groups[group].rules)


def test_what_a_port_may_use_besides_is_its_groups_too(world: World) -> None:
    port = world.boot(world.network(), "east-1")
    pairs = {"allowed_address_pairs": [("192.168.7.0/24", None), ("10.77.0.9", None)]}
    for changes, more in ((pairs, {"192.168.7.0/24", "10.77.0.9"}), ({"allowed_address_pairs": []}, set())):
        world.cloud.networks.update_port(Viewer(project_id="", is_admin=True), port.id, changes)
        world.look()
        (group,) = port.security_groups
        held = world.cells["east"].held("east-1").groups[group].members
        assert set(held) == {port.fixed_ips[0].ip_address} | more


def test_what_is_lost_on_its_way_hosts_ask_for(world: World) -> None:
    east = world.cells["east"]
    east.lossy = True
    network = world.network()
    world.boot(network, "east-1")
    kept = world.boot(network, "east-2")
    world.look()
    assert east.held("east-2").versions() == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(east.drivers["east-2"], "list_guests", lambda: ["a guest"])
        for _ in range(2):
            east.keeper.compare("east-2")
            assert set(east.held("east-2").networks) == {network.id}
        world.cloud.networks.delete_ports(kept.device_id)
        world.look()
        east.keeper.compare("east-2")
        assert east.held("east-2").versions() == {}
        assert east.held("east-2").known


def test_a_cell_that_is_given_no_plans_says_so(world: World) -> None:
    context = service_context()
    east = world.cells["east"]
    assert east.store.compare_plans(context, "east-1", {}) is None
    world.look()
    assert east.store.compare_plans(context, "east-1", {}) == PlanChanges()


def test_a_database_of_the_top_that_was_put_back_is_obeyed(world: World) -> None:
    """Cells have seen higher versions than it knows: what it says now is given under newer ones."""
    east = world.cells["east"]
    network = world.network()
    world.boot(network, "east-1")
    world.look()
    with world.cloud.database.write() as connection:
        connection.execute(sa.update(networks).values(version=1, mtu=1300))
    database = world.cloud.database
    fresh = PlanCopyKeeper(database, "east", cast(Any, east.store), 5.0, PlanDocuments(database))
    for _ in range(2):
        fresh.look()
    assert east.held("east-1").networks[network.id].mtu == 1300
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_plan_copies, "REPAIR_SECONDS", 0.0)
        with east.database.write() as connection:
            connection.execute(sa.text("DELETE FROM network_plans"))
            connection.execute(sa.text("DELETE FROM network_plan_hosts"))
        fresh.look()
    with east.database.read() as connection:
        assert key_of("network", network.id) in [one.key for one in network_plans.list_versions(connection)]


def test_each_router_has_one_host_and_another_one_when_that_is_gone(world: World) -> None:
    """One with a gateway where external networks are reached; a host that is only mute keeps its routers."""
    east, west = world.cells.values()
    network = world.network()
    port = world.boot(network, "west-1")
    times = {"created_at": sa.func.now(), "updated_at": sa.func.now()}
    with world.cloud.database.write() as connection:
        subnet = port.fixed_ips[0].subnet_id
        values = {"id": "router", "name": "r", "project_id": "p", "routes": [("10.9.0.0/16", "10.1.0.9")]}
        connection.execute(sa.insert(routers).values(gateway_network_id=network.id, **values, **times))
        face = {"router_id": "router", "subnet_id": subnet, "port_id": port.id}
        connection.execute(sa.insert(router_interfaces).values(face))
    for _ in range(2):
        world.look()

    def place() -> str:
        for _ in range(3):
            world.look()
        with world.cloud.database.read() as connection:
            host = network_hosts.read_places(connection).routers["router"]
        cell = world.cells[host.partition("-")[0]]
        plan = cell.held(host).routers["router"]
        assert plan.host == host
        assert plan.routes == (("10.9.0.0/16", "10.1.0.9"),)
        assert host in cell.held(host).networks[network.id].endpoints or host == "west-1" or plan.legs
        others = [one for each in (east, west) for one in each.names if one != host]
        assert not any("router" in world.cells[one.partition("-")[0]].held(one).routers for one in others)
        return host

    first = place()
    assert place() == first
    leading = next(name for cell in (east, west) for name in cell.names if name != first)
    cell = world.cells[leading.partition("-")[0]]
    cell.report(leading, cell.drivers[leading], address="10.0.0.9", external=True)
    assert place() == leading
    with cell.database.write() as connection:
        connection.execute(sa.text("UPDATE hosts SET up = 0"))
    assert place() == leading
    with cell.database.write() as connection:
        connection.execute(sa.text("UPDATE hosts SET forced_down = 1 WHERE host = :host"), {"host": leading})
    assert place() != leading


def test_older_plans_never_replace_newer_ones(tmp_path: Path) -> None:
    newer, older = NetworkPlan(id="n", version=2, mtu=1400), NetworkPlan(id="n", version=1, mtu=1300)
    plans = NetworkPlans().changed(PlanChanges(networks=(newer,))).changed(PlanChanges(networks=(older,)))
    assert plans.networks["n"].mtu == 1400


def test_whatever_changes_a_plan_wakes_the_idle(world: World) -> None:
    """Each by one statement of the look; and what changes no plan wakes nobody."""
    told: list[bool] = []
    watch = WaitingWorkWatch(world.cloud.database, told.append, None)
    network = world.network()
    port = world.boot(network, "east-1")
    (group,) = port.security_groups

    def write(statement: Executable) -> None:
        with world.cloud.database.write() as connection:
            connection.execute(statement)

    def replace_network() -> None:
        """As many as before, and as many versions."""
        with world.cloud.database.write() as connection:
            (row,) = connection.execute(sa.select(networks).where(networks.c.id == other.id)).mappings().all()
            connection.execute(sa.delete(networks).where(networks.c.id == other.id))
            later = {"id": str(uuid.uuid4()), "created_at": row["created_at"] + timedelta(milliseconds=1)}
            connection.execute(sa.insert(networks).values({**row, **later}))

    def put_host_out() -> None:
        write(sa.update(hosts_table).where(hosts_table.c.host == "east-2").values(gone=True))

    world.look()
    other = world.network("10.9.0.0/24")
    write(sa.delete(subnets).where(subnets.c.network_id == other.id))
    grown = {"version": groups_table.c.version + 1}
    turns: dict[str, tuple[Callable[[], object], bool]] = {
        "at first": (lambda: None, True),
        "nothing": (lambda: None, False),
        "a port": (lambda: world.boot(network, "east-2"), True),
        "a version": (lambda: write(sa.update(groups_table).where(groups_table.c.id == group).values(grown)), True),
        "another network for one": (replace_network, True),
        "a host is put out": (put_host_out, True),
        "a name": (lambda: write(sa.update(networks).values(name="b")), False),
        "ports go": (lambda: world.cloud.networks.delete_ports(port.device_id), True),
    }
    for name, (change, wakes) in turns.items():
        change()
        told.clear()
        watch._rests_until = -100.0  # it is time again
        with counted(world.cloud.database) as seen:
            watch.look()
        assert told == [wakes], name
        assert len([one for one in seen if not one.startswith("BEGIN")]) == 1
    told.clear()
    watch._rests_until = float("inf")
    watch.look()
    assert told == []  # the last look took long


class Killed(BaseException):
    """Of a process that dies where it is."""


def _die(*_: object, **__: object) -> None:
    raise Killed


def test_who_is_killed_in_the_middle_of_a_plan_misses_nothing(world: World) -> None:
    """The router before its cell knows, and after; the conductor between keeping and telling; the host before it keeps.
    Whoever comes next does the rest, and the doctor says who lacks something until then."""
    east = world.cells["east"]
    network = world.network()
    world.boot(network, "east-1")
    world.look()
    assert [one.severity for one in east.store.check(east.names)] == ["ok"]
    told = east.store.set_plans

    def answer_is_lost(*given: Any) -> None:
        told(*given)
        raise Killed

    deaths: dict[str, tuple[object, str, Any, bool]] = {
        "the router before": (east.store, "set_plans", _die, False),
        "the router after": (east.store, "set_plans", answer_is_lost, False),
        "the conductor": (east.store, "_tell", _die, True),
        "the host": (east.drivers["east-1"], "change_plans", _die, True),
    }
    for number, (who, (place, verb, dies, lacks)) in enumerate(deaths.items()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, verb, dies)
            world.boot(network, "east-1")
            with pytest.raises(Killed):
                world.keepers["east"].look()
        said = [one.text for one in east.store.check(east.names) if one.severity == "error"]
        assert any("an older plan of network/" in text for text in said) == lacks, (who, said)
        world.keepers["east"] = PlanCopyKeeper(
            world.cloud.database, "east", cast(Any, east.store), 5.0, PlanDocuments(world.cloud.database)
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(east.drivers["east-1"], "list_guests", lambda: ["a guest"])
            east.keeper.compare("east-1")
        world.look()
        assert len(east.held("east-1").networks[network.id].ports) == number + 2, who
        assert [one.severity for one in east.store.check(east.names)] == ["ok"], who


def test_the_doctor_names_hosts_that_say_nothing_and_asks_nobody_without_plans(world: World) -> None:
    east = world.cells["east"]
    assert east.store.check(east.names) == []
    world.look()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(east, "check_networks", _refuse)
        found = east.store.check([*east.names, "gone"])
    assert {(one.check, one.severity, one.subject) for one in found} == {
        ("networks", "error", "east-1"),
        ("networks", "error", "east-2"),
    }
    assert all("not now" in one.text and one.remedy for one in found)


def _refuse(*_: object) -> None:
    raise errors.Unreachable("not now")
