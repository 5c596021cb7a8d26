"""Small stand-ins for what a cell's services talk to: a conductor that remembers, a hypervisor that obeys."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cell.compute.driver import DISK_MISSING, GuestWatcher, ImageStore
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model.console import ConsoleAddress, ConsoleBinding
from cellcloud.model.flavor import Flavor
from cellcloud.model.guest_commands import (
    DefiningCommand,
    ExpectedGuest,
    FetchDisks,
    GuestCommand,
    GuestEvent,
    GuestOrder,
    GuestOrders,
    ImageCommand,
    PortCommand,
    Rescue,
    VolumeCommand,
)
from cellcloud.model.host import HeldNames, HostFacts, HostMachine, HostReport, HostState
from cellcloud.model.image import Image
from cellcloud.model.network import Port
from cellcloud.model.network_plan import PlanChanges
from cellcloud.model.observed_guests import GuestDescription, GuestState
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.model.volume import AttachedVolume
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import PowerState

TINY = Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=512, root_gb=1)
IMAGE = Image(id=str(uuid.UUID(int=1)), name="tiny")


def server_id(number: int) -> str:
    return str(uuid.UUID(int=number))


def make_spec(number: int = 1, **values: object) -> ServerSpec:
    spec = ServerSpec(
        id=server_id(number), name=f"vm{number}", project_id="p", user_id="u", flavor=TINY, image=IMAGE, hostname="vm"
    )
    return replace(spec, **values)


def make_record(number: int = 1, **values: object) -> ServerRecord:
    record = ServerRecord(spec=make_spec(number), version=1, generation=1, vm_state="active", host="h1")
    return replace(record, **values)


def make_command(kind: type[GuestCommand], number: int = 1, generation: int = 1, **values: Any) -> GuestCommand:
    made: dict[str, Any] = {
        "run_id": f"run-{number}-{generation}",
        "step": "guests.wait",
        "server_id": server_id(number),
        "generation": generation,
    }
    if issubclass(kind, DefiningCommand):
        made["spec"] = make_spec(number)
    if issubclass(kind, ImageCommand):
        made["image_id"] = server_id(99)
    if kind is FetchDisks:
        made["source"] = "h2"
    if issubclass(kind, Rescue):
        made["image"] = IMAGE
    if issubclass(kind, PortCommand):
        made["port"] = Port(id="p", network_id="n", network_name="net", mac_address="fa:16:3e:00:00:01")
    if issubclass(kind, VolumeCommand):
        made["volume"] = AttachedVolume(id=server_id(98), volume_id=server_id(97))
    return kind(**made | values)


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


class MemoryConductor(Conductor):
    """Answers what the cell's services ask; ``away`` makes it unreachable, ``chokes_on`` a defect."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.away = False
        self.chokes_on: set[str] = set()
        self.events: list[GuestEvent] = []
        self.batches: list[int] = []
        self.reports: list[HostReport] = []
        self.expected: dict[str, list[ExpectedGuest]] = {}
        self.machines: list[HostMachine] = []
        self.refused_names: dict[str, str] = {}
        self.name_lease = 15.0
        self.orders: dict[str, list[GuestOrder]] = {}
        self.records: dict[str, ServerRecord] = {}
        self.states: list[HostState] = []
        self.state_reads = 0
        self.heartbeats: list[tuple[str, str]] = []
        self.tokens: dict[str, ConsoleBinding] = {}
        self.current: dict[str, int] = {}
        self.lookups = 0

    def _meet(self) -> None:
        if self.away:
            raise errors.Unreachable("No conductor answers.")

    def report_events(self, context: RequestContext, events: list[GuestEvent]) -> None:
        self._meet()
        if any(event.server_id in self.chokes_on for event in events):
            raise errors.CallHuman("An internal error occurred.")
        with self.lock:
            self.batches.append(len(events))
            self.events += events

    def report_hosts(self, context: RequestContext, reports: list[HostReport]) -> None:
        self._meet()
        self.reports += reports

    def list_expected_guests(self, context: RequestContext, host: str) -> list[ExpectedGuest]:
        self._meet()
        return self.expected.get(host, [])

    def hold_names(self, context: RequestContext, hosts: list[str], machine: HostMachine) -> HeldNames:
        self._meet()
        self.machines.append(machine)
        return HeldNames(seconds=self.name_lease, refused=dict(self.refused_names))

    def compare_guests(self, context: RequestContext, host: str, guests: list[GuestState]) -> GuestOrders:
        self._meet()
        return GuestOrders(expected=tuple(self.expected.get(host, ())), orders=tuple(self.orders.get(host, ())))

    def get_servers(self, context: RequestContext, server_ids: list[str], partly: bool = False) -> list[ServerRecord]:
        self._meet()
        return [self.records[each] for each in server_ids if each in self.records]

    def list_host_states(self, context: RequestContext) -> list[HostState]:
        self._meet()
        self.state_reads += 1
        return list(self.states)

    def heartbeat(self, context: RequestContext, binary: str, host: str) -> None:
        self.heartbeats.append((binary, host))

    def save_console_token(
        self, context: RequestContext, server_id: str, token_hash: str, protocol: str, ttl: int
    ) -> ConsoleBinding:
        self._meet()
        record = self.records.get(server_id)
        if record is None:
            raise errors.NotFound(f"Instance {server_id} could not be found.")
        binding = ConsoleBinding(
            server_id=server_id, generation=record.generation, host=record.host or "", protocol=protocol
        )
        self.tokens[token_hash] = binding
        self.current[server_id] = record.generation
        return binding

    def redeem_console_token(self, context: RequestContext, token_hash: str, use: bool = True) -> ConsoleBinding:
        self._meet()
        binding = self.tokens.pop(token_hash, None) if use else self.tokens.get(token_hash)
        if binding is None:
            raise errors.NotFound("The token is not valid.")
        return binding

    def check_console(self, context: RequestContext, server_id: str, generation: int) -> bool:
        self._meet()
        return self.current.get(server_id) == generation

    def find_server_on(
        self, context: RequestContext, host: str, server_id: str, posted_password: str = ""
    ) -> ServerRecord | None:
        self._meet()
        self.lookups += 1
        record = self.records.get(server_id)
        if record and posted_password and not record.spec.sealed_password:
            record = replace(record, spec=replace(record.spec, sealed_password=posted_password))
            self.records[server_id] = record
        return record if record and record.host == host and not record.deleted else None


