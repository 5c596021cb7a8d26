"""Moves runs: leases them, takes their steps, saves each step with its outcome in one transaction.

Kill this process between any two instructions: the lease ends, another executor adopts the run, and its present step
is taken again. An executor whose lease ran out while it lives takes no run up a second time that it is still busy with,
and what it then saves is refused by the number of the later lease.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from cell.conductor.runs.checkpoint import Checkpointer
from cell.conductor.runs.command_completion import complete
from cell.conductor.runs.step_runner import RunServices, RunState, take_step, undo_late
from cellcloud import errors, log
from cellcloud.db import runs, servers
from cellcloud.db.engine import Database, retried, transact
from cellcloud.model.guest_commands import GuestCommand
from cellcloud.model.run import Lease, LeasedRun
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import TaskState, VmState
from cellcloud.service import Loop

LOG = logging.getLogger(__name__)
AT_HAND = 8  # runs leased at most for each thread: those whose turn is next need not be looked for


class RunExecutor:
    """Moves up to ``threads`` runs at once. ``wake`` makes it look for due ones now."""

    def __init__(
        self,
        database: Database,
        services: RunServices,
        *,
        owner: str,
        lease: float,
        threads: int,
        interval: float = 0.5,
        before_judging: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_judging = before_judging
        self._database = database
        self._services = services
        self._terms = Lease(owner=owner, seconds=lease)
        self._checkpointer = Checkpointer(database, owner)
        self._threads = threads
        self._busy: dict[str, int] = {}  # run -> number of the lease it is moved under
        self._full = False  # runs may be due that found no room
        self._stopping = False
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="run")
        self.loop = Loop("executor", interval, self._lease_and_submit)
        self._renewing = Loop("leases", lease / 3, self._renew)
        self.on_feed: Any = lambda: None

    def start(self) -> None:
        """Begin to move runs."""
        self.loop.start()
        self._renewing.start()

    def stop(self) -> None:
        """Finish the steps at hand; their runs stay for whoever comes next."""
        self.loop.stop()
        with self._lock:
            self._stopping = True
        self._pool.shutdown(wait=True)
        self._renewing.stop()

    def wake(self) -> None:
        """Something became due."""
        self.loop.wake()

    def offer(self) -> Lease | None:
        """Return the lease under which this executor takes runs now, to be given in the transaction that makes them
        due; None with enough at hand."""
        with self._lock:
            self._full = len(self._busy) >= AT_HAND * self._threads
            return None if self._full or self._stopping else self._present_terms()

    def adopt(self, leased: Sequence[tuple[LeasedRun, ServerRecord]]) -> None:
        """Move runs that were leased under the offer."""
        with self._lock:
            if self._stopping:
                return  # their leases end by themselves
            taken = [(run, record) for run, record in leased if run.id not in self._busy]
            self._busy.update((run.id, run.lease_number) for run, _ in taken)
        for run, record in taken:
            self._pool.submit(self._work, run, record)

    def _present_terms(self) -> Lease:
        return replace(self._terms, busy=frozenset(self._busy))

    def _lease_and_submit(self) -> bool:
        with self._lock:
            room = AT_HAND * self._threads - len(self._busy)
            self._full = room <= 0
            terms = self._present_terms()
        if room <= 0:
            return False
        with self._database.read() as connection:
            if not runs.is_any_due(connection):
                return False
        self._before_judging()
        leased = _lease_batch(self._database, terms, room)
        self.adopt(leased)
        return len(leased) == room

    def _work(self, run: LeasedRun, record: ServerRecord) -> None:
        log.request_id.set(run.request_id)
        due = False
        try:
            due = self.advance(run, record)
        except errors.Stale:
            LOG.info("run adopted elsewhere", extra={"run": run.id})
            due = True  # perhaps by this executor, which passed it over while this worker was busy with it
        except errors.CellcloudError as error:
            LOG.warning("run waits", extra={"run": run.id, "why": error.message, "detail": error.detail})
        except Exception:
            LOG.exception("run failed to move", extra={"run": run.id})
        finally:
            self._let_go(run)
            with self._lock:
                due = due or self._full
            if due:
                self.loop.wake()

    def _let_go(self, run: LeasedRun) -> None:
        """Let the run be taken up again, here too."""
        with self._lock:
            if self._busy.get(run.id) == run.lease_number:
                del self._busy[run.id]

    def _renew(self) -> None:
        with self._lock:
            busy = dict(self._busy)
        if busy:
            transact(self._database, lambda connection: runs.renew(connection, self._terms, busy))

    def _take_back(self, run: LeasedRun) -> None:
        """Undo a step whose lease was lost under it and that may have come too late: what it made for a server that has
        meanwhile ended is taken away again. What another cell has of it by now is of a later placement, and stays."""
        with self._database.read() as connection:
            ended = runs.find_active(connection, run.server_id) is None
            (record,) = servers.list_by_id(connection, [run.server_id])
        if ended and (record.deleted or record.vm_state == VmState.ERROR):
            undo_late(run, record, self._services)

    def send(self, commands: Iterable[GuestCommand]) -> None:
        """Send what saved steps ask of hosts. What cannot be sent now is sent again by the step that waits for it."""
        for command in complete(self._database, list(commands)):
            try:
                self._services.send(command)
            except errors.CellcloudError as error:
                LOG.warning("command not sent", extra={"server": command.server_id, "why": error.message})

    def advance(self, run: LeasedRun, record: ServerRecord) -> bool:
        """Take steps until the run waits or ends; whether another one is due at once. Raises Stale when its lease is
        lost."""
        state = RunState(run=run, record=record)
        while True:
            begun = state.run
            take_step(state, self._services)
            try:
                state = self._checkpointer.save(state)
            except errors.Stale:
                self._take_back(begun)
                raise
            if state.changes:
                self.on_feed()
            if state.rests:
                self._let_go(state.run)
            self.send(state.commands)
            if state.rests:
                return state.record.task_state == TaskState.DELETING
            state = RunState(run=state.run, record=state.record, began=state.began)


@retried
def _lease_batch(database: Database, lease: Lease, limit: int) -> list[tuple[LeasedRun, ServerRecord]]:
    with database.write() as connection:
        leased = runs.lease_due(connection, lease, limit=limit)
        if not leased:
            return []
        records = {r.id: r for r in servers.list_by_id(connection, [run.server_id for run in leased])}
    return [(run, records[run.server_id]) for run in leased]
