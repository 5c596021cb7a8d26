"""One cell in one thread: a real database and executor, a scheduler and hosts made of dictionaries.

``CellUnderTest.run`` moves everything until nothing is due. Nothing here waits: a run that asks to be called again
is called again at once, and an executor that "dies" leaves its lease to the next one.
"""

from __future__ import annotations

import copy
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from cell.conductor.placement import rebuild, relocation, reservation_batching, reservation_confirmation
from cell.conductor.runs import begin_operations, begin_ports, begin_volumes, guest_events
from cell.conductor.runs import executor as executor_module
from cell.conductor.runs.executor import RunExecutor
from cell.conductor.workflow import FoundHost, StepResult
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.scheduler_state import SchedulerState
from cellcloud import errors
from cellcloud.context import RequestContext, new_request_id
from cellcloud.db import cell_schema, claims, hosts, runs, scheduler_change_log, servers
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Connection, Database
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import CellState
from cellcloud.model.decision import Basis, ClaimConflict, RankAnswer, RankBatch
from cellcloud.model.flavor import Flavor
from cellcloud.model.guest_commands import (
    Arrive,
    AttachPort,
    AttachVolume,
    Destroy,
    DetachPort,
    DetachVolume,
    Discard,
    FetchDisks,
    GuestCommand,
    GuestEvent,
    ImageCommand,
    MoveBack,
    Moving,
    OfferDisks,
    RebootHard,
    Rebuild,
    Rescue,
    SetAside,
    Snapshot,
    Spawn,
    Start,
    Unrescue,
    UploadSnapshot,
)
from cellcloud.model.host import HostFacts, HostReport
from cellcloud.model.image import Image, ImageQuery
from cellcloud.model.network import FixedIp, Port, RequestedNetwork, without_port
from cellcloud.model.operations import TABLE, Operation
from cellcloud.model.run import LeasedRun, RunArguments
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.model.volume import AttachedVolume, AttachmentState
from cellcloud.server_states import PowerState, VmState
from tests.volumes import FakeVolumes

CONTEXT = RequestContext(user_id="u", project_id="p", budget=86_400)


LARGER = Flavor(id="2", name="m1.small", vcpus=2, memory_mb=256, root_gb=2)
HISTORY = frozenset({"runs", "decisions", "feed"})
ASKED: dict[Operation, dict[str, Any]] = {Operation.RESIZE: {"flavor": LARGER}}
"""What an operation is asked with where it needs anything."""


def request() -> RequestContext:
    """What a request of its own comes with."""
    return replace(CONTEXT, request_id=new_request_id())


class Killed(BaseException):
    """The process died here."""


def make_spec(server_id: str, **changes: object) -> ServerSpec:
    values: dict[str, object] = {
        "id": server_id,
        "name": "s",
        "hostname": "s",
        "project_id": "p",
        "user_id": "u",
        "flavor": Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=128, root_gb=1),
        "image": Image(id="i"),
        "networks": (RequestedNetwork(network_id="net"),),
    }
    return ServerSpec(**(values | changes))  # type: ignore[arg-type]


class Misused(BaseException):
    """No step that is right asks this; not to be taken for a failure that goes away."""


