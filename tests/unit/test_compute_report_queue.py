from __future__ import annotations

import pytest

from cell.compute import report_queue
from cell.compute.report_queue import ReportQueue
from cellcloud import errors
from cellcloud.model.guest_commands import GuestEvent
from tests.unit.cell_world import MemoryConductor, eventually


def event(server: str, generation: int = 1) -> GuestEvent:
    return GuestEvent(host="h1", server_id=server, generation=generation, power_state=1)


def test_everything_that_waits_goes_in_one_message_in_order() -> None:
    conductor = MemoryConductor()
    box = ReportQueue(conductor)
    events = [event("a", generation) for generation in range(20)]
    for each in events:
        box.post(each)
    box.deliver()
    assert conductor.events == events
    assert conductor.batches == [20]


def test_events_survive_an_absent_conductor() -> None:
    conductor = MemoryConductor()
    conductor.away = True
    box = ReportQueue(conductor)
    box.start()
    box.post(event("a", 1))
    box.post(event("a", 2))
    with pytest.raises(errors.Unreachable):
        box.deliver()
    conductor.away = False
    eventually(lambda: len(conductor.events) >= 2)
    box.stop()
    assert [each.generation for each in conductor.events] == sorted(each.generation for each in conductor.events)


def test_one_indigestible_event_holds_up_only_its_own_guest() -> None:
    conductor = MemoryConductor()
    conductor.chokes_on = {"bad"}
    box = ReportQueue(conductor)
    for each in (event("a"), event("bad", 1), event("b"), event("bad", 2)):
        box.post(each)
    with pytest.raises(errors.Busy):
        box.deliver()
    assert [each.server_id for each in conductor.events] == ["a", "b"]
    conductor.chokes_on = set()
    box.deliver()
    assert [each.generation for each in conductor.events[2:]] == [1, 2]


def test_an_event_nobody_can_digest_is_given_up() -> None:
    conductor = MemoryConductor()
    conductor.chokes_on = {"bad"}
    box = ReportQueue(conductor)
    box.post(event("bad"))
    for _ in range(report_queue.TRIES - 1):
        with pytest.raises(errors.Busy):
            box.deliver()
    assert box.deliver() is False
