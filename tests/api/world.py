"""The API over Flask's test client: a real top database, two cells in memory, and callers with fixed tokens."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cell.conductor import guest_questions
from cell.conductor.runs import begin_ports, begin_volumes
from cellcloud import clock, errors
from cellcloud import config as options
from cellcloud.clients.identity import Caller
from cellcloud.clock import ManualClock
from cellcloud.context import RequestContext, service_context
from cellcloud.db import cells as cells_table
from cellcloud.db import flavors
from cellcloud.db.engine import Database
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.viewer import Viewer
from cellcloud.model import codec, tag_metadata_changes
from cellcloud.model.cell import Finding
from cellcloud.model.console import ConsoleAddress, ConsoleGrant
from cellcloud.model.external_event import ExternalEvent
from cellcloud.model.guest_questions import Diagnose, DiskFigures, GuestDiagnostics, GuestQuestion, NicFigures
from cellcloud.model.host import Aggregate, Host, HostFacts, ServiceRecord
from cellcloud.model.image import Image
from cellcloud.model.intent import Intent
from cellcloud.model.network import (
    FixedIp,
    Network,
    NewPort,
    Port,
    PortChange,
    Ports,
    RequestedNetwork,
    Subnet,
    with_port,
    without_port,
)
from cellcloud.model.operations import Operation, OperationSpec, spec_of
from cellcloud.model.placement_messages import CellDigest, ConfirmAnswer, DeleteAnswer, DeleteRequest, ReserveAnswer
from cellcloud.model.run import RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.model.tag_metadata_changes import ItemChanges
from cellcloud.model.volume import AttachedVolume, AttachmentState, free_device, with_changed, without
from cellcloud.server_states import PowerState, VmState
from tests.api.declared_answers import watch_answers
from tests.volumes import FakeVolumes
from top_api.adapters import Adapters
from top_api.app import create_app
from top_api.authorization import Enforcer
from top_api.cell_clients import Cells
from top_api.dispatch.outbox_dispatcher import OutboxDispatcher

DEMO, OTHER = "d" * 32, "e" * 32
IMAGE, BIG_IMAGE, QUEUED_IMAGE = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
MADE = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z")  # of images
NETWORK = str(uuid.UUID(int=11))
TOKEN = "t" * 43  # of a console, known to every cell
CALLERS = {
    "member": ("demo-user", DEMO, ("member", "reader")),
    "reader": ("reading-user", DEMO, ("reader",)),
    "colleague": ("colleague-user", DEMO, ("member", "reader")),
    "other": ("other-user", OTHER, ("member", "reader")),
    "manager": ("managing-user", DEMO, ("manager", "member", "reader")),
    "admin": ("admin-user", "a" * 32, ("admin", "manager", "member", "reader")),
    "service": ("neutron-user", "5" * 32, ("service",)),
    "nobody": ("role-less", DEMO, ()),
}


DIAGNOSTICS = GuestDiagnostics(
    power_state=PowerState.RUNNING,
    driver="libvirt",
    hypervisor="qemu",
    memory_kb=(524288, 262144),
    memory_figures={"rss": 200000},
    cpu_times={0: 7, 1: 9},
    disks=(DiskFigures(name="vda", read_bytes=1, read_requests=2, write_bytes=3, write_requests=4, errors=5),),
    nics=(
        NicFigures(
            name="tap1",
            mac_address="fa:16:3e:00:00:01",
            rx_octets=1,
            rx_packets=2,
            rx_errors=3,
            rx_drop=4,
            tx_octets=5,
            tx_packets=6,
            tx_errors=7,
            tx_drop=8,
        ),
    ),
)


BINARIES, VOLUME = ("nova-compute", "nova-conductor", "nova-scheduler"), "cinder-volume"
"""What a cell's services are called; the last is another API's to show."""


class FixedIdentity:
    """Knows the tokens of CALLERS."""

    def validate_token(self, token: str) -> Caller:
        if token not in CALLERS:
            raise errors.Unauthenticated("no such token")
        user_id, project_id, roles = CALLERS[token]
        return Caller(
            user_id=user_id,
            user_name=token,
            project_id=project_id,
            project_name=project_id,
            roles=roles,
            expires_at=dt.datetime(2100, 1, 1, tzinfo=dt.UTC),
        )

    def has_project(self, project_id: str) -> bool:
        return not project_id.startswith("missing")

    def get_token(self) -> str:
        return "admin"


class FixedImages:
    """Three public images: one that fits, one that needs much, one without data."""

    def __init__(self) -> None:
        self.images = {
            IMAGE: Image(id=IMAGE, name="tiny", size=1 << 20, properties={"os_distro": "debian"}, **MADE),
            BIG_IMAGE: Image(id=BIG_IMAGE, name="big", min_disk=100, min_ram=1 << 16, **MADE),
            QUEUED_IMAGE: Image(id=QUEUED_IMAGE, name="queued", status="queued", **MADE),
        }

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        if image_id not in self.images:
            raise errors.NotFound("no such image")
        return self.images[image_id]

    def open_image(self, image_id: str) -> Any:
        return iter(())


class WorldImages(EmbeddedImages):
    """The three fixed images, and what users make beside them."""

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(database, folder / "images", max_bytes=1 << 30)
        self.images = FixedImages().images

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        fixed = self.images.get(image_id)
        return fixed or super().get_image(image_id, project_id=project_id, is_admin=is_admin)


class FixedNetworks:
    """One network. ``free_ports``: how many a project may still have. Its security groups are those of ``embedded``,
    which may have ports of servers."""

    def __init__(self, embedded: EmbeddedNetworks) -> None:
        self.embedded = embedded
        self.security_group_client = embedded.security_group_client
        self.floating_ip_client = embedded.floating_ip_client
        self.free_ports: int | None = None
        self.bound: dict[str, str] = {}  # server -> the host its ports were last bound to
        self.placements: dict[str, int] = {}  # server -> the number of the placement that has them
        self.ports_of: Callable[[str], Ports] = lambda server_id: ()  # as cells know them

    def count_free_ports(self, project_id: str) -> int | None:
        return self.free_ports

    def check_networks(
        self, project_id: str, requested: Sequence[RequestedNetwork] | None, *, count: int
    ) -> tuple[RequestedNetwork, ...]:
        for wanted in requested or ():
            if wanted.network_id not in (None, NETWORK):
                raise errors.Invalid(f"Network {wanted.network_id} could not be found.")
            if wanted.port_id is not None:
                raise errors.Conflict(f"Port {wanted.port_id} is still in use.")
        return tuple(requested or (RequestedNetwork(network_id=NETWORK),))

    def check_security_groups(self, project_id: str, names: Sequence[str]) -> None:
        if set(names) - {"default"}:
            raise errors.Invalid("Unable to find security_group.")

    def ensure_ports(self, *, server_id: str, host: str, placement: int = 0, **_: Any) -> tuple[Port, ...]:
        self.bound[server_id] = host
        self.placements[server_id] = placement
        return ()

    def delete_ports(self, server_id: str, *, placement: int = 0) -> None:
        return

    def add_port(
        self, server_id: str, project_id: str, wanted: RequestedNetwork, *, zone: str, placement: int = 0
    ) -> Port:
        if wanted.network_id != NETWORK:
            return self.embedded.add_port(server_id, project_id, wanted, zone=zone, placement=placement)
        return replace(_port(1 << 10), owned=True, tag=wanted.tag)

    def release_port(self, server_id: str, port_id: str, *, placement: int = 0) -> None:
        self.embedded.release_port(server_id, port_id, placement=placement)

    def list_states(self, server_id: str) -> dict[str, str]:
        return {port.id: "ACTIVE" for port in self.ports_of(server_id)}

    def set_addresses(self, port: Port, wanted: Sequence[tuple[str, str | None]]) -> None:
        if port.network_id != NETWORK:
            self.embedded.set_addresses(port, wanted)

    def list_ports(self, server_id: str) -> tuple[Port, ...]:
        return ()

    def list_ports_of(self, server_ids: Sequence[str]) -> dict[str, tuple[Port, ...]]:
        return dict.fromkeys(server_ids, ())


def _port(number: int) -> Port:
    """One on the network that everybody may use."""
    return Port(
        id=str(uuid.uuid4()),
        network_id=NETWORK,
        network_name="private",
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=(FixedIp(ip_address=f"10.100.{number // 250}.{number % 250 + 1}", subnet_id=NETWORK),),
    )


def port_of(world: World, server_id: str) -> None:
    """Give a server of DEMO's a port in the embedded network service."""
    networks, admin = world.networks.embedded, Viewer(project_id="", is_admin=True)
    network = networks.create_network(admin, Network(id="", project_id=DEMO)).id
    networks.create_subnet(admin, Subnet(id="", network_id=network, cidr="10.0.0.0/24", project_id=DEMO))
    networks.create_ports(admin, [NewPort(network_id=network, project_id=DEMO, device_id=server_id, device_index=0)])


