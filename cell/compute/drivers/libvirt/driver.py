"""Guests on libvirt and QEMU."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import libvirt

from cell.compute.driver import (
    DISCARDED,
    DISK_MISSING,
    GUEST_OFF,
    NO_AGENT,
    NOT_RELEASED,
    NOT_RUNNING,
    NOT_SAVED,
    NOTHING_KNOWN,
    PORT_NOT_RELEASED,
    DiskSource,
    GuestWatcher,
    ImageStore,
    check_guest,
    machine_for,
    rescue_machine_for,
)
from cell.compute.drivers.host_description import HostDescription
from cell.compute.drivers.libvirt import (
    disk_waits,
    domain_power,
    fetched_disks,
    guest_consoles,
    guest_signals,
    host_facts,
    hot_plug,
    snapshots,
    volumes,
)
from cell.compute.drivers.libvirt.config_drive import ensure_config_drive
from cell.compute.drivers.libvirt.connection import LibvirtConnection, start_event_loop, translate
from cell.compute.drivers.libvirt.diagnostics import read_diagnostics
from cell.compute.drivers.libvirt.disk_offers import DiskOffers
from cell.compute.drivers.libvirt.disks import (
    ROOT_IS_VOLUME,
    drop_prepared,
    ensure_disks,
    grow_disks,
    has_disks,
    list_disks,
    prepare_root,
    renew_blanks,
    root_disk,
    swap_root,
)
from cell.compute.drivers.libvirt.domain_ownership import is_ours
from cell.compute.drivers.libvirt.domain_xml import GuestDefinition, port_interface
from cell.compute.drivers.libvirt.guest_consoles import CONSOLE_LOG
from cell.compute.drivers.libvirt.guest_locks import GuestLocks
from cell.compute.drivers.libvirt.guest_networks import Wiring, check_port
from cell.compute.drivers.libvirt.guest_nic_link_state import set_links
from cell.compute.drivers.libvirt.guest_states import aside_state, beside, state_of
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cell.compute.drivers.libvirt.power_watch import PowerWatch
from cell.compute.drivers.libvirt.records import GuestRecord, GuestRecords, GuestRescue
from cell.compute.drivers.libvirt.rescue_disks import drop_rescue_disks, ensure_rescue_disk, rescue_disk
from cell.compute.drivers.libvirt.volume_credentials import VolumeCredentials, find_owner
from cell.compute.drivers.libvirt.volume_xml import volume_disk
from cell.compute.network_plans import PlanStore
from cellcloud import clock, errors
from cellcloud.model.console import ConsoleAddress
from cellcloud.model.database_incarnation import count_in_one
from cellcloud.model.guest_questions import GuestDiagnostics
from cellcloud.model.host import HostFacts
from cellcloud.model.image import Image
from cellcloud.model.instance_metadata_documents import GuestFacts
from cellcloud.model.network import Port
from cellcloud.model.network_plan import PlanChanges
from cellcloud.model.observed_guests import GuestDescription, GuestState
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume import AttachedVolume
from cellcloud.safe_regex import Pattern
from cellcloud.server_states import PowerState

T = TypeVar("T")

SERVER_ID = Pattern(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MEMORY_SECONDS = 540.0  # for a guest's memory to go to disk or come back; a run's deadline is behind it
EXTEND_SECONDS = 60.0  # for QEMU to reach an exporter that has just been started again
ASK_AGAIN = 10.0  # seconds until a guest that may not have listened is asked to power off once more


class LibvirtDriver:
    """The driver of one host. What it has accepted lies on disk; everything else is made from that at need.

    ``namespace``, ``connection``: stand-ins for where tools run and for libvirtd.
    """

    def __init__(
        self,
        options: LibvirtOptions,
        *,
        namespace: Namespace | None = None,
        connection: LibvirtConnection | None = None,
    ) -> None:
        self._options = options
        self._records = GuestRecords(options.guests_dir)
        self._namespace = namespace or Namespace(options)
        self._plans = PlanStore(options.state_dir / "networks.plans")
        self._wiring = Wiring(
            options, self._namespace, self._records.list_all, lambda: self._records.is_complete, self._plans.get
        )
        self._offers = DiskOffers(self._namespace, options.host_ip, CONSOLE_LOG)
        self._guest_locks = GuestLocks()
        self._watch = PowerWatch(self.list_guests, self._guest_locks, self._keep_up)
        self._disk_waits = disk_waits.DiskWaits(self._call, self._guest_locks)
        self._credentials = VolumeCredentials(options.nbd_credentials_dir, lambda: self._call(find_owner))
        self._connection = connection or LibvirtConnection(options, self._watch.note)

    def connect(self) -> None:
        """Open the hypervisor and put the guests' networks in order; raises HostRefused when it does not answer."""
        start_event_loop()
        self._records.load()
        try:
            self._connection.call(lambda opened: opened.getVersion(), timeout=self._options.open_timeout)
        except errors.Unreachable as error:
            raise errors.HostRefused(error.message, detail=error.detail) from error
        self._wiring.apply()
        self._credentials.remove()
        self._drop_snapshots()
        threading.Thread(target=self._connection.keep_open, name="libvirt-keep", daemon=True).start()
        self._watch.start()

    def close(self) -> None:
        self._watch.stop()
        self._connection.close()

    def _keep_up(self) -> bool:
        """Return whether there is more to do soon."""
        self._wiring.ensure_daemons()
        return self._disk_waits.look()

    def get_boot_id(self) -> str:
        return self._namespace.get_boot_id()

    def get_facts(self) -> HostFacts:
        return self._call(lambda opened: host_facts.get_facts(opened, self._options))

    def list_guests(self) -> list[GuestState]:
        """Guests of ours that libvirt has, and those accepted but not (or no longer) defined there."""
        known = {record.server_id: record for record in self._records.list_all()}
        there = {record.server_id: record for record in self._records.list_aside()}
        aside = [aside_state(record) for record in there.values() if record.server_id not in known]
        found = self._call(lambda opened: domain_power.list_states(opened, known.keys()))
        names = known.keys() | {name for name in found if SERVER_ID.matches(name)}
        names -= {state.server_id for state in aside}
        states = [state_of(name, known.get(name), found.get(name)) for name in sorted(names)]
        return [*(beside(state, there.get(state.server_id)) for state in states), *aside]

    def find_guest(self, server_id: str) -> GuestState | None:
        record = self._records.find(server_id)
        aside = self._records.find_aside(server_id)
        if record is None and aside is not None:
            return aside_state(aside)
        power = self._find_power(server_id)
        if record is None and (power is None or not self._ask(server_id, is_ours)):
            return None
        return state_of(server_id, record, power)

    def spawn(self, spec: ServerSpec, generation: int, ports: Sequence[Port], images: ImageStore) -> GuestState:
        _check_id(spec.id)
        check_guest(spec)
        for port in ports:
            check_port(port)
        with self._guest_locks.take(spec.id, generation):
            if not self._is_put_back(spec.id, generation):
                self._drop_leftovers(spec.id, generation)
            record = self._records.accept(spec, generation, ports)
            directory = self._records.path(spec.id)
            if not has_disks(directory, spec):
                ensure_disks(directory, spec, None if spec.is_volume_backed else images.ensure(spec.image))
            return self._power_on(record, refused=errors.HostRefused)

    def start(self, server_id: str, generation: int) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            return self._power_on(self._records.advance(server_id, generation))

    def stop(self, server_id: str, generation: int, timeout: float) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            self._power_off(record, timeout)
            return self._settled(record)

    def reboot(self, server_id: str, generation: int, *, hard: bool, timeout: float) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            if record.rebooted >= generation:
                return self._settled(record)
            self._power_off(record, 0.0 if hard else timeout)
            if hard and record.rescue is not None:
                state = self._switch_root(record, None, runs=True, ran=True)
            else:
                state = self._power_on(record)
            self._records.note_reboot(server_id, generation)
            return state

    def pause(self, server_id: str, generation: int) -> GuestState:
        return self._set_paused(server_id, generation, paused=True)

    def unpause(self, server_id: str, generation: int) -> GuestState:
        return self._set_paused(server_id, generation, paused=False)

    def _set_paused(self, server_id: str, generation: int, *, paused: bool) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            power = self._find_power(server_id)
            if power not in (PowerState.RUNNING, PowerState.PAUSED):
                raise errors.GuestFailed(GUEST_OFF)
            if paused != (power == PowerState.PAUSED):
                self._ask(server_id, lambda domain: disk_waits.pause(domain) if paused else domain.resume())
            return self._settled(record)

    def suspend(self, server_id: str, generation: int) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            power = self._find_power(server_id)
            if power not in domain_power.HAS_MEMORY:
                raise errors.GuestFailed(GUEST_OFF)
            if power != PowerState.SUSPENDED:
                with self._giving_way(record):
                    self._ask(server_id, domain_power.save_memory, timeout=MEMORY_SECONDS)
            return self._settled(record)

    def resume(self, server_id: str, generation: int) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            if self._find_power(server_id) not in domain_power.HAS_MEMORY:
                raise errors.GuestFailed(NOT_SAVED)
            return self._power_on(record)

    def snapshot(self, server_id: str, generation: int, image_id: str) -> GuestState:
        _check_id(image_id)
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            if record.dropped >= generation:
                raise errors.Stale(DISCARDED)
            machine, copier = machine_for(record.spec), self._copier(record)
            if not has_disks(self._records.path(server_id), record.spec):
                raise errors.GuestFailed(DISK_MISSING)
            copier.copy(image_id, agent=machine.guest_agent, needs_quiesce=machine.needs_quiesce)
            return self._settled(record)

    def open_snapshot(self, server_id: str, image_id: str) -> snapshots.SnapshotFile:
        _check_id(image_id)
        return snapshots.SnapshotFile(snapshots.path_of(self._records.path(server_id), image_id))

    def discard_snapshot(self, server_id: str, generation: int, image_id: str) -> GuestState:
        _check_id(image_id)
        directory = self._records.path(server_id)
        snapshots.drop(directory, image_id)  # who makes it gives way
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            self._copier(record).end_job(agent=machine_for(record.spec).guest_agent)
            snapshots.drop(directory, image_id)
            self._records.note_drop(server_id, generation)
            return self._settled(record)

    def _copier(self, record: GuestRecord) -> snapshots.Copier:
        directory = self._records.path(record.server_id)
        return snapshots.Copier(
            root_disk(directory, record.spec),
            directory,
            lambda work: self._ask(record.server_id, work),
            inside=self._namespace.inside,
            gives_way=lambda: self._guest_locks.is_overtaken(record.server_id, record.generation),
        )

    def _drop_snapshots(self) -> None:
        """Remove what is left of copies that were under way when this service ended: they are made again if still
        wanted."""
        for record in self._records.list_all():
            leftovers = snapshots.list_leftovers(self._records.path(record.server_id))
            if leftovers:
                self._copier(record).end_job(agent=machine_for(record.spec).guest_agent)
            for path in leftovers:
                path.unlink(missing_ok=True)

    def prepare_rebuild(self, spec: ServerSpec, generation: int, images: ImageStore) -> GuestState:
        check_guest(spec)
        with self._guest_locks.take(spec.id, generation):
            record = self._advance_known(spec, generation)
            if record.rebuilt < generation and not spec.is_volume_backed:
                prepare_root(self._records.path(spec.id), spec, images.ensure(spec.image), generation)
            return self._settled(record)

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
        directory = self._records.path(spec.id)
        with self._guest_locks.take(spec.id, generation):
            record = self._advance_known(spec, generation)
            if record.rebuilt < generation:
                if not spec.is_volume_backed:
                    prepare_root(directory, spec, images.ensure(spec.image), generation)
                self._power_off(record, timeout)
                if not spec.is_volume_backed:
                    swap_root(directory, generation)
                renew_blanks(directory, spec, keep_ephemeral=keep_ephemeral)
                record = self._records.accept(spec, generation, ports, rebuilt=generation)
            drop_rescue_disks(directory, record.rescue)
            if run:
                return self._power_on(record)
            self._power_off(record, timeout)
            return self._settled(record)

    def _advance_known(self, spec: ServerSpec, generation: int) -> GuestRecord:
        _check_id(spec.id)
        try:
            return self._records.advance(spec.id, generation)
        except errors.NotFound:
            raise errors.GuestFailed(DISK_MISSING) from None

    def rescue(
        self,
        spec: ServerSpec,
        generation: int,
        ports: Sequence[Port],
        image: Image,
        images: ImageStore,
        timeout: float,
    ) -> GuestState:
        _check_id(spec.id)
        if not rescue_machine_for(spec, image).is_stable and spec.is_volume_backed:
            raise errors.GuestFailed(ROOT_IS_VOLUME)
        with self._guest_locks.take(spec.id, generation):
            directory = self._records.path(spec.id)
            if not spec.is_volume_backed and not root_disk(directory, spec).path.exists():
                raise errors.GuestFailed(DISK_MISSING)
            record = self._recall(replace(spec, admin_pass=""), generation, ports)
            if record.rescue is not None and record.rescue.generation == generation:
                return self._power_on(record)
            wanted = GuestRescue(image=image, generation=generation, admin_pass=spec.admin_pass)
            ensure_rescue_disk(directory, wanted, record.spec.image, images.ensure)
            ran = self._find_power(spec.id) in (PowerState.RUNNING, PowerState.PAUSED)
            self._power_off(record, timeout)
            return self._switch_root(record, wanted, runs=True, ran=ran)

    def unrescue(self, server_id: str, generation: int, *, running: bool = True) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            if record.rescue is None:
                drop_rescue_disks(self._records.path(server_id))
                return self._power_on(record) if running else self._settled(record)
            self._power_off(record, 0.0)
            return self._switch_root(record, None, runs=running, ran=True)

    def _recall(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> GuestRecord:
        """Return the guest's record at that generation; one that got lost is made again. Raises Stale."""
        if self._records.find(spec.id) is None:
            return self._records.accept(spec, generation, ports)
        return self._records.advance(spec.id, generation)

    def _switch_root(self, record: GuestRecord, rescue: GuestRescue | None, *, runs: bool, ran: bool) -> GuestState:
        """Let a guest that is off be rescued, or be rescued no more; one that does not start then is what it was."""
        directory = self._records.path(record.server_id)
        changed = self._records.set_rescue(record, rescue)
        try:
            state = self._power_on(changed) if runs else self._settled(changed)
        except errors.CellcloudError:
            self._records.set_rescue(record, record.rescue)
            drop_rescue_disks(directory, record.rescue)
            if ran:
                with suppress(errors.CellcloudError):
                    self._power_on(record)
            raise
        drop_rescue_disks(directory, rescue)
        return state

    def restore(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> GuestState:
        _check_id(spec.id)
        for port in ports:
            check_port(port)
        with self._guest_locks.take(spec.id, generation):
            directory = self._records.path(spec.id)
            if not has_disks(directory, spec) and self._records.has_to_take_back(spec.id):
                self._take_back(spec, generation, ports)
            if not has_disks(directory, spec):
                raise errors.GuestFailed(DISK_MISSING)
            return self._power_on(self._records.accept(spec, generation, ports))

    def destroy(self, server_id: str, generation: int) -> None:
        _check_id(server_id)
        with self._guest_locks.take(server_id, generation):
            self._offers.stop(self._records.path_aside(server_id))
            if self._records.find(server_id) is None and self._records.find_aside(server_id) is None:
                is_there = self._check_ours(server_id)
                if not is_there and self._records.is_removed(server_id, generation):
                    return
            self._records.begin_removal(server_id, generation)
            self._ask(server_id, domain_power.remove)
            self._records.finish_removal(server_id)
            self._wiring.apply()
            self._watch.forget(server_id)

    def set_aside(self, server_id: str, generation: int, timeout: float) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            aside = self._records.find_aside(server_id)
            is_done = aside is not None and aside.generation == generation
            if self._records.find(server_id) is not None and not is_done:
                self._power_off(self._records.advance(server_id, generation), timeout)
                self._ask(server_id, domain_power.remove)
                self._offers.stop(self._records.path_aside(server_id))
            record = self._records.set_aside(server_id, generation)
            self._wiring.apply()
            self._watch.forget(server_id)
            return aside_state(record)

    def offer_disks(self, server_id: str) -> dict[str, str]:
        record = self._records.find_aside(server_id)
        if record is None:
            raise errors.NotFound("There is no such guest on this host.")
        with self._guest_locks.take(server_id, record.generation):
            return self._offers.ensure(self._records.path_aside(server_id), record.spec)

    def fetch_disks(
        self,
        spec: ServerSpec,
        generation: int,
        ports: Sequence[Port],
        images: ImageStore,
        source: DiskSource,
        tell: Callable[[int], None],
    ) -> GuestState:
        _check_id(spec.id)
        check_guest(spec)
        for port in ports:
            check_port(port)
        with self._guest_locks.take(spec.id, generation):
            aside, directory = self._records.find_aside(spec.id), self._records.path(spec.id)
            if not source.offer and (aside is None or aside.generation != generation):
                raise errors.Unreachable("The guest's disks are not set aside on this host.")
            if self._is_put_back(spec.id, generation):
                raise errors.HostRefused("The host has the server's guest of before its cell's database was put back.")
            self._drop_leftovers(spec.id, generation)
            record = self._records.accept(spec, generation, ports)
            image = fetched_disks.find_image(images, spec)
            expected = fetched_disks.expect(directory, spec, image, images.max_bytes, CONSOLE_LOG)
            if expected:
                self._offers.fetch(
                    expected,
                    (self._records.path_aside(spec.id), aside.spec) if aside and not source.offer else source.offer,
                    tell=tell,
                    is_overtaken=lambda: self._guest_locks.is_overtaken(spec.id, generation),
                )
                fetched_disks.admit(spec, expected)
            grow_disks(directory, spec, image)
            if aside is not None and aside.generation < generation:
                self._offers.stop(self._records.path_aside(spec.id))
                self._records.discard(spec.id, generation)
            return state_of(spec.id, record, PowerState.SHUTDOWN)

    def arrive(self, spec: ServerSpec, generation: int, ports: Sequence[Port], *, running: bool) -> GuestState:
        _check_id(spec.id)
        for port in ports:
            check_port(port)
        with self._guest_locks.take(spec.id, generation):
            return self._put(self._records.accept(spec, generation, ports), running=running)

    def move_back(self, spec: ServerSpec, generation: int, ports: Sequence[Port], *, running: bool) -> GuestState:
        with self._guest_locks.take(spec.id, generation):
            return self._put(self._take_back(spec, generation, ports), running=running)

    def _take_back(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> GuestRecord:
        if self._records.has_to_take_back(spec.id):
            self._offers.stop(self._records.path_aside(spec.id))
            self._ask(spec.id, domain_power.remove)
        record = self._records.take_back(spec, generation, ports)
        drop_rescue_disks(self._records.path(spec.id), record.rescue)
        return record

    def _drop_leftovers(self, server_id: str, generation: int) -> None:
        """Remove what an older generation left here of a guest that arrives: its disks lie on its source. Raises Stale,
        Conflict for a guest of that name that is not of this cloud."""
        known = self._records.find(server_id)
        if known is not None and known.generation >= generation:
            return
        if known is not None or self._check_ours(server_id):
            self._ask(server_id, domain_power.remove)
        self._records.clear(server_id, generation)

    def _is_put_back(self, server_id: str, generation: int) -> bool:
        """Return whether the guest has obeyed as much in an incarnation of the cell's database that is over: it is no
        leftover, and may be in use."""
        known = self._records.find(server_id)
        return (
            known is not None
            and known.generation < generation
            and count_in_one(known.generation) >= count_in_one(generation)
        )

    def _check_ours(self, server_id: str) -> bool:
        """Return whether the hypervisor has the guest. Raises Conflict when it is not of this cloud."""
        ours = self._ask(server_id, is_ours)
        if ours is False:
            raise errors.Conflict("The guest of that name on this host is not of this cloud.")
        return ours is not None

    def discard(self, server_id: str, generation: int) -> None:
        with self._guest_locks.take(server_id, generation):
            self._offers.stop(self._records.path_aside(server_id))
            self._records.discard(server_id, generation)

    def _put(self, record: GuestRecord, *, running: bool) -> GuestState:
        """Have a guest run, or be there and off."""
        if running:
            return self._power_on(record)
        self._power_off(record, 0.0)
        self._wiring.apply(record.server_id)
        definition = self._define(record)
        self._call(lambda opened: opened.defineXML(definition))
        return self._settled(record)

    def attach_volume(self, server_id: str, generation: int, volume: AttachedVolume) -> GuestState:
        find = functools.partial(hot_plug.find_disk, volume.volume_id)
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            disk = volume_disk(volume, machine_for(record.spec))
            self._records.hold_volume(server_id, volume)
            try:
                with self._credentials.at_hand([volume]):
                    self._ask(server_id, lambda domain: hot_plug.plug(domain, find, disk))
            except errors.GuestFailed:
                self._records.drop_volume(server_id, volume.id)
                raise
            return self._settled(record)

    def detach_volume(self, server_id: str, generation: int, volume: AttachedVolume, timeout: float) -> GuestState:
        find = functools.partial(hot_plug.find_disk, volume.volume_id)
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            self._unplug(record, find, timeout, kept=NOT_RELEASED)
            self._records.drop_volume(server_id, volume.id)
            return self._settled(record)

    def attach_port(self, server_id: str, generation: int, port: Port) -> GuestState:
        check_port(port)
        find = functools.partial(hot_plug.find_interface, port.id)
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            device = port_interface(port, machine_for(record.spec), fenced=record.fenced)
            self._records.hold_port(server_id, port)
            try:
                self._wiring.apply(server_id)
                self._ask(server_id, lambda domain: hot_plug.plug(domain, find, device))
            except (errors.GuestFailed, errors.HostRefused):
                self._records.drop_port(server_id, port.id)
                self._wiring.apply()
                raise
            return self._settled(record)

    def detach_port(self, server_id: str, generation: int, port: Port, timeout: float) -> GuestState:
        find = functools.partial(hot_plug.find_interface, port.id)
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            self._unplug(record, find, timeout, kept=PORT_NOT_RELEASED)
            self._records.drop_port(server_id, port.id)
            self._wiring.apply()
            return self._settled(record)

    def _unplug(self, record: GuestRecord, find: hot_plug.Find, timeout: float, *, kept: str) -> None:
        hot_plug.unplug(
            lambda work: self._ask(record.server_id, work),
            find,
            timeout,
            kept=kept,
            wait=self._watch.wait,
            gives_way=lambda: self._guest_locks.is_overtaken(record.server_id, record.generation),
        )

    def extend_volume(self, server_id: str, generation: int, volume: AttachedVolume) -> GuestState:
        with self._guest_locks.take(server_id, generation):
            record = self._records.advance(server_id, generation)
            size = volume.size_gb << 30
            self._ask(server_id, lambda domain: volumes.resize(domain, volume.volume_id, size), timeout=EXTEND_SECONDS)
            self._records.hold_volume(server_id, volume)
            return self._settled(record)

    def describe_guest(self, server_id: str) -> GuestDescription:
        state, record = self.find_guest(server_id), self._records.find(server_id)
        if state is None:
            raise errors.NotFound("There is no such guest on this host.")
        if record is None:
            raise errors.NotFound(NOTHING_KNOWN)
        return GuestDescription(state=state, spec=record.spec, ports=record.ports, rescued=record.rescue is not None)

    def set_fence(self, server_id: str, *, fenced: bool) -> None:
        """Take the link of each device down or up, in QEMU and in the definition that outlives it."""
        if self.find_guest(server_id) is None:
            raise errors.NotFound("There is no such guest on this host.")
        self._records.set_fence(server_id, fenced=fenced)
        self._ask(server_id, lambda domain: set_links(domain, up=not fenced))

    def get_diagnostics(self, server_id: str) -> GuestDiagnostics:
        return self._ask_known(server_id, read_diagnostics)

    def set_password(self, server_id: str, user: str, password: str) -> None:
        record = self._records.find(server_id)
        if record is not None and not machine_for(record.spec).guest_agent:
            raise errors.Conflict(NO_AGENT)
        self._ask_known(server_id, lambda domain: guest_signals.set_password(domain, user, password))

    def inject_nmi(self, server_id: str) -> None:
        self._ask_known(server_id, guest_signals.inject_nmi)

    def _ask_known(self, server_id: str, work: Callable[[Any], T]) -> T:
        """``work(domain)`` for a guest that must be there. Raises NotFound."""
        if self._records.find(server_id) is None:
            raise errors.NotFound("There is no such guest on this host.")
        found: list[T] = []
        self._ask(server_id, lambda domain: found.append(work(domain)))
        if not found:
            raise errors.Conflict(NOT_RUNNING)
        return found[-1]

    def get_console_output(self, server_id: str, length: int) -> str:
        if self._records.find(server_id) is None:
            raise errors.NotFound("There is no such guest on this host.")
        return guest_consoles.read_log(self._records.path(server_id), length)

    def get_console(self, server_id: str, protocol: str) -> ConsoleAddress:
        record = self._records.find(server_id)
        if record is None:
            raise errors.NotFound("There is no such guest on this host.")
        port = self._ask(server_id, lambda domain: guest_consoles.find_port(domain, protocol))
        if not port:
            raise errors.Conflict(NOT_RUNNING)
        host = self._options.host_ip
        found = ConsoleAddress(server_id=server_id, generation=record.generation, host=host, port=port)
        return replace(found, protocol=protocol)

    def change_plans(self, changes: PlanChanges) -> None:
        self._plans.change(changes)
        self._wiring.apply()

    def list_plans(self) -> dict[str, int]:
        return self._plans.get().versions()

    def list_network_faults(self) -> list[str]:
        return self._wiring.list_faults()

    def watch(self, watcher: GuestWatcher) -> None:
        self._watch.add(watcher)

    def _power_on(
        self, record: GuestRecord, *, refused: type[errors.CellcloudError] = errors.GuestFailed
    ) -> GuestState:
        """Wire, define and start the guest, from its record alone; a running one is left as it is. ``refused``: what
        it means when the hypervisor will not: for a new guest that another host may."""
        self._wiring.apply(record.server_id)
        drop_prepared(self._records.path(record.server_id))  # by a rebuild that was given up
        power = self._find_power(record.server_id)
        if power != PowerState.RUNNING:
            definition = self._define(record)
            patience = MEMORY_SECONDS if power == PowerState.SUSPENDED else None
            with self._credentials.at_hand(record.spec.volumes):
                self._call(lambda opened: domain_power.start(opened, definition), refused, patience)
            if record.fenced:  # what was suspended before it was fenced
                self._ask(record.server_id, lambda domain: set_links(domain, up=False))
        return self._settled(record)

    def _power_off(self, record: GuestRecord, timeout: float) -> None:
        """Ask until ``timeout``, then cut the power; memory that was kept is dropped. Raises Stale when a newer command
        waits meanwhile."""
        deadline = clock.monotonic() + timeout
        ask_at = 0.0
        while self._ask(record.server_id, lambda domain: domain.isActive()):
            now = clock.monotonic()
            if now >= deadline:
                self._ask(record.server_id, domain_power.cut_power)
                break
            if self._guest_locks.is_overtaken(record.server_id, record.generation):
                raise errors.Stale("A newer command overtook this one.")
            if now >= ask_at:
                self._ask(record.server_id, domain_power.ask_off)
                ask_at = now + ASK_AGAIN
            self._watch.wait(0.5)
        self._ask(record.server_id, domain_power.drop_memory)

    @contextmanager
    def _giving_way(self, record: GuestRecord) -> Iterator[None]:
        """Abort what libvirt does to the guest meanwhile when a newer command waits. Raises Stale if it was."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.5):
                if self._guest_locks.is_overtaken(record.server_id, record.generation):
                    with suppress(errors.CellcloudError):
                        self._ask(record.server_id, lambda domain: domain.abortJob())

        looking = threading.Thread(target=look, name="give-way", daemon=True)
        looking.start()
        try:
            yield
        except errors.GuestFailed as error:
            if self._guest_locks.is_overtaken(record.server_id, record.generation):
                raise errors.Stale("A newer command overtook this one.") from error
            raise
        finally:
            ended.set()
            looking.join()

    def _define(self, record: GuestRecord) -> str:
        directory = self._records.path(record.server_id)
        spec = record.spec
        password = spec.admin_pass if record.rescue is None else record.rescue.admin_pass
        facts = GuestFacts(spec=spec, ports=record.ports, zone=spec.availability_zone or "", admin_pass=password)
        drive = ensure_config_drive(directory, facts) if spec.config_drive else None
        disks = list_disks(directory, spec)
        if not all(disk.path.exists() for disk in disks):
            raise errors.GuestFailed(DISK_MISSING)
        rescued = rescue_machine_for(spec, record.rescue.image) if record.rescue else None
        rescue = rescue_disk(directory, record.rescue) if record.rescue else None
        host, record = self._place(record)
        record = self._records.hold_serial_port(record.server_id, self._options.serial_ports)
        return GuestDefinition(
            spec=spec,
            ports=record.ports,
            disks=[disk.seen_from(self._namespace.inside) for disk in disks],
            rescue=rescue.seen_from(self._namespace.inside) if rescue else None,
            rescued=rescued,
            config_drive=self._namespace.inside(drive) if drive else None,
            console_log=self._namespace.inside(directory / CONSOLE_LOG),
            listen=self._options.host_ip,
            virt_type=self._options.virt_type,
            machine=rescued.machine if rescued else machine_for(spec),
            fenced=record.fenced,
            host_cells={cell.id: cell for cell in host.cells},
            shared_cpus=self._options.share.shared,
            host_devices=record.devices,
            serial_port=record.serial_port,
        ).to_xml()

    def _place(self, record: GuestRecord) -> tuple[HostDescription, GuestRecord]:
        """Return the host, and the record with the devices that the guest has of it. Raises HostRefused when the host
        has not what was claimed for the guest."""
        placed = record.spec.placed
        if placed is None:
            return HostDescription(), record
        host = self._call(lambda opened: host_facts.describe_host(opened, self._options.share))
        host.check(placed)
        return host, self._records.hold_devices(record.server_id, host.devices)

    def _settled(self, record: GuestRecord) -> GuestState:
        """Return the state a verb ends in, which is no news to the watchers."""
        state = state_of(record.server_id, record, self._find_power(record.server_id))
        self._watch.expect(state)
        return state

    def _find_power(self, server_id: str) -> int | None:
        return self._ask(server_id, domain_power.power_of)

    def _call(
        self,
        work: Callable[[Any], T],
        refused: type[errors.CellcloudError] = errors.GuestFailed,
        timeout: float | None = None,
    ) -> T:
        """``work(libvirt connection)``, its errors in our terms."""
        try:
            return self._connection.call(work, timeout=timeout)
        except libvirt.libvirtError as error:
            raise translate(error, refused) from error

    def _ask(self, server_id: str, work: Callable[[Any], T], timeout: float | None = None) -> T | None:
        """``work(domain)``, or None when libvirt does not have the guest."""
        try:
            return self._connection.call(lambda opened: work(opened.lookupByName(server_id)), timeout=timeout)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise translate(error) from error


def _check_id(server_id: str) -> None:
    """Check a server's id, which names its directory. Raises Invalid for anything but a UUID in its usual form."""
    if not SERVER_ID.matches(server_id):
        raise errors.Invalid("That is not the id of a server.")
