"""Ports of guests that there are, on the fake driver and on libvirt: given, taken away, kept over restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.server_states import PowerState
from tests.contract.driver_rigs import IMAGE, Rig, power_of
from tests.libvirt_node import make_port, make_spec

FIRST, SECOND, ELSEWHERE = make_port(1), make_port(2), make_port(1, network=2, cidr="10.21.0.0/24", gateway="10.21.0.1")


def test_a_guest_keeps_its_ports_until_they_are_taken(rig: Rig, driver: Driver, server_id: str) -> None:
    before = rig.count_held()
    driver.spawn(make_spec(server_id, IMAGE), 1, [FIRST], rig.images)
    for _ in range(2):
        assert driver.attach_port(server_id, 2, ELSEWHERE).power_state == PowerState.RUNNING
        assert rig.list_macs(server_id) == [FIRST.mac_address, ELSEWHERE.mac_address]
    driver = rig.open()
    driver.reboot(server_id, 3, hard=True, timeout=0.0)
    assert rig.list_macs(server_id) == [FIRST.mac_address, ELSEWHERE.mac_address]
    driver.stop(server_id, 4, 0.0)
    with pytest.raises(errors.Stale):
        driver.detach_port(server_id, 3, FIRST, 0.0)
    assert driver.detach_port(server_id, 5, FIRST, 0.0).power_state == PowerState.SHUTDOWN
    driver.attach_port(server_id, 6, SECOND)
    driver.start(server_id, 7)
    assert rig.list_macs(server_id) == [ELSEWHERE.mac_address, SECOND.mac_address]
    assert [port.id for port in driver.describe_guest(server_id).ports] == [ELSEWHERE.id, SECOND.id]
    driver.destroy(server_id, 8)
    assert rig.count_held() == before


def test_a_machine_with_a_port_for_each_device_has_ports_to_spare(rig: Rig, driver: Driver, server_id: str) -> None:
    image = replace(IMAGE, properties={"hw_machine_type": "q35"})
    more = [make_port(number) for number in range(2, 8)]
    driver.spawn(make_spec(server_id, image), 1, [FIRST], rig.images)
    for generation, port in enumerate(more, 2):
        driver.attach_port(server_id, generation, port)
    assert rig.list_macs(server_id) == [port.mac_address for port in (FIRST, *more)]
    driver.destroy(server_id, 9)


def test_a_guest_that_does_not_let_go_keeps_its_port(rig: Rig, driver: Driver, server_id: str) -> None:
    """One whose processors are halted hears nothing."""
    driver.spawn(make_spec(server_id, IMAGE), 1, [FIRST], rig.images)
    driver.attach_port(server_id, 2, SECOND)
    driver.pause(server_id, 3)
    with pytest.raises(errors.GuestFailed, match="let go"):
        driver.detach_port(server_id, 4, SECOND, 0.0)
    assert rig.list_macs(server_id) == [FIRST.mac_address, SECOND.mac_address]
    assert driver.attach_port(server_id, 5, SECOND).power_state == PowerState.PAUSED
    driver.destroy(server_id, 6)


def test_a_port_of_a_guest_that_there_is_not(rig: Rig, driver: Driver, server_id: str) -> None:
    for verb in (driver.attach_port, lambda *given: driver.detach_port(*given, 0.0)):
        with pytest.raises(errors.NotFound):
            verb(server_id, 1, FIRST)
    assert power_of(driver, server_id) is None
