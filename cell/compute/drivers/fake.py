"""Guests without a hypervisor: the same rules and the same faults, at a few microseconds a verb.

A ``FakeHypervisor`` stands for the machines, a ``FakeDriver`` for one host's compute service on them: a new driver
finds what an earlier one left. With a file, guests outlive their process too, as real ones do.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import TextIO

import msgspec

from cell.compute.driver import (
    DISCARDED,
    DISK_MISSING,
    GUEST_OFF,
    NO_AGENT,
    NO_SNAPSHOT,
    NOT_QUIET,
    NOT_RUNNING,
    NOT_SAVED,
    NOTHING_KNOWN,
    DiskSource,
    GuestWatcher,
    ImageStore,
    check_guest,
    machine_for,
    rescue_machine_for,
)
from cell.compute.drivers.blank_qcow2 import blank_qcow2
from cell.compute.drivers.host_description import HostDescription
from cell.compute.drivers.pci_devices import assign, pools_of
from cellcloud import clock, errors
from cellcloud.model import codec
from cellcloud.model.console import ConsoleAddress
from cellcloud.model.guest_questions import DiskFigures, GuestDiagnostics, NicFigures
from cellcloud.model.host import HostFacts
from cellcloud.model.image import Image
from cellcloud.model.network import Port
from cellcloud.model.observed_guests import GuestDescription, GuestState
from cellcloud.model.server import ServerSpec
from cellcloud.server_states import PowerState

KEPT_TOMBSTONES = 100_000
FIRST_CONSOLE_PORT = 5900
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
        return _aside(self.server_id) if self.aside else self.server_id


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """An error to raise at a verb or at one of spawn's parts: disks, ports, power. ``after``: once its work is done."""

    error: Exception
    after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What each host offers."""

    vcpus: int = 64
    memory_mb: int = 128 << 10
    disk_gb: int = 2000
    description: HostDescription = field(default_factory=HostDescription)


def described_capacity(description: HostDescription) -> Capacity:
    """Return what hosts of such a description offer."""
    return Capacity(
        vcpus=sum(len(cell.cpuset) for cell in description.cells),
        memory_mb=sum(cell.memory for cell in description.cells),
        description=description,
    )


class FakeHypervisor:
    """The machines: any number of hosts with their guests. Safe to use from several threads.

    ``path``: a journal of every change; only one process may write it, and a second waits until the first has ended.
    """

    def __init__(self, path: Path | None = None, *, delay: float = 0.0) -> None:
        self.delay = delay
        self.lock = threading.RLock()
        self._hosts: defaultdict[str, dict[str, FakeGuest]] = defaultdict(dict)
        self._tombstones: dict[tuple[str, str], int] = {}
        self._boots: defaultdict[str, int] = defaultdict(int)
        self._faults: defaultdict[str, deque[InjectedFault]] = defaultdict(deque)
        self._watchers: defaultdict[str, list[GuestWatcher]] = defaultdict(list)
        self._lock_file: TextIO | None = None
        self._journal: FileIO | None = None
        if path is not None:
            self._take_over(path)

    @classmethod
    def read(cls, path: Path) -> FakeHypervisor:
        """Return what a journal says now, without taking part: for looking at hosts whose process lives or has died."""
        hypervisor = cls()
        hypervisor._replay(path)
        return hypervisor

    def fail_next(self, verb: str, error: Exception, *, count: int = 1, after: bool = False) -> None:
        """Make the next ``count`` calls of a verb fail, on whichever host; ``after`` its work is done, or instead."""
        with self.lock:
            self._faults[verb].extend([InjectedFault(error=error, after=after)] * count)

    def change_power(self, host: str, server_id: str, power_state: int) -> None:
        """A guest changes state by itself."""
        with self.lock:
            guest = self.get(host, server_id)
            guest.power_state = power_state
            self.save(host, guest)
            watchers = list(self._watchers[host])
        for watcher in watchers:
            watcher(guest.state)

    def lose_disks(self, host: str, server_id: str) -> None:
        """A guest's disks are not there any more; it is off."""
        with self.lock:
            guest = self.get(host, server_id)
            guest.power_state, guest.disks = PowerState.SHUTDOWN, []
            self.save(host, guest)

    def lose_power(self, host: str) -> None:
        """The host fails and comes back: its guests are off, their disks kept."""
        with self.lock:
            for guest in self._hosts[host].values():
                if guest.power_state != PowerState.SUSPENDED:
                    guest.power_state = PowerState.SHUTDOWN
                    self.save(host, guest)
            self._boots[host] += 1
            self._write([host, "", self._boots[host]])

    def get_boot(self, host: str) -> int:
        """Return how often the host has failed and come back."""
        return self._boots[host]

    def list_guests(self, host: str | None = None) -> list[FakeGuest]:
        """Guests of one host, or of all."""
        with self.lock:
            names = list(self._hosts) if host is None else [host]
            return [guest for name in names for guest in self._hosts[name].values()]

    def count_held(self) -> dict[str, int]:
        """Return how much of each kind of thing is on all hosts: for leak checks."""
        guests = self.list_guests()
        return {
            "guests": len(guests),
            "disks": sum(len(guest.disks) + len(guest.snapshots) for guest in guests),
            "taps": sum(len(guest.taps) for guest in guests),
        }

    def find(self, host: str, server_id: str) -> FakeGuest | None:
        return self._hosts[host].get(server_id)

    def get(self, host: str, server_id: str) -> FakeGuest:
        """Raises NotFound."""
        guest = self.find(host, server_id)
        if guest is None:
            raise errors.NotFound("There is no such guest on this host.")
        return guest

    def refuse_stale(self, host: str, server_id: str, generation: int) -> None:
        """Raises Stale for a generation older than the newest seen."""
        known = (self.find(host, server_id), self.find(host, _aside(server_id)))
        newest = max((one.generation for one in known if one), default=self.find_tombstone(host, server_id))
        if generation < newest:
            raise errors.Stale(f"The host has seen generation {newest} of this server.")

    def find_tombstone(self, host: str, server_id: str) -> int:
        """Return the generation at which the server was destroyed on the host, 0 if it was not."""
        return self._tombstones.get((host, server_id), 0)

    def save(self, host: str, guest: FakeGuest) -> None:
        """Keep a guest as it is now."""
        self._hosts[host][guest.key] = guest
        if self._journal is not None:
            self._write([host, guest.key, guest])

    def bury(self, host: str, server_id: str, generation: int) -> None:
        """Remove a guest and remember the generation that did, if any."""
        self._hosts[host].pop(server_id, None)
        if generation:
            self._remember(host, server_id, generation)
        if self._journal is not None:
            self._write([host, server_id, generation])

    def work(self, verb: str, action: Callable[[], None]) -> None:
        """Do a verb's work, or fail as asked."""
        faults = self._faults.get(verb)
        fault = faults.popleft() if faults else None
        if fault is not None and not fault.after:
            raise fault.error
        action()
        if fault is not None:
            raise fault.error

    def attach(self, host: str, watcher: GuestWatcher) -> None:
        self._watchers[host].append(watcher)

    def detach(self, host: str, watchers: Sequence[GuestWatcher]) -> None:
        self._watchers[host] = [watcher for watcher in self._watchers[host] if watcher not in watchers]

    def close(self) -> None:
        """Let another process take over the file."""
        for file in (self._journal, self._lock_file):
            if file is not None:
                file.close()
        self._journal = self._lock_file = None

    def _take_over(self, path: Path) -> None:
        """Become the journal's writer: read it, and write it anew with only what still counts."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_file = path.with_name(f"{path.name}.lock").open("w")
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        self._replay(path)
        fresh = path.with_name(f"{path.name}.new")
        self._journal = fresh.open("wb", buffering=0)
        for (host, server_id), generation in self._tombstones.items():
            self._write([host, server_id, generation])
        for host, boot in self._boots.items():
            self._write([host, "", boot])
        for host, guests in self._hosts.items():
            for guest in guests.values():
                self._write([host, guest.key, guest])
        fresh.replace(path)

    def _remember(self, host: str, server_id: str, generation: int) -> None:
        self._tombstones[host, server_id] = max(generation, self._tombstones.get((host, server_id), 0))
        while len(self._tombstones) > KEPT_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _write(self, entry: list[object]) -> None:
        if self._journal is not None:
            self._journal.write(msgspec.json.encode(entry) + b"\n")

    def _replay(self, path: Path) -> None:
        """Read a journal; a last line cut short by its writer's death never happened."""
        with suppress(FileNotFoundError), path.open() as journal:
            for line in journal:
                if not line.endswith("\n"):
                    break
                host, server_id, content = msgspec.json.decode(line)
                if not server_id:
                    self._boots[host] = content
                elif isinstance(content, int):
                    self._hosts[host].pop(server_id, None)
                    if content:
                        self._remember(host, server_id, content)
                else:
                    self._hosts[host][server_id] = codec.from_plain(content, FakeGuest)


