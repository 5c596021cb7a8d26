"""What every driver must do with a guest that is rescued. The same suite runs on the fake driver and on libvirt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from cell.compute.actions.guest import perform
from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.model.flavor import Flavor
from cellcloud.model.guest_commands import GuestCommand, RebootHard, Rebuild, Rescue, Start
from cellcloud.model.image import Image
from cellcloud.model.observed_guests import GuestState
from cellcloud.server_states import PowerState
from tests.contract.driver_rigs import IMAGE, Rig, make_command, power_of
from tests.libvirt_node import make_port, make_spec

RESCUES: dict[str, dict[str, str]] = {
    "first": {},
    "virtio": {"hw_rescue_device": "disk", "hw_rescue_bus": "virtio"},
    "scsi": {"hw_rescue_device": "disk", "hw_rescue_bus": "scsi"},
    "usb": {"hw_rescue_device": "disk", "hw_rescue_bus": "usb"},
    "cdrom": {"hw_rescue_device": "cdrom", "hw_rescue_bus": "ide"},
}
"""What an image to rescue from says."""


def rescue(rig: Rig, driver: Driver, server_id: str, generation: int, image: Image = IMAGE) -> GuestState:
    command = make_command(Rescue, server_id, generation)
    assert isinstance(command, Rescue)
    return perform(driver, rig.images, structs.replace(command, image=image), 0.0)


@pytest.mark.parametrize("way", RESCUES)
def test_a_guest_is_rescued_and_is_then_what_it_was(rig: Rig, driver: Driver, server_id: str, way: str) -> None:
    before = rig.count_held()
    spec = make_spec(server_id, IMAGE, flavor=Flavor(id="1", name="f", vcpus=1, memory_mb=96, root_gb=1, swap_mb=8))
    driver.spawn(replace(spec, config_drive=True), 1, [make_port(1)], rig.images)
    held, disks = rig.count_held(), rig.list_disks(server_id)
    image = replace(IMAGE, properties=RESCUES[way])
    assert rescue(rig, driver, server_id, 2, image).power_state == PowerState.RUNNING
    seen = rig.list_disks(server_id)
    own = [disk for disk in seen if "rescue" not in disk]
    assert len(seen) == len(own) + 1
    assert way != "first" or seen[0] not in own  # those on other buses libvirt tells in an order of its own
    assert own == (disks[:1] + [disk for disk in disks if disk.endswith(".iso")] if way == "first" else disks)
    rig.fail()
    driver = rig.open()
    assert driver.start(server_id, 2).power_state == PowerState.RUNNING
    assert rig.list_disks(server_id) == seen
    assert driver.describe_guest(server_id).rescued
    for _ in range(2):
        assert driver.unrescue(server_id, 3).power_state == PowerState.RUNNING
    assert (rig.list_disks(server_id), rig.count_held()) == (disks, held)
    assert not driver.describe_guest(server_id).rescued
    assert rescue(rig, driver, server_id, 4, image).power_state == PowerState.RUNNING
    driver.destroy(server_id, 5)
    assert rig.count_held() == before


def test_a_rescue_that_fails_leaves_the_guest_as_it_was(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    disks = rig.list_disks(server_id)
    with pytest.raises(errors.GuestFailed):
        rescue(rig, driver, server_id, 2, replace(IMAGE, properties={"hw_rescue_device": "floppy"}))
    assert (power_of(driver, server_id), rig.list_disks(server_id)) == (PowerState.RUNNING, disks)
    driver.stop(server_id, 3, 0.0)
    assert rescue(rig, driver, server_id, 4).power_state == PowerState.RUNNING
    assert driver.unrescue(server_id, 5, running=False).power_state == PowerState.SHUTDOWN
    assert driver.start(server_id, 6).power_state == PowerState.RUNNING
    assert rig.list_disks(server_id) == disks
    rig.lose_disks(server_id)
    with pytest.raises(errors.GuestFailed, match="disk"):
        rescue(rig, driver, server_id, 7)


def started(kind: type[GuestCommand]) -> Callable[[Rig, Driver, str], GuestState]:
    return lambda rig, driver, server_id: perform(driver, rig.images, make_command(kind, server_id, 4), 0.0)


def put_back(rig: Rig, driver: Driver, server_id: str) -> GuestState:
    """A move that is reverted, or fails."""
    driver.set_aside(server_id, 4, 0.0)
    return driver.move_back(make_spec(server_id, IMAGE), 5, [make_port(1)], running=True)


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize(
    "way",
    [started(RebootHard), started(Start), started(Rebuild), put_back],
    ids=["hard reboot", "start", "rebuild", "move back"],
)
def test_a_server_that_is_rescued_no_more_starts_from_its_own_disk(
    rig: Rig, driver: Driver, server_id: str, way: Callable[[Rig, Driver, str], GuestState], stopped: bool
) -> None:
    """As when an administrator has set its state, or it was deleted and restored."""
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    disks = rig.list_disks(server_id)
    rescue(rig, driver, server_id, 2)
    if stopped:
        driver.stop(server_id, 3, 0.0)
    assert way(rig, driver, server_id).power_state == PowerState.RUNNING
    assert rig.list_disks(server_id) == disks
    assert not driver.describe_guest(server_id).rescued
