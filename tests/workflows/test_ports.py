"""What becomes of a server's ports: attached and detached, several at once, with a server that moves or is deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cell.conductor import external_events
from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.model.external_event import ExternalEvent
from cellcloud.model.guest_commands import AttachPort, DetachPort
from cellcloud.model.image import Image
from cellcloud.model.network import Plugging, Port, RequestedNetwork
from cellcloud.model.operations import Operation
from cellcloud.model.server import ServerRecord
from tests.workflows.world import CellUnderTest

SERVER = "11111111-0000-4000-8000-000000000001"


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    world = CellUnderTest(cell_database)
    world.create(SERVER)
    world.run()
    return world


def attached(cell: CellUnderTest, count: int = 1) -> ServerRecord:
    """The server with so many ports more."""
    for _ in range(count):
        cell.begin(SERVER, Operation.ATTACH_INTERFACE)
        cell.run()
    return cell.assert_clean(SERVER)


def test_what_is_asked_for_at_once_is_done_one_after_the_other(cell: CellUnderTest) -> None:
    first = cell.record(SERVER).ports[0]
    for _ in range(3):
        cell.begin(SERVER, Operation.ATTACH_INTERFACE)
    cell.begin(SERVER, Operation.ATTACH_VOLUME)
    begun = cell.begin(SERVER, Operation.DETACH_INTERFACE, port=first)
    kinds = [one.change.kind if one.change else None for one in begun.ports]
    assert kinds == [Plugging.DETACHING, *[Plugging.ATTACHING] * 3]
    with pytest.raises(errors.Conflict, match="detaching"):
        cell.begin(SERVER, Operation.DETACH_INTERFACE, port=first)
    with pytest.raises(errors.Conflict):
        cell.begin(SERVER, Operation.STOP)
    cell.run()
    ended = cell.assert_clean(SERVER)
    assert [one.id for one in ended.ports] == [one.id for one in begun.ports[1:]]
    assert {one.tag for one in ended.ports} == {"t"}
    assert len(ended.volumes) == 1


def test_one_that_fails_holds_up_no_other_and_is_given_back(cell: CellUnderTest) -> None:
    cell.fail[AttachPort] = [errors.GuestFailed("no")]
    for _ in range(2):
        cell.begin(SERVER, Operation.ATTACH_INTERFACE)
    cell.run()
    assert len(cell.assert_clean(SERVER).ports) == 2


def test_a_port_is_attached_once(cell: CellUnderTest) -> None:
    held = attached(cell).ports[-1]
    with pytest.raises(errors.Conflict, match="in use"):
        cell.begin(SERVER, Operation.ATTACH_INTERFACE, port=replace(held, change=None))


def test_a_guest_that_does_not_let_go_keeps_its_port(cell: CellUnderTest) -> None:
    before = attached(cell).ports
    cell.fail[DetachPort] = [errors.GuestFailed("The guest does not let go of the port.")]
    cell.begin(SERVER, Operation.DETACH_INTERFACE)
    cell.run()
    assert cell.assert_clean(SERVER).ports == before
    cell.begin(SERVER, Operation.DETACH_INTERFACE)
    cell.run()
    assert cell.assert_clean(SERVER).ports == before[:-1]


def test_nothing_holds_a_port_on_a_host_that_is_fenced(cell: CellUnderTest) -> None:
    record = attached(cell)
    assert record.host is not None
    cell.away.add(record.host)
    cell.fenced.add(record.host)
    cell.begin(SERVER, Operation.DETACH_INTERFACE)
    cell.run()
    assert cell.record(SERVER).ports == record.ports[:-1]
    assert len(cell.networks.list_ports(SERVER)) == 1


def test_a_port_that_is_gone_is_not_attached(cell: CellUnderTest) -> None:
    before = cell.record(SERVER).ports
    begun = cell.begin(SERVER, Operation.ATTACH_INTERFACE)
    cell.networks.release_port(SERVER, begun.ports[-1].id)
    cell.run()
    assert cell.assert_clean(SERVER).ports == before


@pytest.mark.parametrize("networks", [(), (RequestedNetwork(network_id="net"),)], ids=["none", "one"])
def test_ports_go_with_a_server_that_moves_and_end_with_it(
    cell_database: Database, networks: tuple[RequestedNetwork, ...]
) -> None:
    cell = CellUnderTest(cell_database)
    cell.create(SERVER, networks=networks)
    cell.run()
    tags = [one.tag for one in attached(cell, 2).ports]
    assert tags[-2:] == ["t", "t"]
    image = Image(id="22222222-0000-4000-8000-000000000001", owner="p")
    for operation, asked in (
        (Operation.RESIZE, {}),
        (Operation.REVERT_RESIZE, {}),
        (Operation.MIGRATE, {}),
        (Operation.CONFIRM_RESIZE, {}),
        (Operation.SHELVE, {"image": image}),
        (Operation.SHELVE_OFFLOAD, {}),
        (Operation.UNSHELVE, {}),
        (Operation.REBUILD, {"spec_changes": {"name": "rebuilt"}}),
        (Operation.REBOOT, {"type": "HARD"}),
    ):
        cell.begin(SERVER, operation, **asked)
        cell.run()
        assert [one.tag for one in cell.assert_clean(SERVER).ports] == tags, operation
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert cell.assert_clean(SERVER).deleted


def test_a_port_that_was_deleted_is_taken_from_the_guest(cell: CellUnderTest) -> None:
    port = attached(cell).ports[-1]
    cell.networks.release_port(SERVER, port.id)
    deleted = ExternalEvent(server_id=SERVER, name="network-vif-deleted", tag=port.id)

    def detach(server_id: str, gone: Port) -> None:
        cell.begin(server_id, Operation.DETACH_INTERFACE, port=gone)

    events = [replace(deleted, tag="unknown"), deleted, deleted]
    assert external_events.apply(cell.database, cell.networks, str, events, detach=detach) == [200] * 3
    cell.run()
    assert port.id not in {one.id for one in cell.assert_clean(SERVER).ports}


def test_an_event_of_the_network_keeps_order_tags_and_what_is_under_way(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.ATTACH_INTERFACE)
    cell.networks.ports[SERVER] = tuple(replace(one, mtu=1300) for one in reversed(cell.networks.ports[SERVER]))
    before = cell.record(SERVER).ports
    changed = ExternalEvent(server_id=SERVER, name="network-changed")
    assert external_events.apply(cell.database, cell.networks, str, [changed]) == [200]
    after = cell.record(SERVER).ports
    assert [replace(one, mtu=1400, host_id="") for one in after] == [replace(one, host_id="") for one in before]
    assert {one.mtu for one in after} == {1300}