class ObedientDriver:
    """A hypervisor in memory. ``hold`` keeps verbs waiting until set; ``fault`` is raised once by the next verb.
    ``facts`` replaces some of what it says of itself; ``mute``, it says nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.guests: dict[str, GuestState] = {}
        self.disks: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.at_work = 0
        self.most_at_work = 0
        self.hold = threading.Event()
        self.hold.set()
        self.fault: Exception | None = None
        self.facts: dict[str, Any] = {}
        self.mute = False
        self.watcher: GuestWatcher = lambda state: None
        self.closed = False
        self.boot = "first"
        self.faults_at: dict[str, Exception] = {}

    def connect(self) -> None:
        self._enter("connect", "")

    def close(self) -> None:
        self.closed = True

    def get_boot_id(self) -> str:
        return self.boot

    def get_facts(self) -> HostFacts:
        if self.mute:
            raise errors.Unreachable("The hypervisor does not answer.")
        sound = HostFacts(
            hypervisor_hostname="h",
            hypervisor_type="test",
            hypervisor_version=1,
            host_ip="127.0.0.1",
            vcpus=4,
            memory_mb=4096,
            disk_gb=40,
        )
        return replace(sound, **self.facts)

    def list_guests(self) -> list[GuestState]:
        return list(self.guests.values())

    def find_guest(self, server_id: str) -> GuestState | None:
        return self.guests.get(server_id)

    def spawn(self, spec: ServerSpec, generation: int, ports: Sequence[Port], images: ImageStore) -> GuestState:
        self._enter("spawn", spec.id)
        return self._set(spec.id, generation, PowerState.RUNNING)

    def unrescue(self, server_id: str, generation: int, *, running: bool = True) -> None:
        """Nothing here is rescued."""

    def start(self, server_id: str, generation: int) -> GuestState:
        self._enter("start", server_id)
        self._get(server_id)
        return self._set(server_id, generation, PowerState.RUNNING)

    def stop(self, server_id: str, generation: int, timeout: float) -> GuestState:
        self._enter("stop", server_id)
        self._get(server_id)
        return self._set(server_id, generation, PowerState.SHUTDOWN)

    def reboot(self, server_id: str, generation: int, *, hard: bool, timeout: float) -> GuestState:
        self._enter("reboot", server_id)
        self._get(server_id)
        return self._set(server_id, generation, PowerState.RUNNING)

    def destroy(self, server_id: str, generation: int) -> None:
        self._enter("destroy", server_id)
        self.guests.pop(server_id, None)

    def restore(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> GuestState:
        self._enter("restore", spec.id)
        if spec.id not in self.disks:
            raise errors.GuestFailed(DISK_MISSING)
        return self._set(spec.id, generation, PowerState.RUNNING)

    def describe_guest(self, server_id: str) -> GuestDescription:
        raise errors.NotFound("Nothing is known of it.")

    def set_fence(self, server_id: str, *, fenced: bool) -> None:
        self._enter("fence" if fenced else "unfence", server_id)
        self.guests[server_id] = replace(self._get(server_id), fenced=fenced)

    def discard(self, server_id: str, generation: int) -> None:
        self._enter("discard", server_id)
        self.guests[server_id] = replace(self._get(server_id), beside=0)

    def change_plans(self, changes: PlanChanges) -> None:
        """No network of this host's differs from another."""

    def list_plans(self) -> dict[str, int]:
        return {}

    def get_console_output(self, server_id: str, length: int) -> str:
        self._get(server_id)
        return "login: "[:length]

    def get_console(self, server_id: str, protocol: str) -> ConsoleAddress:
        guest = self._get(server_id)
        found = ConsoleAddress(server_id=server_id, generation=guest.generation, host="127.0.0.1", port=5900)
        return replace(found, protocol=protocol)

    def watch(self, watcher: GuestWatcher) -> None:
        self.watcher = watcher

    def change(self, server_id: str, power_state: int) -> None:
        """The guest changes by itself."""
        guest = replace(self.guests[server_id], power_state=power_state)
        self.guests[server_id] = guest
        self.watcher(guest)

    def _enter(self, verb: str, server_id: str) -> None:
        with self.lock:
            self.calls.append((verb, server_id))
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            fault, self.fault = self.faults_at.get(verb, self.fault), None
        self.hold.wait(20)
        with self.lock:
            self.at_work -= 1
        if fault is not None:
            raise fault

    def _get(self, server_id: str) -> GuestState:
        if server_id not in self.guests:
            raise errors.NotFound("There is no such guest.")
        return self.guests[server_id]

    def _set(self, server_id: str, generation: int, power_state: int) -> GuestState:
        known = self.guests.get(server_id)
        beside = known.beside if known else 0
        guest = GuestState(server_id=server_id, power_state=power_state, generation=generation, beside=beside)
        self.guests[server_id] = guest
        return guest


class MemoryImages:
    """Images by id, as bytes; counts how often each was opened."""

    def __init__(self, content: dict[str, bytes] | None = None) -> None:
        self.content = content or {}
        self.opened: list[str] = []

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        raise errors.NotFound("No image found.")

    def open_image(self, image_id: str) -> Iterator[bytes]:
        self.opened.append(image_id)
        if image_id not in self.content:
            raise errors.NotFound("No image found.")
        return iter(_chunks(self.content[image_id]))


def _chunks(data: bytes) -> Iterable[bytes]:
    for start in range(0, len(data), 4096):
        yield data[start : start + 4096]


class NoImages:
    """An ImageStore without any."""

    def ensure(self, image: Image) -> Path:
        raise errors.HostRefused("There are no images.")
