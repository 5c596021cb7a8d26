"""What a cell says of guests that its records do not give a host, carried out on the host: a record that says deleted,
and is no older, is the only one that destroys, or one that says which move has left the guest there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cell.compute.reconcile import Reconciler
from cell.conductor import reconcile
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import cell_schema, claims, feed
from cellcloud.db.cell_schema import servers as table
from cellcloud.db.engine import Database
from cellcloud.model.flavor import Flavor
from cellcloud.model.guest_commands import Arrive, GuestCommand, GuestOrders, MoveBack
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.operations import Operation
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import PowerState
from tests.unit.cell_world import NoImages
from tests.workflows.world import CellUnderTest, make_spec

SERVERS = [f"11111111-0000-4000-8000-00000000000{n}" for n in range(4)]
ONE = SERVERS[0]


class Line(Conductor):
    """The conductor's verb that a reconciler calls."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fence = False

    def compare_guests(self, context: RequestContext, host: str, guests: list[GuestState]) -> GuestOrders:
        return reconcile.compare(self.database, host, guests, fence=self.fence)


@dataclass
class World:
    cell: CellUnderTest
    hypervisor: FakeHypervisor
    driver: FakeDriver
    line: Line
    reconciler: Reconciler

    def build(self, server_id: str = ONE, generation: int = 1) -> None:
        """A server with its record, and its guest on h1 at the given generation."""
        self.cell.create(server_id)
        self.cell.run()
        self.driver.spawn(make_spec(server_id), generation, (), NoImages())

    def set(self, **values: object) -> None:
        with self.cell.database.write() as connection:
            connection.execute(sa.update(table).where(table.c.id == ONE).values(**values))

    def hide(self) -> Callable[[], None]:
        """The server has no record until what is returned is called."""
        with self.cell.database.write() as connection:
            row = dict(connection.execute(sa.select(table).where(table.c.id == ONE)).one()._mapping)
            connection.execute(sa.delete(table))

        def show() -> None:
            with self.cell.database.write() as connection:
                connection.execute(sa.insert(table).values(row))

        return show

    def forget_all(self) -> None:
        """The database is an empty one, but for the hosts."""
        with self.cell.database.write() as connection:
            for each in reversed(cell_schema.metadata.sorted_tables):
                if each.name not in ("hosts", "inventories"):
                    connection.execute(sa.delete(each))
            connection.execute(sa.update(cell_schema.inventories).values(used=0))

    def look(self, times: int = 3) -> list[str]:
        """Compare; returns why each unknown guest is unknown."""
        for _ in range(times):
            self.reconciler.compare()
        return [guest.reason for guest in reconcile.list_unknown(self.cell.database, "h1")]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database(f"sqlite:///{tmp_path}/cell.db")
    with database.write() as connection:
        cell_schema.metadata.create_all(connection)
    hypervisor, line = FakeHypervisor(), Line(database)
    driver = FakeDriver(hypervisor, "h1")
    reconciler = Reconciler("h1", driver, line, is_busy=lambda host, server: False, report=lambda event: None)
    yield World(CellUnderTest(database, ("h1", "h2")), hypervisor, driver, line, reconciler)
    database.close()


@pytest.mark.parametrize("others", ["an empty database", "another cell's database", "a backup of before"])
def test_a_cell_that_knows_nothing_of_its_guests_destroys_none(world: World, others: str) -> None:
    for server_id in SERVERS[:3]:
        world.build(server_id)
    held = world.hypervisor.count_held()
    world.forget_all()
    if others != "an empty database":
        world.cell.create(SERVERS[3])
    assert world.look() == [reconcile.NO_RECORD] * 3
    assert world.hypervisor.count_held() == held
    assert {guest.power_state for guest in world.hypervisor.list_guests()} == {PowerState.RUNNING}


