from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from cell.compute.reconcile import Reconciler
from cellcloud import errors
from cellcloud.model.guest_commands import ExpectedGuest, GuestEvent, GuestOrder, OrderKind
from cellcloud.model.observed_guests import GuestState
from cellcloud.server_states import PowerState
from tests.unit.cell_world import MemoryConductor, ObedientDriver, server_id

ONE = server_id(1)


@dataclass
class Host:
    conductor: MemoryConductor = field(default_factory=MemoryConductor)
    driver: ObedientDriver = field(default_factory=ObedientDriver)
    events: list[GuestEvent] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.reconciler = Reconciler(
            "h1",
            self.driver,
            self.conductor,
            is_busy=lambda host, server: server in self.busy,
            report=self.events.append,
        )

    def hold(self, generation: int = 1, power_state: int = PowerState.RUNNING) -> None:
        self.driver.guests[ONE] = GuestState(server_id=ONE, power_state=power_state, generation=generation)

    def expect(self, *, running: bool | None, generation: int = 1) -> None:
        self.conductor.expected["h1"] = [ExpectedGuest(server_id=ONE, generation=generation, running=running)]


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        (OrderKind.DESTROY, None),
        (OrderKind.STOP, (PowerState.SHUTDOWN, False, 1)),
        (OrderKind.FENCE, (PowerState.RUNNING, True, 1)),
        (OrderKind.DISCARD, (PowerState.RUNNING, False, 0)),
    ],
)
@pytest.mark.parametrize("busy", [False, True])
def test_the_cells_orders_are_obeyed_unless_a_command_is_at_work(
    host: Host, kind: OrderKind, left: tuple[int, bool, int] | None, busy: bool
) -> None:
    host.hold()
    host.driver.guests[ONE] = replace(host.driver.guests[ONE], beside=1)
    host.conductor.orders["h1"] = [GuestOrder(server_id=ONE, kind=kind, generation=1, reason="deleted")]
    if busy:
        host.busy.add(ONE)
    host.reconciler.compare()
    guest = host.driver.guests.get(ONE)
    expected = (PowerState.RUNNING, False, 1) if busy else left
    assert (guest and (guest.power_state, guest.fenced, guest.beside)) == expected


FAULTS = [errors.HostRefused("no"), errors.Unreachable("no"), OSError(5, "no")]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_order_that_cannot_be_obeyed_does_not_hinder_the_others(host: Host, fault: Exception) -> None:
    two = server_id(2)
    host.hold()
    host.driver.guests[two] = GuestState(server_id=two, power_state=1, generation=1)
    host.conductor.orders["h1"] = [
        GuestOrder(server_id=each, kind=OrderKind.DESTROY, generation=1, reason="deleted") for each in (ONE, two)
    ]
    host.driver.fault = fault
    host.reconciler.compare()
    assert list(host.driver.guests) == [ONE]


def test_a_guest_without_an_order_is_never_touched(host: Host) -> None:
    host.hold()
    for _ in range(5):
        host.reconciler.compare()
    assert host.driver.calls == []


@pytest.mark.parametrize(
    ("running", "power_state", "reported"),
    [
        (True, PowerState.RUNNING, None),
        (False, PowerState.SHUTDOWN, None),
        (None, PowerState.SHUTDOWN, None),
        (True, PowerState.SHUTDOWN, PowerState.SHUTDOWN),
        (False, PowerState.RUNNING, PowerState.RUNNING),
    ],
)
def test_power_states_that_differ_are_reported(
    host: Host, running: bool | None, power_state: int, reported: int | None
) -> None:
    host.hold(generation=3, power_state=power_state)
    host.expect(running=running, generation=4)
    host.reconciler.compare()
    assert [(event.power_state, event.generation) for event in host.events] == ([(reported, 4)] if reported else [])


def test_a_lost_guest_is_reported(host: Host) -> None:
    host.expect(running=True, generation=4)
    host.reconciler.compare()
    assert [(event.power_state, event.generation, event.run_id) for event in host.events] == [(0, 4, "")]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_known_guest_is_let_back_to_its_networks_and_one_that_cannot_be_hinders_no_other(
    host: Host, fault: Exception
) -> None:
    two = server_id(2)
    for each in (ONE, two):
        host.driver.guests[each] = GuestState(server_id=each, power_state=1, generation=1, fenced=True)
    host.conductor.expected["h1"] = [ExpectedGuest(server_id=each, generation=1, running=True) for each in (ONE, two)]
    host.driver.fault = fault
    host.reconciler.compare()
    assert [guest.fenced for guest in host.driver.guests.values()] == [True, False]
    host.reconciler.compare()
    assert [guest.fenced for guest in host.driver.guests.values()] == [False, False]


WITH_MEMORY = [PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED]


@pytest.mark.parametrize("recorded", [*WITH_MEMORY, PowerState.SHUTDOWN])
@pytest.mark.parametrize("found", [*WITH_MEMORY, PowerState.SHUTDOWN, PowerState.CRASHED])
def test_a_guest_that_runs_pauses_or_is_off_against_its_record_is_told(
    host: Host, recorded: PowerState, found: PowerState
) -> None:
    host.hold(power_state=found)
    running, paused, suspended = (recorded == state for state in WITH_MEMORY)
    host.conductor.expected["h1"] = [
        ExpectedGuest(server_id=ONE, generation=1, running=running, paused=paused, suspended=suspended)
    ]
    host.reconciler.compare()
    off = {PowerState.SHUTDOWN, PowerState.CRASHED}
    agree = recorded == found or {recorded, found} <= off
    assert [event.power_state for event in host.events] == ([] if agree else [found])
