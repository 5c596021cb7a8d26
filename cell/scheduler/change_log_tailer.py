"""Follows the cell's change log through the conductor: the only I/O of selecting a host."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cell.scheduler.select import kernel_index
from cell.scheduler.state.scheduler_state import ChangeLogGap, SchedulerState
from cellcloud import clock, errors, metrics
from cellcloud.context import RequestContext, service_context
from cellcloud.model.scheduling_policy import SchedulingPolicy
from cellcloud.rpc.scheduling_store import SchedulingStore

LOG = logging.getLogger(__name__)
PAGE = 2000
BUSY_SECONDS = 10.0  # after a question, during which the log is read at every turn
IDLE_INTERVAL = 5.0
LONGEST_LOG = 200_000  # changes followed since the whole was read; and
LONGEST_AGE = 86_400.0  # seconds: what a decision was made from stays short to walk through, and in the log
SHORTEST_PATIENCE = 2.0  # seconds; whoever asks meanwhile waits too, and a message to nobody is never answered
LONGEST_PATIENCE = 30.0
StateOrigin = tuple[str, int, int]  # a scheduler, its seed, and the change up to which it had loaded the cell


class ChangeLogTailer:
    """Keeps a state of the cell: loaded once, then followed by sequence, loaded again when the log has a gap."""

    def __init__(self, store: SchedulingStore, *, scheduler: str, order_seed: int | None = None) -> None:
        self._store = store
        self._scheduler = scheduler
        self._order_seed = order_seed
        self._reading = threading.Lock()
        self._using = threading.Lock()
        self._state: SchedulerState | None = None
        self._read_at = self._loaded_at = float("-inf")
        self._asked_at = float("-inf")
        self._patience = SHORTEST_PATIENCE

    @property
    def origin(self) -> StateOrigin | None:
        """Under what its decisions are recorded; None until the cell is loaded."""
        state = self._state
        return None if state is None else (state.scheduler, state.order_seed or 0, state.loaded)

    @property
    def policy(self) -> SchedulingPolicy | None:
        """The policy that the state has at present; None until the cell is loaded."""
        state = self._state
        return None if state is None else state.policy

    @contextmanager
    def state(self, context: RequestContext, *, at_least: int = 0) -> Iterator[SchedulerState]:
        """Give the state to one thread at a time, not older than that change. Raises Unreachable."""
        self._asked_at = clock.monotonic()
        if self._state is None or self._state.sequence < at_least:
            self.catch_up(context)
        with self._using:
            yield self._current()

    def catch_up(self, context: RequestContext) -> None:
        """Read the log to an end that was not there before the call; those who wait share one reading."""
        begun = clock.monotonic()
        with self._reading:
            if self._read_at < begun:
                self._read(context)

    def keep_up(self) -> bool:
        """Read the log; seldom while nobody asks. True when there is more at once."""
        now = clock.monotonic()
        if now - self._asked_at > BUSY_SECONDS and now - self._read_at < IDLE_INTERVAL:
            return False
        with self._reading:
            try:
                more = self._read(service_context(self._patience), pages=1)
                if self._has_followed_long(now):
                    self._load(service_context(LONGEST_PATIENCE))
            except errors.TryLater:
                self._patience = min(2 * self._patience, LONGEST_PATIENCE)
                raise
        self._patience = SHORTEST_PATIENCE
        with self._using:
            if self._state is not None and self._state.expire(clock.monotonic()):
                LOG.warning("selections given up of which nothing was heard")
        return more

    def nudge(self, newest: int) -> None:
        """Read the log at the next turn, unless it is known up to ``newest``, to which it has grown."""
        if self._state is None or self._state.sequence < newest:
            self._read_at = float("-inf")

    def forget(self) -> None:
        """Load the cell anew at the next question."""
        with self._using:
            self._state = None

    def _read(self, context: RequestContext, *, pages: int = 1_000) -> bool:
        begun = clock.monotonic()
        if self._state is None:
            self._load(context)
        more = True
        while more and pages:
            more, pages = self._read_page(context), pages - 1
        self._read_at = begun
        return more

    def _read_page(self, context: RequestContext) -> bool:
        state = self._current()
        page = self._store.list_changes(context, state.sequence, PAGE)
        metrics.CHANGE_LOG.labels(self._scheduler).set(max(0, page.newest - state.sequence))
        try:
            if page.newest < state.sequence or page.oldest > state.sequence + 1:
                raise ChangeLogGap("The change log is not the one that was followed.")
            with self._using:
                state.follow(page.entries)
        except ChangeLogGap as gap:
            LOG.warning("reading the whole cell again", extra={"why": gap.message, "detail": gap.detail})
            self._load(context)
            return True
        return page.newest > state.sequence

    def _has_followed_long(self, now: float) -> bool:
        state = self._current()
        return state.sequence - state.loaded > LONGEST_LOG or now - self._loaded_at > LONGEST_AGE

    def _current(self) -> SchedulerState:
        if self._state is None:
            raise errors.Unreachable("The cell's hosts are not known yet.")
        return self._state

    def _load(self, context: RequestContext) -> None:
        cell_state = self._store.get_state(context).unpacked()
        made = SchedulerState(cell_state, scheduler=self._scheduler, order_seed=self._order_seed)
        with self._using:
            before, self._state = self._state, made
            if before is not None:
                made.take_over(before)
                kernel_index.forget(before.table)
        self._loaded_at = clock.monotonic()
        gc.collect()
        gc.freeze()  # what stays for long is not to be looked through again and again
        LOG.info("cell loaded", extra={"hosts": len(made.table), "sequence": made.sequence})
