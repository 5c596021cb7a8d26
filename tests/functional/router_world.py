"""The top's router between a real top database, real queues in memory, and two cells made of dictionaries."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cellcloud import clock, errors
from cellcloud import config as options
from cellcloud.context import RequestContext
from cellcloud.db import cells as cells_table
from cellcloud.db import intents, quotas, server_index, top_schema
from cellcloud.db.engine import utc_after
from cellcloud.model.cell import Cell, FeedEntry, FeedPage
from cellcloud.model.external_event import ExternalEvent
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.intent import Intent, IntentKind
from cellcloud.model.operations import Operation
from cellcloud.model.placement_messages import CellDigest, ConfirmAnswer, DeleteAnswer, DeleteRequest, ReserveAnswer
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.model.server_group import ServerGroup
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Server, Transport
from cellcloud.server_states import TaskState, VmState
from tests.empty_databases import make_empty
from top_api.cell_clients import Cells
from top_api.dispatch.outbox_dispatcher import OutboxDispatcher
from top_api.router.outbox_sweep import Sweep

FLAVOR = Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=128, root_gb=1)
PROJECT = "demo"
Fault = Callable[[Callable[[], Any]], Any]


class Killed(RuntimeError):
    """The process died here."""


class FakeCell:
    """A cell's conductor without hosts: what it holds, what it started, and its feed."""

    def __init__(self, name: str, *, room: int = 1000) -> None:
        self.name = name
        self.room = room
        self.deaf = False  # what it has no room for it refuses only for now
        self.servers: dict[str, ServerRecord] = {}
        self.started: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.chokes_on = ""  # the server whose delete is a defect here
        self.oldest = 1
        self.feed: list[FeedEntry] = []
        self.events: list[str] = []  # servers that somebody told of
        self._lock = threading.RLock()

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def unknown(*_: object, **__: object) -> Any:
            raise errors.CallHuman(f"The fake cell knows no {verb}.")

        return unknown

    def held(self) -> list[str]:
        return [record.id for record in self.servers.values() if record.held]

    def expire(self, server_id: str) -> None:
        """The hold's time is over."""
        with self._lock:
            record = self.servers[server_id]
            if record.held:
                self.servers[server_id] = replace(record, held=False, deleted=True, version=record.version + 1)

    def change(self, server_id: str, **changes: Any) -> ServerRecord:
        """A change with its entry in the feed."""
        with self._lock:
            before = self.servers[server_id]
            record = replace(before, version=before.version + 1, **changes)
            self.servers[server_id] = record
            self.feed.append(FeedEntry(sequence=len(self.feed) + 1, record=record))
            return record

    def reserve(self, context: RequestContext, specs: list[ServerSpec]) -> list[ReserveAnswer]:
        with self._lock:
            self.messages["reserve"] += 1
            if any(spec.name == "poison" for spec in specs):
                raise errors.Invalid("A message is not of the expected form.")
            return [self._reserve(spec) for spec in specs]

    def _reserve(self, spec: ServerSpec) -> ReserveAnswer:
        known = self.servers.get(spec.id)
        if known is None or (known.deleted and known.generation == 0):
            if len([one for one in self.servers.values() if not one.deleted]) >= self.room:
                return ReserveAnswer(
                    server_id=spec.id,
                    outcome="later" if self.deaf else "refused",
                    reason="No valid host was found.",
                    detail="all down" if self.deaf else "full",
                )
            known = ServerRecord(
                spec=spec,
                version=known.version + 1 if known else 1,
                generation=0,
                vm_state=VmState.BUILDING,
                held=True,
                host=f"{self.name}-1",
                created_at=clock.now(),
            )
            self.servers[spec.id] = known
        outcome = "gone" if known.deleted else "held" if known.held else "settled"
        return ReserveAnswer(server_id=spec.id, outcome=outcome, record=known)

    def confirm(
        self,
        context: RequestContext,
        server_ids: list[str],
        holds: dict[str, int] | None = None,
        placements: dict[str, int] | None = None,
    ) -> list[ConfirmAnswer]:
        answers = []
        with self._lock:
            self.messages["confirm"] += 1
            for server_id in server_ids:
                record = self.servers.get(server_id)
                if record is not None and record.held and record.version == (holds or {}).get(server_id, 1):
                    self.started[server_id] += 1
                    begun = {"held": False, "generation": 1, "task_state": TaskState.SPAWNING}
                    record = self.change(server_id, **begun, placement=(placements or {}).get(server_id, 0))
                gone = record is None or record.deleted or record.held
                answers.append(
                    ConfirmAnswer(
                        server_id=server_id,
                        outcome="gone" if gone else "settled",
                        record=None if gone else record,
                    )
                )
        return answers

    def release(self, context: RequestContext, server_ids: list[str]) -> None:
        for server_id in server_ids:
            self.expire(server_id)

    def begin_deletes(self, context: RequestContext, requests: list[DeleteRequest]) -> list[DeleteAnswer]:
        answers = []
        with self._lock:
            self.messages["deletes"] += 1
            for server_id in [one.server_id for one in requests]:
                with suppress(errors.NotFound):
                    record = self.begin_operation(context, server_id, Operation.DELETE, {})
                    answers.append(DeleteAnswer(server_id=server_id, record=record))
                    continue
                answers.append(DeleteAnswer(server_id=server_id))
        return answers

    def begin_operation(
        self, context: RequestContext, server_id: str, operation: Operation, arguments: dict[str, object]
    ) -> ServerRecord:
        with self._lock:
            self.messages["delete"] += 1
            if server_id == self.chokes_on:
                raise errors.CallHuman("An internal error occurred.")
            record = self.servers.get(server_id)
            if record is None or record.deleted:
                raise errors.NotFound(f"Instance {server_id} could not be found.")
            return self.change(server_id, held=False, deleted=True, vm_state=VmState.DELETED, task_state=None)

    def apply_external_events(self, context: RequestContext, events: list[ExternalEvent]) -> list[int]:
        self.events += [event.server_id for event in events]
        return [200 for _ in events]

    def list_feed(self, context: RequestContext, after: int, limit: int) -> FeedPage:
        kept = [entry for entry in self.feed if entry.sequence >= self.oldest]
        entries = [entry for entry in kept if entry.sequence > after][:limit]
        newest = len(self.feed)
        return FeedPage(entries=tuple(entries), oldest=self.oldest, newest=newest)

    def list_versions(self, context: RequestContext, after_id: str, limit: int) -> list[tuple[str, int]]:
        living = [record for record in self.servers.values() if not record.deleted and not record.held]
        pairs = sorted((record.id, record.version) for record in living if record.id > after_id)
        return pairs[:limit]

    def get_servers(self, context: RequestContext, server_ids: list[str], partly: bool = False) -> list[ServerRecord]:
        return [self.servers[server_id] for server_id in server_ids if server_id in self.servers]

    def get_digest(self, context: RequestContext) -> CellDigest:
        return digest_of(self.name)


