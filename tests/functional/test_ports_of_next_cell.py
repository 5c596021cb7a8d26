"""A worker of the cell that gave a server up hangs in the network service until the next cell has the ports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cell.conductor.steps import networks as steps
from cell.conductor.workflow import StepContext
from cellcloud import clock, errors
from cellcloud.db import database_incarnations, port_rollback_recovery
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network, Port, RequestedNetwork, Subnet
from cellcloud.model.operations import Operation
from cellcloud.model.run import LeasedRun, RunArguments, RunOutputs
from cellcloud.model.server import ServerFault
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import VmState
from tests.functional.router_world import PROJECT, Line, World, open_lines, open_world
from top_api.router.feed_follower import FeedFollower

WHY = ServerFault(code=500, message="No valid host was found.", created=clock.now())
ADMIN = Viewer(project_id=PROJECT, is_admin=True)


@dataclass
class SlowNetworks:
    """A network service that keeps its callers waiting for a gate, before it does anything for them."""

    service: EmbeddedNetworks
    arrived: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def waiting(*args: Any, **asked: Any) -> Any:
            self.arrived.set()
            assert self.gate.wait(60)
            return getattr(self.service, verb)(*args, **asked)

        return waiting


@dataclass
class Ports:
    world: World
    networks: EmbeddedNetworks
    network: str

    def take(self, cell: str, step: Callable[..., Any], server_id: str, networks: Any = None) -> Any:
        """A worker of the cell takes a step of the server's create. What it had come too late for, it is told."""
        record = self.world.cell(cell).servers[server_id]
        wanted = (RequestedNetwork(network_id=self.network),)
        record = replace(record, host=f"{cell}-1", spec=replace(record.spec, networks=wanted))
        context = StepContext(run=run_of(server_id), record=record, step="", event=None)
        try:
            return step(context, Services(networks or self.networks))
        except errors.Stale:
            return None

    def port(self, server_id: str) -> Port:
        (port,) = self.networks.list_ports(server_id)
        return port

    def hand_over(self, server_id: str, giver: str, taker: str) -> None:
        self.world.cell(giver).change(server_id, deleted=True, vm_state=VmState.BUILDING, task_state=None, fault=WHY)
        for name in (giver, taker):
            follower = FeedFollower(self.world.database, name, self.world.lines[name].transport.client(Conductor))
            while follower.read():
                pass
        self.world.deliver()
        assert self.world.shown(server_id).cell == taker


@dataclass
class Services:
    networks: Any


def run_of(server_id: str) -> LeasedRun:
    empty: Any = dict.fromkeys(("error", "message", "detail", "request_id", "user_id", "project_id"), "")
    return LeasedRun(
        id="r",
        server_id=server_id,
        operation=Operation.CREATE,
        step=0,
        trail="",
        direction="do",
        generation=1,
        attempt=1,
        lease_number=1,
        arguments=RunArguments(),
        outputs=RunOutputs(),
        events={},
        step_since=None,
        cancel_requested=False,
        overdue=False,
        **empty,
    )


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Line]]:
    with open_lines("east", "west") as made:
        yield made


@pytest.fixture
def ports(tmp_path: Path, lines: list[Line]) -> Iterator[Ports]:
    with open_world(tmp_path, lines) as world:
        networks = EmbeddedNetworks(world.database)
        network = networks.create_network(ADMIN, Network(id="", project_id=PROJECT)).id
        networks.create_subnet(ADMIN, Subnet(id="", network_id=network, cidr="10.9.0.0/24", project_id=PROJECT))
        yield Ports(world, networks, network)


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("step", [steps.allocate, steps.release])
def test_a_worker_of_the_old_cell_that_hung_leaves_the_next_ones_ports(
    ports: Ports, step: Callable[..., Any], released: bool
) -> None:
    (server_id,) = ports.world.accept()
    ports.world.deliver()
    old = ports.world.shown(server_id).cell
    following = "west" if old == "east" else "east"
    if step is steps.release:
        ports.take(old, steps.allocate, server_id)
    slow = SlowNetworks(ports.networks)
    worker = threading.Thread(target=ports.take, args=(old, step, server_id, slow))
    worker.start()
    assert slow.arrived.wait(60)
    if released:  # by whoever took the run over from that worker
        ports.take(old, steps.release, server_id)
    ports.hand_over(server_id, old, following)
    first, second = (ports.world.cell(name).servers[server_id].placement for name in (old, following))
    assert 0 == first < second == ports.world.intent(server_id).placement
    ports.take(following, steps.allocate, server_id)
    before = ports.port(server_id)
    slow.gate.set()
    worker.join(60)
    assert ports.port(server_id) == before
    assert (before.host_id, len(before.fixed_ips)) == (f"{following}-1", 1)
    ports.take(following, steps.release, server_id)
    assert ports.networks.list_ports(server_id) == ()


