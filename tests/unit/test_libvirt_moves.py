"""What earlier moves left on a libvirt host: never put over a guest's disks, nor taken for them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import libvirt
import psutil
import pytest

from cell.compute import disk_transfer
from cell.compute.driver import DiskSource
from cell.compute.drivers.libvirt.disk_offers import write_credentials
from cell.compute.drivers.libvirt.driver import LibvirtDriver
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cell.compute.drivers.libvirt.records import GuestRecords
from cellcloud import errors
from cellcloud.model.database_incarnation import LEAP
from cellcloud.server_states import PowerState
from tests.contract.test_driver import IMAGE, OneImage
from tests.libvirt_node import make_spec
from tests.unit.test_libvirt_wiring import StandInDomain, StandInHost, StandInLibvirt

SPEC = make_spec("6f70656e-0000-4000-8000-000000000001", IMAGE)


class NoDomain(libvirt.libvirtError):
    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_DOMAIN)


class MarkedDomain(StandInDomain):
    def metadata(self, _kind: int, _uri: str, _flags: int) -> str:
        return "<guest/>"


class Libvirt(StandInLibvirt):
    """Knows only what was defined, until it is undefined."""

    def lookupByName(self, name: str) -> StandInDomain:
        if name not in self._domains:
            raise NoDomain("there is none")
        return self._domains[name]

    def defineXML(self, xml: str) -> StandInDomain:
        return self._domains.setdefault(SPEC.id, MarkedDomain(xml))


class Host(StandInHost):
    def wrap(self, argv: Sequence[str]) -> Sequence[str]:
        return argv


class Place:
    """A host with its guest's disks as files: ``write`` and ``read`` what is on the root disk."""

    def __init__(self, options: LibvirtOptions, images: OneImage) -> None:
        self.images = images
        self.guests = options.guests_dir
        self.options, self._libvirt = options, Libvirt(options)
        self.guests.mkdir(parents=True)
        self.open()

    def open(self) -> None:
        """The compute service starts anew."""
        self.driver = LibvirtDriver(self.options, namespace=Host(self.options), connection=self._libvirt)
        self.driver.connect()

    def write(self, byte: int) -> None:
        qemu_io(self.guests / SPEC.id / "disk", f"write -P {byte} 1M 64k")

    def has(self, byte: int) -> bool:
        said = qemu_io(self.guests / SPEC.id / "disk", f"read -P {byte} 1M 64k")
        return "Pattern verification failed" not in said and "read 65536/65536" in said


def qemu_io(disk: Path, command: str) -> str:
    argv = ["qemu-io", "-f", "qcow2", "-c", command, str(disk)]
    return subprocess.run(argv, check=command.startswith("write"), capture_output=True, text=True).stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    image = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "16M"], check=True)
    options = LibvirtOptions(
        host="h", state_dir=tmp_path / "h", host_ip="10.9.9.9", metadata_key=b"k", metadata_address="10.9.9.1"
    )
    made = Place(options, OneImage(image))
    yield made
    made.driver.close()


def spawn(place: Place) -> None:
    place.driver.spawn(SPEC, 1, (), place.images)
    place.driver.stop(SPEC.id, 1, 0.0)
    place.write(1)


def stay(place: Place, generation: int) -> None:
    """Resize the guest on its host; the move is over, but nothing was discarded."""
    place.driver.set_aside(SPEC.id, generation, 0.0)
    place.driver.fetch_disks(SPEC, generation, (), place.images, DiskSource(host="h", offer={}), lambda _: None)
    place.driver.arrive(SPEC, generation, (), running=False)


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "never-begun"])
def test_what_an_earlier_move_left_aside_is_not_put_over_the_live_disks(place: Place, begun: bool) -> None:
    spawn(place)
    stay(place, 2)
    place.driver.stop(SPEC.id, 3, 0.0)
    place.write(3)
    if begun:
        assert place.driver.set_aside(SPEC.id, 4, 0.0).generation == 4
    assert place.driver.move_back(SPEC, 4, (), running=False).power_state == PowerState.SHUTDOWN
    assert place.has(3)


def test_a_repeated_command_leaves_the_copy_of_what_it_set_aside_alone(place: Place) -> None:
    spawn(place)
    stay(place, 2)
    place.write(2)
    assert place.driver.set_aside(SPEC.id, 2, 0.0).aside
    assert place.has(2)
    place.driver.move_back(SPEC, 3, (), running=False)
    assert place.has(1)


def offer(disk: Path) -> DiskSource:
    """Let it be had as another host's."""
    certificate = write_credentials(disk.parent)
    told = {"address": "127.0.0.1", "token": "t", "certificate": str(certificate), "files": {"root": str(disk)}}
    server = disk_transfer.DiskServer(told | {"key": str(certificate.with_suffix(".key"))})
    threading.Thread(target=server.run, daemon=True).start()
    had_by = {"address": "127.0.0.1", "port": str(server.port), "token": "t", "certificate": certificate.read_text()}
    return DiskSource(host="other", offer=had_by)