@pytest.mark.parametrize(
    ("record", "guest_generation", "kept", "runs"),
    [
        ({"deleted": True, "generation": 2}, 1, False, False),
        ({"deleted": True, "generation": 1}, 1, False, False),
        ({"deleted": True, "generation": 1, "host": None}, 1, False, False),
        ({"deleted": True, "generation": 1}, 2, True, True),
        ({"host": "h2", "generation": 2}, 1, True, False),
        ({"host": "h2", "generation": 1}, 2, True, True),
        ({"host": None, "vm_state": "error", "generation": 1}, 1, True, False),
        ({"host": "h1", "vm_state": "error", "generation": 2}, 1, True, True),
        ({"host": "h1", "held": True, "generation": 0}, 1, True, True),
        ({"host": "h1", "generation": 1}, 5, True, True),
    ],
)
def test_only_a_record_that_says_deleted_and_is_no_older_destroys(
    world: World, record: dict[str, object], guest_generation: int, kept: bool, runs: bool
) -> None:
    world.build(generation=guest_generation)
    world.set(**record)
    world.look()
    guest = world.hypervisor.find("h1", ONE)
    assert (guest is not None) is kept
    assert bool(guest and guest.disks) is kept
    assert bool(guest and guest.power_state == PowerState.RUNNING) is runs


def test_a_record_that_fell_back_takes_over_what_its_host_has_obeyed(world: World) -> None:
    """Otherwise the host would refuse every command as stale."""
    world.build(generation=5)
    assert world.look() == []
    assert world.cell.record(ONE).generation == 5
    with world.cell.database.read() as connection:
        assert feed.list_after(connection, 0, 1000).entries[-1].record.generation == 5


def test_an_unknown_guest_is_fenced_by_option_and_let_back_once_it_is_known(world: World) -> None:
    world.build()
    show = world.hide()
    world.look()
    guest = world.hypervisor.get("h1", ONE)
    assert not guest.fenced
    world.line.fence = True
    world.look()
    assert guest.fenced
    assert guest.power_state == PowerState.RUNNING
    show()
    assert world.look() == []
    assert not world.hypervisor.get("h1", ONE).fenced


def test_an_operator_adopts_what_a_restored_cell_forgot(world: World) -> None:
    world.build(generation=3)
    world.forget_all()
    world.look()
    record = reconcile.adopt(world.cell.database, "h1", world.driver.describe_guest(ONE))
    assert (record.host, record.generation, record.vm_state, record.deleted) == ("h1", 3, "active", False)
    assert record.version > 1_000_000
    assert world.look() == []
    with world.cell.database.read() as connection:
        assert claims.list_mismatches(connection) == []
        assert claims.list_owners(connection) == [ONE]
        assert [entry.record.id for entry in feed.list_after(connection, 0, 10).entries] == [ONE]
    with pytest.raises(errors.NotFound):
        reconcile.adopt(world.cell.database, "h2", world.driver.describe_guest(ONE))


@pytest.mark.parametrize(
    ("record", "vcpus"), [({"generation": 9}, 1), ({"deleted": True, "generation": 9}, 1), (None, 100)]
)
def test_what_cannot_be_adopted_is_refused_and_leaves_nothing(
    world: World, record: dict[str, object] | None, vcpus: int
) -> None:
    world.build()
    described = world.driver.describe_guest(ONE)
    world.set(**record) if record else world.hide()
    world.look()
    with world.cell.database.read() as connection:
        before = claims.list_owners(connection)
    flavor = Flavor(id="1", name="large", vcpus=vcpus, memory_mb=128, root_gb=1)
    described = replace(described, spec=replace(described.spec, flavor=flavor))
    with pytest.raises((errors.Conflict, errors.NotFound)):
        reconcile.adopt(world.cell.database, "h1", described)
    with world.cell.database.read() as connection:
        assert claims.list_owners(connection) == before
        assert claims.list_mismatches(connection) == []