def test_what_waits_when_the_database_falls_back_is_numbered_above_what_was_lost(ports: Ports) -> None:
    (server_id,) = ports.world.accept()
    ports.world.deliver()
    old = ports.world.shown(server_id).cell
    ports.hand_over(server_id, old, "west" if old == "east" else "east")
    lost = ports.world.intent(server_id).placement
    with ports.world.database.write() as connection:
        connection.exec_driver_sql("UPDATE intents SET state = 'pending', cell = '', placement = 0")
        database_incarnations.begin_in_top(connection, "put back")
    assert ports.world.intent(server_id).placement > lost


def test_ports_whose_place_was_lost_are_given_again_to_the_placement_that_the_cell_tells_of(ports: Ports) -> None:
    (server_id,) = ports.world.accept()
    ports.world.deliver()
    old = ports.world.shown(server_id).cell
    following = "west" if old == "east" else "east"
    ports.take(old, steps.allocate, server_id)
    ports.hand_over(server_id, old, following)
    ports.take(following, steps.allocate, server_id)
    before = ports.port(server_id)
    record = replace(ports.world.cell(following).servers[server_id], host=f"{following}-1", ports=(before,))
    with ports.world.database.write() as connection:
        connection.exec_driver_sql("UPDATE ports SET placement = 0, host_id = ?", (f"{old}-1",))
        assert port_rollback_recovery.store_again(connection, [record]) == []
    for step in (steps.allocate, steps.release):
        ports.take(old, step, server_id)
    assert ports.port(server_id) == before


@pytest.mark.parametrize("order", [("east", "west"), ("west", "east")])
def test_an_address_of_a_server_that_is_gone_is_given_back_to_whom_it_was_given_since(
    ports: Ports, order: tuple[str, str]
) -> None:
    """The top's database falls back: it has the port of the one, and not that of the other, in another cell."""
    world = ports.world
    gone, later = (in_cell(world, name) for name in ("east", "west"))
    ports.take("east", steps.allocate, gone)
    before = ports.port(gone)
    world.cell("east").change(gone, deleted=True, vm_state=VmState.DELETED, task_state=None)
    given = replace(before, id="00000000-0000-4000-8000-00000000000b", mac_address="fa:16:3e:00:00:0b")
    world.cell("west").change(later, host="west-1", vm_state=VmState.ACTIVE, task_state=None, ports=(given,))
    with world.database.write() as connection:
        database_incarnations.begin_in_top(connection, "put back")
    for name in order:
        follower = FeedFollower(world.database, name, world.lines[name].transport.client(Conductor))
        while follower.read():
            pass
        follower.read()  # with nothing to take in it compares
    assert not ports.networks.list_ports(gone)
    (found,) = ports.networks.list_ports(later)
    assert (found.id, found.fixed_ips) == (given.id, before.fixed_ips)


def in_cell(world: World, name: str) -> str:
    """A server that is in that cell."""
    for other in world.lines:
        world.cell(other).room = 1000 if other == name else 0
    (server_id,) = world.accept()
    world.deliver()
    assert world.shown(server_id).cell == name
    return server_id
