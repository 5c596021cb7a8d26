from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from cell.compute.reconcile import Reconciler
from cellcloud.lifecycle import PowerState
from cellcloud.model.guest import ExpectedGuest, GuestEvent, GuestState
from tests.unit.cell_world import MemoryConductor, ObedientDriver, make_record, server_id

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
    ("record", "kept"),
    [
        ({"deleted": True, "generation": 2}, False),
        ({"host": "h2", "generation": 2}, False),
        ({"host": None, "vm_state": "error", "generation": 1}, False),
        ({"host": "h2", "generation": 2, "task_state": "migrating"}, True),
        ({"host": "h1", "vm_state": "error", "generation": 2}, True),
        ({"deleted": True, "generation": 0}, True),
    ],
)
def test_a_guest_goes_only_when_its_record_says_so(host: Host, record: dict[str, object], kept: bool) -> None:
    host.hold()
    host.conductor.records[ONE] = make_record(1, **record)
    host.reconciler.compare()
    host.reconciler.compare()
    assert (ONE in host.driver.guests) is kept


def test_a_guest_without_a_record_gets_one_more_round(host: Host) -> None:
    host.hold()
    host.reconciler.compare()
    assert ONE in host.driver.guests
    host.reconciler.compare()
    assert ONE not in host.driver.guests


def test_a_record_found_in_between_starts_the_count_again(host: Host) -> None:
    host.hold()
    host.reconciler.compare()
    host.expect(running=True)
    host.reconciler.compare()
    host.conductor.expected.clear()
    host.reconciler.compare()
    assert ONE in host.driver.guests


def test_a_busy_guest_is_left_alone(host: Host) -> None:
    host.hold()
    host.busy.add(ONE)
    host.conductor.records[ONE] = make_record(1, deleted=True, generation=9)
    host.reconciler.compare()
    assert ONE in host.driver.guests


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