def digest_of(name: str) -> CellDigest:
    return CellDigest(
        cell=name, hosts_total=1, hosts_up=1, buckets=((1024, 1 << 20, 1024, 1),), zones=(f"zone-{name}",)
    )


class Line:
    """A cell's queue with faults: ``on[verb]`` gets the delivery of each message of that verb to do or not to do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.transport = Transport(name, "kombu+memory://", shim=self._pass)
        self.renew()
        front: Any = _Front(self)
        self._server: Server = self.transport.serve(Conductor, front, server=f"conductor-{name}")

    def renew(self) -> None:
        """A new cell, and no faults."""
        self.cell = FakeCell(self.name)
        self.on: dict[str, Fault] = {}
        self.cut = False

    def _pass(self, interface: str, verb: str, deliver: Callable[[], Any]) -> Any:
        if self.cut:
            raise ConnectionRefusedError("the queue is away")
        return self.on.get(verb, lambda go: go())(deliver)

    def close(self) -> None:
        self._server.stop()
        self.transport.close()


class _Front:
    """Answers for whatever cell its line has now: ending a server takes a second, so tests share them."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def pass_on(*args: Any, **kwargs: Any) -> Any:
            return getattr(self._line.cell, verb)(*args, **kwargs)

        return pass_on


def lose_answer(deliver: Callable[[], Any]) -> Any:
    deliver()
    raise ConnectionResetError("the answer is lost")