@dataclass
class FakeNetworks:
    """Ports by server, made once and adopted after. ``refusal``: what is said to whoever asks for anything."""

    refusal: errors.CellcloudError | None = None
    ports: dict[str, tuple[Port, ...]] = field(default_factory=dict)
    placements: dict[str, int] = field(default_factory=dict)
    made: int = 0

    def count_free_ports(self, project_id: str) -> int | None:
        return None

    def check_networks(
        self, project_id: str, requested: Sequence[RequestedNetwork] | None, *, count: int
    ) -> tuple[RequestedNetwork, ...]:
        return tuple(requested or (RequestedNetwork(network_id="net"),))

    def ensure_ports(
        self,
        *,
        server_id: str,
        host: str,
        requested: Sequence[RequestedNetwork],
        adopt: bool = True,
        anew: bool = True,
        placement: int = 0,
        **_rest: object,
    ) -> tuple[Port, ...]:
        if self.refusal:
            raise self.refusal
        if self.placements.setdefault(server_id, placement) > placement:
            raise errors.Stale("A later placement has its ports.")
        self.placements[server_id] = placement
        if server_id in self.ports and not adopt:
            raise Misused("a step was taken twice in what it said was its first attempt")
        if server_id not in self.ports and anew:
            self.made += 1
            self.ports[server_id] = tuple(
                Port(
                    id=f"port-{server_id}-{n}",
                    network_id="net",
                    network_name="private",
                    mac_address=f"fa:16:3e:00:00:{self.made:02x}",
                    fixed_ips=(FixedIp(ip_address=f"10.0.0.{self.made}", subnet_id="sub"),),
                    host_id=host,
                )
                for n, _ in enumerate(requested)
            )
        self.ports[server_id] = tuple(replace(port, host_id=host) for port in self.list_ports(server_id))
        return self.ports[server_id]

    def add_port(
        self, server_id: str, project_id: str, wanted: RequestedNetwork, *, zone: str, placement: int = 0
    ) -> Port:
        """``wanted.port_id``: one that is lent."""
        self.made += 1
        port = Port(
            id=wanted.port_id or f"port-{server_id}-more-{self.made}",
            network_id=wanted.network_id or "net",
            network_name="private",
            mac_address=f"fa:16:3e:00:01:{self.made:02x}",
            fixed_ips=(FixedIp(ip_address=f"10.0.1.{self.made}", subnet_id="sub"),),
            owned=not wanted.port_id,
        )
        self.ports[server_id] = (*self.list_ports(server_id), port)
        return replace(port, tag=wanted.tag)

    def release_port(self, server_id: str, port_id: str, *, placement: int = 0) -> None:
        if self.refusal:
            raise self.refusal
        if self.placements.get(server_id, 0) <= placement:
            self.ports[server_id] = without_port(self.list_ports(server_id), port_id)

    def delete_ports(self, server_id: str, *, placement: int = 0) -> None:
        if self.refusal:
            raise self.refusal
        if self.placements.get(server_id, 0) <= placement:
            self.placements.pop(server_id, None)
            self.ports.pop(server_id, None)

    def list_ports(self, server_id: str) -> tuple[Port, ...]:
        return self.ports.get(server_id, ())

    def list_ports_of(self, server_ids: Sequence[str]) -> dict[str, tuple[Port, ...]]:
        return {server_id: self.list_ports(server_id) for server_id in server_ids}


