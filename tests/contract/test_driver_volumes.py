"""Volumes of guests, on the fake driver and on libvirt: given, taken away, kept over restarts."""

from __future__ import annotations

import pytest

from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.model.image import Image
from cellcloud.model.volume import BlockDevice, DeviceSource
from cellcloud.server_states import PowerState
from tests.contract.driver_rigs import IMAGE, SNAPSHOT, Rig, make_volume, power_of
from tests.libvirt_node import make_port, make_spec


def test_a_guest_keeps_its_volumes_until_they_are_taken(rig: Rig, driver: Driver, server_id: str) -> None:
    before = rig.count_held()
    volume = make_volume(rig.images.volume)
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    for _ in range(2):
        assert driver.attach_volume(server_id, 2, volume).power_state == PowerState.RUNNING
        assert rig.list_volumes(server_id) == [volume.volume_id]
    driver = rig.open()
    driver.reboot(server_id, 3, hard=True, timeout=0.0)
    assert rig.list_volumes(server_id) == [volume.volume_id]
    driver.stop(server_id, 4, 0.0)
    with pytest.raises(errors.Stale):
        driver.detach_volume(server_id, 3, volume, 0.0)
    assert driver.detach_volume(server_id, 5, volume, 0.0).power_state == PowerState.SHUTDOWN
    driver.attach_volume(server_id, 6, make_volume(rig.images.volume, 2))
    driver.start(server_id, 7)
    assert rig.list_volumes(server_id) == [make_volume(rig.images.volume, 2).volume_id]
    driver.destroy(server_id, 8)
    assert rig.count_held() == before
    assert rig.images.volume.exists(), "a volume is not a disk of the host's"


def test_a_guest_that_does_not_let_go_keeps_its_volume(rig: Rig, driver: Driver, server_id: str) -> None:
    """One whose processors are halted hears nothing."""
    volume = make_volume(rig.images.volume)
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    driver.attach_volume(server_id, 2, volume)
    driver.pause(server_id, 3)
    with pytest.raises(errors.GuestFailed, match="let go"):
        driver.detach_volume(server_id, 4, volume, 0.0)
    assert rig.list_volumes(server_id) == [volume.volume_id]
    assert driver.attach_volume(server_id, 5, volume).power_state == PowerState.PAUSED
    driver.destroy(server_id, 6)


def test_a_kind_of_volume_that_is_not_served_is_named(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    for number, connection in enumerate(({}, {"driver_volume_type": "fibre_channel", "data": {}}), start=2):
        with pytest.raises(errors.GuestFailed, match="Volumes of kind"):
            driver.attach_volume(server_id, number, make_volume(rig.images.volume, connection=connection))
    assert rig.list_volumes(server_id) == []
    assert power_of(driver, server_id) == PowerState.RUNNING
    with pytest.raises(errors.NotFound):
        driver.detach_volume("66666666-6666-4666-8666-666666666666", 1, make_volume(rig.images.volume), 0.0)
    driver.destroy(server_id, 9)


def test_a_guest_on_a_volume_has_no_disk_of_its_own(rig: Rig, driver: Driver, server_id: str) -> None:
    root = make_volume(rig.images.volume, 0, boot_index=0)
    before, asked = rig.count_held(), rig.images.asked
    blank = BlockDevice(source=DeviceSource.BLANK, is_volume=False, size_mb=8, is_swap=True)
    spec = make_spec(server_id, Image(id=""), volumes=(root,), block_devices=(blank,))
    assert driver.spawn(spec, 1, [make_port(1)], rig.images).power_state == PowerState.RUNNING
    assert rig.list_volumes(server_id) == [root.volume_id]
    assert rig.images.asked == asked
    assert sorted(rig.list_files(server_id)) in ([], ["disk-b"])
    assert driver.stop(server_id, 2, 0.0).power_state == PowerState.SHUTDOWN
    driver.set_aside(server_id, 3, 0.0)
    assert driver.move_back(spec, 4, [make_port(1)], running=True).power_state == PowerState.RUNNING
    driver = rig.open()
    with pytest.raises(errors.GuestFailed):
        driver.snapshot(server_id, 5, SNAPSHOT)
    driver.prepare_rebuild(spec, 6, rig.images)
    driver.stop(server_id, 6, 0.0)
    for run, power in ((False, PowerState.SHUTDOWN), (True, PowerState.RUNNING)):
        made = driver.rebuild(spec, 6, [make_port(1)], rig.images, run=run, keep_ephemeral=False, timeout=0.0)
        assert made.power_state == power
    assert rig.list_volumes(server_id) == [root.volume_id]
    assert rig.images.asked == asked
    driver.destroy(server_id, 7)
    assert rig.count_held() == before