def test_a_disk_that_is_not_the_guests_own_is_refused_and_its_old_host_takes_the_guest_back(
    place: Place, tmp_path: Path
) -> None:
    spawn(place)
    place.driver.set_aside(SPEC.id, 2, 0.0)
    other = Place(replace(place.options, host="other", state_dir=tmp_path / "other"), place.images)
    evil = tmp_path / "evil"
    over = ["-u", "-b", "/etc/hostname", "-F", "raw"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *over, str(evil), "1G"], check=True)
    for _ in range(2):
        with pytest.raises(errors.HostRefused) as caught:
            other.driver.fetch_disks(SPEC, 2, (), place.images, offer(evil), lambda _: None)
        assert "another backing file" in caught.value.detail
        assert [path.name for path in (other.guests / SPEC.id).iterdir()] == ["guest.json"]
        with pytest.raises(errors.GuestFailed):
            other.driver.arrive(SPEC, 2, (), running=True)
    other.driver.destroy(SPEC.id, 3)
    assert not (other.guests / SPEC.id).exists()
    other.driver.close()
    assert place.driver.move_back(SPEC, 3, (), running=True).power_state == PowerState.RUNNING
    assert place.has(1)


def test_a_fetch_gives_way_though_it_hears_nothing(place: Place, tmp_path: Path) -> None:
    certificate = write_credentials(tmp_path)
    with disk_transfer.listen("127.0.0.1") as silent, ThreadPoolExecutor(1) as pool:
        had_by = {"address": "127.0.0.1", "port": str(silent.getsockname()[1]), "token": "t"}
        there = DiskSource(host="other", offer=had_by | {"certificate": certificate.read_text()})
        fetch = pool.submit(place.driver.fetch_disks, SPEC, 2, (), place.images, there, lambda _: None)
        connection, _ = silent.accept()
        with connection:
            place.driver.destroy(SPEC.id, 3)
            with pytest.raises(errors.Stale):
                fetch.result(60.0)
    assert not (place.guests / SPEC.id).exists()
    assert not [one for one in psutil.Process().children(recursive=True) if "disk_transfer" in " ".join(one.cmdline())]


def test_what_an_earlier_move_left_is_not_taken_for_a_new_guest(place: Place) -> None:
    """The host was away when its guest was shelved from another one; now it is brought back here."""
    spawn(place)
    place.driver.close()
    place.open()
    assert place.driver.spawn(SPEC, 1, (), place.images).power_state == PowerState.RUNNING
    assert place.has(1)
    for _ in range(2):
        assert place.driver.spawn(SPEC, 4, (), place.images).power_state == PowerState.RUNNING
        assert not place.has(1)


def test_a_guest_of_before_its_cells_database_was_put_back_is_no_leftover(place: Place) -> None:
    """It may be in use: a create that stood in the backup takes it for its own, and nothing is fetched over it."""
    spawn(place)
    place.driver.start(SPEC.id, 5)
    with pytest.raises(errors.HostRefused, match="put back"):
        place.driver.fetch_disks(
            SPEC, LEAP + 4, (), place.images, DiskSource(host="other", offer={"port": 1}), lambda _: None
        )
    for generation in (LEAP + 1, LEAP + 1, 2 * LEAP + 1):
        assert place.driver.spawn(SPEC, generation, (), place.images).power_state == PowerState.RUNNING
        assert place.has(1)
    with pytest.raises(errors.Stale):
        place.driver.spawn(SPEC, LEAP + 7, (), place.images)
    place.driver.spawn(SPEC, 2 * LEAP + 2, (), place.images)
    assert not place.has(1)


@pytest.mark.parametrize("left", ["guest", "files", "part"])
def test_what_an_earlier_move_left_is_not_taken_for_what_is_fetched(place: Place, tmp_path: Path, left: str) -> None:
    source, directory = tmp_path / "source", place.guests / SPEC.id
    source.mkdir()
    over = ["-u", "-b", "base", "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *over, str(source / "disk"), "1G"], check=True)
    (source / "base").symlink_to(place.images.path)
    qemu_io(source / "disk", "write -P 9 1M 64k")
    spawn(place)
    if left != "guest":
        (directory / "guest.json").unlink()
        place.driver.close()
        place.open()
    if left == "part":
        (directory / "incoming").mkdir()
        (directory / "disk").rename(directory / "incoming" / "disk.part")
        (directory / "incoming" / "disk.at").write_text(str((source / "disk").stat().st_size))
    there = offer(source / "disk")
    for _ in range(2):
        place.driver.fetch_disks(SPEC, 4, (), place.images, there, lambda _: None)
        assert place.has(9)
    place.write(10)  # the same run's next try takes what is there
    place.driver.fetch_disks(SPEC, 4, (), place.images, there, lambda _: None)
    assert place.has(10)


@pytest.mark.parametrize("copied", [False, True], ids=["away", "half-copied"])
def test_a_guest_that_stayed_aside_starts_again(place: Place, copied: bool) -> None:
    spawn(place)
    place.driver.set_aside(SPEC.id, 2, 0.0)
    if copied:
        records = GuestRecords(place.guests)
        records.load()
        records.accept(SPEC, 2, ())
        place.driver.close()
        place.open()
    else:
        with pytest.raises(errors.NotFound):
            place.driver.start(SPEC.id, 3)
    assert place.driver.restore(SPEC, 3, ()).power_state == PowerState.RUNNING
    assert place.has(1)
    assert place.driver.list_guests()[0].aside is False
