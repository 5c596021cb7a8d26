"""Events of other services: what they are about is looked at anew, once or twice, in whatever order they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import sqlalchemy as sa

from cell.conductor import external_events
from cellcloud import errors
from cellcloud.db import cell_schema, servers
from cellcloud.db.engine import Database
from cellcloud.model.external_event import NETWORK_EVENTS, ExternalEvent
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.operations import Operation
from cellcloud.model.server import ServerChanges
from tests.workflows.world import CellUnderTest

ONE, TWO, NOBODY = (f"11111111-0000-4000-8000-00000000000{n}" for n in range(1, 4))
MOVED = FixedIp(ip_address="10.0.0.99", subnet_id="sub")


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    """A cell with two servers, one on h1 and another on any."""
    made = CellUnderTest(cell_database)
    for server_id in (ONE, TWO):
        made.create(server_id)
    made.run()
    return made


def tell(cell: CellUnderTest, *events: ExternalEvent) -> tuple[list[int], list[str]]:
    """The statuses, and the hosts that were to tell of their guests."""
    asked: list[str] = []
    return external_events.apply(cell.database, cell.networks, asked.append, events), asked


def about(server_id: str, name: str = "network-changed", tag: str = "") -> ExternalEvent:
    return ExternalEvent(server_id=server_id, name=name, tag=tag)


def count_told(cell: CellUnderTest) -> int:
    with cell.database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(cell_schema.feed)).scalar_one())


def ports_of(cell: CellUnderTest, server_id: str) -> tuple[Port, ...]:
    with cell.database.read() as connection:
        return servers.get(connection, server_id).ports


@pytest.mark.parametrize("name", sorted(NETWORK_EVENTS))
def test_what_changed_of_ports_is_in_the_record_and_the_feed_once(cell: CellUnderTest, name: str) -> None:
    (port,) = cell.networks.ports[ONE]
    cell.networks.ports[ONE] = () if name == "network-vif-deleted" else (replace(port, fixed_ips=(MOVED,)),)
    before = count_told(cell)
    for _ in range(2):
        assert tell(cell, about(ONE, name, port.id), about(ONE, name), about(TWO, name)) == ([200] * 3, [])
        assert ports_of(cell, ONE) == cell.networks.ports[ONE]
        assert ports_of(cell, TWO) == cell.networks.ports[TWO]
        assert count_told(cell) == before + 1


def test_hosts_tell_of_power_once_for_all_their_servers(cell: CellUnderTest) -> None:
    with cell.database.read() as connection:
        there = {record.host for record in servers.list_by_id(connection, [ONE, TWO])}
    events = [about(server_id, "power-update", "POWER_OFF") for server_id in (ONE, TWO, ONE)]
    codes, asked = tell(cell, *events)
    assert codes == [200] * 3
    assert asked == sorted(host for host in there if host)


def test_servers_that_are_not_there_or_nowhere(cell: CellUnderTest) -> None:
    cell.begin(ONE, Operation.DELETE)
    cell.run()
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).where(cell_schema.servers.c.id == TWO).values(host=None))
    cell.networks.ports.clear()
    codes, asked = tell(cell, about(ONE), about(TWO), about(NOBODY), about(TWO, "power-update", "POWER_ON"))
    assert (codes, asked) == ([404, 422, 404, 422], [])
    assert ports_of(cell, TWO) != ()


def test_what_a_run_did_meanwhile_stays(cell: CellUnderTest) -> None:
    """The ports were read before a run took them away."""
    old = cell.networks.ports[ONE]

    class Slow(type(cell.networks)):  # type: ignore[misc]
        def list_ports_of(self, server_ids: Sequence[str]) -> dict[str, tuple[Port, ...]]:
            with cell.database.write() as connection:
                servers.change(connection, ONE, ServerChanges(ports=()))
            return dict.fromkeys(server_ids, (replace(old[0], fixed_ips=(MOVED,)),))

    external_events.apply(cell.database, Slow(), lambda host: None, [about(ONE)])
    assert ports_of(cell, ONE) == ()


def test_networks_that_do_not_answer_are_said_to(cell: CellUnderTest) -> None:
    class Away(type(cell.networks)):  # type: ignore[misc]
        def list_ports_of(self, server_ids: Sequence[str]) -> dict[str, tuple[Port, ...]]:
            raise errors.Unreachable("The network service does not answer.")

    with pytest.raises(errors.Unreachable):
        external_events.apply(cell.database, Away(), lambda host: None, [about(ONE)])
