"""What operators ask of a scheduler: why a server went where it went, what it would be otherwise, what would be if.

Past decisions are looked at in a world of their own, made from a copy of what the scheduler believes now or from the
cell's log; plans are tried on a copy. Nothing here touches what it selects from.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from cell.scheduler.change_log_tailer import ChangeLogTailer, StateOrigin
from cell.scheduler.policy.compiled_policy import compile_policy
from cell.scheduler.select import kernel_index
from cell.scheduler.state.scheduler_state import ChangeLogGap, NotUndoable, SchedulerState
from cell.scheduler.why import explainer, explanation_rendering, replay, what_if
from cell.scheduler.why.what_if import Resident
from cellcloud import errors
from cellcloud.batching import in_full
from cellcloud.context import RequestContext
from cellcloud.model.change_log import CellState, ChangeEntry
from cellcloud.model.decision import Basis, Decision, DecisionBatch, Shape, shape_of
from cellcloud.model.explanation import Explanation, Fits, Loss, Replayed
from cellcloud.model.placement_messages import PlacedGroup
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.scheduling_store import SchedulingStore

PAGE = 5000
LONGEST_WAY = 5000  # changes that are rather undone than followed from the last loading
MOST_WALKED_STATES = 2  # of others that are kept: of tens of megabytes each in a cell of 10,000 hosts
RECENT = 16  # batches, of which it is looked who made them
LONGEST_PREPARED = 20_000  # changes that are walked through before anybody asks
SERVERS_AT_ONCE = 200
MOST_TOLD = 25  # decisions in one answer
MOST_HOSTS = 1000


class OperatorQueries:
    """Answers operators, with the cell's conductors to read from."""

    def __init__(self, tailer: ChangeLogTailer, store: SchedulingStore, conductor: Conductor) -> None:
        self._tailer, self._store, self._conductor = tailer, store, conductor
        self._walks = _WalkedStates()

    def prepare(self, context: RequestContext) -> None:
        """Walk to where others have decided lately, the scheduler before this one among them, so that nobody who asks
        waits for it."""
        mine = self._tailer.origin
        if mine is None:
            return
        newest: dict[StateOrigin, Basis] = {}
        for basis in self._store.list_bases(context, RECENT):
            newest.setdefault(origin_of(basis), basis)
        newest.pop(mine, None)
        now = _QuerySession(self._tailer, self._store, context, self._walks)
        for basis in list(newest.values())[:MOST_WALKED_STATES]:
            now.prepare(basis)

    # ---- past decisions --------------------------------------------------------------------------------------------
    def explain(self, context: RequestContext, key: str, host: str | None, most: int) -> list[Explanation]:
        """Explain decisions, oldest first; of very many the last ones."""
        now = _QuerySession(self._tailer, self._store, context, self._walks)
        try:
            ids = now.ids(key)[-MOST_TOLD:]
            return [self._explain(now, one, host, min(max(most, 0), MOST_HOSTS)) for one in ids]
        finally:
            now.forget()

    def _explain(self, now: _QuerySession, decision_id: str, host: str | None, most: int) -> Explanation:
        decision = now.decision(decision_id)
        answer = decision.batch.answer
        told = Explanation(
            decision=decision.id,
            server_id=decision.server_id,
            at=decision.at,
            request_id=decision.request_id,
            scheduler=answer.basis.scheduler,
            sequence=answer.basis.sequence,
            policy=answer.basis.policy,
            chosen=decision.chosen,
            offered=decision.hosts,
            conflicts=decision.conflicts,
            malformed=answer.malformed.get(decision.position, ""),
            refused=decision.reasons,
        )
        if told.malformed:
            return told
        try:
            state = now.state(answer.basis)
            replay.before(state, decision.batch, decision.position)
        except errors.Conflict as error:
            return replace(told, gap=f"{error.message} {error.detail}".strip())
        request = replay.request_at(state, decision.batch, decision.position)
        found = explainer.Explainer(state.table, request, compile_policy(state.policy))
        return replace(
            told,
            hosts=len(found.places),
            feasible=len(found.ranked),
            refused=explanation_rendering.groups_of(found),
            best=explanation_rendering.best_of(found, most, host),
            nearest=explanation_rendering.nearest_of(found),
            asked=None if host is None else explanation_rendering.about(found, host),
        )

    def replay(self, context: RequestContext, decision_id: str, policy: dict[str, object] | None) -> Replayed:
        """Make the same selection again, or tell what another policy would have chosen."""
        now = _QuerySession(self._tailer, self._store, context, self._walks)
        try:
            return self._replay(now, decision_id, policy)
        finally:
            now.forget()

    def _replay(self, now: _QuerySession, decision_id: str, policy: dict[str, object] | None) -> Replayed:
        decision = now.decision(decision_id)
        batch, place = decision.batch, decision.position
        told = Replayed(
            decision=decision.id,
            server_id=decision.server_id,
            policy=None if policy is not None else batch.answer.basis.policy,
            before=decision.hosts,
            after=(),
            same=False,
        )
        state = now.state(batch.answer.basis)
        if policy is not None:
            after, malformed = replay.with_policy(state, batch, place, policy)
            return replace(told, after=after, same=after == decision.hosts, malformed=malformed)
        answer = replay.again(state, batch)
        after = tuple(answer.hosts[number] for number in answer.ranked[place])
        identical = replace(answer, reasons=()) == replace(batch.answer, reasons=())
        malformed = answer.malformed.get(place, "")
        return replace(told, after=after, same=after == decision.hosts, identical=identical, malformed=malformed)

    # ---- plans -----------------------------------------------------------------------------------------------------
    def plan_fits(self, context: RequestContext, shape: Shape, servers: int) -> Fits:
        """Tell how many servers fit, on what is known when the question comes."""
        self._tailer.catch_up(context)
        with self._tailer.state(context) as state:
            tried, policy = state.table.copy(), state.policy
        try:
            return what_if.fits(tried, shape, servers, policy)
        finally:
            kernel_index.forget(tried)

    def plan_loss(self, context: RequestContext, hosts: Sequence[str], *, drain: bool) -> Loss:
        """Tell where the servers of lost or emptied hosts would go. Raises NotFound."""
        self._tailer.catch_up(context)
        with self._tailer.state(context) as state:
            tried, policy = state.table.copy(), state.policy
        names = list(dict.fromkeys(hosts))
        there = what_if.residents(tried, names)
        shapes: dict[str, Shape] = {}
        for first in range(0, len(there), SERVERS_AT_ONCE):
            ids = list({server_id: None for _, server_id, _ in there[first : first + SERVERS_AT_ONCE]})
            records = in_full(
                lambda some: self._conductor.get_servers(context, some, partly=True),
                ids,
                key_of=str,
                answers=lambda record: record.id,
            )
            groups = {one.spec.group.id: one.spec.group for one in records if one.spec.group is not None}
            members = self._store.list_group_members(context, list(groups)) if groups else {}
            placed = {group_id: PlacedGroup.of(group, members[group_id]) for group_id, group in groups.items()}
            for record in records:
                group = record.spec.group
                shapes[record.id] = replace(shape_of(record.spec), group=None if group is None else placed[group.id])
        moving = [
            Resident(claim_id=claim_id, server_id=server_id, host=host, shape=shapes[server_id])
            for claim_id, server_id, host in there
            if server_id in shapes
        ]
        try:
            return what_if.lose(tried, names, moving, policy, drain=drain)
        finally:
            kernel_index.forget(tried)


