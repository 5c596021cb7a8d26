"""What a compute host asks of its hypervisor.

Every verb may be repeated: it adopts what an earlier attempt made. Verbs block until done or raise an error of
``cellcloud.errors``: GuestFailed (this guest cannot), HostRefused (this host cannot), Stale (older generation),
NotFound (no such guest). The contract suite in ``tests/contract`` runs on every driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cellcloud import errors
from cellcloud.model import flavor_image_validation, image_properties
from cellcloud.model.console import ConsoleAddress
from cellcloud.model.guest_questions import GuestDiagnostics
from cellcloud.model.host import HostFacts
from cellcloud.model.image import Image
from cellcloud.model.network import Port
from cellcloud.model.network_plan import PlanChanges
from cellcloud.model.observed_guests import GuestDescription, GuestState
from cellcloud.model.rescue import RescueMachine, rescue_machine
from cellcloud.model.server import ServerSpec
from cellcloud.model.virtual_hardware import Machine, machine_of
from cellcloud.model.volume import AttachedVolume

GuestWatcher = Callable[[GuestState], None]
GUEST_OFF = "The guest is off."
NOT_RUNNING = "The server is not running."
NO_AGENT = "QEMU guest agent is not enabled"
NOT_SAVED = "The guest's memory was not kept, or is lost: it can be started, but not resumed."
DISK_MISSING = "A disk of the guest is missing on its host."
NO_SNAPSHOT = "There is no such copy of the guest's disk on this host."
NOT_QUIET = "The image demands a quiet guest (os_require_quiesce), and it has no agent that answers."
DISCARDED = "The copy of the guest's disk was dropped."
NOT_RELEASED = "The guest does not let go of the volume."
PORT_NOT_RELEASED = "The guest does not let go of the port."
NOTHING_KNOWN = "This host does not know what the guest was made from."


class ImageStore(Protocol):
    """Where a driver gets an image's bytes: a file that passed the gate, kept by checksum. ``max_bytes``: that an
    image's file may have."""

    @property
    def max_bytes(self) -> int: ...

    def ensure(self, image: Image) -> Path:
        """Return the local file of the image, fetched and verified if need be. Raises HostRefused, Invalid,
        Unreachable."""
        ...

    def is_filled(self, image_id: str) -> bool:
        """Return whether an image has its bytes. Raises NotFound, Unreachable."""
        ...

    def fill(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        """Give an image its bytes, unless it has them. Raises NotFound, Busy, Unreachable."""
        ...


class SnapshotReader(Protocol):
    """A copy of a guest's root disk that is being read."""

    size: int

    def __iter__(self) -> Iterator[bytes]:
        """Its bytes in pieces. Raises Stale when it is dropped meanwhile."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSource:
    """Where the disks of a guest that is moved are: a host, and what it offered them by; nothing where it is the same
    host."""

    host: str
    offer: Mapping[str, str]


class Driver(Protocol):
    """One hypervisor. Safe to call from several threads, also for one guest."""

    def connect(self) -> None:
        """Open the hypervisor; raises HostRefused when it does not answer."""
        ...

    def close(self) -> None:
        """Let go of the hypervisor. Guests keep running."""
        ...

    def get_boot_id(self) -> str:
        """Name the host's present boot; a new name means that the host was down and every guest with it."""
        ...

    def get_facts(self) -> HostFacts: ...

    def list_guests(self) -> list[GuestState]:
        """Return the guests that this driver has made; others' are none of its business."""
        ...

    def find_guest(self, server_id: str) -> GuestState | None: ...

    def spawn(self, spec: ServerSpec, generation: int, ports: Sequence[Port], images: ImageStore) -> GuestState:
        """Make disks, plug ports, define and start the guest."""
        ...

    def start(self, server_id: str, generation: int) -> GuestState: ...

    def stop(self, server_id: str, generation: int, timeout: float) -> GuestState:
        """Ask the guest to power off; after ``timeout`` seconds cut its power."""
        ...

    def reboot(self, server_id: str, generation: int, *, hard: bool, timeout: float) -> GuestState: ...

    def pause(self, server_id: str, generation: int) -> GuestState:
        """Halt the guest's processors; its memory stays. Raises GuestFailed when it is off."""
        ...

    def unpause(self, server_id: str, generation: int) -> GuestState:
        """Let a paused guest go on. Raises GuestFailed when it is off."""
        ...

    def suspend(self, server_id: str, generation: int) -> GuestState:
        """Put the guest's memory on the host's disk, where it outlives the host's restart, and end its emulator.
        Raises GuestFailed when it is off. Whatever starts the guest goes on from there; ``stop`` and a hard reboot
        drop it."""
        ...

    def resume(self, server_id: str, generation: int) -> GuestState:
        """Let a suspended guest go on from the memory that was kept. Raises GuestFailed when there is none."""
        ...

    def snapshot(self, server_id: str, generation: int, image_id: str) -> GuestState:
        """Copy the guest's root disk as it is at one moment into a qcow2 that stands alone; the guest runs on. One that
        is there is kept. A guest whose image asks for it is quiesced by its agent meanwhile: raises GuestFailed where
        that is required and cannot be done."""
        ...

    def open_snapshot(self, server_id: str, image_id: str) -> SnapshotReader:
        """Open a copy of the disk for reading. Raises NotFound when there is no such copy."""
        ...

    def discard_snapshot(self, server_id: str, generation: int, image_id: str) -> GuestState:
        """Drop such a copy, or the making of it; a snapshot of that generation is Stale then. Absent is success."""
        ...

    def prepare_rebuild(self, spec: ServerSpec, generation: int, images: ImageStore) -> GuestState:
        """Make a root disk of another image beside the guest's own; the guest is left as it is. Raises GuestFailed for
        what it cannot be."""
        ...

    def rebuild(
        self,
        spec: ServerSpec,
        generation: int,
        ports: Sequence[Port],
        images: ImageStore,
        *,
        run: bool,
        keep_ephemeral: bool,
        timeout: float,
    ) -> GuestState:
        """Power the guest off as ``stop`` does, let it have that root disk, unless its own is a volume, and other blank
        disks, and start it if it is to ``run``. The old root disk is given up once the new one is whole. Raises
        GuestFailed when there is no guest."""
        ...

    def rescue(
        self,
        spec: ServerSpec,
        generation: int,
        ports: Sequence[Port],
        image: Image,
        images: ImageStore,
        timeout: float,
    ) -> GuestState:
        """Start the guest from a new disk made of ``image``, with its own root disk beside it: as ``rescue_machine``
        says. One that runs is first asked to power off, as by ``stop``. Until ``unrescue`` whatever starts the guest
        starts it so. Raises GuestFailed when a disk is missing or the guest does not start: it is what it was then."""
        ...

    def unrescue(self, server_id: str, generation: int, *, running: bool = True) -> GuestState:
        """Start the guest from its own disk again, or with ``running`` false only let it be off; the disk that it was
        rescued from is removed. A guest that is not being rescued is only started. A hard reboot does it, too."""
        ...

    def restore(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> GuestState:
        """Define a guest anew around the disks that are there, or that stayed set aside, and start it. Raises
        GuestFailed when one is missing."""
        ...

    def destroy(self, server_id: str, generation: int) -> None:
        """Remove the guest, its disks, ports and rules, and what is set aside of it. Absent is success, whatever was
        destroyed since; a guest that this driver has not made is left alone. Raises Conflict for one, Stale when the
        guest is of a newer generation."""
        ...

    def set_aside(self, server_id: str, generation: int, timeout: float) -> GuestState:
        """Power the guest off, as ``stop`` does, and keep all of it where no other verb looks for it, under its
        generation, until ``move_back``, ``discard`` or ``destroy``; what an earlier generation set aside gives way.
        Raises NotFound when there is neither."""
        ...

    def offer_disks(self, server_id: str) -> dict[str, str]:
        """Let another host that knows what is returned fetch the disks of a guest that is set aside, for as long as it
        is. Raises NotFound."""
        ...

    def fetch_disks(
        self,
        spec: ServerSpec,
        generation: int,
        ports: Sequence[Port],
        images: ImageStore,
        source: DiskSource,
        tell: Callable[[int], None],
    ) -> GuestState:
        """Copy the disks of a guest that ``source`` has set aside, going on where an earlier attempt was cut off, make
        sure that they are what they were, and let them grow to the flavor's size; whatever an earlier generation left
        here is removed first. ``tell``: how much is done, in percent. Raises Unreachable when the source cannot be
        reached or offers them no longer; HostRefused, and nothing of them is used, when they are not what this host
        would have made, larger than the guest's are to be, or come otherwise than they should."""
        ...

    def arrive(self, spec: ServerSpec, generation: int, ports: Sequence[Port], *, running: bool) -> GuestState:
        """Make a guest of disks that were fetched, plug its ports, and start it if it is to run."""
        ...

    def move_back(self, spec: ServerSpec, generation: int, ports: Sequence[Port], *, running: bool) -> GuestState:
        """Put a guest that is set aside in its place again, instead of what is there, unless that is newer; then, or
        where none is set aside, have it run or be off."""
        ...

    def discard(self, server_id: str, generation: int) -> None:
        """Remove what is set aside of the guest, and nothing else; where that is all there is, no command up to that
        generation brings it back. Absent is success. Raises Stale."""
        ...

    def attach_volume(self, server_id: str, generation: int, volume: AttachedVolume) -> GuestState:
        """Give the guest a volume, running or not, and whenever it is started from now on. Raises GuestFailed for a
        kind of volume that is not served, and where the hypervisor refuses it: the guest is what it was then."""
        ...

    def detach_volume(self, server_id: str, generation: int, volume: AttachedVolume, timeout: float) -> GuestState:
        """Take a volume from the guest: a running one is asked for it until it has let go. Raises GuestFailed when it
        has not within ``timeout`` seconds; the guest has it then."""
        ...

    def extend_volume(self, server_id: str, generation: int, volume: AttachedVolume) -> GuestState:
        """Let a running guest see the size that a volume of its has by now. Raises GuestFailed."""
        ...

    def attach_port(self, server_id: str, generation: int, port: Port) -> GuestState:
        """Give the guest a port, running or not, and whenever it is started from now on; its network and its rules are
        there before. Raises GuestFailed where the hypervisor refuses it: the guest is what it was then."""
        ...

    def detach_port(self, server_id: str, generation: int, port: Port, timeout: float) -> GuestState:
        """Take a port from the guest: a running one is asked for it until it has let go. Raises GuestFailed when it
        has not within ``timeout`` seconds; the guest has it then."""
        ...

    def describe_guest(self, server_id: str) -> GuestDescription:
        """Return the guest with what it was made from. Raises NotFound when there is none, or nothing is known of
        it."""
        ...

    def set_fence(self, server_id: str, *, fenced: bool) -> None:
        """Cut the guest off its networks, or let it back; it runs on. A guest that is started again keeps its fence.
        Raises NotFound."""
        ...

    def get_diagnostics(self, server_id: str) -> GuestDiagnostics:
        """Ask the emulator for a running guest's figures. Raises NotFound, Conflict when the guest does not run."""
        ...

    def set_password(self, server_id: str, user: str, password: str) -> None:
        """Have the guest's agent do it. Raises NotFound; Conflict when the guest does not run or has no agent;
        NotSupported when its agent does not answer; GuestFailed when it refuses."""
        ...

    def inject_nmi(self, server_id: str) -> None:
        """Interrupt a guest with an NMI. Raises NotFound; Conflict when the guest is off; NotSupported."""
        ...

    def get_console_output(self, server_id: str, length: int) -> str:
        """Return the last ``length`` characters of the serial console; all that is kept when negative."""
        ...

    def get_console(self, server_id: str, protocol: str) -> ConsoleAddress:
        """Return where the guest's VNC server or its first serial port listens. Raises NotFound; Conflict when it does
        not run; Invalid when it has no console of that protocol."""
        ...

    def change_plans(self, changes: PlanChanges) -> None:
        """Make networks, security groups and routers so, at once and also for guests that run; they are kept. Raises
        HostRefused for what cannot be made now."""
        ...

    def list_plans(self) -> dict[str, int]:
        """Return the versions of the plans that are kept, by ``network_plan.key_of``."""
        ...

    def list_network_faults(self) -> list[str]:
        """Return in words where the host's networks are not as its guests and plans say. Raises HostRefused."""
        ...

    def watch(self, watcher: GuestWatcher) -> None:
        """Call ``watcher`` with the new state whenever a guest changes power state by itself."""
        ...


def check_guest(spec: ServerSpec) -> None:
    """Refuse what no driver here can give a guest. Drivers ask it before they make anything. Raises GuestFailed."""
    flavor, image = spec.flavor, spec.image
    if not flavor.extra_specs and not image.properties and spec.placed is None:
        return
    try:
        flavor_image_validation.check(flavor, image)
        placed = flavor_image_validation.is_placed(spec)
    except errors.Invalid as error:
        raise errors.GuestFailed(error.message) from error
    if not placed:
        raise errors.GuestFailed("The guest has not the NUMA cells, dedicated CPUs or PCI devices that it asks for.")


def rescue_machine_for(spec: ServerSpec, image: Image) -> RescueMachine:
    """Return the virtual hardware on which a guest is rescued. Raises GuestFailed."""
    try:
        return rescue_machine(spec.flavor, spec.image, image)
    except errors.Invalid as error:
        raise errors.GuestFailed(error.message) from error


def machine_for(spec: ServerSpec) -> Machine:
    """Return the virtual hardware of a guest that was accepted. Raises GuestFailed."""
    try:
        return machine_of(spec.flavor, image_properties.read(spec.image.properties))
    except errors.Invalid as error:
        raise errors.GuestFailed(error.message) from error
