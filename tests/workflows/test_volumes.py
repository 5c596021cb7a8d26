"""What becomes of a server's volumes: several at once, with a server that moves, is put away, or is deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cell.conductor import external_events, server_field_updates
from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.model.external_event import ExternalEvent
from cellcloud.model.guest_commands import AttachVolume, DetachVolume
from cellcloud.model.image import Image
from cellcloud.model.operations import Operation
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import AttachedVolume, AttachmentState
from tests.workflows.test_leases import end_leases
from tests.workflows.world import CellUnderTest, request

SERVER = "11111111-0000-4000-8000-000000000001"


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    world = CellUnderTest(cell_database)
    world.create(SERVER)
    world.run()
    return world


def attached(cell: CellUnderTest, count: int = 1) -> ServerRecord:
    """The server with so many volumes."""
    for _ in range(count):
        cell.begin(SERVER, Operation.ATTACH_VOLUME)
        cell.run()
    return cell.assert_clean(SERVER)


def test_what_is_asked_for_at_once_is_done_one_after_the_other(cell: CellUnderTest) -> None:
    (held,) = attached(cell).volumes
    for _ in range(3):
        cell.begin(SERVER, Operation.ATTACH_VOLUME)
    cell.volumes.begin_detaching(held.volume_id)
    begun = cell.begin(SERVER, Operation.DETACH_VOLUME, volume=held)
    assert [one.state for one in begun.volumes] == [AttachmentState.DETACHING, *[AttachmentState.ATTACHING] * 3]
    with pytest.raises(errors.Conflict, match="detaching"):
        cell.begin(SERVER, Operation.DETACH_VOLUME, volume=held)
    with pytest.raises(errors.Conflict):
        cell.begin(SERVER, Operation.STOP)
    cell.run()
    assert [one.device for one in cell.assert_clean(SERVER).volumes] == ["/dev/vdc", "/dev/vdd", "/dev/vde"]
    assert attached(cell).volumes[-1].device == "/dev/vdb"


def test_one_that_fails_holds_up_no_other(cell: CellUnderTest) -> None:
    cell.fail[AttachVolume] = [errors.GuestFailed("no")]
    for _ in range(2):
        cell.begin(SERVER, Operation.ATTACH_VOLUME)
    cell.run()
    assert len(cell.assert_clean(SERVER).volumes) == 1


def test_a_volume_is_attached_once(cell: CellUnderTest) -> None:
    (held,) = attached(cell).volumes
    assert cell.begin(SERVER, Operation.ATTACH_VOLUME, volume=replace(held, id="another")).volumes == (held,)
    again = replace(held, id="another", attachment_id="another")
    with pytest.raises(errors.Invalid, match="already attached"):
        cell.begin(SERVER, Operation.ATTACH_VOLUME, volume=again)
    assert cell.assert_clean(SERVER).volumes == (held,)


def test_a_guest_that_does_not_let_go_keeps_its_volume(cell: CellUnderTest) -> None:
    before = attached(cell)
    cell.fail[DetachVolume] = [errors.GuestFailed("The guest does not let go of the volume.")]
    cell.begin(SERVER, Operation.DETACH_VOLUME)
    cell.run()
    assert [one.volume_id for one in cell.assert_clean(SERVER).volumes] == [before.volumes[0].volume_id]
    cell.begin(SERVER, Operation.DETACH_VOLUME)
    cell.run()
    assert cell.assert_clean(SERVER).volumes == ()


def test_nothing_holds_a_volume_on_a_host_that_is_fenced(cell: CellUnderTest) -> None:
    record = attached(cell)
    assert record.host is not None
    cell.away.add(record.host)
    cell.fenced.add(record.host)
    cell.begin(SERVER, Operation.DETACH_VOLUME)
    cell.run()
    assert cell.record(SERVER).volumes == ()
    assert {one.status for one in cell.volumes.volumes.values()} == {"available"}


@pytest.mark.parametrize("operation", [Operation.RESIZE, Operation.MIGRATE])
def test_a_volume_is_reached_from_where_its_server_is(cell: CellUnderTest, operation: Operation) -> None:
    source = attached(cell, 2).host

    def reached_from() -> set[str]:
        return {one.host for one in cell.volumes.attachments.values()}

    for ends in (Operation.REVERT_RESIZE, Operation.CONFIRM_RESIZE):
        cell.begin(SERVER, operation)
        cell.run()
        moved = cell.assert_clean(SERVER)
        assert moved.host != source
        assert reached_from() == {moved.host}
        told = {one.connection["data"]["export"] for one in moved.volumes}
        cell.begin(SERVER, ends)
        cell.run()
        ended = cell.assert_clean(SERVER)
        assert reached_from() == {ended.host}
        assert ({one.connection["data"]["export"] for one in ended.volumes} == told) == (ended.host != source)


def test_one_that_is_on_no_host_has_its_volumes_on_the_next(cell: CellUnderTest) -> None:
    attached(cell)
    image = Image(id="22222222-0000-4000-8000-000000000001", owner="p")
    for operation, asked in ((Operation.SHELVE, {"image": image}), (Operation.SHELVE_OFFLOAD, {})):
        cell.begin(SERVER, operation, **asked)
        cell.run()
    assert cell.assert_clean(SERVER).host is None
    attached(cell)
    cell.begin(SERVER, Operation.DETACH_VOLUME)
    cell.run()
    (held,) = cell.assert_clean(SERVER).volumes
    assert not held.connection
    cell.begin(SERVER, Operation.UNSHELVE)
    cell.run()
    assert cell.assert_clean(SERVER).volumes[0].connection


@pytest.mark.parametrize("goes", [False, True])
def test_a_delete_gives_back_and_deletes_what_goes_with_the_server(cell: CellUnderTest, goes: bool) -> None:
    held = attached(cell, 2).volumes
    wanted = {"delete_on_termination": {held[0].volume_id: goes}}
    server_field_updates.update_server(cell.database, request(), SERVER, wanted)
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert cell.assert_clean(SERVER).deleted
    left = {one.id: one.status for one in cell.volumes.volumes.values()}
    assert left == {one.volume_id: "available" for one in held[goes:]}


@pytest.mark.parametrize("fenced", [False, True])
def test_a_deleted_server_on_a_dead_host_has_its_volume_until_the_host_is_proven_dead(
    cell: CellUnderTest, fenced: bool
) -> None:
    record = attached(cell)
    assert record.host is not None
    cell.away.add(record.host)
    cell.begin(SERVER, Operation.DELETE)
    for _ in range(4):
        end_leases(cell.database)
        with pytest.raises(AssertionError):
            cell.run(limit=1)
    assert cell.record(SERVER).deleted
    assert {one.status for one in cell.volumes.volumes.values()} == {"in-use"}
    (cell.fenced.add if fenced else cell.away.remove)(record.host)
    cell.run()
    assert {one.status for one in cell.volumes.volumes.values()} == {"available"}
    assert cell.volumes.attachments == {}


def test_a_guest_sees_that_its_volume_has_grown(cell: CellUnderTest) -> None:
    (held,) = attached(cell).volumes
    event = ExternalEvent(server_id=SERVER, name="volume-extended", tag=held.volume_id)
    unknown = replace(event, tag="another")

    def extend(server_id: str, volume: AttachedVolume) -> None:
        cell.begin(server_id, Operation.EXTEND_VOLUME, volume=replace(volume, size_gb=7))

    assert external_events.apply(cell.database, cell.networks, str, [event, unknown], extend) == [200, 200]
    with pytest.raises(errors.TryLater):
        external_events.apply(cell.database, cell.networks, str, [event], extend)
    cell.run()
    assert cell.assert_clean(SERVER).volumes[0].size_gb == 7