def lose_message(deliver: Callable[[], Any]) -> Any:
    raise ConnectionResetError("the message is lost")


def die_before(deliver: Callable[[], Any]) -> Any:
    raise Killed


def die_after(deliver: Callable[[], Any]) -> Any:
    deliver()
    raise Killed


def twice(deliver: Callable[[], Any]) -> Any:
    deliver()
    return deliver()


class World:
    """Two cells, the top's database, and as many deliverers as a test starts."""

    def __init__(self, folder: Path, lines: Sequence[Line]) -> None:
        self.database = make_empty(folder / "top.db", "top")
        with self.database.write() as connection:  # cells are compared with each incarnation once
            connection.execute(sa.delete(top_schema.incarnations))
        self.config = replace(options.load(), state_dir=folder, host="top")
        self.config = replace(
            self.config,
            top=replace(
                self.config.top,
                cell_timeout=2.0,
                breaker_seconds=0.1,
                health_interval=0.1,
                follow_interval=0.2,
                intent_lease=30.0,
            ),
        )
        self.lines: dict[str, Line] = {}
        self.deliverers: list[OutboxDispatcher] = []
        for line in lines:
            line.renew()
            self.add_cell(line)
        self.cells = self.new_cells()

    def add_cell(self, line: Line) -> None:
        self.lines[line.name] = line
        with self.database.write() as connection:
            cells_table.register_cell(connection, line.name, "kombu+memory://")
            cells_table.set_health(connection, line.name, health="up", digest=digest_of(line.name))

    def new_cells(self) -> Cells:
        return Cells(self.database, self.config.top, {name: line.transport for name, line in self.lines.items()})

    def cell(self, name: str) -> FakeCell:
        return self.lines[name].cell

    def close(self) -> None:
        for dispatcher in self.deliverers:
            dispatcher.stop()
        self.cells.close()
        self.database.close()

    # ---- what the API does -------------------------------------------------------------------------------------
    def accept(
        self,
        count: int = 1,
        *,
        zone: str | None = None,
        name: str = "s",
        late: bool = False,
        group: ServerGroup | None = None,
    ) -> list[str]:
        """Accept creates as the API does: quota, index rows and intents; returns the servers' ids."""
        context = RequestContext(user_id="u", project_id=PROJECT)
        records = [
            ServerRecord(
                spec=ServerSpec(
                    id=str(uuid.uuid4()),
                    name=name,
                    project_id=PROJECT,
                    user_id="u",
                    flavor=FLAVOR,
                    image=Image(id="i"),
                    availability_zone=zone,
                    group=group,
                ),
                version=0,
                generation=0,
                vm_state=VmState.BUILDING,
                task_state=TaskState.SCHEDULING,
            )
            for _ in range(count)
        ]
        ids = [record.id for record in records]
        with self.database.write() as connection:
            assert quotas.reserve(connection, PROJECT, quotas.cost_of(FLAVOR, count), {})
            server_index.insert_records(connection, records)
            intents.add_intents(
                connection,
                [intents.make_intent(IntentKind.CREATE, server_id, context) for server_id in ids],
                owner="api",
                lease=30.0,
                deadline=-1.0 if late else 300.0,
            )
        return ids

    def delete(self, server_id: str) -> None:
        """Accept a delete as the API does."""
        context = RequestContext(user_id="u", project_id=PROJECT)
        with self.database.write() as connection:
            state = intents.stop_creates(connection, [server_id]).get(server_id)
            cell = self._cell_of(connection, server_id)
            if state in ("cancelled", "failed") or not cell:
                server_index.mark_deleted(connection, [server_id])
            else:
                wanted = intents.make_intent(IntentKind.DELETE, server_id, context, cell=cell)
                intents.ensure_deletes(connection, [wanted], owner="api", lease=30.0, deadline=300.0)

    def _cell_of(self, connection: sa.Connection, server_id: str) -> str:
        found = sa.select(top_schema.server_index.c.cell).where(top_schema.server_index.c.id == server_id)
        return str(connection.execute(found).scalar_one())

    # ---- what the router does ----------------------------------------------------------------------------------
    def new_deliverer(self, cells: Cells | None = None) -> OutboxDispatcher:
        dispatcher = OutboxDispatcher(self.database, cells or self.cells, f"d{len(self.deliverers)}", self.config.top)
        self.deliverers.append(dispatcher)
        return dispatcher

    def deliver(self, dispatcher: OutboxDispatcher | None = None) -> OutboxDispatcher:
        """Hand every unfinished intent to a dispatcher and wait until it has nothing at work."""
        dispatcher = dispatcher or self.new_deliverer()
        dispatcher.deliver(self.unfinished())
        assert dispatcher.wait_idle(60.0)
        return dispatcher

    def deliver_at_once(self, shares: Sequence[Sequence[str]], seconds: float = 60.0) -> None:
        """Hand each share of intents to a dispatcher of its own, all in the same moment, and wait until none has
        anything at work."""
        dispatchers = [self.new_deliverer(self.new_cells()) for _ in shares]
        together = threading.Barrier(len(shares))

        def go(number: int) -> None:
            together.wait()
            dispatchers[number].deliver(shares[number])

        with ThreadPoolExecutor(len(shares)) as pool:
            list(pool.map(go, range(len(shares))))
        for dispatcher in dispatchers:
            assert dispatcher.wait_idle(seconds)

    def sweep(self) -> OutboxDispatcher:
        """Another process takes over what the first one left."""
        with self.database.write() as connection:
            connection.execute(sa.update(top_schema.intents).values(lease_until=utc_after(-1.0)))
        dispatcher = self.new_deliverer()
        Sweep(self.database, dispatcher, lease=30.0).take_over()
        assert dispatcher.wait_idle(60.0)
        return dispatcher

    def sweep_until_settled(self) -> None:
        """Sweep until nothing is unfinished, as the router does every second."""
        for _ in range(40):
            self.sweep()
            if not self.unfinished():
                return
            time.sleep(0.05)
        raise AssertionError("intents stay unfinished")

    # ---- what there is -----------------------------------------------------------------------------------------
    def unfinished(self) -> list[str]:
        query = sa.select(top_schema.intents.c.id).where(top_schema.intents.c.state.in_(intents.UNFINISHED))
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    def intent(self, server_id: str, kind: IntentKind = IntentKind.CREATE) -> Intent:
        with self.database.read() as connection:
            found = intents.find_intent(connection, server_id, kind)
        assert found is not None
        return found

    def record(self, server_id: str) -> ServerRecord | None:
        """What the API would show."""
        with self.database.read() as connection:
            return server_index.find_record(connection, server_id)

    def shown(self, server_id: str) -> ServerRecord:
        found = self.record(server_id)
        assert found is not None
        return found

    def known_cell(self, name: str) -> Cell:
        with self.database.read() as connection:
            return cells_table.get_cell(connection, name)

    def used(self) -> int:
        """Servers counted against the project's quota, with the counter proved right."""
        with self.database.read() as connection:
            assert quotas.recount(connection) == []
            return quotas.list_usages(connection, PROJECT)["instances"]

    def starts(self, server_ids: Sequence[str]) -> dict[str, int]:
        """Server -> how often any cell has started it."""
        return {
            server_id: sum(line.cell.started[server_id] for line in self.lines.values()) for server_id in server_ids
        }

    def assert_started_once(self, server_ids: Sequence[str]) -> None:
        assert set(self.starts(server_ids).values()) == {1}
        for server_id in server_ids:
            assert self.cell(self.shown(server_id).cell).started[server_id] == 1


@contextmanager
def open_lines(*names: str) -> Iterator[list[Line]]:
    lines = [Line(name) for name in names]
    try:
        yield lines
    finally:
        for line in lines:
            line.close()


@contextmanager
def open_world(folder: Path, lines: Sequence[Line]) -> Iterator[World]:
    world = World(folder, lines)
    try:
        yield world
    finally:
        world.close()
