"""One made-up guest: what a host holds of a server, and what each change makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cell.compute.driver import (
    DISCARDED,
    DISK_MISSING,
    GUEST_OFF,
    NOT_QUIET,
    NOT_RELEASED,
    NOT_SAVED,
    PORT_NOT_RELEASED,
    machine_for,
)
from cellcloud import errors
from cellcloud.model.network import Port, find_port, with_port, without_port
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume import AttachedVolume, Volumes, with_changed, without
from cellcloud.server_states import PowerState

KINDS = ("nbd", "rbd", "iscsi", "local", "file", "nfs")  # of volumes
HAS_MEMORY = (PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED)


@dataclass(slots=True, kw_only=True)
class FakeGuest:
    """What one host holds of one server. ``taps`` and ``disks`` are there once made, and until removed. ``rescued``:
    the generation of the rescue that it is in, 0 in none. ``passwords``: digests of those that were set, by user."""

    server_id: str
    project_id: str
    name: str
    generation: int
    power_state: int = PowerState.NOSTATE
    disks: list[str] = field(default_factory=list)
    taps: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)
    rebooted: int = 0
    reboots: int = 0
    fenced: bool = False
    snapshots: list[str] = field(default_factory=list)
    aside: bool = False
    rebuilt: int = 0
    dropped: int = 0
    rescued: int = 0
    spec: ServerSpec | None = None
    ports: tuple[Port, ...] = ()
    devices: list[str] = field(default_factory=list)

    @property
    def state(self) -> GuestState:
        return GuestState(
            server_id=self.server_id,
            power_state=self.power_state,
            generation=self.generation,
            project_id=self.project_id,
            fenced=self.fenced,
            aside=self.aside,
        )

    @property
    def key(self) -> str:
        """By what its host knows it."""
        return aside_key(self.server_id) if self.aside else self.server_id

    def boot(self) -> None:
        if not self.disks:
            raise errors.GuestFailed(DISK_MISSING)
        if self.power_state != PowerState.RUNNING:
            self.power_state = PowerState.RUNNING
            self.console += [f"fake: booting {self.name}", "fake: ready", f"{self.name} login:"]

    def set_paused(self, power_state: PowerState) -> None:
        if self.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
            raise errors.GuestFailed(GUEST_OFF)
        self.power_state = power_state

    def suspend(self) -> None:
        if self.power_state not in HAS_MEMORY:
            raise errors.GuestFailed(GUEST_OFF)
        self.power_state = PowerState.SUSPENDED

    def resume(self) -> None:
        if self.power_state not in HAS_MEMORY:
            raise errors.GuestFailed(NOT_SAVED)
        self.power_state = PowerState.RUNNING

    def halt(self) -> None:
        if self.power_state in HAS_MEMORY:
            self.power_state = PowerState.SHUTDOWN
            self.console.append("fake: powered off")

    def rescue(self, *, last: bool) -> None:
        if not self.disks:
            raise errors.GuestFailed(DISK_MISSING)
        if self.rescued < self.generation:
            self.leave_rescue()
            self.halt()
            self.rescued = self.generation
            self.disks.insert(len(self.disks) if last else 0, f"{self.server_id}/rescue")
        self.boot()

    def unrescue(self, *, running: bool) -> None:
        self.leave_rescue()
        if running:
            self.boot()

    def leave_rescue(self) -> None:
        """End the rescue, and what runs from its disk."""
        if self.rescued:
            self.rescued = 0
            self.disks = [disk for disk in self.disks if disk != f"{self.server_id}/rescue"]
            self.halt()

    def reboot(self, *, hard: bool) -> None:
        if self.rebooted < self.generation:
            if hard:
                self.leave_rescue()
            self.rebooted = self.generation
            self.reboots += 1
            self.halt()
        self.boot()

    def take_snapshot(self, image_id: str) -> None:
        if self.dropped >= self.generation:
            raise errors.Stale(DISCARDED)
        if not self.disks or (self.spec and self.spec.is_volume_backed):
            raise errors.GuestFailed(DISK_MISSING)
        machine = machine_for(self.spec) if self.spec else None
        if machine and machine.needs_quiesce and not machine.guest_agent and self.power_state == PowerState.RUNNING:
            raise errors.GuestFailed(NOT_QUIET)
        add_missing(self.snapshots, [image_id])

    @property
    def volumes(self) -> Volumes:
        return self.spec.volumes if self.spec else ()

    def attach(self, volume: AttachedVolume) -> None:
        kind = str(volume.connection.get("driver_volume_type"))
        if kind not in KINDS:
            raise errors.GuestFailed(f"Volumes of kind '{kind}' cannot be attached here.")
        self._hold(with_changed(self.volumes, volume))

    def detach(self, volume: AttachedVolume) -> None:
        """One whose processors are halted, or whose system is not up, lets go of nothing."""
        if self.power_state == PowerState.PAUSED and any(one.id == volume.id for one in self.volumes):
            raise errors.GuestFailed(NOT_RELEASED)
        self._hold(without(self.volumes, volume.id))

    def extend(self, volume: AttachedVolume) -> None:
        self._hold(tuple(volume if one.id == volume.id else one for one in self.volumes))

    def _hold(self, volumes: Volumes) -> None:
        if self.spec is not None:
            self.spec = replace(self.spec, volumes=volumes)

    def plug(self, port: Port) -> None:
        self.ports = with_port(self.ports, port)
        add_missing(self.taps, [port.id])

    def unplug(self, port: Port) -> None:
        """As ``detach``."""
        if self.power_state == PowerState.PAUSED and find_port(self.ports, port.id) is not None:
            raise errors.GuestFailed(PORT_NOT_RELEASED)
        self.ports = without_port(self.ports, port.id)
        self.taps = [tap for tap in self.taps if tap != port.id]

    def drop_snapshot(self, image_id: str) -> None:
        self.dropped = self.generation
        self.snapshots = [known for known in self.snapshots if known != image_id]


def aside_key(server_id: str) -> str:
    """By what a host knows a guest that is set aside."""
    return f"{server_id}/aside"


def add_missing(things: list[str], more: list[str]) -> None:
    things.extend(thing for thing in more if thing not in things)