@dataclass
class FakeImages:
    """Images by id; what is discarded is gone. ``refusal``: what is said to whoever asks for anything."""

    refusal: errors.CellcloudError | None = None
    images: dict[str, Image] = field(default_factory=dict)

    def _check(self) -> None:
        if self.refusal:
            raise self.refusal

    def ensure_image(self, image: Image) -> Image:
        self._check()
        return self.images.setdefault(image.id, replace(image, status="queued"))

    def fill_image(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        self._check()
        if image_id not in self.images:
            raise errors.NotFound("no such image")
        self.images[image_id] = replace(self.images[image_id], status="active")

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        self._check()
        if image_id not in self.images:
            raise errors.NotFound("no such image")
        return self.images[image_id]

    def edit_properties(self, image_id: str, edit: Any, *, project_id: str, is_admin: bool) -> Image:
        image = self.get_image(image_id, project_id=project_id, is_admin=is_admin)
        self.images[image_id] = replace(image, properties=dict(edit(image.properties)))
        return self.images[image_id]

    def discard_image(self, image_id: str) -> None:
        self._check()
        self.images.pop(image_id, None)

    def search_images(self, query: ImageQuery, *, project_id: str, is_admin: bool) -> list[Image]:
        self._check()
        found = [one for one in self.images.values() if set(query.properties) <= set(one.properties.items())]
        return found[::-1]


class FakeScheduler:
    """Every host that is not excluded, in order. ``asked``: the batches that came."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.asked: list[RankBatch] = []

    def rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
        self.asked.append(batch)
        return RankAnswer(
            batch=uuid.uuid4().int >> 66,
            basis=Basis(scheduler="fake", sequence=0),
            hosts=self.names,
            zones=("nova",) * len(self.names),
            ranked=(ranked := tuple(self._places(batch.exclude.get(server[0], ())) for server in batch.servers)),
            refused=({"names": len(self.names)},),
            why=tuple(-1 if places else 0 for places in ranked),
            holdings=tuple(Allocation(resources=shape.resources) for shape in batch.shapes),
            takes=tuple(server[1] for server in batch.servers),
        )

    def _places(self, exclude: Sequence[str]) -> tuple[int, ...]:
        return tuple(place for place, name in enumerate(self.names) if name not in exclude)


def claim(connection: Connection, wanted: Sequence[Claim]) -> dict[str, ClaimConflict]:
    """Claim as a conductor does whose candidates others want too; the last race of each that got nothing."""
    won, lost = claims.claim_judged(connection, wanted)
    return {claim_id: races[-1] for claim_id, races in lost.items() if claim_id not in won}


def make_report(host: str, *, vcpus: int = 8, **changes: object) -> HostReport:
    """What a host of 64 GiB and 1000 GB says of itself, its processors promised once."""
    facts = HostFacts(
        hypervisor_hostname=f"{host}.machine",
        hypervisor_type="fake",
        hypervisor_version=1,
        host_ip="127.0.0.1",
        vcpus=vcpus,
        memory_mb=65536,
        disk_gb=1000,
    )
    report = HostReport(host=host, facts=facts, cpu_ratio=1.0)
    return replace(report, **changes)  # type: ignore[arg-type]  # fields of HostReport, by name


class Inside:
    """All that a passive step may use inside a transaction."""

    def __init__(self, cell: CellUnderTest) -> None:
        self.resend_after, self.max_attempts = cell.resend_after, cell.max_attempts
        self.is_up, self.is_fenced = cell.is_up, cell.is_fenced


@dataclass(frozen=True)
class SavedCell:
    """A cell on SQLite as it was: its database, and what is outside of it."""

    database: sqlite3.Connection
    world: dict[str, Any]


class CellUnderTest:
    """The ``RunServices`` of its executor, too. ``fail`` maps a command's kind to the errors it answers next."""

    resend_after = 0.0
    cell = "east"
    max_attempts = 3
    moves_on_results = False  # whether a host's result moves its run in the transaction that stores it

    def __init__(self, database: Database, host_names: Sequence[str] = ("h1", "h2"), vcpus: int = 8) -> None:
        self.database = database
        self.networks = FakeNetworks()
        self.images = FakeImages()
        self.volumes = FakeVolumes()
        self.plugged: set[tuple[str, str]] = set()  # (server, volume) of guests
        self.taps: set[tuple[str, str]] = set()  # (server, port) of guests
        self.copies: set[tuple[str, str]] = set()  # of guests' disks on hosts: server and image
        self.scheduler = FakeScheduler(host_names)
        self.guests: dict[str, tuple[str, PowerState, int]] = {}
        self.aside: dict[str, str] = {}  # server -> the host that has set it aside
        self.fetched: set[tuple[str, str]] = set()  # (server, host that has fetched its disks)
        self.same_host = False
        self.rescued: dict[str, Rescue] = {}
        self.fail: dict[type[GuestCommand], list[errors.CellcloudError]] = {}
        self.inbox: list[GuestEvent] = []
        self.lost = 0
        self.away: set[str] = set()  # hosts that hear nothing
        self.fenced: set[str] = set()
        self.deaths_before_sending = 0
        with database.write() as connection:
            hosts.report(connection, [make_report(name, vcpus=vcpus) for name in host_names])
        self.new_executor()

    def new_executor(self) -> None:
        """A conductor that knows nothing of the last one; leases are over at once."""
        self.executor = RunExecutor(self.database, self, owner=f"c{id(object())}", lease=-0.01, threads=1)

    def save(self) -> SavedCell:
        """Keep a copy of all, to begin with another time. Nothing may be on its way."""
        assert not self.inbox
        kept = sqlite3.connect(":memory:")
        with closing(self.database.engine.raw_connection()) as live:
            live.driver_connection.backup(kept)  # type: ignore[union-attr]
        names = ("networks", "images", "volumes", "plugged", "taps", "copies", "guests", "aside", "fetched", "rescued")
        return SavedCell(kept, copy.deepcopy({name: getattr(self, name) for name in names}))

    def load(self, saved: SavedCell) -> None:
        """Be as that cell was."""
        with closing(self.database.engine.raw_connection()) as live:
            saved.database.backup(live.driver_connection)  # type: ignore[arg-type]
        vars(self).update(copy.deepcopy(saved.world))

    # ---- StepServices -------------------------------------------------------------------------------------------
    def send(self, command: GuestCommand) -> None:
        if self.deaths_before_sending:
            self.deaths_before_sending -= 1
            raise Killed
        if self.lost:
            self.lost -= 1
            return
        if command.host in self.away:
            return
        known = self.guests.get(command.server_id)
        waiting = self.fail.get(type(command))
        error = waiting.pop(0) if waiting else None
        power = PowerState.NOSTATE
        if error is None and known is not None and known[2] > command.generation:
            error = errors.Stale("older generation")
        if error is None:
            try:
                power = self._apply(command.host, command)
            except errors.CellcloudError as refusal:
                error = refusal
        self.inbox.append(
            GuestEvent(
                host=command.host,
                server_id=command.server_id,
                generation=command.generation,
                power_state=power,
                run_id=command.run_id,
                step=command.step,
                error=type(error).__name__ if error else "",
                message=error.message if error else "",
                outputs={"host": command.host} if isinstance(command, OfferDisks) else {},
            )
        )

    def _apply(self, host: str, command: GuestCommand) -> PowerState:
        if isinstance(command, Moving):
            return self._move(host, command)
        if isinstance(command, Destroy):
            if self.guests.get(command.server_id, (host,))[0] == host:
                self._plug(command.server_id, ())
                self._wire(command.server_id, ())
            self._remove_guest(command.server_id, host)
            if self.aside.get(command.server_id) == host:
                del self.aside[command.server_id]
            self.rescued.pop(command.server_id, None)
            self.copies = {copy for copy in self.copies if copy[0] != command.server_id}
            return PowerState.NOSTATE
        if isinstance(command, ImageCommand):
            self._copy(command)
        asked = next((spec.power_state for spec in TABLE if spec.command is type(command)), None)
        power = self.guests[command.server_id][1] if asked is None else asked
        self._change_devices(command)
        if isinstance(command, Spawn):
            self._plug(command.server_id, command.spec.volumes)
            self._wire(command.server_id, command.ports)
        if isinstance(command, Rebuild):
            power = PowerState.RUNNING if command.run else PowerState.SHUTDOWN
        if isinstance(command, Rescue):
            self.rescued[command.server_id] = command
        if isinstance(command, Unrescue | Start | RebootHard):
            self.rescued.pop(command.server_id, None)
        if isinstance(command, Unrescue):
            power = PowerState.RUNNING if command.running else PowerState.SHUTDOWN
        self.guests[command.server_id] = (host, power, command.generation)
        return power

    def _change_devices(self, command: GuestCommand) -> None:
        match command:
            case AttachVolume():
                self.plugged.add((command.server_id, command.volume.volume_id))
            case DetachVolume():
                self.plugged.discard((command.server_id, command.volume.volume_id))
            case AttachPort():
                self.taps.add((command.server_id, command.port.id))
            case DetachPort():
                self.taps.discard((command.server_id, command.port.id))

    def _plug(self, server_id: str, volumes: Sequence[AttachedVolume]) -> None:
        """Let a guest have these, and no other."""
        self.plugged = {one for one in self.plugged if one[0] != server_id}
        self.plugged |= {(server_id, one.volume_id) for one in volumes}

    def _wire(self, server_id: str, ports: Sequence[Port]) -> None:
        """As ``_plug``, of ports."""
        self.taps = {one for one in self.taps if one[0] != server_id} | {(server_id, one.id) for one in ports}

    def _copy(self, command: ImageCommand) -> None:
        copy = (command.server_id, command.image_id)
        if isinstance(command, Snapshot):
            self.copies.add(copy)
            return
        self.copies.discard(copy)
        if isinstance(command, UploadSnapshot):
            self.images.fill_image(command.image_id, 1, (b"x",))

    def _remove_guest(self, server_id: str, host: str) -> None:
        self.fetched.discard((server_id, host))
        if self.guests.get(server_id, ("",))[0] == host:
            del self.guests[server_id]

    def _move(self, host: str, command: Moving) -> PowerState:
        server_id = command.server_id
        match command:
            case SetAside():
                if self.guests.get(server_id, ("",))[0] == host:
                    self._remove_guest(server_id, host)
                    self.aside[server_id] = host
                assert self.aside[server_id] == host
            case OfferDisks() if self.aside.get(server_id) != host:
                raise errors.NotFound("There is no such guest on this host.")
            case FetchDisks():
                if self.aside.get(server_id) != command.source or command.offer.get("host", host) != command.source:
                    raise errors.Unreachable("The disks are not offered.")
                self.fetched.add((server_id, host))
            case Arrive() | MoveBack():
                if isinstance(command, Arrive):
                    assert (server_id, host) in self.fetched
                elif self.aside.get(server_id) == host:
                    del self.aside[server_id]
                    self.fetched.discard((server_id, host))
                assert self.guests.get(server_id, (host,))[0] == host, "it would run on two hosts"
                power = PowerState.RUNNING if command.running else PowerState.SHUTDOWN
                self.guests[server_id] = (host, power, command.generation)
                self._plug(server_id, command.spec.volumes)
                self._wire(server_id, command.ports)
                return power
            case Discard() if self.aside.get(server_id) == host:
                del self.aside[server_id]
        return PowerState.SHUTDOWN

    def connector(self, host: str) -> dict[str, str]:
        return {"host": host, "ip": "127.0.0.1"}

    def compute(self, host: str) -> Any:
        """No host here is asked anything but by commands."""
        raise errors.NotFound(f"Compute host {host} could not be found.")

    def within(self, connection: Connection) -> Inside:
        return Inside(self)

    def is_up(self, host: str) -> bool:
        return host not in self.away | self.fenced

    def is_fenced(self, host: str) -> bool:
        return host in self.fenced

    def find_host(self, run: LeasedRun, spec: ServerSpec, exclude: Sequence[str]) -> ServerRecord:
        return relocation.place_elsewhere(self.database, self.scheduler, run, spec, exclude)

    def find_move(self, run: LeasedRun, spec: ServerSpec, migration_id: str, *, may_stay: bool) -> FoundHost:
        return relocation.find_move(
            self.database, self.scheduler, run, spec, migration_id, may_stay, same_host=self.same_host
        )

    def check_rebuild(self, run: LeasedRun, spec: ServerSpec, host: str) -> None:
        rebuild.check_rebuild(self.database, self.scheduler, run, spec, host)

    # ---- driving -----------------------------------------------------------------------------------------------
    def create(self, server_id: str, **changes: object) -> ServerRecord:
        """Reserve and confirm; the run has not moved yet."""
        self.hold(server_id, **changes)
        confirmed = reservation_confirmation.confirm(self.database, CONTEXT, [server_id])[0][0]
        assert confirmed.record is not None
        return confirmed.record

    def hold(self, server_id: str, **changes: object) -> None:
        """Reserve only."""
        answer = reservation_batching.reserve(
            self.database, self.scheduler, CONTEXT, [make_spec(server_id, **changes)], hold_seconds=60
        )[0]
        assert answer.outcome == "held", answer

    def begin(self, server_id: str, operation: Operation, **arguments: Any) -> ServerRecord:
        wanted = ASKED.get(operation, {}) | arguments
        if operation in begin_volumes.STATES and "volume" not in wanted:
            wanted["volume"] = self._volume_for(server_id, operation)
        if operation in begin_ports.CHANGES and "port" not in wanted:
            wanted["port"] = self._port_for(server_id, operation)
        try:
            asked = RunArguments(**wanted)
            return begin_operations.begin_operation(self.database, request(), server_id, operation, asked)
        except errors.CellcloudError:
            if operation is Operation.ATTACH_VOLUME:  # as the API does
                self.volumes.delete_attachment(wanted["volume"].attachment_id)
            if operation is Operation.ATTACH_INTERFACE:
                placement = self.networks.placements.get(server_id, 0)
                self.networks.release_port(server_id, wanted["port"].id, placement=placement)
            raise

    def _port_for(self, server_id: str, operation: Operation) -> Port:
        """What the API tells of a port: one that was made for the server, or the newest that it has."""
        if operation is Operation.ATTACH_INTERFACE:
            return self.networks.add_port(server_id, "p", RequestedNetwork(network_id="net", tag="t"), zone="")
        return self.record(server_id).ports[-1]

    def _volume_for(self, server_id: str, operation: Operation) -> AttachedVolume:
        """What the API tells of a volume: one that is reserved for the server, or one that it has."""
        if operation is Operation.ATTACH_VOLUME:
            volume = self.volumes.add()
            attachment_id = self.volumes.create_attachment(volume.id, server_id)
            return AttachedVolume(id=str(uuid.uuid4()), volume_id=volume.id, attachment_id=attachment_id)
        if not self.record(server_id).volumes:
            self.begin(server_id, Operation.ATTACH_VOLUME)
            self.run()
        volume = self.record(server_id).volumes[0]
        if operation is Operation.DETACH_VOLUME and self.record(server_id).host is not None:
            self.volumes.begin_detaching(volume.volume_id)
        return volume

    def run(self, limit: int = 200) -> None:
        """Until no run is unfinished."""
        for _ in range(limit):
            self._apply_events()
            with self.database.write() as connection:  # nothing waits here: what waits is due
                connection.execute(sa.update(cell_schema.runs).values(run_at=sa.text("'2000-01-01 00:00:00.000000'")))
            leased = executor_module._lease_batch(self.database, self.executor._terms, 50)
            if not leased:
                return
            for one, record in leased:
                try:
                    self.executor.advance(one, record)
                except Killed:
                    self.new_executor()
        raise AssertionError("the runs never ended")

    def _apply_events(self) -> None:
        events, self.inbox = self.inbox, []
        try:
            applied = guest_events.apply(
                self.database, self, events, self.executor.offer() if self.moves_on_results else None
            )
            self.executor.send(applied.commands)
            for one, record in applied.leased:
                self.executor.advance(one, record)
        except Killed:
            self.new_executor()

    def record(self, server_id: str) -> ServerRecord:
        with self.database.read() as connection:
            return servers.list_by_id(connection, [server_id])[0]

    def count_under_way(self) -> int:
        """Operations under way on all hosts, as a scheduler knows from the change log."""
        with self.database.read() as connection:
            entries = scheduler_change_log.list_after(connection, 0, 10_000).entries
        believed = SchedulerState(CellState(sequence=0))
        believed.follow(entries)
        return int(believed.table.columns.figure(Figure.num_io_ops).sum())

    def assert_clean(self, server_id: str) -> ServerRecord:
        """All of the server is there, or nothing of it, and the books are right."""
        record = self.record(server_id)
        with self.database.read() as connection:
            assert claims.list_mismatches(connection) == []
            owners = claims.list_owners(connection)
            assert runs.find_active(connection, server_id) is None
        assert self.count_under_way() == 0
        assert record.task_state is None
        assert self.copies == set()
        if record.vm_state != VmState.SOFT_DELETED:
            assert (server_id in self.rescued) == (record.vm_state == VmState.RESCUED)
        assert [one for one in self.images.images.values() if one.status != "active"] == []
        assert not record.held
        with self.database.read() as connection:
            held = {one.id: one.host for one in claims.list_of(connection, server_id)}
            assert claims.list_strays(connection) == []
        self.assert_volumes(record)
        if record.deleted:
            self._assert_nothing_left(record)
        waits = record.vm_state == "resized" and not record.deleted
        migration = record.migrations[-1] if waits else None
        assert self.aside.get(server_id) == (migration.source if migration else None)
        assert {host for one, host in self.fetched if one == server_id} <= {record.host}
        shelved = record.spec.shelved_image
        if not record.deleted and record.vm_state != VmState.SOFT_DELETED:
            has_image = record.vm_state in ("shelved", "shelved_offloaded") and not record.spec.is_volume_backed
            assert (shelved is not None) == has_image
            assert shelved is None or shelved.id in self.images.images
        if record.vm_state == "shelved_offloaded":
            assert server_id not in owners
            assert server_id not in self.guests
            assert (record.host, record.availability_zone) == (None, None)
            told = tuple(replace(one, tag=None) for one in record.ports)
            assert self.networks.ports.get(server_id, ()) == told
            assert {port.host_id for port in record.ports} <= {""}
        elif record.deleted or record.vm_state == "error":
            assert server_id not in owners
            assert server_id not in self.guests
            assert server_id not in self.networks.ports
            assert {one for one in self.taps if one[0] == server_id} == set()
            assert record.host is None or record.deleted
        else:
            assert server_id in owners
            assert held == {server_id: record.host} | ({migration.id: migration.source} if migration else {})
            assert self.guests[server_id][0] == record.host
            assert self.guests[server_id][1] == record.power_state
            self.assert_ports(record)
        return record

    def assert_ports(self, record: ServerRecord) -> None:
        """What a server has of ports is what its guest has, and what their service says."""
        told = [replace(one, tag=None) for one in record.ports]
        assert told == list(self.networks.list_ports(record.id))
        assert {one.host_id for one in told} <= {record.host}
        assert {one for one in self.taps if one[0] == record.id} == {(record.id, one.id) for one in told}

    def assert_volumes(self, record: ServerRecord) -> None:
        """What a server has of volumes is what its guest has, and what their service says."""
        held = {known: one for known, one in self.volumes.attachments.items() if one.server_id == record.id}
        assert {one.attachment_id: one.volume_id for one in record.volumes} == {
            known: one.volume_id for known, one in held.items()
        }
        assert all(one.state == AttachmentState.ATTACHED for one in record.volumes)
        assert all(one.complete == (record.host is not None) for one in held.values())
        assert record.host is not None or not any(one.connection for one in record.volumes)
        used = {one.volume_id for one in self.volumes.attachments.values()}
        status = "reserved" if record.host is None else "in-use"
        assert {known for known, one in self.volumes.volumes.items() if one.status == status} == used
        assert {one.status for one in self.volumes.volumes.values()} <= {status, "available"}
        if record.host is not None and not record.deleted:
            assert {one for one in self.plugged if one[0] == record.id} == {
                (record.id, one.volume_id) for one in record.volumes
            }
            assert {one.host for one in held.values()} <= {record.host, ""}

    def _assert_nothing_left(self, record: ServerRecord) -> None:
        """No table has anything of a deleted server but its history."""
        shelved = record.spec.shelved_image
        assert shelved is None or shelved.id not in self.images.images
        with self.database.read() as connection:
            for table in cell_schema.metadata.sorted_tables:
                if "server_id" in table.c and table.name not in HISTORY:
                    rows = connection.execute(sa.select(table).where(table.c.server_id == record.id)).all()
                    assert rows == [], table.name


def echo(done: StepResult) -> StepResult:
    """For wrappers that give a step's answer back."""
    return done
