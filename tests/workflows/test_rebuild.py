"""What a rebuild changes in a server, and when."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.db import cell_schema, user_data
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import GuestCommand, PrepareRebuild, Rebuild
from cellcloud.model.operations import Operation
from cellcloud.server_states import PowerState, TaskState, VmState
from tests.workflows.test_every_step import SERVER
from tests.workflows.world import CellUnderTest

CHANGES: dict[str, Any] = {
    "name": "new",
    "description": "d",
    "hostname": "h",
    "metadata": {"a": "b"},
    "image": {"id": "other", "disk_format": "qcow2"},
    "keypair": {"name": "k", "user_id": "u", "public_key": "ssh-ed25519 A"},
    "user_data": "bmV3",
    "admin_pass": "secret",
    "access_ip_v4": "192.0.2.1",
    "disk_config": "AUTO",
}


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    world = CellUnderTest(cell_database)
    world.create(SERVER, user_data="b2xk")
    world.run()
    return world


def watch(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch) -> list[tuple[GuestCommand, str, str | None]]:
    """What is sent: with the name and the task state that the server has then."""
    seen: list[tuple[GuestCommand, str, str | None]] = []
    send = cell.send

    def look(command: GuestCommand) -> None:
        seen.append((command, cell.record(SERVER).spec.name, cell.record(SERVER).task_state))
        send(command)

    monkeypatch.setattr(cell, "send", look)
    return seen


def text_of(cell: CellUnderTest) -> str | None:
    """The server's user data."""
    with cell.database.read() as connection:
        return user_data.attach(connection, user_data.CELL, [cell.record(SERVER).spec])[0].user_data


def arguments_of(cell: CellUnderTest, *, active: bool) -> list[str]:
    """What the server's runs are stored with."""
    under_way = cell_schema.runs.c.active.is_not(None)
    wanted = sa.select(cell_schema.runs.c.arguments).where(under_way if active else sa.not_(under_way))
    with cell.database.read() as connection:
        return [str(one) for one in connection.execute(wanted).scalars()]


def test_the_record_changes_between_the_two_commands(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = cell.record(SERVER), watch(cell, monkeypatch)
    cell.begin(SERVER, Operation.REBUILD, spec_changes=CHANGES, keep_ephemeral=True)
    (asked,) = arguments_of(cell, active=True)
    assert ("new" in asked, "secret" in asked, "bmV3" in asked) == (True, False, False)
    cell.run()
    (prepare, old_name, first), (rebuild, new_name, second) = seen
    assert isinstance(prepare, PrepareRebuild)
    assert isinstance(rebuild, Rebuild)
    assert (old_name, first) == ("s", TaskState.REBUILDING)
    assert (new_name, second) == ("new", TaskState.REBUILD_SPAWNING)
    for command in (prepare, rebuild):
        assert (command.spec.image.id, command.spec.name, command.spec.hostname) == ("other", "new", "h")
        assert (command.spec.user_data, command.spec.admin_pass) == ("bmV3", "secret")
    assert (rebuild.run, rebuild.keep_ephemeral, rebuild.ports) == (True, True, before.ports)
    after = cell.assert_clean(SERVER)
    assert (after.spec.name, after.spec.metadata, after.spec.disk_config) == ("new", {"a": "b"}, "AUTO")
    assert after.spec.keypair is not None
    assert (after.host, after.ports, after.spec.flavor) == (before.host, before.ports, before.spec.flavor)
    assert text_of(cell) == "bmV3"
    with cell.database.read() as connection:
        used = connection.execute(sa.select(cell_schema.servers.c.user_data_id)).scalar_one()
    assert used == after.spec.user_data_id
    assert set(arguments_of(cell, active=False)) == {"{}"}  # the records of what was done are kept for long


def test_what_a_rebuild_does_not_name_stays(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.REBUILD, spec_changes={"image": {"id": "other"}})
    cell.run()
    assert (cell.assert_clean(SERVER).spec.name, text_of(cell)) == ("s", "b2xk")
    cell.begin(SERVER, Operation.REBUILD, spec_changes={"image": {"id": "other"}, "user_data": None, "keypair": None})
    cell.run()
    assert (cell.assert_clean(SERVER).spec.keypair, text_of(cell)) == (None, None)
    with pytest.raises(errors.Invalid):
        cell.begin(SERVER, Operation.REBUILD, spec_changes={"flavor": {}})


@pytest.mark.parametrize("state", [VmState.ACTIVE, VmState.STOPPED])
def test_a_host_that_cannot_leaves_the_server_what_it_was_until_its_disk_is_given_up(
    cell: CellUnderTest, state: VmState
) -> None:
    if state == VmState.STOPPED:
        cell.begin(SERVER, Operation.STOP)
        cell.run()
    for kind, name, ends in ((PrepareRebuild, "s", state), (Rebuild, "new", VmState.ERROR)):
        cell.fail[kind] = [errors.GuestFailed("no")]
        cell.begin(SERVER, Operation.REBUILD, spec_changes=CHANGES)
        cell.run()
        record = cell.record(SERVER)
        assert (record.vm_state, record.spec.name, record.task_state) == (ends, name, None)
        assert (record.fault.message if record.fault else None) == ("no" if ends == VmState.ERROR else None)
    assert record.host is not None
    cell.begin(SERVER, Operation.REBUILD, spec_changes=CHANGES)
    cell.run()
    done = cell.assert_clean(SERVER)
    assert (done.vm_state, done.power_state, done.fault) == (VmState.ACTIVE, PowerState.RUNNING, None)


def test_a_stopped_server_ends_stopped(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    cell.begin(SERVER, Operation.STOP)
    cell.run()
    seen = watch(cell, monkeypatch)
    cell.begin(SERVER, Operation.REBUILD, spec_changes=CHANGES)
    cell.run()
    assert [command.run for command, _, _ in seen if isinstance(command, Rebuild)] == [False]
    assert cell.assert_clean(SERVER).power_state == PowerState.SHUTDOWN
