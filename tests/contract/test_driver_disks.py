"""What every driver must do with guests' disks: copies that become images, and rebuilding. Runs as test_driver does."""

from __future__ import annotations

import io
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cell.compute.actions.guest import perform
from cell.compute.driver import Driver
from cellcloud import errors, image_gate
from cellcloud.model.flavor import Flavor
from cellcloud.model.guest_commands import (
    DiscardSnapshot,
    ImageCommand,
    Pause,
    Rebuild,
    Snapshot,
    Stop,
    Suspend,
    UploadSnapshot,
)
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.server import ServerSpec
from cellcloud.server_states import PowerState
from tests.contract.driver_rigs import IMAGE, SNAPSHOT, Rig, make_command, power_of
from tests.libvirt_node import make_port, make_spec

STATES = {"running": (), "paused": (Pause,), "suspended": (Suspend,), "off": (Stop,)}


def snapshot(
    rig: Rig, driver: Driver, server_id: str, generation: int, kind: type[ImageCommand], image_id: str = SNAPSHOT
) -> GuestState:
    """Let the driver carry out a command about a copy."""
    command = kind(run_id="r", step="s", server_id=server_id, generation=generation, image_id=image_id)
    return perform(driver, rig.images, command, 0.0)


@pytest.mark.parametrize("state", STATES)
def test_a_copy_of_the_disk_is_made_sent_and_dropped(rig: Rig, driver: Driver, server_id: str, state: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    for kind in STATES[state]:
        perform(driver, rig.images, make_command(kind, server_id, 2), 0.0)
    held, power = rig.count_held(), power_of(driver, server_id)
    for _ in range(2):
        assert snapshot(rig, driver, server_id, 3, Snapshot).power_state == power
    copy = driver.open_snapshot(server_id, SNAPSHOT)
    assert sum(len(piece) for piece in copy) == copy.size > 0
    for _ in range(2):  # the second finds that the first has sent it
        assert snapshot(rig, driver, server_id, 3, UploadSnapshot).power_state == power
        facts = image_gate.inspect(io.BytesIO(rig.images.filled[SNAPSHOT]), "qcow2", 8 << 30)
        assert facts.virtual_size == 1 << 30
    with pytest.raises(errors.Stale):  # late
        snapshot(rig, driver, server_id, 3, Snapshot)
    with pytest.raises(errors.NotFound):
        driver.open_snapshot(server_id, SNAPSHOT)
    assert (rig.count_held(), power_of(driver, server_id)) == (held, power)


def test_an_image_that_is_whole_is_not_sent_again(rig: Rig, driver: Driver, server_id: str) -> None:
    """As when the answer got lost: the disk is another by now, and so would the image be."""
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    snapshot(rig, driver, server_id, 2, UploadSnapshot)
    rig.images.filled[SNAPSHOT] = b"as it was sent"
    rig.images.fails = errors.Conflict("other bytes")
    assert snapshot(rig, driver, server_id, 2, UploadSnapshot).power_state == PowerState.RUNNING
    assert rig.images.filled[SNAPSHOT] == b"as it was sent"
    with pytest.raises(errors.NotFound):
        driver.open_snapshot(server_id, SNAPSHOT)


def test_a_copy_is_dropped_with_its_guest_or_when_it_is_told(rig: Rig, driver: Driver, server_id: str) -> None:
    before = rig.count_held()
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    held = rig.count_held()
    for image_id in (SNAPSHOT, str(uuid.uuid4())):
        snapshot(rig, driver, server_id, 2, Snapshot, image_id)
    for _ in range(2):
        snapshot(rig, driver, server_id, 2, DiscardSnapshot)
    reading = iter(driver.open_snapshot(server_id, image_id))
    snapshot(rig, driver, server_id, 2, DiscardSnapshot, image_id)
    with pytest.raises(errors.Stale):
        list(reading)
    assert rig.count_held() == held
    snapshot(rig, driver, server_id, 3, Snapshot)
    driver.destroy(server_id, 4)
    assert rig.count_held() == before


@pytest.mark.parametrize("error", [errors.Busy, errors.NotFound])
def test_a_copy_waits_for_an_image_service_that_is_away_and_for_no_image(
    rig: Rig, driver: Driver, server_id: str, error: type[errors.CellcloudError]
) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    snapshot(rig, driver, server_id, 2, Snapshot)
    rig.images.fails = error("no")
    with pytest.raises(error):
        snapshot(rig, driver, server_id, 2, UploadSnapshot)
    if error is errors.Busy:
        assert driver.open_snapshot(server_id, SNAPSHOT).size > 0
        return
    with pytest.raises(errors.NotFound):
        driver.open_snapshot(server_id, SNAPSHOT)


def test_a_guest_that_must_be_quiet_and_has_no_agent_is_copied_only_while_it_is_off(
    rig: Rig, driver: Driver, server_id: str
) -> None:
    image = replace(IMAGE, properties={"os_require_quiesce": "true"})
    driver.spawn(make_spec(server_id, image), 1, [make_port(1)], rig.images)
    held = rig.count_held()
    with pytest.raises(errors.GuestFailed, match="os_require_quiesce"):
        snapshot(rig, driver, server_id, 2, Snapshot)
    snapshot(rig, driver, server_id, 2, DiscardSnapshot)
    assert (power_of(driver, server_id), rig.count_held()) == (PowerState.RUNNING, held)
    driver.stop(server_id, 3, 0.0)
    snapshot(rig, driver, server_id, 4, UploadSnapshot)
    assert SNAPSHOT in rig.images.filled


def test_a_guest_whose_agent_does_not_answer_is_copied_as_it_is(rig: Rig, driver: Driver, server_id: str) -> None:
    image = replace(IMAGE, properties={"hw_qemu_guest_agent": "yes"})
    driver.spawn(make_spec(server_id, image), 1, [make_port(1)], rig.images)
    assert snapshot(rig, driver, server_id, 2, UploadSnapshot).power_state == PowerState.RUNNING
    assert SNAPSHOT in rig.images.filled


def rebuild_of(spec: ServerSpec, generation: int, **changes: Any) -> Rebuild:
    return Rebuild(
        run_id="r", step="s", server_id=spec.id, generation=generation, spec=spec, ports=(make_port(1),), **changes
    )


@pytest.mark.parametrize("run", [True, False])
def test_a_guest_is_rebuilt_from_another_image(
    rig: Rig, driver: Driver, server_id: str, run: bool, tmp_path: Path
) -> None:
    flavor = Flavor(id="f", name="f", vcpus=1, memory_mb=96, root_gb=1, ephemeral_gb=1, swap_mb=64)
    spec = make_spec(server_id, IMAGE, flavor=flavor)
    driver.spawn(spec, 1, [make_port(1)], rig.images)
    held, old = rig.count_held(), rig.list_files(server_id)
    rig.images.path = tmp_path / "other.raw"
    rig.images.path.write_bytes(b"other".ljust(1 << 20, b"\0"))
    wanted = replace(spec, image=replace(IMAGE, disk_format="raw"), name="rebuilt")
    for _ in range(2):
        assert driver.prepare_rebuild(wanted, 2, rig.images).power_state == PowerState.RUNNING
    prepared = rig.list_files(server_id)
    assert {name: prepared[name] for name in old} == old  # all that it had, as it was
    power = PowerState.RUNNING if run else PowerState.SHUTDOWN
    for _ in range(2):
        driver = rig.open()
        state = perform(driver, rig.images, rebuild_of(wanted, 2, run=run, keep_ephemeral=True), 0.0)
        assert (state.power_state, state.generation) == (power, 2)
    new = rig.list_files(server_id)
    assert new.keys() == old.keys()
    assert {name for name in new if new[name] != old[name]} == ({"base", "disk", "disk-c"} if old else set())
    assert driver.describe_guest(server_id).spec == wanted
    assert driver.start(server_id, 3).power_state == PowerState.RUNNING
    assert rig.count_held() == held
    if old:
        rig.images.filled.clear()
        snapshot(rig, driver, server_id, 4, UploadSnapshot)
        assert b"other" in rig.images.filled[SNAPSHOT]
    driver.destroy(server_id, 5)


def test_an_image_that_cannot_be_leaves_the_guest_as_it_was(
    rig: Rig, driver: Driver, server_id: str, tmp_path: Path
) -> None:
    spec = make_spec(server_id, IMAGE)
    driver.spawn(spec, 1, [make_port(1)], rig.images)
    held, old = rig.count_held(), rig.list_files(server_id)
    with pytest.raises(errors.GuestFailed):
        driver.prepare_rebuild(
            replace(spec, image=replace(IMAGE, properties={"hw_firmware_type": "uefi"})), 2, rig.images
        )
    if old:
        rig.images.path = tmp_path / "large.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(rig.images.path), "2G"], check=True)
        with pytest.raises(errors.GuestFailed):
            driver.prepare_rebuild(spec, 3, rig.images)
    assert (rig.count_held(), rig.list_files(server_id)) == (held, old)
    assert power_of(driver, server_id) == PowerState.RUNNING
