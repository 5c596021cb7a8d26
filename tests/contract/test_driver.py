"""What every driver must do. The same suite runs on the fake driver and on libvirt in a node of its own."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from cell.compute.actions.guest import perform
from cell.compute.driver import Driver
from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cellcloud import errors
from cellcloud.model.flavor import Flavor
from cellcloud.model.guest_commands import (
    DefiningCommand,
    RebootHard,
    Spawn,
)
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.operations import TABLE, OperationSpec
from cellcloud.server_states import PowerState, VmState
from tests.contract.driver_rigs import IMAGE, FakeRig, OneImage, Rig, make_command, power_of
from tests.libvirt_node import make_port, make_spec, wait_until


def test_facts_have_a_name_and_room(driver: Driver) -> None:
    facts = driver.get_facts()
    assert facts.hypervisor_hostname
    assert facts.hypervisor_version > 0
    assert min(facts.vcpus, facts.memory_mb, facts.disk_gb) > 0
    assert facts.cpu_info["arch"] == "x86_64"


def test_a_guest_lives_from_spawn_to_destroy(rig: Rig, driver: Driver, server_id: str) -> None:
    before = rig.count_held()
    state = driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1), make_port(1, network=2)], rig.images)
    expected = GuestState(server_id=server_id, power_state=PowerState.RUNNING, generation=1, project_id="project")
    assert state == driver.find_guest(server_id) == expected
    assert driver.list_guests() == [expected]

    assert driver.stop(server_id, 2, 0.0).power_state == PowerState.SHUTDOWN
    assert driver.start(server_id, 3).power_state == PowerState.RUNNING
    assert driver.reboot(server_id, 4, hard=True, timeout=0.0).power_state == PowerState.RUNNING
    assert driver.list_guests()[0].generation == 4

    driver.destroy(server_id, 5)
    assert driver.find_guest(server_id) is None
    assert driver.list_guests() == []
    assert rig.count_held() == before


STAYING = [spec for spec in TABLE if not spec.moves and spec.starts_from != {VmState.RESIZED}]
ON_GUESTS = {f"{spec.operation} {spec.variant}".strip(): spec for spec in STAYING}
"""What is done to a guest that there is, and stays on its host: test_moves has the others."""


def bring(rig: Rig, driver: Driver, server_id: str, spec: OperationSpec) -> int:
    """Let there be a guest as the operation finds it; its generation."""
    perform(driver, rig.images, make_command(Spawn, server_id, 1), 0.0)
    if VmState.ACTIVE in spec.starts_from:
        return 1
    before = next(one for one in TABLE if VmState.ACTIVE in one.starts_from and one.vm_state in spec.starts_from)
    state = perform(driver, rig.images, make_command(before.command, server_id, 2, rig.images), 0.0)
    assert state.power_state == before.power_state
    return 2


@pytest.mark.parametrize("name", ON_GUESTS)
def test_every_operation_leads_where_the_table_says(rig: Rig, driver: Driver, server_id: str, name: str) -> None:
    """Done once, again, too late, by another process; to a guest that there is not; and the guest can go from there."""
    spec, before = ON_GUESTS[name], rig.count_held()
    generation = bring(rig, driver, server_id, spec) + 1
    power = power_of(driver, server_id) if spec.power_state is None else spec.power_state
    for _ in range(2):
        state = perform(driver, rig.images, make_command(spec.command, server_id, generation, rig.images), 0.0)
        assert (state.power_state, state.generation) == (power, generation)
        assert (power_of(driver, server_id) or PowerState.NOSTATE) == power
    driver = rig.open()
    assert (power_of(driver, server_id) or PowerState.NOSTATE) == power
    if not spec.preempts:
        with pytest.raises(errors.Stale):
            perform(driver, rig.images, make_command(spec.command, server_id, generation - 1, rig.images), 0.0)
        assert (power_of(driver, server_id) or PowerState.NOSTATE) == power
        hard = perform(driver, rig.images, make_command(RebootHard, server_id, generation + 1), 0.0)
        assert hard.power_state == PowerState.RUNNING
        again = perform(driver, rig.images, make_command(spec.command, server_id, generation + 2, rig.images), 0.0)
        assert again.power_state == (PowerState.RUNNING if spec.power_state is None else power)
        missing = str(uuid.uuid4())
        with pytest.raises(errors.GuestFailed if issubclass(spec.command, DefiningCommand) else errors.NotFound):
            perform(driver, rig.images, make_command(spec.command, missing, 1, rig.images), 0.0)
    driver.destroy(server_id, generation + 3)
    assert driver.list_guests() == []
    assert rig.count_held() == before


def test_a_suspended_guest_outlives_the_daemon_and_the_host(rig: Rig, driver: Driver, server_id: str) -> None:
    before = rig.count_held()
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    assert driver.suspend(server_id, 2).power_state == PowerState.SUSPENDED
    for happen in (rig.restart_hypervisor, rig.fail):
        happen()
        driver = rig.open()
        assert power_of(driver, server_id) == driver.list_guests()[0].power_state == PowerState.SUSPENDED
    driver.set_fence(server_id, fenced=True)
    assert driver.resume(server_id, 3).power_state == PowerState.RUNNING
    assert rig.find_fence(server_id)  # which its memory knew nothing of
    assert driver.suspend(server_id, 4).power_state == PowerState.SUSPENDED
    assert driver.start(server_id, 5).power_state == PowerState.RUNNING
    assert driver.suspend(server_id, 6).power_state == PowerState.SUSPENDED
    assert driver.stop(server_id, 7, 0.0).power_state == PowerState.SHUTDOWN
    driver.start(server_id, 8)
    driver.suspend(server_id, 9)
    rig.lose_memory(server_id)
    with pytest.raises(errors.GuestFailed, match="memory"):
        driver.resume(server_id, 10)
    assert power_of(driver, server_id) == PowerState.SHUTDOWN
    driver.start(server_id, 11)
    driver.suspend(server_id, 12)
    driver.destroy(server_id, 13)
    assert rig.count_held() == before


@pytest.mark.parametrize("verb", ["pause", "unpause", "suspend", "resume"])
def test_a_guest_that_is_off_is_neither_paused_nor_let_go_on(
    rig: Rig, driver: Driver, server_id: str, verb: str
) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    driver.pause(server_id, 2)
    assert driver.stop(server_id, 3, 0.0).power_state == PowerState.SHUTDOWN
    with pytest.raises(errors.GuestFailed):
        getattr(driver, verb)(server_id, 4)
    assert power_of(driver, server_id) == PowerState.SHUTDOWN


def test_a_guest_is_asked_and_told_while_it_runs(rig: Rig, driver: Driver, server_id: str) -> None:
    port = make_port(1)
    for ask in (driver.get_diagnostics, driver.inject_nmi, lambda one: driver.set_password(one, "root", "x")):
        with pytest.raises(errors.NotFound):
            ask(server_id)
    driver.spawn(make_spec(server_id, IMAGE), 1, [port], rig.images)
    found = driver.get_diagnostics(server_id)
    assert (found.power_state, found.driver, list(found.cpu_times)) == (PowerState.RUNNING, "libvirt", [0])
    assert (found.memory_kb[0], len(found.disks)) == (96 << 10, 1)
    assert [nic.mac_address for nic in found.nics] == [port.mac_address]
    driver.inject_nmi(server_id)
    assert power_of(driver, server_id) == PowerState.RUNNING
    with pytest.raises(errors.Conflict, match="agent"):
        driver.set_password(server_id, "root", "x")
    driver.stop(server_id, 2, 0.0)
    for ask in (driver.get_diagnostics, driver.inject_nmi, lambda one: driver.set_password(one, "root", "x")):
        with pytest.raises(errors.Conflict):
            ask(server_id)


def test_a_password_is_for_a_guest_whose_agent_answers(rig: Rig, driver: Driver, server_id: str) -> None:
    """One is made up; nothing runs in the other."""
    image = replace(IMAGE, properties={"hw_qemu_guest_agent": "true"})
    driver.spawn(make_spec(server_id, image), 1, [make_port(1)], rig.images)
    if isinstance(rig, FakeRig):
        driver.set_password(server_id, "root", "secret")
        return
    with pytest.raises(errors.NotSupported) as refused:
        driver.set_password(server_id, "root", "secret")
    assert "secret" not in f"{refused.value.message} {refused.value.detail}"


def test_a_spawn_may_be_repeated(rig: Rig, driver: Driver, server_id: str) -> None:
    spec, ports = make_spec(server_id, IMAGE), [make_port(1)]
    driver.spawn(spec, 1, ports, rig.images)
    held = rig.count_held()
    assert driver.spawn(spec, 1, ports, rig.images).power_state == PowerState.RUNNING
    assert rig.images.asked <= 2
    assert rig.count_held() == held


def test_older_generations_are_refused(rig: Rig, driver: Driver, server_id: str) -> None:
    spec = make_spec(server_id, IMAGE)
    driver.spawn(spec, 3, [make_port(1)], rig.images)
    with pytest.raises(errors.Stale):
        driver.spawn(spec, 2, [make_port(1)], rig.images)
    with pytest.raises(errors.Stale):
        driver.start(server_id, 2)
    with pytest.raises(errors.Stale):
        driver.stop(server_id, 2, 0.0)
    with pytest.raises(errors.Stale):
        driver.reboot(server_id, 2, hard=True, timeout=0.0)
    with pytest.raises(errors.Stale):
        driver.destroy(server_id, 2)
    assert power_of(driver, server_id) == PowerState.RUNNING


def test_a_late_spawn_does_not_bring_a_destroyed_guest_back(rig: Rig, driver: Driver, server_id: str) -> None:
    before = rig.count_held()
    driver.destroy(server_id, 2)
    driver = rig.open()
    for older in (2, 1):  # there is nothing to remove, and what was removed is not forgotten
        driver.destroy(server_id, older)
        for generation in (1, 2):
            with pytest.raises(errors.Stale):
                driver.spawn(make_spec(server_id, IMAGE), generation, [make_port(1)], rig.images)
    assert driver.list_guests() == []
    assert rig.count_held() == before


def test_a_server_may_come_back_to_a_host_it_left(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.destroy(server_id, 2)
    assert driver.spawn(make_spec(server_id, IMAGE), 3, [make_port(1)], rig.images).generation == 3


def test_unknown_guests_are_not_found(driver: Driver, server_id: str) -> None:
    assert driver.find_guest(server_id) is None
    with pytest.raises(errors.NotFound):
        driver.start(server_id, 1)
    with pytest.raises(errors.NotFound):
        driver.stop(server_id, 1, 0.0)
    with pytest.raises(errors.NotFound):
        driver.reboot(server_id, 1, hard=True, timeout=0.0)
    with pytest.raises(errors.NotFound):
        driver.get_console_output(server_id, 10)
    with pytest.raises(errors.NotFound):
        driver.get_console(server_id, "vnc")


@pytest.mark.parametrize("verb", ["start", "reboot", "restore", "restore elsewhere"])
def test_a_missing_disk_is_an_error_and_never_an_empty_one(rig: Rig, driver: Driver, server_id: str, verb: str) -> None:
    """As when the guests' directory is not mounted, or the command has come to the wrong machine."""
    spec, ports = make_spec(server_id, IMAGE), [make_port(1)]
    before = rig.count_held()
    if verb != "restore elsewhere":
        driver.spawn(spec, 1, ports, rig.images)
        rig.lose_disks(server_id)
        before = rig.count_held()
    act = {
        "start": lambda: driver.start(server_id, 2),
        "reboot": lambda: driver.reboot(server_id, 2, hard=True, timeout=0.0),
    }.get(verb, lambda: driver.restore(spec, 2, ports))
    with pytest.raises(errors.GuestFailed, match="disk"):
        act()
    assert power_of(driver, server_id) != PowerState.RUNNING
    assert rig.count_held() == before