def test_an_operator_has_an_unknown_guest_removed_even_while_its_host_is_away(world: World) -> None:
    world.build()
    world.forget_all()
    world.look()
    with pytest.raises(errors.NotFound):
        reconcile.ask_removal(world.cell.database, "h2", ONE)
    reconcile.ask_removal(world.cell.database, "h1", ONE)
    assert world.hypervisor.count_held()["guests"] == 1
    assert world.look() == []
    assert world.hypervisor.count_held() == {"guests": 0, "disks": 0, "taps": 0}


def test_a_removal_that_was_asked_for_is_void_once_the_guest_has_a_record(world: World) -> None:
    world.build()
    show = world.hide()
    world.look()
    reconcile.ask_removal(world.cell.database, "h1", ONE)
    show()
    assert world.look() == []
    assert world.hypervisor.get("h1", ONE).power_state == PowerState.RUNNING


def move(cell: CellUnderTest, end: str) -> None:
    """From h1 to h2; how it ended, with the host that is given up away."""
    cell.create(ONE)
    cell.run()
    if end == "failed":
        cell.fail[Arrive] = [errors.GuestFailed("no")]
    cell.begin(ONE, Operation.RESIZE)
    cell.run()
    operations = {"confirmed": Operation.CONFIRM_RESIZE, "reverted": Operation.REVERT_RESIZE}
    if end in ("confirmed", "reverted"):
        cell.fenced.add("h1" if end == "confirmed" else "h2")
        cell.begin(ONE, operations[end])
        cell.run()


@pytest.mark.parametrize(
    ("end", "host", "aside", "newer", "raised", "kept"),
    [
        ("confirmed", "h1", True, 0, 0, False),
        ("confirmed", "h1", True, 1, 0, True),
        ("confirmed", "h1", True, 1, 9, True),  # of a record that was put back from a backup
        ("reverted", "h2", False, 0, 0, False),
        ("reverted", "h2", False, 1, 9, True),
        ("failed", "h2", False, 0, 0, False),
        ("failed", "h2", False, 1, 9, True),
        ("waiting", "h1", True, -1, 0, True),
        ("confirmed", "h3", False, 0, 0, True),  # nobody knows how it came there
    ],
)
def test_what_a_move_left_on_a_host_that_was_away_goes_by_the_word_of_its_record(
    world: World, end: str, host: str, aside: bool, newer: int, raised: int, kept: bool
) -> None:
    move(world.cell, end)
    generation = world.cell.record(ONE).generation
    world.set(generation=generation + raised)
    generation += newer
    driver = FakeDriver(world.hypervisor, host)
    driver.spawn(make_spec(ONE), generation, (), NoImages())
    if aside:
        driver.set_aside(ONE, generation, 0.0)
    there = driver.list_guests()
    reconciler = Reconciler(host, driver, world.line, is_busy=lambda *_: False, report=lambda event: None)
    for _ in range(3):
        reconciler.compare()
    assert [one.server_id for one in driver.list_guests()] == [one.server_id for one in there if kept]
    assert bool(reconcile.list_unknown(world.cell.database, host)) == (kept and end != "waiting")


def test_a_copy_that_may_be_all_there_is_stays(world: World) -> None:
    """The move was reverted, but the host that the server is back on has lost it."""
    cell = world.cell
    move(cell, "waiting")
    cell.begin(ONE, Operation.REVERT_RESIZE)
    apply = cell._apply

    def lost(host: str, command: GuestCommand) -> PowerState:
        if isinstance(command, MoveBack):
            raise errors.GuestFailed("It is gone.")
        return apply(host, command)

    cell._apply = lost  # type: ignore[method-assign]
    cell.fenced.add("h2")
    cell.run()
    assert cell.record(ONE).migrations[-1].status == "reverted"
    driver = FakeDriver(world.hypervisor, "h2")
    driver.spawn(make_spec(ONE), 2, (), NoImages())
    Reconciler("h2", driver, world.line, is_busy=lambda *_: False, report=lambda event: None).compare()
    assert len(driver.list_guests()) == 1
    assert len(reconcile.list_unknown(cell.database, "h2")) == 1
