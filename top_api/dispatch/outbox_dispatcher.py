"""Delivery: from an accepted request to the cell that took it.

``dispatch`` takes what this process has just accepted, ``deliver`` ids whose intents are read from the outbox in
batches; both return at once. A cell is chosen for each server, and each cell is spoken to by a thread of its own, so
that a sick one delays no other. Nothing that matters is kept in memory: after a death at any point the sweep of any
process takes the intent up where the database left it.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import random
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from cellcloud import clock
from cellcloud.config import TopConfig
from cellcloud.db import database_incarnations, intents, server_index
from cellcloud.db.engine import Database, retried
from cellcloud.model.intent import Intent, IntentKind, IntentState, Refusal
from cellcloud.model.no_valid_host_message import NO_HOST, message
from cellcloud.model.server import ServerFault, ServerSpec
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import VmState
from top_api.dispatch import existing_placement_lookup
from top_api.dispatch.batching_thread import BatchWorker
from top_api.dispatch.cell_dispatcher import CellDispatcher, DispatchResult
from top_api.dispatch.group_cells import GroupCells

LOG = logging.getLogger(__name__)
MOST = 100  # servers in one message
LONGEST_PATIENCE = 4.0  # seconds
PAUSE = 1.0  # seconds until what found no cell that answers is taken up again; and, after a silence of many,
LONGEST_PAUSE = 30.0  # at most so many: a cell that is back is heard of at once


class CellChooser(Protocol):
    """What delivery needs of the cells."""

    def choose(self, spec: ServerSpec, excluded: Collection[str]) -> str | None:
        """Return the best cell that is not unreachable and not excluded."""
        ...

    def may_take(self, spec: ServerSpec, refused: Collection[str]) -> list[str]:
        """Return the cells, unreachable or not, that have not refused and may take it."""
        ...

    def conductor(self, cell: str) -> Conductor: ...

    def digest_mark(self, cell: str) -> object:
        """Another value with each digest of the cell."""
        ...


class CellBackoff:
    """How long one cell is left alone after it was silent: until its digest is heard again, and at most twice as long
    each time, up to ``LONGEST_PAUSE`` seconds."""

    def __init__(self) -> None:
        self._silences = 0
        self._since = self._seconds = float("-inf")
        self._digest: object = None

    def left(self, digest: object) -> float:
        """Seconds until the cell may be asked. ``digest``: a mark that is another with each digest."""
        return max(0.0, self._since + self._seconds - clock.monotonic()) if digest == self._digest else 0.0

    def note(self, digest: object, *, silent: bool) -> None:
        """Note that the cell was asked."""
        self._silences = self._silences + 1 if silent else 0
        longest = min(PAUSE * 2 ** min(self._silences - 1, 10), LONGEST_PAUSE) if silent else 0.0
        self._since, self._seconds, self._digest = clock.monotonic(), _jittered(longest), digest


def _jittered(seconds: float) -> float:
    """Three quarters to all of it, so that what failed together does not come back together."""
    return seconds * random.uniform(0.75, 1.0)  # noqa: S311 -- spreading, no secret


def _waits(intent: Intent) -> bool:
    """Return whether a cell is to be chosen for it."""
    wanted = intent.record is not None and not intent.record.deleted
    return intent.kind == IntentKind.CREATE and not intent.cell and wanted


class OutboxDispatcher:
    """Carries intents to cells. Safe to call from several threads; its threads start with the first intent."""

    def __init__(self, database: Database, cells: CellChooser, owner: str, config: TopConfig) -> None:
        self.owner = owner
        self._database = database
        self._cells = cells
        self._config = config
        self._inbox: BatchWorker[str] = BatchWorker("deliver", self._route, most=MOST)
        self._lanes: dict[str, BatchWorker[Intent]] = {}
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        self._asking: BatchWorker[Intent] = BatchWorker("ask-history", self._ask_cells, most=MOST)
        self._fresh: dict[str, Intent] = {}  # as they were read or written a moment ago
        self._known: set[str] = set()  # what became of them is known here: accepted by this process, or asked about
        self._unreachable: dict[str, set[str]] = {}  # intent -> cells that were silent since it was taken up
        self._backoffs: dict[str, CellBackoff] = {}
        self._group_cells = GroupCells(database, cells)
        self._failure = ""

    def dispatch(self, written: Iterable[Intent]) -> None:
        """Take up intents that were just committed. Each step in the database asks for the state it counts on."""
        fresh = {intent.id: intent for intent in written}
        self._take_up(fresh, fresh)

    def deliver(self, intent_ids: Iterable[str]) -> None:
        """Take intents up, except those at work already."""
        self._take_up(intent_ids, {})

    def _take_up(self, intent_ids: Iterable[str], fresh: Mapping[str, Intent]) -> None:
        for intent_id in intent_ids:
            with self._changed:
                if intent_id in self._busy:
                    continue
                self._busy.add(intent_id)
                if intent_id in fresh:
                    self._fresh[intent_id] = fresh[intent_id]
                    self._known.add(intent_id)
            self._inbox.put(intent_id)

    def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing is at work; False when something still is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, timeout=seconds)

    def stop(self) -> None:
        """Finish what is at work, for a while; another process takes up the rest."""
        self.wait_idle(5.0)
        self._inbox.stop()
        self._asking.stop()
        for lane in list(self._lanes.values()):
            lane.stop()

    def check(self) -> str:
        """ "ok", or what went wrong last."""
        return self._failure or "ok"

    def _forget(self, intent_ids: Iterable[str]) -> None:
        with self._changed:
            for intent_id in intent_ids:
                self._busy.discard(intent_id)
                self._unreachable.pop(intent_id, None)
                self._known.discard(intent_id)
            self._changed.notify_all()

    def _route(self, ids: list[str]) -> None:
        """Pass each intent on to the cell it is for, read unless it was written just now."""
        try:
            with self._changed:
                found = [self._fresh.pop(one) for one in ids if one in self._fresh]
            unread = set(ids) - {intent.id for intent in found}
            if unread:
                with self._database.read() as connection:
                    read = intents.list_intents(connection, unread)
                self._forget(unread - {intent.id for intent in read})
                found += read
            resting = self._resting()
            waiting = [intent.id for intent in found if intent.cell in resting]
            self._postpone(waiting, resting)
            with self._changed:
                strange = [one for one in found if _waits(one) and one.id not in self._known]
            for intent in strange:
                self._asking.put(intent)
            unasked = {intent.id for intent in strange}
            self._group_cells.look(found)
            for intent in found:
                if intent.id in unasked:
                    continue
                cell = intent.cell or self._choose(intent, resting)
                if cell is not None and cell not in resting:
                    self._lane(cell, intent.kind).put(intent)
            self._failure = ""
        except Exception as error:
            LOG.exception("intents could not be routed")
            self._give_up(ids, error)

    def _ask_cells(self, batch: list[Intent]) -> None:
        """Find out what became of intents that others accepted, and route them on."""
        try:
            resting = self._resting()
            found = existing_placement_lookup.ask(self._database, self._cells.conductor, batch, resting)
            for cell in found.silent - resting.keys():
                self._note(cell, silent=True)
            since = [one.created_at for one in batch if one.created_at and one.server_id in found.running]
            if since:
                _notice(self._database, min(since))
            over = [one for one in batch if one.server_id in found.deleted]
            if over:
                _close(self._database, over)
            late = [one for one in batch if one.server_id in found.unanswered and one.late]
            for intent in late:
                _fail(self._database, intent.id)
            self._forget([intent.id for intent in (*over, *late)])
            left = [one for one in batch if one not in over and one not in late]
            self._postpone([one.id for one in left if one.server_id in found.unanswered], self._resting())
            for intent in [one for one in left if one.server_id not in found.unanswered]:
                self._go_on(intent, found.placed.get(intent.server_id, []))
        except Exception as error:
            LOG.exception("cells could not be asked")
            self._give_up([intent.id for intent in batch], error)

    def _go_on(self, intent: Intent, placed: list[str]) -> None:
        """To the cell that has the server, or else to any."""
        if len(placed) > 1:
            LOG.error("a server is in several cells", extra={"server": intent.server_id, "cells": placed})
        with self._changed:
            self._known.add(intent.id)
            if not placed:
                self._fresh[intent.id] = intent
        if placed:
            LOG.warning("a cell has a server that waits for one", extra={"server": intent.server_id, "cell": placed[0]})
            self._lane(placed[0], intent.kind).put(intent)
        else:
            self._inbox.put(intent.id)

    def _resting(self) -> dict[str, float]:
        """CellChooser that are left alone for so many seconds."""
        with self._changed:
            rests = list(self._backoffs.items())
        return {cell: left for cell, rest in rests if (left := rest.left(self._cells.digest_mark(cell)))}

    def _postpone(self, ids: Collection[str], resting: Mapping[str, float], at_least: float = PAUSE) -> None:
        """Give intents back until a cell may be asked again."""
        if ids:
            _postpone(self._database, ids, _jittered(max(at_least, min(resting.values(), default=PAUSE))))
            self._forget(ids)

    def _choose(self, intent: Intent, resting: Mapping[str, float]) -> str | None:
        if intent.kind != IntentKind.CREATE or intent.record is None or intent.record.deleted:
            _drop(self._database, intent.id)
            self._forget([intent.id])
            return None
        refused = {cell for cell, refusal in intent.refusals.items() if refusal.final} | self._group_cells.barred(
            intent
        )
        with self._changed:
            excluded = refused | self._unreachable.get(intent.id, set()) | resting.keys()
        gone = {cell for cell, refusal in intent.refusals.items() if refusal.outcome == "gone"}
        spec = intent.record.spec  # a cell where its hold ended may hold it again, if no other does
        ways = (excluded | gone | self._group_cells.others(intent), excluded | gone, excluded)  # each a wider choice
        tried = dict.fromkeys(frozenset(way) for way in ways)
        cell = next((found for way in tried if (found := self._cells.choose(spec, way)) is not None), None)
        self._group_cells.note(intent, cell)
        if cell is None:
            left = self._cells.may_take(spec, refused)
            if intent.late or (refused and not left):
                _fail(self._database, intent.id, left)
                self._forget([intent.id])
            else:
                self._postpone([intent.id], resting, _patience(intent))
        return cell

    def _lane(self, cell: str, kind: str) -> BatchWorker[Intent]:
        """Return the thread for one kind of request to one cell."""
        name = f"{kind}-{cell}"
        with self._changed:
            if name not in self._lanes:
                conductor = functools.partial(self._cells.conductor, cell)
                top = self._config
                lane = CellDispatcher(self._database, cell, conductor, budget=top.cell_timeout, key=top.placements_key)
                self._lanes[name] = BatchWorker(name, functools.partial(self._dispatch, cell, lane), most=MOST)
            return self._lanes[name]

    def _dispatch(self, cell: str, lane: CellDispatcher, batch: list[Intent]) -> None:
        try:
            resting = self._resting()
            if cell in resting:  # it fell silent while this batch was gathering
                outcome = DispatchResult(unreachable=[intent.id for intent in batch if not intent.cell])
                outcome.later = [intent.id for intent in batch if intent.cell]
            else:
                outcome = lane.dispatch(batch)
                self._note(cell, silent=outcome.unanswered)
            self._postpone(outcome.later, self._resting())
        except Exception as error:
            LOG.exception("a batch could not be carried", extra={"cell": cell})
            self._give_up([intent.id for intent in batch], error)
            return
        with self._changed:
            for intent_id in outcome.unreachable:
                self._unreachable.setdefault(intent_id, set()).add(cell)
        self._forget(outcome.over)
        for intent_id in outcome.again + outcome.unreachable:
            self._inbox.put(intent_id)

    def _note(self, cell: str, *, silent: bool) -> None:
        digest = self._cells.digest_mark(cell)
        with self._changed:
            if silent or cell in self._backoffs:
                self._backoffs.setdefault(cell, CellBackoff()).note(digest, silent=silent)

    def _give_up(self, ids: Iterable[str], error: Exception) -> None:
        """Leave intents to whoever sweeps after their lease: the database knows how far they came."""
        self._failure = type(error).__name__
        self._forget(ids)


def _patience(intent: Intent) -> float:
    """Seconds until an intent that no cell takes now is offered again: the longer it waits, the more."""
    if intent.created_at is None or intent.updated_at is None:
        return PAUSE
    waited = (intent.updated_at - intent.created_at).total_seconds()
    return min(max(PAUSE, waited / 4), LONGEST_PATIENCE)


@retried
def _postpone(database: Database, ids: Collection[str], seconds: float) -> None:
    with database.write() as connection:
        intents.postpone(connection, ids, seconds)


@retried
def _notice(database: Database, lost_since: dt.datetime) -> None:
    with database.write() as connection:
        database_incarnations.notice_in_top(connection, lost_since)


@retried
def _close(database: Database, over: Collection[Intent]) -> None:
    """Servers that were placed and deleted before the database fell back."""
    with database.write() as connection:
        for intent in over:
            intents.finish_pending(connection, intent.id, IntentState.CANCELLED)
        server_index.mark_deleted(connection, [intent.server_id for intent in over])


@retried
def _drop(database: Database, intent_id: str) -> None:
    """Nobody wants the server any more."""
    with database.write() as connection:
        if not intents.finish_pending(connection, intent_id, IntentState.CANCELLED):
            intents.settle(connection, [intent_id])


@retried
def _fail(database: Database, intent_id: str, unreachable: Collection[str] = ()) -> None:
    """No cell took the server: it ends in ERROR, and keeps its quota until it is deleted. ``unreachable``: cells
    that may have taken it."""
    nothing = Refusal(outcome="silent", reason="The cell did not answer in time.")
    with database.write() as connection:
        for intent in intents.list_intents(connection, [intent_id]):
            record = intent.record
            if record is None or not intents.finish_pending(connection, intent_id, IntentState.FAILED):
                continue
            refusals = dict.fromkeys(unreachable, nothing) | intent.refusals
            fault = ServerFault(code=500, message=_message(refusals), created=clock.now(), details=_reasons(refusals))
            failed = replace(record, vm_state=VmState.ERROR, task_state=None, fault=fault, version=record.version + 1)
            server_index.upsert(connection, [failed])
            LOG.warning("no cell takes a server", extra={"server": intent.server_id, "why": fault.details})


def _message(refusals: dict[str, Refusal]) -> str:
    """For whoever asked: of all cells together, and without names."""
    groups = [group for refusal in refusals.values() for group in refusal.reasons]
    others = [one.reason.removeprefix(NO_HOST).strip() for one in refusals.values() if one.outcome == "refused"]
    return message(groups, next((reason for reason in others if reason), ""))


def _reasons(refusals: dict[str, Refusal]) -> str:
    if not refusals:
        return "The cells did not answer in time."
    return "\n".join(
        f"{cell}: {refusal.reason}" + (f" ({refusal.detail})" if refusal.detail else "")
        for cell, refusal in sorted(refusals.items())
    )
