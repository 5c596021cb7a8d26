from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cell.compute.__main__ import build, make_drivers
from cell.compute.resume_guests_on_host_boot import BootLog
from cell.compute.service import ComputeService
from cellcloud import config, errors
from cellcloud.context import RequestContext
from cellcloud.model.guest_commands import ExpectedGuest, GuestCommand, GuestOrder, OrderKind, RebootHard, Spawn, Start
from cellcloud.model.network_plan import PlanChanges
from cellcloud.model.observed_guests import GuestState
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.network_store import NetworkStore
from cellcloud.rpc.transport import Transport
from cellcloud.server_states import PowerState
from tests.unit.cell_world import (
    MemoryConductor,
    MemoryImages,
    ObedientDriver,
    eventually,
    make_command,
    make_record,
    server_id,
)

ONE = server_id(1)
CONTEXT = RequestContext(budget=86_400)


@dataclass
class Cell:
    conductor: MemoryConductor
    drivers: dict[str, ObedientDriver]
    service: ComputeService
    client: Compute

    def ready(self) -> None:
        self.service.start()
        eventually(lambda: self.conductor.reports)


class NoPlans(NetworkStore):
    """A cell that is given no plans of networks."""

    def compare_plans(self, context: RequestContext, host: str, versions: dict[str, int]) -> PlanChanges | None:
        return None


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[Transport, MemoryConductor]]:
    """A queue with a conductor, once for all tests: stopping its server takes a second."""
    transport = Transport("unit", "kombu+memory://")
    conductor = MemoryConductor()
    servers = [
        transport.serve(Conductor, conductor, server="c1"),
        transport.serve(NetworkStore, NoPlans(), server="c1"),
    ]
    yield transport, conductor
    for server in servers:
        server.stop()
    transport.close()


@pytest.fixture
def conductor(wire: tuple[Transport, MemoryConductor]) -> MemoryConductor:
    """The same conductor without its memories."""
    vars(wire[1]).update(vars(MemoryConductor()))
    return wire[1]


@pytest.fixture
def cell(tmp_path: Path, wire: tuple[Transport, MemoryConductor], conductor: MemoryConductor) -> Iterator[Cell]:
    options = config.load()
    options = replace(
        options, state_dir=tmp_path, host="h1", cell=replace(options.cell, name="unit", report_interval=0.2)
    )
    transport = wire[0]
    drivers = {"h1": ObedientDriver(), "h2": ObedientDriver()}
    BootLog(tmp_path / "cells/unit/boots/h1.json").note({host: driver.boot for host, driver in drivers.items()})
    service = build(options, transport=transport, images=MemoryImages(), drivers=drivers)
    yield Cell(conductor, drivers, service, transport.client(Compute, server="h1"))
    for driver in drivers.values():
        driver.hold.set()
    service.stop()
    service.stop()


def test_commands_are_carried_out_and_answered(cell: Cell) -> None:
    cell.ready()
    cell.client.apply(CONTEXT, "h2", [make_command(Spawn), make_command(Spawn, 2)])
    eventually(lambda: len(cell.conductor.events) == 2)
    assert {event.run_id for event in cell.conductor.events} == {"run-1-1", "run-2-1"}
    assert {event.host for event in cell.conductor.events} == {"h2"}
    assert all(event.power_state == PowerState.RUNNING and not event.error for event in cell.conductor.events)
    assert set(cell.drivers["h2"].guests) == {ONE, server_id(2)}
    assert cell.drivers["h1"].guests == {}


def test_every_host_reports_with_its_queue(cell: Cell) -> None:
    cell.ready()
    eventually(lambda: len(cell.conductor.reports) >= 4)
    assert {(report.host, report.queue) for report in cell.conductor.reports} == {("h1", "h1"), ("h2", "h1")}
    assert set(cell.service.check().values()) == {"ok"}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"vcpus": "many"}, "h2 says what is no report: Expected `int`, got `str` - at `$[0].facts.vcpus`"),
        ({"memory_mb": None}, "h2 says what is no report: Expected `int`, got `None` - at `$[0].facts.memory_mb`"),
        ({"host_ip": object()}, "h2 says what is no report: Encoding objects of type object is unsupported"),
    ],
)
def test_a_host_whose_report_has_no_form_is_named_and_the_others_are_heard(
    cell: Cell, facts: dict[str, object], reason: str
) -> None:
    cell.drivers["h2"].facts = facts
    cell.ready()
    eventually(lambda: len(cell.conductor.reports) >= 2)
    assert {report.host for report in cell.conductor.reports} == {"h1"}
    assert cell.service.check()["hypervisor"] == reason
    cell.drivers["h2"].facts = {}
    eventually(lambda: {report.host for report in cell.conductor.reports} == {"h1", "h2"})
    eventually(lambda: cell.service.check()["hypervisor"] == "ok")


