"""Hypervisors that every driver's suite runs on: one that is made up, and libvirt in a node of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree as ET

from cell.compute.driver import Driver
from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cellcloud import errors
from cellcloud.model.guest_commands import (
    DefiningCommand,
    GuestCommand,
    ImageCommand,
    PortCommand,
    Rescue,
    VolumeCommand,
)
from cellcloud.model.image import Image
from cellcloud.model.volume import AttachedVolume
from cellcloud.server_states import PowerState
from tests.libvirt_node import LibvirtNode, make_port, make_spec

VIRSH = ("virsh", "--quiet", "--connect", "qemu:///system")
STRANGER = "<memory unit='MiB'>16</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"
SNAPSHOT = "22222222-2222-4222-8222-222222222222"  # the id of an image that is made of a guest
IMAGE = Image(id="11111111-1111-4111-8111-111111111111", name="blank", disk_format="qcow2")


class OneImage:
    """An image store with a single image. ``volume``: a file that stands for a volume."""

    def __init__(self, path: Path, volume: Path = Path()) -> None:
        self.path = path
        self.volume = volume
        self.asked = 0
        self.max_bytes = 8 << 30
        self.filled: dict[str, bytes] = {}
        self.fails: errors.CellcloudError | None = None

    def ensure(self, image: Image) -> Path:
        assert image.id == IMAGE.id
        self.asked += 1
        return self.path

    def is_filled(self, image_id: str) -> bool:
        return image_id in self.filled

    def fill(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        if self.fails is not None:
            raise self.fails
        self.filled[image_id] = b"".join(data)
        assert len(self.filled[image_id]) == size


class Rig(Protocol):
    """A hypervisor under test."""

    images: OneImage

    def open(self) -> Driver:
        """A newly started compute service's driver; the one before it is gone."""
        ...

    def restart_hypervisor(self) -> None: ...

    def fail(self) -> None:
        """The host loses power and is back."""
        ...

    def lose_disks(self, server_id: str) -> None:
        """The guest is off, and its disks are not where they were: removed, or on what is not mounted."""
        ...

    def find_fence(self, server_id: str) -> bool:
        """Whether a running guest is cut off its networks, as the hypervisor has it."""
        ...

    def find_machine(self, server_id: str) -> str | None:
        """The command line of the guest's emulator, and what it runs by; None where there is none."""
        ...

    def run_stranger(self, server_id: str) -> None:
        """Somebody else defines a guest of that name, where others can run guests too."""
        ...

    def list_files(self, server_id: str) -> dict[str, int]:
        """The guest's disks and what they stand on, each with what tells it from another; {} where there are none."""
        ...

    def end_guest(self, server_id: str) -> None:
        """The guest ends without anybody having asked."""
        ...

    def lose_memory(self, server_id: str) -> None:
        """What was kept of a suspended guest's memory is not there any more."""
        ...

    def list_disks(self, server_id: str) -> list[str]:
        """The guest's disks as it sees them, in their order."""
        ...

    def list_volumes(self, server_id: str) -> list[str]:
        """The volumes that the guest has, in their order."""
        ...

    def list_macs(self, server_id: str) -> list[str]:
        """The addresses of the guest's network devices, in their order."""
        ...

    def count_held(self) -> int:
        """How many things of guests there are on the host."""
        ...


class FakeRig:
    def __init__(self, directory: Path, images: OneImage) -> None:
        self.images = images
        self._path = directory / "hosts"
        self._hypervisor = FakeHypervisor(self._path)
        self._driver = FakeDriver(self._hypervisor, "fake-1", use_images=True)

    def open(self) -> Driver:
        self.close()
        self._hypervisor = FakeHypervisor(self._path)
        self._driver = FakeDriver(self._hypervisor, "fake-1", use_images=True)
        self._driver.connect()
        return self._driver

    def restart_hypervisor(self) -> None:
        """Machines that are made up have no daemon to restart."""

    def fail(self) -> None:
        self._hypervisor.lose_power("fake-1")

    def lose_disks(self, server_id: str) -> None:
        self._hypervisor.lose_disks("fake-1", server_id)

    def find_fence(self, server_id: str) -> bool:
        return self._hypervisor.get("fake-1", server_id).fenced

    def find_machine(self, server_id: str) -> str | None:
        return None

    def run_stranger(self, server_id: str) -> None:
        """Nobody else runs guests on machines that are made up."""

    def list_files(self, server_id: str) -> dict[str, int]:
        return {}

    def end_guest(self, server_id: str) -> None:
        self._hypervisor.change_power("fake-1", server_id, PowerState.SHUTDOWN)

    def lose_memory(self, server_id: str) -> None:
        self.end_guest(server_id)

    def list_disks(self, server_id: str) -> list[str]:
        return list(self._hypervisor.get("fake-1", server_id).disks)

    def list_volumes(self, server_id: str) -> list[str]:
        return [one.volume_id for one in self._hypervisor.get("fake-1", server_id).volumes]

    def list_macs(self, server_id: str) -> list[str]:
        return [one.mac_address for one in self._hypervisor.get("fake-1", server_id).ports]

    def count_held(self) -> int:
        return sum(self._hypervisor.count_held().values())

    def close(self) -> None:
        self._driver.close()
        self._hypervisor.close()


