"""A cell's database that is put back to before what its hosts have done since: nothing of that is undone, and a server
that has moved is found again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cell.conductor import audit, reconcile
from cellcloud import errors
from cellcloud.db import cell_schema, claims, database_incarnations, feed
from cellcloud.db.engine import Database, utc_after
from cellcloud.model.guest_commands import GuestCommand, Spawn
from cellcloud.model.migration import MigrationStatus
from cellcloud.model.operations import Operation
from cellcloud.server_states import VmState
from tests.unit.cell_world import NoImages
from tests.workflows.test_every_step import SERVER, SPECS, arguments_of, first_start
from tests.workflows.world import LARGER, CellUnderTest, SavedCell

OTHER = "00000000-0000-4000-8000-00000000beef"


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[CellUnderTest]:
    database = Database(f"sqlite:///{tmp_path}/cell.db")
    with database.write() as connection:
        cell_schema.metadata.create_all(connection)
        database_incarnations.ensure(connection)
    made = CellUnderTest(database)
    made.create(SERVER)
    made.run()
    yield made
    database.close()


def fall_back(cell: CellUnderTest, saved: SavedCell) -> None:
    """Put the database back, and nothing else."""
    cell.load(SavedCell(saved.database, {}))
    with cell.database.write() as connection:
        known = database_incarnations.ensure(connection)
        database_incarnations.begin_in_cell(connection, known.id, "restored")


def moments_until_done(cell: CellUnderTest) -> list[SavedCell]:
    """Run until nothing is under way; returns the cell as it was before each command."""
    moments: list[SavedCell] = []
    with pytest.MonkeyPatch.context() as patch:
        send = cell.send

        def watch(command: GuestCommand) -> None:
            inbox, cell.inbox = cell.inbox, []
            moments.append(cell.save())
            cell.inbox = inbox
            send(command)

        patch.setattr(cell, "send", watch)
        cell.run()
    return moments


@pytest.mark.parametrize("operation", database_incarnations.GIVEN_UP)
def test_what_was_under_way_destroys_nothing(
    cell: CellUnderTest, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, spec = next((name, spec) for name, spec in SPECS.items() if spec.operation is operation)
    begin_at(cell, first_start(spec))
    sent: list[GuestCommand] = []
    cell.begin(SERVER, operation, **arguments_of(spec))
    moments = moments_until_done(cell)
    monkeypatch.setattr(cell, "send", sent.append)
    assert moments, name
    for moment in moments:
        fall_back(cell, moment)
        cell.run()
        assert sent == []
        record = cell.record(SERVER)
        assert record.task_state is None
        lasting = record.vm_state in (VmState.RESIZED, VmState.SHELVED, VmState.SHELVED_OFFLOADED)
        assert lasting or (record.vm_state == VmState.ERROR and record.fault is not None)


def _moments_of_create(cell: CellUnderTest) -> list[SavedCell]:
    """The cell before each step of a create that then comes to its end."""
    cell.create(OTHER)
    moments = [cell.save(), *moments_until_done(cell)]
    assert cell.record(OTHER).vm_state == VmState.ACTIVE
    return moments


@pytest.mark.parametrize("error", [None, errors.HostRefused("No."), errors.GuestFailed("No."), errors.Invalid("No.")])
def test_a_create_goes_on_and_takes_nothing_back(cell: CellUnderTest, error: errors.CellcloudError | None) -> None:
    """Its guest may have come up after the backup, and be in use."""
    moments = _moments_of_create(cell)
    guest, ports = cell.guests[OTHER], cell.networks.ports[OTHER]
    assert len(moments) > 1
    for moment in moments:
        cell.fail = {Spawn: [error]} if error else {}
        fall_back(cell, moment)
        cell.run()
        record = cell.record(OTHER)
        assert record.vm_state == (VmState.ERROR if error else VmState.ACTIVE)
        assert (record.host, record.task_state, record.deleted) == (guest[0], None, False)
        assert (cell.guests[OTHER][:2], cell.networks.ports[OTHER]) == (guest[:2], ports)
        if error is not None:
            assert record.fault is not None
            assert record.fault.message == "No."
        with cell.database.read() as connection:
            assert claims.list_mismatches(connection) == []
            assert [one.host for one in claims.list_of(connection, OTHER)] == [guest[0]]
    cell.begin(OTHER, Operation.DELETE)
    cell.run()
    assert cell.record(OTHER).deleted
    assert OTHER not in cell.guests


def test_a_create_whose_time_is_over_by_a_backups_age_has_its_time_again(cell: CellUnderTest) -> None:
    cell.create(OTHER)
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.runs).values(deadline=utc_after(-3600)))
    saved = cell.save()
    fall_back(cell, saved)
    cell.run()
    assert cell.record(OTHER).vm_state == VmState.ACTIVE


def test_a_create_that_is_deleted_meanwhile_is_taken_back(cell: CellUnderTest) -> None:
    moment = _moments_of_create(cell)[-1]
    fall_back(cell, moment)
    cell.begin(OTHER, Operation.DELETE)
    cell.run()
    assert cell.record(OTHER).deleted
    assert OTHER not in cell.guests | cell.networks.ports
    with cell.database.read() as connection:
        assert claims.list_of(connection, OTHER) == []


def begin_at(cell: CellUnderTest, state: VmState) -> None:
    """Let the server rest in that state."""
    if state == VmState.RESIZED:
        cell.begin(SERVER, Operation.RESIZE)
    elif state in (VmState.SHELVED, VmState.SHELVED_OFFLOADED):
        cell.begin(SERVER, Operation.SHELVE, **arguments_of(SPECS["shelve"]))
        cell.run()
        if state == VmState.SHELVED_OFFLOADED and cell.record(SERVER).vm_state != state:
            cell.begin(SERVER, Operation.SHELVE_OFFLOAD, **arguments_of(SPECS["shelveOffload"]))
    cell.run()
    assert cell.record(SERVER).vm_state == state


@pytest.mark.parametrize("moment", ["before", "in the midst"])
def test_a_server_that_has_moved_since_runs_on_and_is_adopted(cell: CellUnderTest, moment: str) -> None:
    source = cell.record(SERVER).host or ""
    saved = cell.save()
    cell.begin(SERVER, Operation.RESIZE)
    if moment != "before":
        saved = cell.save()
    cell.run()
    cell.begin(SERVER, Operation.CONFIRM_RESIZE)
    cell.run()
    moved = cell.record(SERVER)
    driver = FakeDriver(FakeHypervisor(), moved.host or "")
    driver.spawn(moved.spec, moved.generation, moved.ports, NoImages())
    fall_back(cell, saved)
    for _ in range(2):
        orders = reconcile.compare(cell.database, moved.host or "", driver.list_guests(), fence=False)
        assert orders.orders == ()
    with pytest.raises(errors.NotFound):
        reconcile.adopt(cell.database, source, driver.describe_guest(SERVER))
    adopted = reconcile.adopt(cell.database, moved.host or "", driver.describe_guest(SERVER))
    assert (adopted.host, adopted.spec.flavor, adopted.vm_state) == (moved.host, LARGER, "active")
    assert adopted.generation > moved.generation
    assert [one.status for one in adopted.migrations] == [MigrationStatus.ERROR] * (moment != "before")
    assert reconcile.compare(cell.database, moved.host or "", driver.list_guests(), fence=False).orders == ()
    with cell.database.read() as connection:
        assert claims.list_mismatches(connection) == []
        assert [one.host for one in claims.list_of(connection, SERVER)] == [moved.host]
        assert feed.list_after(connection, 0, 1 << 40).entries[-1].record == adopted
    assert {one.severity for one in audit.check(cell.database, down_time=1e9)} == {"ok"}
    cell.begin(SERVER, Operation.STOP)
    cell.run()
    assert cell.record(SERVER).vm_state == VmState.STOPPED