def test_a_host_whose_hypervisor_does_not_answer_is_named_and_the_others_are_heard(cell: Cell) -> None:
    cell.ready()
    eventually(lambda: len(cell.conductor.reports) >= 2)
    cell.drivers["h2"].mute = True
    eventually(lambda: cell.service.check()["hypervisor"] == "h2 does not answer")
    heard = len(cell.conductor.reports)
    eventually(lambda: len(cell.conductor.reports) >= heard + 2)
    assert {report.host for report in cell.conductor.reports[heard:]} == {"h1"}
    cell.drivers["h2"].mute = False
    eventually(lambda: cell.service.check()["hypervisor"] == "ok")


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (errors.HostRefused("No room on the disk."), "HostRefused"),
        (errors.Stale("Older."), "Stale"),
        (ZeroDivisionError("/var/lib/secret"), "GuestFailed"),
        (OSError(28, "No space left on device", "/var/lib/secret"), "HostRefused"),
    ],
)
def test_failures_are_answered_by_their_class(cell: Cell, fault: Exception, name: str) -> None:
    cell.ready()
    cell.drivers["h1"].fault = fault
    cell.client.apply(CONTEXT, "h1", [make_command(Spawn)])
    eventually(lambda: cell.conductor.events)
    event = cell.conductor.events[0]
    assert event.error == name
    assert "secret" not in event.message


@pytest.mark.parametrize(
    ("expected", "found", "resumed"),
    [
        (True, PowerState.SHUTDOWN, True),
        (True, PowerState.CRASHED, True),
        (True, PowerState.RUNNING, False),
        (True, PowerState.PAUSED, False),
        (False, PowerState.SHUTDOWN, False),
        (None, PowerState.SHUTDOWN, False),  # its run sees to it
    ],
)
@pytest.mark.parametrize("boot", ["first", "second"])
def test_guests_that_ran_are_resumed_after_their_host_was_down_and_only_then(
    cell: Cell, tmp_path: Path, boot: str, expected: bool | None, found: int, resumed: bool
) -> None:
    driver = cell.drivers["h1"]
    driver.boot = boot
    driver.guests[ONE] = GuestState(server_id=ONE, generation=1, power_state=found)
    cell.conductor.expected["h1"] = [ExpectedGuest(server_id=ONE, generation=1, running=expected)]
    cell.ready()
    resumed = resumed and boot == "second"
    assert (("start", ONE) in driver.calls) == resumed
    silent = resumed or expected in (False, None) or found == PowerState.RUNNING
    eventually(lambda: {event.power_state for event in cell.conductor.events} == (set() if silent else {found}))
    assert not BootLog(tmp_path / "cells/unit/boots/h1.json").is_new("h1", boot)


@pytest.mark.parametrize("fault", [errors.GuestFailed("A disk of the guest is missing."), OSError(5, "no")])
def test_a_guest_that_cannot_be_resumed_is_reported(cell: Cell, fault: Exception) -> None:
    driver = cell.drivers["h1"]
    driver.boot = "second"
    driver.guests[ONE] = GuestState(server_id=ONE, generation=5, power_state=PowerState.SHUTDOWN)
    driver.faults_at["start"] = fault
    cell.conductor.expected["h1"] = [ExpectedGuest(server_id=ONE, generation=5, running=True)]
    cell.ready()
    eventually(lambda: {event.power_state for event in cell.conductor.events} == {PowerState.SHUTDOWN})


def test_an_outcome_outlives_the_conductor(cell: Cell) -> None:
    cell.ready()
    cell.conductor.away = True
    cell.client.apply(CONTEXT, "h1", [make_command(Spawn)])
    eventually(lambda: cell.drivers["h1"].guests)
    cell.conductor.away = False
    eventually(lambda: cell.conductor.events)


@pytest.mark.parametrize(("kind", "verb"), [(Start, "start"), (RebootHard, "reboot")])
@pytest.mark.parametrize("disks", [True, False])
def test_a_lost_definition_is_made_again_but_never_a_lost_disk(
    cell: Cell, kind: type[GuestCommand], verb: str, disks: bool
) -> None:
    cell.ready()
    cell.drivers["h1"].disks = {ONE} if disks else set()
    cell.client.apply(CONTEXT, "h1", [make_command(kind, generation=4)])
    eventually(lambda: cell.conductor.events)
    assert [verb for verb, _ in cell.drivers["h1"].calls] == ["connect", verb, "restore"]
    assert cell.conductor.events[0].error == ("" if disks else "GuestFailed")
    assert (ONE in cell.drivers["h1"].guests) is disks