class LibvirtRig:
    def __init__(self, node: LibvirtNode, images: OneImage) -> None:
        self.images = images
        self._node = node
        self._driver = node.make_driver()
        self.strangers: list[str] = []

    def open(self) -> Driver:
        self._driver.close()
        self._driver = self._node.make_driver()
        self._driver.connect()
        return self._driver

    def restart_hypervisor(self) -> None:
        self._node.restart_libvirtd()

    def fail(self) -> None:
        self._node.fail()

    def lose_disks(self, server_id: str) -> None:
        self._node.run(*VIRSH, "destroy", server_id, check=False)
        for disk in (self._node.node.directory / "guests" / server_id).glob("disk*"):
            disk.unlink()

    def find_fence(self, server_id: str) -> bool:
        mac = self._node.run(*VIRSH, "domiflist", server_id).split()[-1]
        return "down" in self._node.run(*VIRSH, "domif-getlink", server_id, mac)

    def find_machine(self, server_id: str) -> str | None:
        [pid] = self._node.find_pids(f"guest={server_id}")
        command = self._node.run("sh", "-c", f"tr '\\0' ' ' < /proc/{pid}/cmdline")
        return command + self._node.run(*VIRSH, "dumpxml", server_id) + self._limits(server_id)

    def _limits(self, server_id: str) -> str:
        """What the emulator itself says that its first disk may do."""
        asked = '{"execute": "query-block"}'
        return self._node.run(*VIRSH, "qemu-monitor-command", server_id, asked)

    def run_stranger(self, server_id: str) -> None:
        definition = f"<domain type='qemu'><name>{server_id}</name><uuid>{server_id}</uuid>{STRANGER}</domain>"
        self._node.run("sh", "-c", "cat > /run/stranger.xml", text=definition)
        self._node.run(*VIRSH, "define", "/run/stranger.xml")
        self.strangers.append(server_id)

    def list_files(self, server_id: str) -> dict[str, int]:
        files = (self._node.node.directory / "guests" / server_id).iterdir()
        return {path.name: path.stat().st_ino for path in files if path.name.startswith(("base", "disk", "next"))}

    def end_guest(self, server_id: str) -> None:
        self._node.kill(f"guest={server_id}")

    def lose_memory(self, server_id: str) -> None:
        self._node.run(*VIRSH, "managedsave-remove", server_id)

    def list_disks(self, server_id: str) -> list[str]:
        described = ET.fromstring(self._node.run(*VIRSH, "dumpxml", server_id))  # noqa: S314
        sources = [disk.find("source") for disk in described.findall("devices/disk")]
        return [source.get("file", "") for source in sources if source is not None]

    def list_volumes(self, server_id: str) -> list[str]:
        described = ET.fromstring(self._node.run(*VIRSH, "dumpxml", server_id))  # noqa: S314
        return [serial for disk in described.findall("devices/disk") if (serial := disk.findtext("serial", ""))]

    def list_macs(self, server_id: str) -> list[str]:
        described = ET.fromstring(self._node.run(*VIRSH, "dumpxml", server_id))  # noqa: S314
        return [one.get("address", "") for one in described.findall("devices/interface/mac")]

    def count_held(self) -> int:
        return sum(len(things) for things in self._node.held().values())

    def close(self) -> None:
        for guest in self._driver.list_guests():
            self._driver.destroy(guest.server_id, guest.generation + 1000)
        self._driver.close()
        for server_id in self.strangers:
            self._node.run(*VIRSH, "undefine", server_id)  # which fails when it is not there any more


def power_of(driver: Driver, server_id: str) -> int | None:
    guest = driver.find_guest(server_id)
    return guest.power_state if guest else None


def make_volume(path: Path, number: int = 1, **values: object) -> AttachedVolume:
    """A volume that lies in a file, and its name in the guest."""
    connection = {"driver_volume_type": "file", "data": {"device_path": str(path)}}
    given: dict[str, object] = {"device": f"/dev/vd{'abcdefg'[number]}", "size_gb": 1, "connection": connection}
    return AttachedVolume(
        id=f"44444444-4444-4444-8444-{number:012}",
        volume_id=f"55555555-5555-4555-8555-{number:012}",
        **(given | values),  # type: ignore[arg-type]
    )


def make_command(
    kind: type[GuestCommand], server_id: str, generation: int, images: OneImage | None = None
) -> GuestCommand:
    given: dict[str, Any] = {"run_id": "r", "step": "s", "server_id": server_id, "generation": generation}
    if issubclass(kind, DefiningCommand):
        given |= {"spec": make_spec(server_id, IMAGE), "ports": (make_port(1),)}
    if issubclass(kind, ImageCommand):
        given |= {"image_id": SNAPSHOT}
    if issubclass(kind, Rescue):
        given |= {"image": IMAGE}
    if issubclass(kind, PortCommand):
        given |= {"port": make_port(2)}
    if issubclass(kind, VolumeCommand) and images is not None:
        given |= {"volume": make_volume(images.volume)}
    return kind(**given)