def test_a_guest_is_cut_off_its_networks_and_let_back(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    for fenced in (True, True, False, True):
        driver.set_fence(server_id, fenced=fenced)
        guest = driver.find_guest(server_id)
        assert guest is not None
        assert (guest.power_state, guest.fenced, rig.find_fence(server_id)) == (PowerState.RUNNING, fenced, fenced)
    driver = rig.open()
    driver.reboot(server_id, 2, hard=True, timeout=0.0)
    assert [guest.fenced for guest in driver.list_guests()] == [True]
    assert rig.find_fence(server_id)
    with pytest.raises(errors.NotFound):
        driver.set_fence(str(uuid.uuid4()), fenced=True)


def test_a_host_tells_what_a_guest_was_made_from(rig: Rig, driver: Driver, server_id: str) -> None:
    spec, ports = make_spec(server_id, IMAGE), (make_port(1),)
    driver.spawn(spec, 4, ports, rig.images)
    driver = rig.open()
    described = driver.describe_guest(server_id)
    assert (described.spec, described.ports) == (spec, ports)
    assert (described.state.generation, described.state.power_state) == (4, PowerState.RUNNING)
    with pytest.raises(errors.NotFound):
        driver.describe_guest(str(uuid.uuid4()))


def test_what_others_run_on_the_host_is_left_alone(rig: Rig, driver: Driver, server_id: str) -> None:
    rig.run_stranger(server_id)
    assert driver.list_guests() == []
    assert driver.find_guest(server_id) is None
    with contextlib.suppress(errors.Conflict):  # where there are others
        driver.destroy(server_id, 9)


def test_a_new_compute_service_finds_its_guests(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 7, [make_port(1)], rig.images)
    again = rig.open()
    guest = again.find_guest(server_id)
    assert guest is not None
    assert (guest.power_state, guest.generation, guest.project_id) == (PowerState.RUNNING, 7, "project")
    with pytest.raises(errors.Stale):
        again.stop(server_id, 6, 0.0)


def test_guests_outlive_the_hypervisors_daemon(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    rig.restart_hypervisor()
    assert power_of(driver, server_id) == PowerState.RUNNING
    assert driver.stop(server_id, 2, 0.0).power_state == PowerState.SHUTDOWN


def test_guests_can_be_started_after_the_host_failed(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    held, boot = rig.count_held(), driver.get_boot_id()
    assert rig.open().get_boot_id() == boot
    rig.fail()
    driver = rig.open()
    assert driver.get_boot_id() != boot
    assert power_of(driver, server_id) == PowerState.SHUTDOWN
    assert driver.start(server_id, 2).power_state == PowerState.RUNNING
    assert rig.count_held() == held


def test_consoles_are_there_while_the_guest_runs(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 4, [make_port(1)], rig.images)
    for protocol, ports in (("vnc", range(5900, 6000)), ("serial", range(10000, 20001))):
        console = driver.get_console(server_id, protocol)
        assert (console.server_id, console.generation, console.protocol) == (server_id, 4, protocol)
        assert console.host
        assert console.port in ports
    wait_until(lambda: driver.get_console_output(server_id, -1) is not None)
    assert len(driver.get_console_output(server_id, 5)) <= 5
    driver.stop(server_id, 5, 0.0)
    for protocol in ("vnc", "serial"):
        with pytest.raises(errors.Conflict):
            driver.get_console(server_id, protocol)
    assert driver.get_console_output(server_id, -1) is not None


MACHINES: list[tuple[dict[str, str], dict[str, str], list[str]]] = [
    (
        {
            "hw:cpu_threads": "2",
            "hw_rng:rate_bytes": "4096",
            "hw_rng:rate_period": "1000",
            "hw_video:ram_max_mb": "8",
            "quota:disk_read_bytes_sec": "10000000",
            "quota:disk_total_iops_sec": "500",
        },
        {
            "hw_disk_bus": "scsi",
            "hw_scsi_model": "lsilogic",
            "hw_cdrom_bus": "sata",
            "hw_vif_model": "e1000",
            "hw_video_model": "cirrus",
            "hw_video_ram": "8",
            "hw_pointer_model": "usbtablet",
            "hw_usb_model": "nec-xhci",
            "hw_sound_model": "ich9",
            "hw_watchdog_action": "pause",
            "hw_serial_port_count": "3",
            "hw_boot_menu": "true",
            "hw_qemu_guest_agent": "true",
            "hw_time_hpet": "true",
            "hw_pmu": "false",
            "hw_maxphysaddr_mode": "emulate",
            "hw_maxphysaddr_bits": "42",
            "img_hide_hypervisor_id": "true",
            "os_type": "windows",
        },
        [
            *("lsi", "e1000", "cirrus", "usb-tablet", "nec-usb-xhci", "i6300esb", "threads=2", "base=localtime"),
            *("hypervisor=off", "phys-bits=42", "pmu=off", "max-bytes", "menu=on", "org.qemu.guest_agent.0", "serial2"),
            *('"bps_rd":10000000', '"iops":500'),
        ],
    ),
    (
        {"hw:vif_multiqueue_enabled": "true", "hw:pmu": "true", "hw_rng:allowed": "false"},
        {
            "hw_machine_type": "pc-q35-7.2",
            "hw_disk_bus": "virtio",
            "hw_virtio_packed_ring": "true",
            "hw_input_bus": "virtio",
            "hw_video_model": "virtio",
            "hw_time_hpet": "false",
        },
        ["pc-q35-7.2", '"packed":true', '"mq":true', "virtio-tablet", "virtio-keyboard", "virtio-vga"],
    ),
    ({}, {"hw_disk_bus": "scsi", "hw_scsi_model": "vmpvscsi", "hw_cdrom_bus": "scsi"}, ["pvscsi"]),
    ({}, {"hw_disk_bus": "ide", "hw_video_model": "none", "hw_vif_model": "vmxnet3"}, ["ide-hd", "vmxnet3"]),
    ({}, {"hw_disk_bus": "usb", "hw_cdrom_bus": "usb", "hw_video_model": "qxl"}, ["usb-storage", "qemu-xhci", "qxl"]),
    ({}, {"hw_disk_bus": "sata", "hw_video_model": "bochs", "hw_vif_model": "pcnet"}, ["ahci", "bochs", "pcnet"]),
]


@pytest.mark.parametrize(("specs", "image", "words"), MACHINES, ids=lambda one: "")
def test_a_guest_has_the_machine_it_asks_for(
    rig: Rig, driver: Driver, server_id: str, specs: dict[str, str], image: dict[str, str], words: list[str]
) -> None:
    flavor = Flavor(id="f", name="f", vcpus=2, memory_mb=96, root_gb=1, ephemeral_gb=1, swap_mb=64, extra_specs=specs)
    spec = make_spec(server_id, replace(IMAGE, properties=image), flavor=flavor, config_drive=True)
    assert driver.spawn(spec, 1, [make_port(1)], rig.images).power_state == PowerState.RUNNING
    machine = rig.find_machine(server_id)
    assert machine is None or [word for word in words if word not in machine] == []
    driver.destroy(server_id, 2)


def test_a_guest_that_cannot_be_is_refused_before_anything_is_made(rig: Rig, driver: Driver, server_id: str) -> None:
    before = rig.count_held()
    for specs, image in (
        ({}, {"hw_firmware_type": "uefi"}),
        ({}, {"hw_machine_type": "q35", "hw_disk_bus": "ide"}),
        ({"quota:cpu_shares": "10"}, {}),
        ({"hw:cpu_policy": "dedicated"}, {}),
    ):
        flavor = Flavor(id="f", name="f", vcpus=1, memory_mb=96, root_gb=1, extra_specs=specs)
        spec = make_spec(server_id, replace(IMAGE, properties=image), flavor=flavor)
        with pytest.raises(errors.GuestFailed):
            driver.spawn(spec, 1, [], rig.images)
    assert rig.count_held() == before
    assert driver.find_guest(server_id) is None


def test_watchers_hear_of_what_nobody_asked_for(rig: Rig, driver: Driver, server_id: str) -> None:
    heard: list[GuestState] = []
    driver.watch(heard.append)
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    driver.stop(server_id, 2, 0.0)
    driver.start(server_id, 3)
    assert heard == []
    rig.end_guest(server_id)
    wait_until(lambda: bool(heard))
    assert [(guest.server_id, guest.power_state, guest.generation) for guest in heard] == [
        (server_id, PowerState.SHUTDOWN, 3)
    ]


def test_destroy_need_not_wait_for_a_guest_that_will_not_stop(rig: Rig, driver: Driver, server_id: str) -> None:
    driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], rig.images)
    outcome: list[str] = []

    def stop() -> None:
        try:
            driver.stop(server_id, 2, 60.0)
            outcome.append("stopped")
        except (errors.Stale, errors.NotFound) as error:
            outcome.append(type(error).__name__)

    stopping = threading.Thread(target=stop)
    stopping.start()
    stopping.join(0.5)
    driver.destroy(server_id, 3)
    stopping.join(60)
    assert outcome in (["stopped"], ["Stale"])
    assert driver.list_guests() == []


def test_many_at_once(rig: Rig, driver: Driver) -> None:
    before = rig.count_held()
    servers = [str(uuid.uuid4()) for _ in range(4)]
    failed: list[Exception] = []

    def live(number: int, server_id: str) -> None:
        try:
            driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(number)], rig.images)
            driver.destroy(server_id, 2)
        except errors.CellcloudError as error:
            failed.append(error)

    threads = [threading.Thread(target=live, args=pair) for pair in enumerate(servers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert driver.list_guests() == []
    assert rig.count_held() == before


def test_an_image_too_large_for_the_flavor_is_refused(rig: Rig, driver: Driver, server_id: str, tmp_path: Path) -> None:
    if isinstance(rig, FakeRig):  # it has no disks to overfill
        return
    large = tmp_path / "large.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(large), "2G"], check=True)
    with pytest.raises(errors.GuestFailed):
        driver.spawn(make_spec(server_id, IMAGE), 1, [make_port(1)], OneImage(large))
    guest = driver.find_guest(server_id)
    assert guest is not None
    assert guest.power_state == PowerState.NOSTATE
    driver.destroy(server_id, 1)
    assert driver.list_guests() == []


def test_the_fake_hypervisors_faults_leave_what_a_real_one_would(tmp_path: Path, images: OneImage) -> None:
    path = tmp_path / "hosts"
    hypervisor = FakeHypervisor(path)
    driver = FakeDriver(hypervisor, "fake-1")
    spec = make_spec(str(uuid.uuid4()), IMAGE)
    hypervisor.fail_next("ports", errors.HostRefused("no port"))
    with pytest.raises(errors.HostRefused):
        driver.spawn(spec, 1, [make_port(1)], images)
    assert FakeHypervisor.read(path).count_held() == {"guests": 1, "disks": 1, "taps": 0}
    hypervisor.fail_next("power", errors.GuestFailed("late"), after=True)
    with pytest.raises(errors.GuestFailed):
        driver.spawn(spec, 1, [make_port(1)], images)
    assert power_of(driver, spec.id) == PowerState.RUNNING
    assert driver.spawn(spec, 1, [make_port(1)], images).power_state == PowerState.RUNNING
    with path.open("a") as journal:
        journal.write('["fake-1", "cut sho')
    hypervisor.close()
    again = FakeHypervisor(path)
    assert again.count_held() == {"guests": 1, "disks": 1, "taps": 1}
    FakeDriver(again, "fake-1").destroy(spec.id, 2)
    assert FakeHypervisor.read(path).count_held() == {"guests": 0, "disks": 0, "taps": 0}
    again.close()