class MemoryCell:
    """A cell's conductor and console authority: servers are ACTIVE as soon as they are confirmed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.away = False
        self.unheard = False  # what it answers is lost
        self.full = False
        self.calls = 0
        self.servers: dict[str, ServerRecord] = {}
        self.passwords: dict[str, str] = {}
        self.runs: list[RunRecord] = []
        self.events: list[ExternalEvent] = []
        self.removed: set[str] = set()
        self.aggregates: dict[int, Aggregate] = {}
        self.aggregates_version = 0
        self.arguments: dict[str, object] = {}  # of the last operation
        self.asked: list[GuestQuestion] = []  # of guests
        self.cached: list[tuple[str, str, int]] = []  # what hosts were to fetch: host, image, bytes
        self.guest_error: errors.CellcloudError | None = None
        self.volumes = FakeVolumes()
        self.networks: FixedNetworks  # given by the world
        self.slow = False  # whether operations stay under way until ``end_operation``
        self.enabled = True
        self.lock = threading.RLock()

    def client(self, interface: type[Any], *, server: str | None = None) -> Any:
        return _Line(self)

    def reserve(self, context: RequestContext, specs: list[ServerSpec]) -> list[ReserveAnswer]:
        answers = []
        for spec in specs:
            if self.full:
                answers.append(ReserveAnswer(server_id=spec.id, outcome="refused", reason="No valid host was found."))
                continue
            self.passwords[spec.id] = spec.admin_pass
            self.servers[spec.id] = ServerRecord(
                spec=replace(spec, admin_pass=""),
                version=1,
                generation=0,
                vm_state=VmState.BUILDING,
                held=True,
                host=f"{self.name}-1",
                node=f"{self.name}-1",
                availability_zone=f"zone-{self.name}",
                created_at=spec.created_at,
                updated_at=spec.created_at,
            )
            answers.append(ReserveAnswer(server_id=spec.id, outcome="held", record=self.servers[spec.id]))
        return answers

    def confirm(
        self,
        context: RequestContext,
        server_ids: list[str],
        holds: dict[str, int] | None = None,
        placements: dict[str, int] | None = None,
    ) -> list[ConfirmAnswer]:
        return [
            ConfirmAnswer(server_id=server_id, outcome="settled", record=self._build(server_id))
            for server_id in server_ids
        ]

    def _build(self, server_id: str) -> ServerRecord:
        record = self.servers[server_id]
        number = len(self.servers)
        port = _port(number)
        self._remember(context_id=record.spec.request_id, server_id=server_id, operation=Operation.CREATE)
        return self.change(
            server_id,
            held=False,
            generation=1,
            vm_state=VmState.ACTIVE,
            power_state=PowerState.RUNNING,
            ports=(port,),
            launched_at=dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC),
        )

    def release(self, context: RequestContext, server_ids: list[str]) -> None:
        for server_id in server_ids:
            self.servers.pop(server_id, None)

    def change(self, server_id: str, **changes: Any) -> ServerRecord:
        with self.lock:
            before = self.servers[server_id]
            self.servers[server_id] = replace(before, version=before.version + 1, **changes)
            return self.servers[server_id]

    def begin_deletes(self, context: RequestContext, requests: list[DeleteRequest]) -> list[DeleteAnswer]:
        answers = []
        for one in requests:
            who = replace(context, request_id=one.request_id, user_id=one.user_id, project_id=one.project_id)
            try:
                record = self.begin_operation(who, one.server_id, Operation.DELETE, {})
            except errors.NotFound:
                answers.append(DeleteAnswer(server_id=one.server_id))
            else:
                answers.append(DeleteAnswer(server_id=one.server_id, record=record))
        return answers

    def begin_operation(
        self, context: RequestContext, server_id: str, operation: Operation, arguments: dict[str, object]
    ) -> ServerRecord:
        record = self.servers.get(server_id)
        if record is None or record.deleted:
            raise errors.NotFound(f"Instance {server_id} could not be found.")
        spec = spec_of(operation, arguments.get("type"))
        refusal = spec.refusal(record)
        if refusal:
            raise errors.Conflict(refusal)
        self._remember(context_id=context.request_id, server_id=server_id, operation=operation)
        self.arguments = arguments
        if operation in begin_volumes.STATES:
            return self._change_volume(record, operation, arguments["volume"])
        if operation in begin_ports.CHANGES:
            return self._change_port(record, operation, arguments["port"])
        if spec.preempts:
            return self.change(server_id, deleted=True, vm_state=VmState.DELETED, task_state=None)
        begun = self.change(server_id, task_state=spec.task_state)
        return begun if self.slow else self.end_operation(server_id, spec)

    def _change_volume(self, record: ServerRecord, operation: Operation, given: object) -> ServerRecord:
        """What the run makes of a volume; while the cell is slow, its beginning."""
        volume: AttachedVolume = codec.from_plain(given, AttachedVolume)
        if operation is Operation.ATTACH_VOLUME:
            device = free_device("virtio", {"vda", *(one.name for one in record.volumes)}) or ""
            volume = replace(volume, device=device)
        volume = replace(volume, state=begin_volumes.STATES[operation])
        begun = self.change(record.id, volumes=with_changed(record.volumes, volume))
        return begun if self.slow else self.end_volume(begun, volume)

    def end_volume(self, record: ServerRecord, volume: AttachedVolume) -> ServerRecord:
        if volume.state == AttachmentState.DETACHING:
            self.volumes.delete_attachment(volume.attachment_id)
            return self.change(record.id, volumes=without(record.volumes, volume.id))
        self.volumes.update_attachment(volume.attachment_id, {"host": record.host or ""})
        self.volumes.complete_attachment(volume.attachment_id)
        ended = replace(volume, state=AttachmentState.ATTACHED)
        return self.change(record.id, volumes=with_changed(record.volumes, ended))

    def _change_port(self, record: ServerRecord, operation: Operation, given: object) -> ServerRecord:
        """As ``_change_volume``, of a port."""
        kind = begin_ports.CHANGES[operation]
        port: Port = replace(codec.from_plain(given, Port), change=PortChange(kind=kind))
        begun = self.change(record.id, ports=with_port(record.ports, port))
        return begun if self.slow else self.end_port(begun, port)

    def end_port(self, record: ServerRecord, port: Port) -> ServerRecord:
        if port.is_attaching:
            return self.change(record.id, ports=with_port(record.ports, replace(port, change=None)))
        self.networks.release_port(record.id, port.id)
        return self.change(record.id, ports=without_port(record.ports, port.id))

    def end_operation(self, server_id: str, spec: OperationSpec) -> ServerRecord:
        states = {"vm_state": spec.vm_state, "power_state": spec.power_state}
        return self.change(server_id, task_state=None, **{name: to for name, to in states.items() if to is not None})

    def update_server(self, context: RequestContext, server_id: str, changes: dict[str, Any]) -> ServerRecord:
        record = self.servers[server_id]
        if "vm_state" in changes:
            return self.change(server_id, vm_state=changes["vm_state"], task_state=None)
        if changes.get("locked") is False and record.locked_by == "admin" and not context.is_admin:
            raise errors.Forbidden(f"Instance {server_id} was locked by an administrator.")
        if "delete_on_termination" in changes:
            goes = changes["delete_on_termination"]
            known = (replace(one, delete_on_termination=goes[one.volume_id]) for one in record.volumes)
            return self.change(server_id, volumes=tuple(known))
        in_record = {name: value for name, value in changes.items() if name.startswith(("locked", "placement"))}
        in_spec = {name: value for name, value in changes.items() if name not in in_record}
        if "locked" in changes:
            self._remember(
                context_id=context.request_id, server_id=server_id, operation="lock" if changes["locked"] else "unlock"
            )
        if "tags" in in_spec:
            in_spec["tags"] = tuple(in_spec["tags"])
        return self.change(server_id, spec=replace(record.spec, **in_spec), **in_record)

    def change_items(self, context: RequestContext, server_id: str, changes: ItemChanges) -> ServerRecord:
        with self.lock:
            return self.change(server_id, spec=tag_metadata_changes.applied(self.servers[server_id].spec, changes))

    def _remember(self, *, context_id: str, server_id: str, operation: str) -> None:
        at = dt.datetime(2026, 1, 2, 3, 4, len(self.runs) % 60, tzinfo=dt.UTC)
        run = RunRecord(
            id=str(uuid.uuid4()),
            server_id=server_id,
            operation=operation,
            state="done",
            step="",
            direction="do",
            attempt=1,
            request_id=context_id,
            user_id="demo-user",
            project_id=DEMO,
            generation=1,
            created_at=at,
            finished_at=at,
            host=self.servers[server_id].host or "",
        )
        self.runs.insert(0, run)

    def list_runs(self, context: RequestContext, server_id: str | None, unfinished: bool) -> list[RunRecord]:
        return [run for run in self.runs if server_id in (None, run.server_id) and not unfinished]

    def get_run(self, context: RequestContext, run_id: str) -> RunRecord:
        for run in self.runs:
            if run_id in (run.id, run.request_id):
                return run
        raise errors.NotFound(f"Run {run_id} could not be found.")

    def get_timeline(self, context: RequestContext, server_id: str) -> list[TimelineEntry]:
        return [
            TimelineEntry(at=run.created_at, kind="run", text=run.operation, request_id=run.request_id)
            for run in self.runs
            if run.created_at is not None
        ]

    def check_books(self, context: RequestContext) -> list[Finding]:
        return [Finding(check="claims", severity="ok", subject=self.name, text="Claims equal usage.")]

    def apply_external_events(self, context: RequestContext, events: list[ExternalEvent]) -> list[int]:
        self.events += events
        return [200 if event.server_id in self.servers else 404 for event in events]

    def list_versions(self, context: RequestContext, after_id: str, limit: int) -> list[tuple[str, int]]:
        living = [(r.id, r.version) for r in self.servers.values() if not r.deleted and not r.held]
        return sorted(pair for pair in living if pair[0] > after_id)[:limit]

    def get_servers(self, context: RequestContext, server_ids: list[str], partly: bool = False) -> list[ServerRecord]:
        return [self.servers[server_id] for server_id in server_ids if server_id in self.servers]

    def ask_guest(self, context: RequestContext, server_id: str, question: GuestQuestion) -> GuestDiagnostics | None:
        if self.guest_error is not None:
            raise self.guest_error
        guest_questions.check(self.servers[server_id], question, busy=False)
        self.asked.append(question)
        return DIAGNOSTICS if isinstance(question, Diagnose) else None

    def get_console_output(self, context: RequestContext, server_id: str, length: int) -> str:
        text = "\n".join(f"line {number}" for number in range(5))
        return text if length < 0 else text[len(text) - length :]

    def find_console(self, context: RequestContext, token: str) -> ConsoleAddress:
        if token != TOKEN:
            raise errors.NotFound("The console token is not valid.")
        return ConsoleAddress(server_id=str(uuid.UUID(int=5)), generation=1, host=f"{self.name}-1", port=5900)

    def create_console(self, context: RequestContext, server_id: str, protocol: str, type: str) -> ConsoleGrant:
        url = "http://127.0.0.1:6080/vnc_lite.html?path=%3Ftoken%3Dt"
        return ConsoleGrant(server_id=server_id, protocol=protocol, type=type, url=url, token="t")

    def list_hosts(self, context: RequestContext) -> list[Host]:
        facts = HostFacts(
            hypervisor_hostname=f"{self.name}-1",
            hypervisor_type="QEMU",
            hypervisor_version=7002000,
            host_ip="10.77.1.11",
            vcpus=4,
            memory_mb=8192,
            disk_gb=100,
            cpu_info={"arch": "x86_64"},
            uptime=" 10:00:00 up 1 day",
        )
        living = [record for record in self.servers.values() if not record.deleted]
        return [
            Host(
                id=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"host.{self.name}")),
                host=f"{self.name}-1",
                zone=f"zone-{self.name}",
                facts=facts,
                enabled=self.enabled,
                disabled_reason=None,
                forced_down=False,
                up=True,
                capacity={"VCPU": 16, "MEMORY_MB": 7680, "DISK_GB": 100},
                used={"VCPU": len(living), "MEMORY_MB": 512 * len(living), "DISK_GB": len(living)},
                total={"VCPU": 4, "MEMORY_MB": 8192, "DISK_GB": 100},
                servers=len(living),
                created_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
                last_seen=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
            )
        ]

    def list_aggregates(self, context: RequestContext) -> list[Aggregate]:
        return sorted(self.aggregates.values(), key=lambda one: one.id)

    def set_aggregates(
        self, context: RequestContext, aggregates: list[Aggregate], removed: list[int], version: int
    ) -> list[Aggregate]:
        if version >= self.aggregates_version:
            self.aggregates_version = version
            self.aggregates = {n: one for n, one in self.aggregates.items() if n not in removed}
            self.aggregates |= {one.id: one for one in aggregates}
        return self.list_aggregates(context)

    def cache_images(self, context: RequestContext, hosts: list[str], images: list[Image]) -> None:
        self.cached += [(host, image.id, image.size) for host in hosts for image in images]

    def list_services(self, context: RequestContext) -> list[ServiceRecord]:
        known = [self._service(binary) for binary in (*BINARIES, VOLUME)]
        return [service for service in known if service.id not in self.removed]

    def remove_host(self, context: RequestContext, host: str, force: bool) -> None:
        if self.servers:
            raise errors.Conflict(f"Compute host {host} has {len(self.servers)} servers: delete or move them first.")
        self.removed.add(self._service("nova-compute").id)

    def remove_service(self, context: RequestContext, service_id: str) -> None:
        self.removed.add(service_id)

    def _service(self, binary: str) -> ServiceRecord:
        return ServiceRecord(
            id=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{binary}.{self.name}")),
            binary=binary,
            host=f"{self.name}-1",
            zone=f"zone-{self.name}" if binary == "nova-compute" else "internal",
            enabled=self.enabled or binary != "nova-compute",
            created_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
            last_seen=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        )

    def set_service(
        self,
        context: RequestContext,
        host: str,
        enabled: bool | None,
        disabled_reason: str | None,
        forced_down: bool | None,
    ) -> ServiceRecord:
        if enabled is not None:
            self.enabled = enabled
        return replace(self._service("nova-compute"), disabled_reason=disabled_reason, forced_down=bool(forced_down))


class _Line:
    """The way to a cell: counts calls, and raises while the cell is away."""

    def __init__(self, cell: MemoryCell) -> None:
        self._cell = cell

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def send(*args: Any, **kwargs: Any) -> Any:
            self._cell.calls += 1
            if self._cell.away:
                raise errors.Unreachable(f"Cell {self._cell.name} did not answer in time.")
            answer = getattr(self._cell, verb)(*args, **kwargs)
            if self._cell.unheard:
                raise errors.Unreachable(f"Cell {self._cell.name} did not answer in time.")
            return answer

        return send


def digest_of(name: str) -> CellDigest:
    return CellDigest(
        cell=name, hosts_total=1, hosts_up=1, buckets=((1024, 1 << 20, 1024, 1),), zones=(f"zone-{name}",)
    )


@cache
def default_policy() -> Enforcer:
    """What is in force without a policy file; to read it takes as long as all else that makes a world."""
    return Enforcer(None)


@cache
def default_options() -> options.Config:
    """What is in force without an option file."""
    return options.load()


class World:
    """The API, its callers, and its two cells. ``policy``: what stands in the operators' policy file.
    ``reclaim``: seconds a deleted server can be restored."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        policy: str = "",
        reclaim: int = 0,
        enforcer: Enforcer | None = None,
        **quota: int,
    ) -> None:
        self.database = database
        with database.write() as connection:
            flavors.ensure_starters(connection)
            for name in ("east", "west"):
                cells_table.register_cell(connection, name, "kombu+memory://")
                cells_table.set_health(connection, name, health="up", digest=digest_of(name))
        defaults = default_options()
        self.config = replace(
            defaults,
            state_dir=folder,
            reclaim_instance_interval=reclaim,
            top=replace(defaults.top, breaker_seconds=60.0, cell_timeout=2.0, max_body=1 << 20),
            quota=replace(defaults.quota, **quota),
        )
        if policy:
            (folder / "policy.yaml").write_text(policy)
            (folder / "top.conf").write_text("[DEFAULT]\n")
            self.config = replace(self.config, path=folder / "top.conf")
        self.east, self.west = MemoryCell("east"), MemoryCell("west")
        transports: Any = {"east": self.east, "west": self.west}
        self.cells = Cells(database, self.config.top, transports)
        self.dispatcher = OutboxDispatcher(database, self.cells, "api", self.config.top)
        self.images, self.networks = WorldImages(database, folder), FixedNetworks(EmbeddedNetworks(database))
        self.volumes = FakeVolumes()
        self.east.volumes = self.west.volumes = self.volumes
        self.east.networks = self.west.networks = self.networks
        self.networks.ports_of = lambda server_id: self.cell_of(server_id).servers[server_id].ports
        self.holding = False
        outside = Adapters(identity=FixedIdentity(), images=self.images, networks=self.networks, volumes=self.volumes)
        self.app = create_app(
            self.config,
            database=database,
            adapters=outside,
            cells=self.cells,
            dispatch=self._dispatch,
            enforcer=enforcer or (None if policy else default_policy()),
        )
        self.undeclared = watch_answers(self.app)
        self.http: FlaskClient = self.app.test_client()

    def _dispatch(self, written: Sequence[Intent]) -> None:
        if not self.holding:
            self.dispatcher.dispatch(written)

    def close(self) -> None:
        self.dispatcher.stop()
        self.cells.close()
        assert self.undeclared == []

    def cell_of(self, server_id: str) -> MemoryCell:
        return self.east if server_id in self.east.servers else self.west

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "member",
        version: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> TestResponse:
        """One request; ``path`` without /v2.1 is of the compute API."""
        sent = dict(headers or {})
        if token is not None:
            sent["X-Auth-Token"] = token
        if version is not None:
            sent["OpenStack-API-Version"] = f"compute {version}"
        if body is not None:
            more["json"] = body
        full = path if path.startswith(("/v2", "/operator")) or path == "/" else f"/v2.1{path}"
        answer = self.http.open(full, method=method, headers=sent, **more)
        if self.undeclared:
            raise AssertionError(self.undeclared)
        return answer

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> TestResponse:
        return self.call("POST", path, body, **more)

    def create(self, name: str = "vm", *, token: str = "member", wait: bool = True, **more: Any) -> str:
        """Create one server and wait until its cell has it; returns its id."""
        server = {"name": name, "flavorRef": "1", "imageRef": IMAGE, **more}
        answer = self.post("/servers", {"server": server}, token=token)
        assert answer.status_code == 202, answer.get_data(as_text=True)
        if wait:
            self.settle()
        return str(answer.get_json()["server"]["id"])

    def heal(self, cell: MemoryCell) -> None:
        """The cell is back and was heard of, and the time it was to be left alone is over."""
        cell.away = False
        with self.database.write() as connection:
            cells_table.set_health(connection, cell.name, health="up", digest=digest_of(cell.name))
        with clock.using(ManualClock()) as later:
            assert isinstance(later, ManualClock)
            later.advance(1e9)
            self.cells.conductor(cell.name).list_hosts(service_context())

    def settle(self) -> None:
        assert self.dispatcher.wait_idle(60.0)