class FakeSnapshot:
    """The ``SnapshotReader`` of a guest without bytes."""

    def __init__(self, hypervisor: FakeHypervisor, host: str, server_id: str, image_id: str, data: bytes) -> None:
        self._hypervisor = hypervisor
        self._place = (host, server_id)
        self._image_id = image_id
        self._data = data
        self.size = len(data)

    def __iter__(self) -> Iterator[bytes]:
        half = self.size // 2
        for piece in (self._data[:half], self._data[half:]):
            with self._hypervisor.lock:
                guest = self._hypervisor.find(*self._place)
                if guest is None or self._image_id not in guest.snapshots:
                    raise errors.Stale(DISCARDED)
            yield piece


class FakeDriver:
    """The driver of one host of a ``FakeHypervisor``."""

    def __init__(
        self, hypervisor: FakeHypervisor, host: str, *, capacity: Capacity | None = None, use_images: bool = False
    ) -> None:
        self._hypervisor = hypervisor
        self._host = host
        self._capacity = capacity or Capacity()
        self._use_images = use_images
        self._watchers: list[GuestWatcher] = []

    def connect(self) -> None:
        self._begin("connect")

    def close(self) -> None:
        self._hypervisor.detach(self._host, self._watchers)

    def get_boot_id(self) -> str:
        return str(self._hypervisor.get_boot(self._host))

    def get_facts(self) -> HostFacts:
        return HostFacts(
            hypervisor_hostname=self._host,
            hypervisor_type="fake",
            hypervisor_version=1000,
            host_ip="127.0.0.1",
            vcpus=self._capacity.vcpus,
            memory_mb=self._capacity.memory_mb,
            disk_gb=self._capacity.disk_gb,
            cpu_info={"arch": "x86_64", "model": "fake", "vendor": "fake", "topology": {}, "features": []},
            traits=("COMPUTE_NODE", *self._capacity.description.traits),
            virt_type="fake",
            numa=self._capacity.description.cells or None,
            pci_pools=pools_of(self._capacity.description.devices),
            resources=self._capacity.description.resources,
        )

    def list_guests(self) -> list[GuestState]:
        with self._hypervisor.lock:
            guests = sorted(self._hypervisor.list_guests(self._host), key=lambda guest: not guest.aside)
            return list({guest.server_id: guest.state for guest in guests}.values())

    def find_guest(self, server_id: str) -> GuestState | None:
        with self._hypervisor.lock:
            find = self._hypervisor.find
            guest = find(self._host, server_id) or find(self._host, _aside(server_id))
            return guest.state if guest else None

    def spawn(self, spec: ServerSpec, generation: int, ports: Sequence[Port], images: ImageStore) -> GuestState:
        check_guest(spec)
        if self._use_images:
            images.ensure(spec.image)
        self._begin("spawn")
        with self._hypervisor.lock:
            guest = self._accept(spec, generation, ports)
            try:
                self._hypervisor.work("disks", lambda: _add(guest.disks, [f"{spec.id}/disk"]))
                self._hypervisor.work("ports", lambda: _add(guest.taps, [port.id for port in ports]))
                self._hypervisor.work("power", lambda: _boot(guest))
            finally:
                self._hypervisor.save(self._host, guest)
            return guest.state

    def start(self, server_id: str, generation: int) -> GuestState:
        return self._change("start", server_id, generation, _boot)

    def stop(self, server_id: str, generation: int, timeout: float) -> GuestState:
        return self._change("stop", server_id, generation, _halt)

    def reboot(self, server_id: str, generation: int, *, hard: bool, timeout: float) -> GuestState:
        return self._change("reboot", server_id, generation, lambda guest: _reboot(guest, hard=hard))

    def pause(self, server_id: str, generation: int) -> GuestState:
        return self._change("pause", server_id, generation, lambda guest: _set_paused(guest, PowerState.PAUSED))

    def unpause(self, server_id: str, generation: int) -> GuestState:
        return self._change("unpause", server_id, generation, lambda guest: _set_paused(guest, PowerState.RUNNING))

    def suspend(self, server_id: str, generation: int) -> GuestState:
        return self._change("suspend", server_id, generation, _suspend)

    def resume(self, server_id: str, generation: int) -> GuestState:
        return self._change("resume", server_id, generation, _resume)

    def snapshot(self, server_id: str, generation: int, image_id: str) -> GuestState:
        """Every guest that has an agent is quiesced by it."""
        return self._change("snapshot", server_id, generation, lambda guest: _copy(guest, image_id))

    def open_snapshot(self, server_id: str, image_id: str) -> FakeSnapshot:
        with self._hypervisor.lock:
            guest = self._hypervisor.get(self._host, server_id)
            if image_id not in guest.snapshots:
                raise errors.NotFound(NO_SNAPSHOT)
            gigabytes = guest.spec.flavor.root_gb if guest.spec else 0
        return FakeSnapshot(self._hypervisor, self._host, server_id, image_id, blank_qcow2(max(1, gigabytes) << 30))

    def discard_snapshot(self, server_id: str, generation: int, image_id: str) -> GuestState:
        return self._change("discard_snapshot", server_id, generation, lambda guest: _drop(guest, image_id))

    def prepare_rebuild(self, spec: ServerSpec, generation: int, images: ImageStore) -> GuestState:
        check_guest(spec)
        if self._use_images:
            images.ensure(spec.image)
        with self._hypervisor.lock:
            self._check_known(spec)
            return self._change("prepare_rebuild", spec.id, generation, lambda guest: None)

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
        def renew(guest: FakeGuest) -> None:
            if guest.rebuilt < generation:
                _halt(guest)
                guest.spec, guest.ports, guest.rebuilt = spec, tuple(ports), generation
                _add(guest.disks, [f"{spec.id}/disk"])
            (_boot if run else _halt)(guest)

        with self._hypervisor.lock:
            self._check_known(spec)
            return self._change("rebuild", spec.id, generation, renew)

    def _check_known(self, spec: ServerSpec) -> None:
        if self._hypervisor.find(self._host, spec.id) is None:
            raise errors.GuestFailed(DISK_MISSING)

    def rescue(
        self,
        spec: ServerSpec,
        generation: int,
        ports: Sequence[Port],
        image: Image,
        images: ImageStore,
        timeout: float,
    ) -> GuestState:
        stable = rescue_machine_for(spec, image).is_stable
        if self._use_images:
            images.ensure(image)
        with self._hypervisor.lock:
            if self._hypervisor.find(self._host, spec.id) is None:
                raise errors.GuestFailed(DISK_MISSING)
            return self._change("rescue", spec.id, generation, lambda guest: _rescue(guest, last=stable))

    def unrescue(self, server_id: str, generation: int, *, running: bool = True) -> GuestState:
        return self._change("unrescue", server_id, generation, lambda guest: _unrescue(guest, running=running))

    def restore(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> GuestState:
        """Return a machine that is made up loses a guest and its disks together."""
        self._begin("restore")
        with self._hypervisor.lock:
            guest = self._hypervisor.find(self._host, spec.id)
            if guest is None or not guest.disks:
                guest = self._take_back(spec, generation, ports)
            if not guest.disks:
                raise errors.GuestFailed(DISK_MISSING)
            return self._change("start", spec.id, generation, _boot)

    def destroy(self, server_id: str, generation: int) -> None:
        self._begin("destroy")
        with self._hypervisor.lock:
            if self._hypervisor.find(self._host, server_id) is not None:
                self._hypervisor.refuse_stale(self._host, server_id, generation)
            for key in (_aside(server_id), server_id):
                self._hypervisor.work("remove", functools.partial(self._hypervisor.bury, self._host, key, generation))

    def set_aside(self, server_id: str, generation: int, timeout: float) -> GuestState:
        self._begin("set_aside")
        with self._hypervisor.lock:
            self._hypervisor.refuse_stale(self._host, server_id, generation)
            guest = self._hypervisor.find(self._host, server_id)
            before = self._hypervisor.find(self._host, _aside(server_id))
            if before is not None and before.generation == generation:
                return before.state
            aside = guest or self._hypervisor.get(self._host, _aside(server_id))
            _halt(aside)
            aside = replace(aside, aside=True, generation=generation)
            self._hypervisor.save(self._host, aside)
            if guest is not None:
                self._hypervisor.bury(self._host, server_id, 0)
            return aside.state

    def offer_disks(self, server_id: str) -> dict[str, str]:
        self._begin("offer_disks")
        with self._hypervisor.lock:
            self._hypervisor.get(self._host, _aside(server_id))
        return {"host": self._host}

    def fetch_disks(
        self,
        spec: ServerSpec,
        generation: int,
        ports: Sequence[Port],
        images: ImageStore,
        source: DiskSource,
        tell: Callable[[int], None],
    ) -> GuestState:
        check_guest(spec)
        self._begin("fetch_disks")
        with self._hypervisor.lock:
            there = self._hypervisor.find(source.host, _aside(spec.id))
            if there is None or (source.host != self._host and source.offer.get("host") != source.host):
                raise errors.Unreachable("The disks are not offered.")
            self._hypervisor.refuse_stale(self._host, spec.id, generation)
            known = self._hypervisor.find(self._host, spec.id)
            if known is not None and known.generation < generation:  # left by an earlier move
                self._hypervisor.bury(self._host, spec.id, 0)
            guest = self._accept(spec, generation, ports)
            _add(guest.disks, there.disks)
            guest.power_state = PowerState.SHUTDOWN
            self._hypervisor.save(self._host, guest)
            if source.host != self._host:
                self._hypervisor.bury(self._host, _aside(spec.id), 0)
            tell(100)
            return guest.state

    def arrive(self, spec: ServerSpec, generation: int, ports: Sequence[Port], *, running: bool) -> GuestState:
        self._begin("arrive")
        with self._hypervisor.lock:
            return self._settle(self._accept(spec, generation, ports), running=running)

    def move_back(self, spec: ServerSpec, generation: int, ports: Sequence[Port], *, running: bool) -> GuestState:
        self._begin("move_back")
        with self._hypervisor.lock:
            return self._settle(self._take_back(spec, generation, ports), running=running)

    def _take_back(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> FakeGuest:
        """A guest that is set aside, in its place again, unless what is there has gone on since."""
        self._hypervisor.refuse_stale(self._host, spec.id, generation)
        aside = self._hypervisor.find(self._host, _aside(spec.id))
        guest = self._hypervisor.find(self._host, spec.id)
        if guest is not None and aside is not None and aside.generation < guest.generation:
            aside = None
        guest = aside or guest
        if guest is None:
            raise errors.GuestFailed(DISK_MISSING)
        back = replace(guest, aside=False, generation=generation, ports=tuple(ports), spec=spec)
        self._hypervisor.save(self._host, back)
        if aside is not None:
            self._hypervisor.bury(self._host, _aside(spec.id), 0)
        return back

    def discard(self, server_id: str, generation: int) -> None:
        self._begin("discard")
        with self._hypervisor.lock:
            self._hypervisor.refuse_stale(self._host, server_id, generation)
            self._hypervisor.bury(self._host, _aside(server_id), 0)

    def describe_guest(self, server_id: str) -> GuestDescription:
        with self._hypervisor.lock:
            guest = self._hypervisor.get(self._host, server_id)
            if guest.spec is None:
                raise errors.NotFound(NOTHING_KNOWN)
            return GuestDescription(state=guest.state, spec=guest.spec, ports=guest.ports, rescued=guest.rescued > 0)

    def set_fence(self, server_id: str, *, fenced: bool) -> None:
        self._begin("fence")
        with self._hypervisor.lock:
            guest = self._hypervisor.get(self._host, server_id)
            guest.fenced = fenced
            self._hypervisor.save(self._host, guest)

    def get_diagnostics(self, server_id: str) -> GuestDiagnostics:
        """Nothing that is made up uses anything. Source of the driver's name: Nova's own fake one."""
        with self._hypervisor.lock:
            guest = self._running(server_id)
            flavor = guest.spec.flavor if guest.spec else None
            memory_kb = flavor.memory_mb << 10 if flavor else 0
            return GuestDiagnostics(
                power_state=guest.power_state,
                driver="libvirt",
                hypervisor="fake",
                memory_kb=(memory_kb, memory_kb),
                cpu_times=dict.fromkeys(range(flavor.vcpus if flavor else 0), 0),
                disks=(
                    DiskFigures(name="vda", read_bytes=0, read_requests=0, write_bytes=0, write_requests=0, errors=0),
                ),
                nics=tuple(_still(port) for port in guest.ports),
            )

    def set_password(self, server_id: str, user: str, password: str) -> None:
        self._begin("set_password")
        with self._hypervisor.lock:
            guest = self._running(server_id)
            if guest.spec is None or not machine_for(guest.spec).guest_agent:
                raise errors.Conflict(NO_AGENT)
            guest.passwords[user] = hashlib.sha256(password.encode()).hexdigest()
            self._hypervisor.save(self._host, guest)

    def inject_nmi(self, server_id: str) -> None:
        self._begin("inject_nmi")
        with self._hypervisor.lock:
            guest = self._hypervisor.get(self._host, server_id)
            if guest.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
                raise errors.Conflict(NOT_RUNNING)
            guest.console.append("fake: interrupted")
            self._hypervisor.save(self._host, guest)

    def _running(self, server_id: str) -> FakeGuest:
        guest = self._hypervisor.get(self._host, server_id)
        if guest.power_state != PowerState.RUNNING:
            raise errors.Conflict(NOT_RUNNING)
        return guest

    def get_console_output(self, server_id: str, length: int) -> str:
        with self._hypervisor.lock:
            text = "".join(f"{line}\n" for line in self._hypervisor.get(self._host, server_id).console)
        return text if length < 0 else text[max(0, len(text) - length) :]

    def get_console(self, server_id: str) -> ConsoleAddress:
        """Raises Conflict when the guest does not run. Nothing listens there."""
        with self._hypervisor.lock:
            guest = self._hypervisor.get(self._host, server_id)
            if guest.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
                raise errors.Conflict(NOT_RUNNING)
            port = FIRST_CONSOLE_PORT + self._hypervisor.list_guests(self._host).index(guest)
            return ConsoleAddress(server_id=server_id, generation=guest.generation, host="127.0.0.1", port=port)

    def watch(self, watcher: GuestWatcher) -> None:
        self._watchers.append(watcher)
        self._hypervisor.attach(self._host, watcher)

    def _begin(self, verb: str) -> None:
        """Take the time a verb takes, and fail as asked."""
        if self._hypervisor.delay:
            clock.sleep(self._hypervisor.delay)
        with self._hypervisor.lock:
            self._hypervisor.work(verb, lambda: None)

    def _accept(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> FakeGuest:
        self._hypervisor.refuse_stale(self._host, spec.id, generation)
        if self._hypervisor.find_tombstone(self._host, spec.id) >= generation:
            raise errors.Stale("The server has been deleted from this host.")
        known = self._hypervisor.find(self._host, spec.id)
        if known is None:
            known = FakeGuest(server_id=spec.id, project_id=spec.project_id, name=spec.name, generation=generation)
        devices = self._assign_devices(known, spec)
        return replace(known, generation=generation, spec=spec, ports=tuple(ports), devices=devices)

    def _assign_devices(self, known: FakeGuest, spec: ServerSpec) -> list[str]:
        """The addresses of the devices that were claimed for a guest; it keeps what it has. Raises HostRefused."""
        placed, host = spec.placed, self._capacity.description
        if placed is None:
            return []
        host.check(placed)
        if known.devices and known.spec is not None and known.spec.placed == placed:
            return known.devices
        others = (one for one in self._hypervisor.list_guests(self._host) if one is not known)
        taken = {address for other in others for address in other.devices}
        return list(assign(host.devices, placed.devices, taken))

    def _settle(self, guest: FakeGuest, *, running: bool) -> GuestState:
        """Have a guest with its ports run, or be off."""
        if not guest.disks:
            raise errors.GuestFailed(DISK_MISSING)
        try:
            self._hypervisor.work("ports", lambda: _add(guest.taps, [port.id for port in guest.ports]))
            self._hypervisor.work("power", lambda: _boot(guest) if running else _halt(guest))
        finally:
            self._hypervisor.save(self._host, guest)
        return guest.state

    def _change(self, verb: str, server_id: str, generation: int, action: Callable[[FakeGuest], None]) -> GuestState:
        self._begin(verb)
        with self._hypervisor.lock:
            self._hypervisor.refuse_stale(self._host, server_id, generation)
            guest = self._hypervisor.get(self._host, server_id)
            guest.generation = generation
            try:
                self._hypervisor.work("power", lambda: action(guest))
            finally:
                self._hypervisor.save(self._host, guest)
            return guest.state


def _still(port: Port) -> NicFigures:
    figures = {f"{way}_{what}": 0 for way in ("rx", "tx") for what in ("octets", "packets", "errors", "drop")}
    return NicFigures(name=f"tap-{port.id[:8]}", mac_address=port.mac_address, **figures)


def _boot(guest: FakeGuest) -> None:
    if not guest.disks:
        raise errors.GuestFailed(DISK_MISSING)
    if guest.power_state != PowerState.RUNNING:
        guest.power_state = PowerState.RUNNING
        guest.console += [f"fake: booting {guest.name}", "fake: ready", f"{guest.name} login:"]


def _set_paused(guest: FakeGuest, power_state: PowerState) -> None:
    if guest.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
        raise errors.GuestFailed(GUEST_OFF)
    guest.power_state = power_state


def _suspend(guest: FakeGuest) -> None:
    if guest.power_state not in HAS_MEMORY:
        raise errors.GuestFailed(GUEST_OFF)
    guest.power_state = PowerState.SUSPENDED


def _resume(guest: FakeGuest) -> None:
    if guest.power_state not in HAS_MEMORY:
        raise errors.GuestFailed(NOT_SAVED)
    guest.power_state = PowerState.RUNNING


def _halt(guest: FakeGuest) -> None:
    if guest.power_state in HAS_MEMORY:
        guest.power_state = PowerState.SHUTDOWN
        guest.console.append("fake: powered off")


def _rescue(guest: FakeGuest, *, last: bool) -> None:
    if not guest.disks:
        raise errors.GuestFailed(DISK_MISSING)
    if guest.rescued < guest.generation:
        _leave_rescue(guest)
        _halt(guest)
        guest.rescued = guest.generation
        guest.disks.insert(len(guest.disks) if last else 0, f"{guest.server_id}/rescue")
    _boot(guest)


def _unrescue(guest: FakeGuest, *, running: bool) -> None:
    _leave_rescue(guest)
    if running:
        _boot(guest)


def _leave_rescue(guest: FakeGuest) -> None:
    """What runs from the rescue disk ends with it."""
    if guest.rescued:
        guest.rescued = 0
        guest.disks = [disk for disk in guest.disks if disk != f"{guest.server_id}/rescue"]
        _halt(guest)


def _reboot(guest: FakeGuest, *, hard: bool) -> None:
    if guest.rebooted < guest.generation:
        if hard:
            _leave_rescue(guest)
        guest.rebooted = guest.generation
        guest.reboots += 1
        _halt(guest)
    _boot(guest)


def _copy(guest: FakeGuest, image_id: str) -> None:
    if not guest.disks:
        raise errors.GuestFailed(DISK_MISSING)
    machine = machine_for(guest.spec) if guest.spec else None
    if machine and machine.needs_quiesce and not machine.guest_agent and guest.power_state == PowerState.RUNNING:
        raise errors.GuestFailed(NOT_QUIET)
    _add(guest.snapshots, [image_id])


def _drop(guest: FakeGuest, image_id: str) -> None:
    guest.snapshots = [known for known in guest.snapshots if known != image_id]


def _aside(server_id: str) -> str:
    """By what a host knows a guest that is set aside."""
    return f"{server_id}/aside"


def _add(things: list[str], more: list[str]) -> None:
    things.extend(thing for thing in more if thing not in things)
