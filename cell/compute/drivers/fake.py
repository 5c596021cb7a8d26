"""Guests without a hypervisor: the same rules and the same faults, at a few microseconds a verb.

A ``FakeHypervisor`` stands for the machines, a ``FakeDriver`` for one host's compute service on them: a new driver
finds what an earlier one left. With a file, guests outlive their process too, as real ones do.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cell.compute.driver import (
    DISCARDED,
    DISK_MISSING,
    NO_AGENT,
    NO_SNAPSHOT,
    NOT_RUNNING,
    NOTHING_KNOWN,
    DiskSource,
    GuestWatcher,
    ImageStore,
    check_guest,
    machine_for,
    rescue_machine_for,
)
from cell.compute.drivers.blank_qcow2 import blank_qcow2
from cell.compute.drivers.fake_guest import FakeGuest, add_missing, aside_key
from cell.compute.drivers.fake_hypervisor import Capacity, FakeHypervisor
from cell.compute.drivers.pci_devices import assign, pools_of
from cellcloud import clock, errors
from cellcloud.model.console import ConsoleAddress
from cellcloud.model.guest_questions import DiskFigures, GuestDiagnostics, NicFigures
from cellcloud.model.host import HostFacts
from cellcloud.model.image import Image
from cellcloud.model.network import Port
from cellcloud.model.network_plan import PlanChanges
from cellcloud.model.observed_guests import GuestDescription, GuestState
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume import AttachedVolume
from cellcloud.server_states import PowerState

FIRST_CONSOLE_PORTS = {"vnc": 5900, "serial": 10000}


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
            found: dict[str, GuestState] = {}
            for guest in guests:
                before = found.get(guest.server_id)
                found[guest.server_id] = replace(guest.state, beside=before.generation) if before else guest.state
            return list(found.values())

    def find_guest(self, server_id: str) -> GuestState | None:
        with self._hypervisor.lock:
            find = self._hypervisor.find
            guest = find(self._host, server_id) or find(self._host, aside_key(server_id))
            return guest.state if guest else None

    def spawn(self, spec: ServerSpec, generation: int, ports: Sequence[Port], images: ImageStore) -> GuestState:
        check_guest(spec)
        if self._use_images and not spec.is_volume_backed:
            images.ensure(spec.image)
        self._begin("spawn")
        with self._hypervisor.lock:
            guest = self._accept(spec, generation, ports)
            try:
                self._hypervisor.work("disks", lambda: add_missing(guest.disks, [f"{spec.id}/disk"]))
                self._hypervisor.work("ports", lambda: add_missing(guest.taps, [port.id for port in ports]))
                self._hypervisor.work("power", guest.boot)
            finally:
                self._hypervisor.save(self._host, guest)
            return guest.state

    def start(self, server_id: str, generation: int) -> GuestState:
        return self._change("start", server_id, generation, FakeGuest.boot)

    def stop(self, server_id: str, generation: int, timeout: float) -> GuestState:
        return self._change("stop", server_id, generation, FakeGuest.halt)

    def reboot(self, server_id: str, generation: int, *, hard: bool, timeout: float) -> GuestState:
        return self._change("reboot", server_id, generation, lambda guest: guest.reboot(hard=hard))

    def pause(self, server_id: str, generation: int) -> GuestState:
        return self._change("pause", server_id, generation, lambda guest: guest.set_paused(PowerState.PAUSED))

    def unpause(self, server_id: str, generation: int) -> GuestState:
        return self._change("unpause", server_id, generation, lambda guest: guest.set_paused(PowerState.RUNNING))

    def suspend(self, server_id: str, generation: int) -> GuestState:
        return self._change("suspend", server_id, generation, FakeGuest.suspend)

    def resume(self, server_id: str, generation: int) -> GuestState:
        return self._change("resume", server_id, generation, FakeGuest.resume)

    def snapshot(self, server_id: str, generation: int, image_id: str) -> GuestState:
        """Every guest that has an agent is quiesced by it."""
        return self._change("snapshot", server_id, generation, lambda guest: guest.take_snapshot(image_id))

    def open_snapshot(self, server_id: str, image_id: str) -> FakeSnapshot:
        with self._hypervisor.lock:
            guest = self._hypervisor.get(self._host, server_id)
            if image_id not in guest.snapshots:
                raise errors.NotFound(NO_SNAPSHOT)
            gigabytes = guest.spec.flavor.root_gb if guest.spec else 0
        return FakeSnapshot(self._hypervisor, self._host, server_id, image_id, blank_qcow2(max(1, gigabytes) << 30))

    def discard_snapshot(self, server_id: str, generation: int, image_id: str) -> GuestState:
        return self._change("discard_snapshot", server_id, generation, lambda guest: guest.drop_snapshot(image_id))

    def prepare_rebuild(self, spec: ServerSpec, generation: int, images: ImageStore) -> GuestState:
        check_guest(spec)
        if self._use_images and not spec.is_volume_backed:
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
                guest.leave_rescue()
                guest.halt()
                guest.spec, guest.ports, guest.rebuilt = spec, tuple(ports), generation
                add_missing(guest.disks, [f"{spec.id}/disk"])
            guest.boot() if run else guest.halt()

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
            return self._change("rescue", spec.id, generation, lambda guest: guest.rescue(last=stable))

    def unrescue(self, server_id: str, generation: int, *, running: bool = True) -> GuestState:
        return self._change("unrescue", server_id, generation, lambda guest: guest.unrescue(running=running))

    def restore(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> GuestState:
        """Return a machine that is made up loses a guest and its disks together."""
        self._begin("restore")
        with self._hypervisor.lock:
            guest = self._hypervisor.find(self._host, spec.id)
            if guest is None or not guest.disks:
                guest = self._take_back(spec, generation, ports)
            if not guest.disks:
                raise errors.GuestFailed(DISK_MISSING)
            return self._change("start", spec.id, generation, FakeGuest.boot)

    def destroy(self, server_id: str, generation: int) -> None:
        self._begin("destroy")
        with self._hypervisor.lock:
            if self._hypervisor.find(self._host, server_id) is not None:
                self._hypervisor.refuse_stale(self._host, server_id, generation)
            for key in (aside_key(server_id), server_id):
                self._hypervisor.work("remove", functools.partial(self._hypervisor.bury, self._host, key, generation))

    def set_aside(self, server_id: str, generation: int, timeout: float) -> GuestState:
        self._begin("set_aside")
        with self._hypervisor.lock:
            self._hypervisor.refuse_stale(self._host, server_id, generation)
            guest = self._hypervisor.find(self._host, server_id)
            before = self._hypervisor.find(self._host, aside_key(server_id))
            if before is not None and before.generation == generation:
                return before.state
            aside = guest or self._hypervisor.get(self._host, aside_key(server_id))
            aside.leave_rescue()
            aside.halt()
            aside = replace(aside, aside=True, generation=generation)
            self._hypervisor.save(self._host, aside)
            if guest is not None:
                self._hypervisor.bury(self._host, server_id, 0)
            return aside.state

    def offer_disks(self, server_id: str) -> dict[str, str]:
        self._begin("offer_disks")
        with self._hypervisor.lock:
            self._hypervisor.get(self._host, aside_key(server_id))
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
            there = self._hypervisor.find(source.host, aside_key(spec.id))
            if there is None or (source.host != self._host and source.offer.get("host") != source.host):
                raise errors.Unreachable("The disks are not offered.")
            self._hypervisor.refuse_stale(self._host, spec.id, generation)
            known = self._hypervisor.find(self._host, spec.id)
            if known is not None and known.generation < generation:  # left by an earlier move
                self._hypervisor.bury(self._host, spec.id, 0)
            guest = self._accept(spec, generation, ports)
            add_missing(guest.disks, there.disks)
            guest.power_state = PowerState.SHUTDOWN
            self._hypervisor.save(self._host, guest)
            if source.host != self._host:
                self._hypervisor.bury(self._host, aside_key(spec.id), 0)
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
        """Put a guest that is set aside in its place again, unless what is there has gone on since."""
        self._hypervisor.refuse_stale(self._host, spec.id, generation)
        aside = self._hypervisor.find(self._host, aside_key(spec.id))
        guest = self._hypervisor.find(self._host, spec.id)
        if guest is not None and aside is not None and aside.generation < guest.generation:
            aside = None
        guest = aside or guest
        if guest is None:
            raise errors.GuestFailed(DISK_MISSING)
        back = replace(guest, aside=False, generation=generation, ports=tuple(ports), spec=spec)
        self._hypervisor.save(self._host, back)
        if aside is not None:
            self._hypervisor.bury(self._host, aside_key(spec.id), 0)
        return back

    def discard(self, server_id: str, generation: int) -> None:
        self._begin("discard")
        with self._hypervisor.lock:
            self._hypervisor.refuse_stale(self._host, server_id, generation)
            self._hypervisor.bury(self._host, aside_key(server_id), 0)
            if self._hypervisor.find(self._host, server_id) is None:
                self._hypervisor.bury(self._host, server_id, generation)

    def attach_volume(self, server_id: str, generation: int, volume: AttachedVolume) -> GuestState:
        return self._change("attach_volume", server_id, generation, lambda guest: guest.attach(volume))

    def detach_volume(self, server_id: str, generation: int, volume: AttachedVolume, timeout: float) -> GuestState:
        return self._change("detach_volume", server_id, generation, lambda guest: guest.detach(volume))

    def extend_volume(self, server_id: str, generation: int, volume: AttachedVolume) -> GuestState:
        return self._change("extend_volume", server_id, generation, lambda guest: guest.extend(volume))

    def attach_port(self, server_id: str, generation: int, port: Port) -> GuestState:
        return self._change("attach_port", server_id, generation, lambda guest: guest.plug(port))

    def detach_port(self, server_id: str, generation: int, port: Port, timeout: float) -> GuestState:
        return self._change("detach_port", server_id, generation, lambda guest: guest.unplug(port))

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

    def get_console(self, server_id: str, protocol: str) -> ConsoleAddress:
        """Nothing listens there."""
        with self._hypervisor.lock:
            guest = self._hypervisor.get(self._host, server_id)
            if guest.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
                raise errors.Conflict(NOT_RUNNING)
            port = FIRST_CONSOLE_PORTS[protocol] + self._hypervisor.list_guests(self._host).index(guest)
            found = ConsoleAddress(server_id=server_id, generation=guest.generation, host="127.0.0.1", port=port)
            return replace(found, protocol=protocol)

    def change_plans(self, changes: PlanChanges) -> None:
        self._begin("plans")
        with self._hypervisor.lock:
            self._hypervisor.plans[self._host] = self._hypervisor.plans[self._host].changed(changes)

    def list_plans(self) -> dict[str, int]:
        with self._hypervisor.lock:
            return self._hypervisor.plans[self._host].versions()

    def list_network_faults(self) -> list[str]:
        return []

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
        """Choose the addresses of the devices that were claimed for a guest; it keeps what it has. Raises
        HostRefused."""
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
            self._hypervisor.work("ports", lambda: add_missing(guest.taps, [port.id for port in guest.ports]))
            self._hypervisor.work("power", lambda: guest.boot() if running else guest.halt())
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