def test_a_change_nobody_asked_for_is_reported_as_it_is(cell: Cell) -> None:
    cell.ready()
    driver = cell.drivers["h1"]
    driver.guests[ONE] = GuestState(server_id=ONE, power_state=PowerState.RUNNING, generation=3)
    driver.change(ONE, PowerState.SHUTDOWN)
    eventually(lambda: cell.conductor.events)
    event = cell.conductor.events[0]
    assert (event.run_id, event.generation, event.power_state) == ("", 3, PowerState.SHUTDOWN)


def test_a_returning_host_drops_what_is_no_longer_its_own_before_it_takes_work(cell: Cell) -> None:
    driver = cell.drivers["h1"]
    driver.guests[ONE] = GuestState(server_id=ONE, power_state=PowerState.RUNNING, generation=1)
    order = GuestOrder(server_id=ONE, kind=OrderKind.DESTROY, generation=2, reason="deleted")
    cell.conductor.orders["h1"] = [order]
    cell.conductor.away = True
    cell.service.start()
    eventually(lambda: "No conductor answers." in cell.service.check()["start"])
    assert cell.conductor.reports == []
    assert ONE in driver.guests
    cell.conductor.away = False
    eventually(lambda: cell.conductor.reports)
    assert driver.guests == {}


def test_consoles_are_shown_only_of_the_guest_that_was_meant(cell: Cell) -> None:
    cell.ready()
    cell.drivers["h1"].guests[ONE] = GuestState(server_id=ONE, power_state=1, generation=3)
    assert cell.client.get_console(CONTEXT, "h1", ONE, 3).port == 5900
    assert cell.client.get_console(CONTEXT, "h1", ONE, 4).generation == 4
    with pytest.raises(errors.Stale):
        cell.client.get_console(CONTEXT, "h1", ONE, 2)
    with pytest.raises(errors.NotFound):
        cell.client.get_console(CONTEXT, "h2", ONE, 3)
    with pytest.raises(errors.NotFound):
        cell.client.get_console(CONTEXT, "elsewhere", ONE, 3)
    assert cell.client.get_console_output(CONTEXT, "h1", ONE, 5) == "login"


def test_stopping_lets_the_command_at_hand_end_and_tells_its_outcome(cell: Cell) -> None:
    cell.ready()
    cell.drivers["h1"].hold.clear()
    cell.client.apply(CONTEXT, "h1", [make_command(Spawn)])
    eventually(lambda: cell.drivers["h1"].at_work)
    cell.drivers["h1"].hold.set()
    cell.service.stop()
    assert [event.error for event in cell.conductor.events] == [""]
    assert cell.drivers["h1"].closed


def test_one_process_stands_for_many_fake_hosts_which_outlive_it(
    tmp_path: Path, wire: tuple[Transport, MemoryConductor], conductor: MemoryConductor
) -> None:
    options = config.load()
    options = replace(
        options,
        state_dir=tmp_path,
        host="unit",
        cell=replace(options.cell, name="unit"),
        compute=replace(options.compute, driver="fake", fake_hosts=300),
    )
    conductor.records[ONE] = make_record(1, host="unit-fake-0007")
    for _ in range(2):
        conductor.reports.clear()
        service = build(options, transport=wire[0], images=MemoryImages())
        service.start()
        eventually(lambda: len(conductor.reports) >= 300)
        client = wire[0].client(Compute, server="unit")
        client.apply(CONTEXT, "unit-fake-0007", [make_command(Spawn)])
        eventually(lambda: conductor.events)
        assert [guest.server_id for guest in client.list_guests(CONTEXT, "unit-fake-0007")] == [ONE]
        service.stop()
    assert {report.queue for report in conductor.reports} == {"unit"}
    assert {report.host for report in conductor.reports} >= {"unit-fake-0001", "unit-fake-0300"}


def test_a_libvirt_host_is_the_node_of_its_name(tmp_path: Path) -> None:
    options = config.load()
    options = replace(
        options,
        state_dir=tmp_path,
        host="east-1",
        compute=replace(options.compute, driver="libvirt"),
        metadata=replace(options.metadata, secret="s"),
    )
    node = tmp_path / "nodes" / "east-1"
    node.mkdir(parents=True)
    (node / "hosts").write_text("127.0.0.1 localhost\n10.77.1.11 east-1 # itself\n")
    with contextlib.ExitStack() as let_go:
        assert list(make_drivers(options, let_go)) == ["east-1"]
        (node / "hosts").write_text("127.0.0.1 localhost\n")
        with pytest.raises(errors.Misconfigured):
            make_drivers(options, let_go)
