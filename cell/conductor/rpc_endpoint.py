"""The conductor: the only service that opens its cell's database. Each verb is one or a few transactions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from cell.conductor import audit, external_events, guest_questions, reconcile, server_field_updates, timeline_query
from cell.conductor.capacity import Digests
from cell.conductor.database_rollback_detection import DatabaseWatch
from cell.conductor.image_cachings import ImageCachings
from cell.conductor.network_store import NetworkStoreService
from cell.conductor.placement import reservation_batching, reservation_confirmation
from cell.conductor.runs import begin_operations, guest_events, reset_state
from cell.conductor.runs.command_completion import attach_places
from cell.conductor.runs.executor import RunExecutor
from cell.conductor.scheduling_store import SchedulingStoreService
from cell.conductor.step_services import Gateway
from cellcloud import clock, errors, metrics
from cellcloud.batching import portions
from cellcloud.config import CellConfig
from cellcloud.context import RequestContext, service_context
from cellcloud.db import (
    consoles,
    database_incarnations,
    decisions,
    feed,
    host_name_leases,
    hosts,
    retention,
    runs,
    scheduler_change_log,
    servers,
    services,
    user_data,
)
from cellcloud.db.engine import Connection, Database, retried, transact
from cellcloud.db.rollback_detection import Marker
from cellcloud.model import codec
from cellcloud.model.cell import FeedPage, Finding
from cellcloud.model.console import ConsoleBinding
from cellcloud.model.external_event import ExternalEvent
from cellcloud.model.guest_commands import ExpectedGuest, GuestEvent, GuestOrders
from cellcloud.model.guest_questions import GuestDiagnostics, GuestQuestion
from cellcloud.model.host import HeldNames, Host, HostMachine, HostReport, HostState, ServiceRecord
from cellcloud.model.network import Port
from cellcloud.model.observed_guests import GuestState, UnknownGuest
from cellcloud.model.operations import Operation
from cellcloud.model.placement_messages import CellDigest, ConfirmAnswer, DeleteAnswer, DeleteRequest, ReserveAnswer
from cellcloud.model.run import RunArguments, RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.model.tag_metadata_changes import ItemChanges
from cellcloud.model.volume import AttachedVolume
from cellcloud.rpc.feed_notification import Router
from cellcloud.rpc.paging import Key
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.server_states import PowerState
from cellcloud.service import Loop

LOG = logging.getLogger(__name__)
T = TypeVar("T")
H = TypeVar("H", Host, HostState)
AT_ONCE = 128  # hosts that are read for a page
COMPUTE = "nova-compute"
NUDGE_GAP = 0.2  # seconds between two nudges, so that the changes of a busy cell share messages
DAY = 86400.0
CONFIRMED_AT_ONCE = 500


class ConductorService:
    """Implements ``cellcloud.rpc.conductor.Conductor``."""

    def __init__(
        self,
        config: CellConfig,
        database: Database,
        scheduler: Scheduler,
        gateway: Gateway,
        executor: RunExecutor,
        router: Router,
        *,
        before_judging: Callable[[], None] = lambda: None,
        reclaim_seconds: float = 0.0,
        marker: Marker | None = None,
    ) -> None:
        self._texts_pruned = clock.monotonic()
        self._config = config
        self._cell = config.name
        self._before_judging = before_judging
        self._reclaim_seconds = reclaim_seconds
        self._database = database
        self._scheduler = scheduler
        self._gateway = gateway
        self._executor = executor
        self._router = router
        self._placer = reservation_batching.Placer(
            database, scheduler, store=reservation_confirmation.hold(config.hold_seconds)
        )
        self._watch = DatabaseWatch(database, marker)
        self._digests = Digests(database, config.name)
        self.scheduling_store = SchedulingStoreService(database)
        self.network_store = NetworkStoreService(database, gateway.compute)
        self.nudger = Loop("nudge", 60.0, self._nudge)
        executor.on_feed = self.nudger.wake
        self.teller = Loop("tell", 60.0, self._tell)
        self.scheduling_store.on_change = self.teller.wake
        cachings = ImageCachings(database, gateway.compute, config.precache_concurrency)
        self.cacher = Loop("images", 1.0, cachings.look)
        self.scheduling_store.on_images = self.cacher.wake

    # ---- from the top cell -------------------------------------------------------------------------------------
    def reserve(self, context: RequestContext, specs: list[ServerSpec]) -> list[ReserveAnswer]:
        return _fitting(self._placer.reserve(context, specs))

    def confirm(
        self,
        context: RequestContext,
        server_ids: list[str],
        holds: dict[str, int] | None = None,
        placements: dict[str, int] | None = None,
    ) -> list[ConfirmAnswer]:
        lease = self._executor.offer()
        answers, begun = reservation_confirmation.confirm(
            self._database, context, server_ids, lease, holds=holds or {}, placements=placements or {}
        )
        self._executor.adopt(begun) if lease else self._executor.wake()
        self.nudger.wake()
        return _fitting(answers)

    def release(self, context: RequestContext, server_ids: list[str]) -> None:
        reservation_confirmation.release(self._database, server_ids)

    def begin_deletes(self, context: RequestContext, requests: list[DeleteRequest]) -> list[DeleteAnswer]:
        begun = begin_operations.begin_deletes(self._database, self._gateway, requests)
        self._executor.send(begun.commands)
        self._executor.wake()
        self.nudger.wake()
        answers = [DeleteAnswer(server_id=one.server_id, record=begun.records.get(one.server_id)) for one in requests]
        return _fitting(answers)

    def begin_operation(
        self, context: RequestContext, server_id: str, operation: Operation, arguments: dict[str, object]
    ) -> ServerRecord:
        record = begin_operations.begin_operation(
            self._database, context, server_id, operation, codec.from_plain(arguments, RunArguments)
        )
        self._executor.wake()
        self.nudger.wake()
        return record

    def update_server(self, context: RequestContext, server_id: str, changes: dict[str, object]) -> ServerRecord:
        if "vm_state" in changes:
            record = reset_state.reset_state(self._database, context, server_id, str(changes["vm_state"]))
            self._executor.wake()
            self.nudger.wake()
            return record
        record = server_field_updates.update_server(self._database, context, server_id, changes)
        self.nudger.wake()
        return record

    def change_items(self, context: RequestContext, server_id: str, changes: ItemChanges) -> ServerRecord:
        record = server_field_updates.change_items(self._database, context, server_id, changes)
        self.nudger.wake()
        return record

    def apply_external_events(self, context: RequestContext, events: list[ExternalEvent]) -> list[int]:
        def extend(server_id: str, volume: AttachedVolume) -> None:
            size = self._gateway.volumes.get_volume(volume.volume_id).size_gb
            if size != volume.size_gb:
                asked = RunArguments(volume=replace(volume, size_gb=size))
                begin_operations.begin_operation(self._database, context, server_id, Operation.EXTEND_VOLUME, asked)

        def detach(server_id: str, port: Port) -> None:
            asked = RunArguments(port=port)
            begin_operations.begin_operation(self._database, context, server_id, Operation.DETACH_INTERFACE, asked)

        networks = self._gateway.networks
        codes = external_events.apply(self._database, networks, self._have_compared, events, extend, detach)
        self._executor.wake()
        self.nudger.wake()
        return codes

    def list_feed(self, context: RequestContext, after: int, limit: int) -> FeedPage:
        with self._database.read() as connection:
            incarnation = database_incarnations.find(
                connection
            )  # first: a page of an older one would be taken for the newer
            page = feed.list_after(connection, after, limit)
        return replace(page, incarnation=incarnation.id if incarnation else "")

    def begin_incarnation(self, context: RequestContext, known: str, reason: str) -> str:
        return self._watch.begin(known, reason)

    def list_versions(self, context: RequestContext, after_id: str, limit: int) -> list[tuple[str, int]]:
        with self._database.read() as connection:
            return servers.list_versions(connection, after_id, limit)

    def get_servers(self, context: RequestContext, server_ids: list[str], partly: bool = False) -> list[ServerRecord]:
        with self._database.read() as connection:
            found = servers.list_by_id(connection, server_ids)
            specs = user_data.attach_hints(connection, user_data.CELL, [record.spec for record in found])
            found = [replace(record, spec=spec) for record, spec in zip(found, specs, strict=True)]
            found = attach_places(connection, found)
        return _fitting(found) if partly else found

    def get_user_data(self, context: RequestContext, ids: list[str]) -> list[tuple[str, str]]:
        with self._database.read() as connection:
            return _fitting(list(user_data.find_of_servers(connection, ids).items()))

    def get_digest(self, context: RequestContext) -> CellDigest:
        return self._digests.get()

    def list_hosts(self, context: RequestContext) -> list[Host]:
        with self._database.read() as connection:
            return hosts.list_hosts(connection, down_time=self._config.service_down_time)

    def list_hosts_after(self, context: RequestContext, after: Key | None) -> Iterator[Host]:
        def read(name: str) -> list[Host]:
            with self._database.read() as connection:
                return hosts.list_hosts(connection, down_time=self._config.service_down_time, after=name, most=AT_ONCE)

        return _each(read, after[0] if after else "")

    def list_services(self, context: RequestContext) -> list[ServiceRecord]:
        return list(self.list_services_after(context, None))

    def list_services_after(self, context: RequestContext, after: Key | None) -> Iterator[ServiceRecord]:
        binary, host = after or ("", "")
        with self._database.read() as connection:
            others = services.list_all(connection, down_time=self._config.service_down_time)
        left = [one for one in others if (one.binary, one.host) > (binary, host)]
        yield from (one for one in left if one.binary < COMPUTE)
        if binary <= COMPUTE:
            behind = [host] if binary == COMPUTE else None
            yield from map(_compute_service, self.list_hosts_after(context, behind))
        yield from (one for one in left if one.binary > COMPUTE)

    def set_service(
        self,
        context: RequestContext,
        host: str,
        enabled: bool | None,
        disabled_reason: str | None,
        forced_down: bool | None,
    ) -> ServiceRecord:
        values = {"enabled": enabled, "disabled_reason": disabled_reason, "forced_down": forced_down}
        found = _set_service(self._database, host, values, self._config.service_down_time)
        self._executor.wake()
        self.teller.wake()
        return _compute_service(found[0])

    def list_runs(self, context: RequestContext, server_id: str | None, unfinished: bool) -> list[RunRecord]:
        with self._database.read() as connection:
            return runs.list_runs(connection, server_id=server_id, unfinished=unfinished)

    def get_run(self, context: RequestContext, run_id: str) -> RunRecord:
        with self._database.read() as connection:
            return runs.get(connection, run_id)

    def get_timeline(self, context: RequestContext, server_id: str) -> list[TimelineEntry]:
        return timeline_query.timeline(self._database, server_id)

    def check_books(self, context: RequestContext) -> list[Finding]:
        down_time = self._config.service_down_time
        found = audit.check(self._database, down_time=down_time, deleted_days=self._config.deleted_days)
        with self._database.read() as connection:
            up = [one.host for one in hosts.list_hosts(connection, down_time=down_time) if one.up]
        return found + self.network_store.check(up)

    def get_console_output(self, context: RequestContext, server_id: str, length: int) -> str:
        with self._database.read() as connection:
            record = servers.get(connection, server_id)
        if record.host is None:
            raise errors.Conflict(f"Instance {server_id} is not ready")
        return self._gateway.compute(record.host).get_console_output(context, record.host, server_id, length)

    # ---- from operators ----------------------------------------------------------------------------------------
    def list_unknown_guests(self, context: RequestContext, host: str | None) -> list[UnknownGuest]:
        return reconcile.list_unknown(self._database, host)

    def adopt_guest(self, context: RequestContext, host: str, server_id: str) -> ServerRecord:
        described = self._gateway.compute(host).describe_guest(context, host, server_id)
        if described.spec.id != server_id:
            raise errors.Conflict(f"Host {host} tells of another guest than the one that was asked for.")
        record = reconcile.adopt(self._database, host, described)
        self.nudger.wake()
        self.teller.wake()
        self._have_compared(host)
        return record

    def remove_host(self, context: RequestContext, host: str, force: bool) -> None:
        transact(self._database, lambda connection: hosts.remove(connection, host, force=force))
        LOG.warning("host removed", extra={"host": host, "force": force})
        self._gateway.forget_queues()
        self.teller.wake()

    def remove_service(self, context: RequestContext, service_id: str) -> None:
        if not transact(self._database, lambda connection: services.remove(connection, service_id)):
            raise errors.NotFound(f"Service {service_id} could not be found.")

    def release_name(self, context: RequestContext, host: str) -> None:
        _release(self._database, host)

    def remove_guest(self, context: RequestContext, host: str, server_id: str) -> None:
        reconcile.ask_removal(self._database, host, server_id)
        self._have_compared(host)

    def _have_compared(self, host: str) -> None:
        """Now, if the host can be reached: else when it looks again by itself."""
        try:
            self._gateway.compute(host).compare_guests(service_context(5.0), host)
        except errors.CellcloudError as error:
            LOG.info("guests are compared when their host looks again", extra={"host": host, "why": error.message})

    def ask_guest(self, context: RequestContext, server_id: str, question: GuestQuestion) -> GuestDiagnostics | None:
        answer = guest_questions.ask(self._database, self._gateway.compute, context, server_id, question)
        self.nudger.wake()
        return answer

    # ---- from hosts --------------------------------------------------------------------------------------------
    def hold_names(self, context: RequestContext, hosts: list[str], machine: HostMachine) -> HeldNames:
        self._before_judging()
        refused = _hold(self._database, hosts, machine, self._config.service_down_time)
        for name, why in refused.items():
            LOG.warning("host name refused", extra={"host": name, "place": machine.place, "why": why})
        return HeldNames(seconds=self._config.service_down_time, refused=refused)

    def report_hosts(self, context: RequestContext, reports: list[HostReport]) -> None:
        if _report(self._database, reports):
            self._executor.wake()
            self.teller.wake()
            self._gateway.forget_queues()

    def report_events(self, context: RequestContext, events: list[GuestEvent]) -> None:
        self._before_judging()
        applied = guest_events.apply(self._database, self._gateway, events, self._executor.offer())
        self._executor.send(applied.commands)
        self._executor.adopt(applied.leased)
        if applied.others:
            self._executor.wake()
        if applied.changed:
            self.nudger.wake()

    def compare_guests(self, context: RequestContext, host: str, guests: list[GuestState]) -> GuestOrders:
        return reconcile.compare(self._database, host, guests, fence=self._config.fence_unknown_guests)

    def list_expected_guests(self, context: RequestContext, host: str) -> list[ExpectedGuest]:
        return reconcile.list_expected(self._database, host)

    # ---- from the cell's other services ------------------------------------------------------------------------
    def list_host_states(self, context: RequestContext) -> list[HostState]:
        with self._database.read() as connection:
            return hosts.list_states(connection, down_time=self._config.service_down_time)

    def list_host_states_after(self, context: RequestContext, after: Key | None) -> Iterator[HostState]:
        def read(name: str) -> list[HostState]:
            with self._database.read() as connection:
                return hosts.list_states(connection, down_time=self._config.service_down_time, after=name, most=AT_ONCE)

        return _each(read, after[0] if after else "")

    def heartbeat(self, context: RequestContext, binary: str, host: str) -> None:
        transact(self._database, lambda connection: services.beat(connection, binary, host))

    def save_console_token(
        self, context: RequestContext, server_id: str, token_hash: str, protocol: str, ttl: int
    ) -> ConsoleBinding:
        def save(connection: Connection) -> ConsoleBinding:
            record = servers.get(connection, server_id)
            if record.host is None or record.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
                raise errors.Conflict(f"Instance {server_id} is not ready")
            return consoles.insert(
                connection, record, token_hash=token_hash, protocol=protocol, user_id=context.user_id, ttl=ttl
            )

        return transact(self._database, save)

    def redeem_console_token(self, context: RequestContext, token_hash: str, use: bool = True) -> ConsoleBinding:
        if not use:
            with self._database.read() as connection:
                return consoles.find(connection, token_hash)
        try:
            return transact(self._database, lambda connection: consoles.redeem(connection, token_hash))
        except errors.NotFound:
            LOG.warning("console token refused")
            raise

    def check_console(self, context: RequestContext, server_id: str, generation: int) -> bool:
        with self._database.read() as connection:
            return consoles.is_current(connection, server_id, generation)

    def find_server_on(
        self, context: RequestContext, host: str, server_id: str, posted_password: str = ""
    ) -> ServerRecord | None:
        if posted_password:
            server_field_updates.keep_posted_password(self._database, host, server_id, posted_password)
            self.nudger.wake()
        with self._database.read() as connection:
            found = servers.list_by_id(connection, [server_id])
            specs = user_data.attach(connection, user_data.CELL, [record.spec for record in found])
        there = (replace(record, spec=spec) for record, spec in zip(found, specs, strict=True))
        return next((record for record in there if record.host == host and not record.deleted), None)

    # ---- unasked -----------------------------------------------------------------------------------------------
    def sweep(self) -> bool:
        """Do what nobody asks for: end holds past their time, and what is kept after a delete. True when there may be
        more."""
        self._before_judging()
        if reservation_confirmation.expire_holds(self._database):
            self.nudger.wake()
        return self._reclaim()

    def prune(self) -> bool:
        """Forget old tokens and the tails of feed and log, each in a transaction of its own, so that none keeps the
        others. True when there may be more."""
        self._before_judging()
        entries, seconds = self._config.feed_entries, self._config.decisions_days * DAY
        tails: dict[str, tuple[Callable[[Connection], int], int]] = {
            "feed": (partial(feed.prune, keep=entries), feed.PRUNED_AT_ONCE),
            "changes": (partial(scheduler_change_log.prune, seconds=seconds), scheduler_change_log.PRUNED_AT_ONCE),
            "decision_batches": (partial(decisions.prune, seconds=seconds), decisions.PRUNED_AT_ONCE),
            "console_tokens": (consoles.prune, consoles.PRUNED_AT_ONCE),
        }
        if clock.monotonic() - self._texts_pruned > DAY / 24:
            texts = partial(user_data.prune, table=user_data.CELL, seconds=DAY)
            tails["user_data"] = (texts, user_data.PRUNED_AT_ONCE)
        gone = {name: retention.note(name, transact(self._database, tail)) for name, (tail, _) in tails.items()}
        if gone.get("user_data", user_data.PRUNED_AT_ONCE) < user_data.PRUNED_AT_ONCE:
            self._texts_pruned = clock.monotonic()
        return any(gone[name] >= most for name, (_, most) in tails.items())

    def _reclaim(self) -> bool:
        """Delete for good what was soft-deleted for longer than it is kept; True when there may be more."""
        if self._reclaim_seconds <= 0:
            return False
        request_id = service_context().request_id
        begun = begin_operations.reclaim(self._database, self._gateway, request_id, self._reclaim_seconds)
        if begun.records:
            self._executor.send(begun.commands)
            self._executor.wake()
            self.nudger.wake()
        return len(begun.records) == begin_operations.RECLAIMED_AT_ONCE

    def measure(self) -> None:
        """Set the figures of unfinished runs."""
        with self._database.read() as connection:
            found = runs.measure(connection)
        for operation in Operation:
            count, age = found.get(operation, (0, 0.0))
            metrics.RUNS.labels(self._cell, operation).set(count)
            metrics.RUN_AGE.labels(self._cell, operation).set(age)

    def purge(self) -> bool:
        """Forget what is over for longer than it is kept; True when there may be more."""
        days = {"deleted_days": self._config.deleted_days, "runs_days": self._config.runs_days}
        gone = {table: count for table, count in retention.purge_cell(self._database, **days).items() if count}
        if gone:
            LOG.info("old rows forgotten", extra={"rows": gone})
        return max(gone.values(), default=0) >= retention.AT_ONCE

    def confirm_resizes(self) -> None:
        """Confirm what has waited for longer than it may, but where the old host is away."""
        window = self._config.resize_confirm_window
        if not window:
            return
        self._before_judging()
        with self._database.read() as connection:
            waiting = servers.list_unconfirmed(connection, window, CONFIRMED_AT_ONCE)
        for server_id in waiting:
            try:
                self.begin_operation(service_context(), server_id, Operation.CONFIRM_RESIZE, {})
            except errors.CellcloudError as error:
                LOG.info("resize not confirmed", extra={"server": server_id, "why": error.message})

    def offload_shelved(self) -> None:
        """Have hosts let go of servers that have been shelved for longer than they keep them."""
        seconds = self._config.shelved_offload_time
        if seconds < 0:
            return
        with self._database.read() as connection:
            if not servers.has_offloadable(connection, seconds):
                return
        self._before_judging()
        if begin_operations.begin_offloads(self._database, service_context().request_id, seconds):
            self._executor.wake()
            self.nudger.wake()

    def watch(self) -> None:
        """Notice a database that has fallen back."""
        if self._watch.look():
            self.nudger.wake()
            self.teller.wake()

    def judge(self) -> None:
        """Hosts that have gone mute are down from now on, for everybody who follows the change log."""
        self._before_judging()
        if _judge(self._database, self._config.service_down_time):
            self.teller.wake()

    def _tell(self) -> None:
        """Tell schedulers soon of what they learn from no question of their own."""
        with self._database.read() as connection:
            newest = scheduler_change_log.get_newest(connection)
        self._scheduler.log_grew(service_context(5.0), newest)
        clock.sleep(NUDGE_GAP)

    def _nudge(self) -> None:
        with self._database.read() as connection:
            newest = feed.newest(connection)
        self._router.feed_grew(service_context(5.0), newest)
        clock.sleep(NUDGE_GAP)


@retried
def _hold(database: Database, names: list[str], machine: HostMachine, seconds: float) -> dict[str, str]:
    with database.write() as connection:
        return host_name_leases.hold(connection, names, machine, seconds=seconds)


@retried
def _release(database: Database, name: str) -> None:
    with database.write() as connection:
        host_name_leases.release(connection, name)


@retried
def _report(database: Database, reports: list[HostReport]) -> bool:
    with database.write() as connection:
        return hosts.report(connection, reports)


@retried
def _set_service(database: Database, host: str, values: dict[str, Any], down_time: float) -> list[Host]:
    with database.write() as connection:
        hosts.set_state(connection, host, down_time=down_time, **values)
        return hosts.list_hosts(connection, down_time=down_time, host=host)


@retried
def _judge(database: Database, down_time: float) -> int:
    with database.read() as connection:
        if hosts.is_judged(connection, down_time=down_time):
            return 0
    with database.write() as connection:
        return hosts.judge(connection, down_time=down_time)


def _compute_service(host: Host) -> ServiceRecord:
    return ServiceRecord(
        id=host.id,
        binary=COMPUTE,
        host=host.host,
        zone=host.zone,
        enabled=host.enabled,
        disabled_reason=host.disabled_reason,
        forced_down=host.forced_down,
        up=host.up,
        created_at=host.created_at,
        last_seen=host.last_seen,
    )


def _each(read: Callable[[str], list[H]], after: str) -> Iterator[H]:
    """Return the hosts behind that name, read some at a time."""
    while some := read(after):
        yield from some
        after = some[-1].host


def _fitting(answers: Sequence[T]) -> list[T]:
    """As many of the first as fit into a message, and at least one."""
    return next(portions(answers, codec.wire_size), [])