def origin_of(basis: Basis) -> StateOrigin:
    """Return in which scheduler's state, by its origin, a decision was made."""
    return basis.scheduler, basis.order_seed, basis.loaded


class _WalkedStates:
    """The worlds that were walked to last, for the next question about the same scheduler's decisions. Who takes one
    has it alone, and gives it back if it is still whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[StateOrigin, SchedulerState] = {}

    def take(self, origin: StateOrigin) -> SchedulerState | None:
        with self._lock:
            return self._states.pop(origin, None)

    def give(self, origin: StateOrigin, state: SchedulerState) -> None:
        with self._lock:
            self._states.pop(origin, None)
            while len(self._states) >= MOST_WALKED_STATES:
                del self._states[next(iter(self._states))]
            self._states[origin] = state


class _QuerySession:
    """What one query reads: the decisions it is about, and the cell's state, each once."""

    def __init__(
        self, tailer: ChangeLogTailer, store: SchedulingStore, context: RequestContext, walks: _WalkedStates
    ) -> None:
        self._tailer, self._store, self._context, self._walks = tailer, store, context, walks
        self._decisions: dict[str, Decision] = {}
        self._cell_state: CellState | None = None
        self._state: SchedulerState | None = None

    def ids(self, key: str) -> list[str]:
        """Return the ids of the decisions about a server, a request, or of one decision, oldest first."""
        if key.startswith("req-"):  # they may fill many batches
            return self._store.list_decision_ids(self._context, key)
        found = self._store.find_decisions(self._context, key)
        self._decisions |= {one.id.partition("-")[0]: one for one in found}
        return [one.id for one in found]

    def decision(self, decision_id: str) -> Decision:
        """Return a decision by its id. Raises NotFound."""
        number, _, place = decision_id.partition("-")
        known = self._decisions.get(number)
        if known is None or not place.isdecimal() or int(place) >= len(known.batch.asked.servers):
            found = [one for one in self._store.find_decisions(self._context, decision_id) if one.id == decision_id]
            if not found:
                raise errors.NotFound(f"The cell has no decision {decision_id[:64]}.")
            known = self._decisions[number] = found[0]
        position = int(place)
        return replace(
            known,
            id=decision_id,
            position=position,
            server_id=known.batch.asked.server_of(known.batch.asked.servers[position][0]),
        )

    def state(self, basis: Basis) -> SchedulerState:
        """Return what a decision was made from. Raises Conflict when that is not stored any more."""
        numbers = [number for number, _ in basis.pending]
        found = self._store.get_batches(self._context, numbers) if numbers else []
        batches = {one.answer.batch: one for one in found}
        self.forget()
        self._state = self._from_now(basis, batches) or self._from_past(basis, batches)
        return self._state

    def _from_now(self, basis: Basis, batches: Mapping[int, DecisionBatch]) -> SchedulerState | None:
        """Build it from what this scheduler believes now, if the decision was its own and little has happened since."""
        with self._tailer.state(self._context) as live:
            if not replay.is_of(live, basis) or not 0 <= live.sequence - basis.sequence <= LONGEST_WAY:
                return None
            now = live.copy()
        return self._back(now, basis, batches)

    def _from_past(self, basis: Basis, batches: Mapping[int, DecisionBatch]) -> SchedulerState:
        """Build it from the cell's records, whoever decided."""
        origin = origin_of(basis)
        known = self._gone_on(basis)
        if known is not None:
            mine = known.copy()
            self._walks.give(origin, known)
            found = self._back(mine, basis, batches)
            if found is not None:
                return found
        walked = self._walked(basis)
        found = replay.state_from(walked.copy(), basis, (), batches)
        self._walks.give(origin, walked)
        return found

    def prepare(self, basis: Basis) -> None:
        """Have ready what ``state`` needs for such a decision, if that is not very long ago."""
        known = self._gone_on(basis)
        if known is None:
            page = self._store.list_changes(self._context, basis.loaded, 1)
            if page.oldest > basis.loaded + 1 or page.newest - basis.loaded > LONGEST_PREPARED:
                return
            known = self._walked(basis)
        known.table.columns.add_up()
        self._walks.give(origin_of(basis), known)

    def _gone_on(self, basis: Basis) -> SchedulerState | None:
        """Return the state to which the last walk about that scheduler had led, followed to the decision or some way
        beyond."""
        known = self._walks.take(origin_of(basis))
        if known is None or known.sequence - basis.sequence > LONGEST_WAY:
            return None
        entries = self._read(known.sequence, basis.sequence)
        with suppress(ChangeLogGap):
            known.follow(one for one in entries if one.sequence <= basis.sequence)
            return known
        return None

    def _walked(self, basis: Basis) -> SchedulerState:
        """Build it by a walk through all that was logged since that scheduler had loaded the cell."""
        if self._cell_state is None:
            self._cell_state = self._store.get_state(self._context).unpacked()
        return replay.walk(basis, self._cell_state, self._read(basis.loaded, self._cell_state.sequence))

    def _back(self, state: SchedulerState, basis: Basis, batches: Mapping[int, DecisionBatch]) -> SchedulerState | None:
        """Take a scheduler's state back to where it decided, if it can be."""
        try:
            return replay.state_from(state, basis, self._read(basis.sequence, state.sequence), batches)
        except NotUndoable:
            return None

    def forget(self) -> None:
        """Let go of the world that was made last."""
        if self._state is not None:
            kernel_index.forget(self._state.table)

    def _read(self, after: int, newest: int) -> list[ChangeEntry]:
        entries: list[ChangeEntry] = []
        while after < newest:
            page = self._store.list_changes(self._context, after, PAGE)
            if not page.entries:
                break
            entries += page.entries
            after = page.entries[-1].sequence
        return entries
