"""A host's name is one machine's: the second of that name takes no commands and says why."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from cell.compute.__main__ import build
from cell.compute.identity import Identity, Standing
from cell.compute.service import ComputeService
from cell.conductor import audit
from cell.conductor import rpc_endpoint as conductor_service
from cellcloud import clock, config, errors
from cellcloud.context import RequestContext
from cellcloud.db import cell_schema
from cellcloud.db.engine import Database, utc_after
from cellcloud.model.guest_commands import ExpectedGuest, GuestOrder, OrderKind, Spawn
from cellcloud.model.host import HostMachine
from cellcloud.model.observed_guests import GuestState
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Transport
from cellcloud.server_states import PowerState
from tests.empty_databases import make_empty
from tests.unit.cell_world import (
    MemoryConductor,
    MemoryImages,
    ObedientDriver,
    eventually,
    make_command,
    server_id,
)
from tests.workflows.world import CellUnderTest

ONE = server_id(1)
FIRST = HostMachine(identity="a", place="first")
REBORN = HostMachine(identity="a", place="first, started again")
OTHER = HostMachine(identity="b", place="second")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = make_empty(tmp_path / "cell.db", "cell")
    yield made
    made.close()


def hold(database: Database, machine: HostMachine, *names: str) -> dict[str, str]:
    return conductor_service._hold(database, list(names or ("h1",)), machine, 15.0)


def fall_silent(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.update(cell_schema.host_names).values(held_until=utc_after(-1)))


@pytest.mark.parametrize(
    ("second", "silent", "with_server", "refused"),
    [
        (FIRST, False, True, ""),
        (REBORN, False, True, "lives"),
        (OTHER, False, False, "lives"),
        (REBORN, True, True, ""),
        (OTHER, True, False, ""),
        (OTHER, True, True, "not mounted"),
    ],
)
def test_a_name_is_one_machines(
    database: Database, second: HostMachine, silent: bool, with_server: bool, refused: str
) -> None:
    cell = CellUnderTest(database, ("h1", "h2"))
    assert hold(database, FIRST, "h1", "h2") == {}
    if with_server:
        cell.create(ONE)
    if silent:
        fall_silent(database)
    why = hold(database, second)
    assert list(why) == (["h1"] if refused else [])
    assert refused in why.get("h1", "")
    named = [finding.subject for finding in audit.check(database, down_time=15) if finding.severity == "error"]
    assert named == (["h1"] if refused else [])
    assert (hold(database, FIRST) == {}) is (bool(refused) or second == FIRST)


def test_an_operator_gives_the_name_of_a_lost_machine_away(database: Database) -> None:
    CellUnderTest(database, ("h1",)).create(ONE)
    hold(database, FIRST)
    with pytest.raises(errors.Conflict, match="lives"):
        conductor_service._release(database, "h1")
    fall_silent(database)
    assert hold(database, OTHER) != {}
    conductor_service._release(database, "h1")
    assert hold(database, OTHER) == {}
    assert hold(database, FIRST) != {}
    with pytest.raises(errors.NotFound):
        conductor_service._release(database, "h9")


def test_a_copied_state_directory_is_another_place_and_a_second_process_is_refused(tmp_path: Path) -> None:
    first, second = Identity(tmp_path / "a" / "id"), Identity(tmp_path / "a" / "id")
    one = first.open()
    assert first.open() == one
    with pytest.raises(errors.HostRefused, match="same name"):
        second.open()
    first.close()
    assert second.open() == one
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    third = Identity(tmp_path / "b" / "id")
    copy = third.open()
    assert copy.identity == one.identity
    assert copy.place != one.place
    second.close()
    third.close()


def test_nobody_believes_to_hold_a_name_longer_than_the_cell_does() -> None:
    conductor = MemoryConductor()
    with clock.using(clock.ManualClock()) as hands:
        standing = Standing(conductor, ["h1"], lambda: FIRST)
        assert not standing.holds
        standing.renew()
        hands.sleep(14.9)
        assert standing.holds
        conductor.away = True
        with pytest.raises(errors.Unreachable):
            standing.renew()
        hands.sleep(0.2)
        assert not standing.holds
        conductor.away, conductor.refused_names = False, {"h1": "another's"}
        with pytest.raises(errors.HostRefused) as refused:
            standing.renew()
        assert refused.value.detail == "another's"
        assert not standing.holds


def test_a_machine_that_slept_knows_how_long() -> None:
    """A lease that ended in its sleep is over when it wakes; a namespace whose boot was an hour before shows it."""
    slept = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "3600", sys.executable, "-c"]
    told = subprocess.run(
        [*slept, "import time; from cellcloud import clock; print(clock.monotonic() - time.monotonic())"],
        check=True,
        capture_output=True,
        text=True,
    )
    awake = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    assert float(told.stdout) - awake == pytest.approx(3600, abs=5)


@dataclass
class Rig:
    conductor: MemoryConductor
    driver: ObedientDriver
    service: ComputeService
    client: Compute


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    transport, conductor = Transport("twins", "kombu+memory://"), MemoryConductor()
    server = transport.serve(Conductor, conductor, server="c1")
    options = config.load()
    cell = replace(options.cell, name="twins", report_interval=0.1, service_down_time=0.9)
    options = replace(options, state_dir=tmp_path, host="h1", cell=cell)
    driver = ObedientDriver()
    service = build(options, transport=transport, images=MemoryImages(), drivers={"h1": driver})
    yield Rig(conductor, driver, service, transport.client(Compute, server="h1"))
    service.stop()
    server.stop()
    transport.close()


def test_the_second_machine_of_a_name_does_nothing_until_it_has_it(rig: Rig) -> None:
    rig.driver.guests[ONE] = GuestState(server_id=ONE, power_state=PowerState.RUNNING, generation=1)
    order = GuestOrder(server_id=ONE, kind=OrderKind.DESTROY, generation=2, reason="deleted")
    rig.conductor.orders["h1"] = [order]
    rig.conductor.refused_names = {"h1": "the name h1 belongs to another machine that lives (first)"}
    rig.service.start()
    eventually(lambda: "another machine" in rig.service.check()["start"])
    rig.client.apply(RequestContext(budget=60), "h1", [make_command(Spawn, 2)])
    assert rig.conductor.reports == []
    assert (rig.driver.calls, list(rig.driver.guests)) == ([], [ONE])
    rig.conductor.refused_names = {}
    eventually(lambda: rig.conductor.reports)
    rig.client.apply(RequestContext(budget=60), "h1", [make_command(Spawn, 2)])
    eventually(lambda: server_id(2) in rig.driver.guests)
    assert ONE not in rig.driver.guests


def test_guests_are_resumed_under_a_lease_that_lasts_and_nothing_is_opened_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To start them takes longer than the lease: the rest goes on under another, and so does the comparison."""
    ids = [server_id(number) for number in range(1, 9)]
    rig.driver.guests.update({each: GuestState(server_id=each, power_state=4, generation=1) for each in ids})
    rig.conductor.expected["h1"] = [ExpectedGuest(server_id=each, generation=1, running=True) for each in ids]
    rig.conductor.orders["h1"] = [GuestOrder(server_id=ONE, kind=OrderKind.DESTROY, generation=1, reason="deleted")]
    rig.conductor.name_lease = 0.15
    asked: list[int] = []
    start = rig.driver.start

    def slowly(server_id: str, generation: int) -> GuestState:
        asked.append(len(rig.conductor.machines))
        rig.conductor.name_lease = 0.15 if len(asked) < 5 else 60.0
        time.sleep(0.2)
        return start(server_id, generation)

    monkeypatch.setattr(rig.driver, "start", slowly)
    rig.service.start()
    eventually(lambda: rig.conductor.reports)
    assert sorted(each for verb, each in rig.driver.calls if verb == "start") == ids
    assert asked[0] < asked[-1]
    assert [verb for verb, _ in rig.driver.calls].count("connect") == 1
    assert ONE not in rig.driver.guests


def test_a_machine_that_loses_its_name_stops_taking_commands(rig: Rig) -> None:
    rig.service.start()
    eventually(lambda: rig.conductor.reports)
    rig.conductor.name_lease = 60.0
    rig.conductor.refused_names = {"h1": "the name h1 belongs to another machine"}
    eventually(lambda: "another machine" in rig.service.check().get("start", ""))
    heard = len(rig.conductor.reports)
    rig.service._perform("h1", make_command(Spawn))
    rig.driver.guests[ONE] = GuestState(server_id=ONE, power_state=PowerState.RUNNING, generation=1)
    rig.driver.change(ONE, PowerState.SHUTDOWN)
    rig.service._tell()
    assert ("spawn", ONE) not in rig.driver.calls
    assert (len(rig.conductor.reports), rig.conductor.events) == (heard, [])
