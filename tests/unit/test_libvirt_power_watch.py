"""The watch over power states goes on, whatever one look at the hypervisor comes to."""

from __future__ import annotations

import pytest

from cell.compute.drivers.libvirt.guest_locks import GuestLocks
from cell.compute.drivers.libvirt.power_watch import PowerWatch
from cellcloud import errors
from cellcloud.model.observed_guests import GuestState
from cellcloud.server_states import PowerState
from tests.unit.cell_world import eventually, server_id


@pytest.mark.parametrize("fault", [errors.Unreachable("It does not answer."), OSError(24, "Too many open files")])
def test_a_look_that_fails_is_not_the_last(fault: Exception) -> None:
    running = GuestState(server_id=server_id(1), power_state=PowerState.RUNNING, generation=1)
    off = GuestState(server_id=server_id(1), power_state=PowerState.SHUTDOWN, generation=1)
    answers: list[list[GuestState] | Exception] = [[running], fault]
    seen: list[GuestState] = []

    def list_guests() -> list[GuestState]:
        answer = answers.pop(0) if answers else [off]
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = PowerWatch(list_guests, GuestLocks(), lambda: False)
    watch.add(seen.append)
    watch.start()
    watch.note("")
    eventually(lambda: not answers)
    watch.note("")
    eventually(lambda: seen == [off])
    watch.stop()
