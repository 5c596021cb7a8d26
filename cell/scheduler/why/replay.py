"""Making a decision again: the cell is walked back to where the scheduler had read it, followed as it was followed, and
asked the same question. The same columns, order of hosts, pending selections and seeds give the same answer, bit for
bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select import batches
from cell.scheduler.state.scheduler_state import NotUndoable, Pending, SchedulerState, policy_of
from cell.scheduler.why import explanation_rendering
from cellcloud import errors
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import CellState, ChangeEntry, Changes, PolicyVersion
from cellcloud.model.decision import Basis, DecisionBatch, RankAnswer, RankBatch
from cellcloud.model.host import Aggregate, HostedServer, HostState

Document = dict[str, object]


@dataclass(slots=True)
class _Use:
    """What claims say of a host. ``hosted``: claim id -> the server that it puts there."""

    used: dict[str, int]
    hosted: dict[str, HostedServer]

    def add(self, allocation: Allocation, sign: int) -> None:
        for name, amount in allocation.resources.items():
            self.used[name] = self.used.get(name, 0) + sign * amount


@dataclass(slots=True)
class _Past:
    """A cell on its way back."""

    hosts: dict[str, HostState]
    use: dict[str, _Use]
    aggregates: dict[int, Aggregate]
    policy: PolicyVersion
    shadow: PolicyVersion | None = None

    def take_back(self, changes: Changes) -> None:
        for claim_id, host, number in changes.claimed:
            use = self._use_of(host)
            use.add(changes.holdings[number], -1)
            use.hosted.pop(claim_id, None)
        for claim_id, host, number in changes.released:
            use, taken = self._use_of(host), changes.holdings[number]
            use.add(taken, 1)
            server_id = changes.server_of(claim_id)
            use.hosted[claim_id] = HostedServer(
                uuid=server_id,
                image_props=taken.image_props,
                placed=taken.placed,
                claim_id="" if claim_id == server_id else claim_id,
            )
        for claim_id, host, other_id, other in reversed(changes.swapped):
            self._swap_back(claim_id, host, other_id, other)
        for change in changes.hosts:
            if change.before is not None:
                self.hosts[change.before.host] = change.before
            elif change.after is not None:
                self.hosts.pop(change.after.host, None)
        for each in changes.aggregates:
            if each.after is not None:
                self.aggregates.pop(each.after.id, None)
            if each.before is not None:
                self.aggregates[each.before.id] = each.before
        for role in changes.policies:
            if role.role == "active":
                self.policy = role.before or PolicyVersion()
            else:
                self.shadow = role.before

    def state(self, sequence: int) -> CellState:
        return CellState(
            sequence=sequence,
            hosts=tuple(self._with_use(host) for _, host in sorted(self.hosts.items())),
            aggregates=tuple(self.aggregates[number] for number in sorted(self.aggregates)),
            policy=self.policy,
            shadow=self.shadow,
        )

    def _swap_back(self, claim_id: str, host: str, other_id: str, other: str) -> None:
        mine, its = self._use_of(other).hosted.pop(claim_id), self._use_of(host).hosted.pop(other_id)
        self._use_of(host).hosted[claim_id] = replace(its, claim_id=mine.claim_id)
        self._use_of(other).hosted[other_id] = replace(mine, claim_id=its.claim_id)

    def _use_of(self, host: str) -> _Use:
        return self.use.setdefault(host, _Use({}, {}))

    def _with_use(self, host: HostState) -> HostState:
        use = self._use_of(host.host)
        return replace(host, used=use.used, servers=len(use.hosted), hosted=tuple(use.hosted.values()))


def rewind(cell_state: CellState, entries: Sequence[ChangeEntry], sequence: int) -> CellState:
    """Return the cell as it was after the change ``sequence``.

    ``entries``: all since then, oldest first; those that ``cell_state`` has not seen are left alone. Raises Conflict
    when they do not reach back so far.
    """
    between = [one for one in entries if sequence < one.sequence <= cell_state.sequence]
    if sequence > cell_state.sequence or len(between) != cell_state.sequence - sequence:
        oldest = f"it goes back to change {entries[0].sequence}" if entries else "it is empty"
        raise errors.Conflict(
            "This decision cannot be made again: the change log no longer reaches back to where it was made.",
            detail=f"changes after {sequence} are needed up to {cell_state.sequence}; of the log {oldest}",
        )
    past = _Past(
        hosts={host.host: host for host in cell_state.hosts},
        use={
            host.host: _Use(dict(host.used), {one.claim_id or one.uuid: one for one in host.hosted})
            for host in cell_state.hosts
        },
        aggregates={one.id: one for one in cell_state.aggregates},
        policy=cell_state.policy,
        shadow=cell_state.shadow,
    )
    for entry in reversed(between):
        past.take_back(entry.changes)
    return past.state(sequence)


def walk(basis: Basis, cell_state: CellState, entries: Sequence[ChangeEntry]) -> SchedulerState:
    """Follow the log from where a scheduler had loaded the cell up to where it chose.

    ``cell_state``: the cell now; ``entries``: all changes since ``basis.loaded``. Raises Conflict when something of
    that is not stored any more.
    """
    state = SchedulerState(
        rewind(cell_state, entries, basis.loaded), scheduler=basis.scheduler, order_seed=basis.order_seed
    )
    state.follow(one for one in entries if one.sequence <= basis.sequence)
    return state


def is_of(now: SchedulerState, basis: Basis) -> bool:
    """Return whether a state follows the log from where the decision's did."""
    return (now.scheduler, now.order_seed or 0, now.loaded) == (basis.scheduler, basis.order_seed, basis.loaded)


def state_from(
    now: SchedulerState, basis: Basis, entries: Sequence[ChangeEntry], batches: Mapping[int, DecisionBatch]
) -> SchedulerState:
    """Return what a scheduler believed when it chose, from a state of its own that may be further (a copy of what it
    believes now, or a walk): selections that are pending there are given up, the last changes undone, and the
    decision's earlier selections put on top.

    ``entries``: those since ``basis.sequence``; ``batches``: those that the basis names, by number. Raises NotUndoable
    where they cannot be undone, Conflict when a batch is not stored any more.
    """
    for server_id in list(now.pending):
        now.drop(server_id)
    for entry in reversed(entries):
        if entry.sequence == now.sequence > basis.sequence:
            now.take_back(entry)
    if now.sequence != basis.sequence:
        raise NotUndoable("The change log does not reach so far.")
    return _with_pending(now, basis, batches)


def _with_pending(state: SchedulerState, basis: Basis, batches: Mapping[int, DecisionBatch]) -> SchedulerState:
    for number, positions in basis.pending:
        batch = batches.get(number)
        if batch is None:
            raise errors.Conflict(
                "This decision cannot be made again: an earlier selection that it counted with is not stored.",
                detail=f"batch {number:x} of scheduler {basis.scheduler}",
            )
        _note(state, number, batch.asked, batch.answer, positions or range(len(batch.asked.servers)))
    return state


def _note(state: SchedulerState, number: int, asked: RankBatch, answer: RankAnswer, positions: Iterable[int]) -> None:
    """Let a batch's selections at the positions count as pending, but for claims that were made before, and for
    rebuilds, which take nothing."""
    chosen: dict[int, tuple[str, Pending]] = {}
    for position in positions:
        claim_id, shape, _ = asked.servers[position]
        if asked.shapes[shape].rebuild:
            continue
        if answer.ranked[position] and not state.table.claims.positions_of(claim_id):
            move = asked.moves.get(claim_id)
            host, taken = answer.hosts[answer.ranked[position][0]], answer.holdings[answer.takes[position]]
            chosen[position] = (claim_id, Pending(host, taken, "" if move is None else move.server_id))
            state.table.claim(claim_id, host, taken, asked.server_of(claim_id))
    state.note(number, chosen, now=0.0, count=sum(1 for places in answer.ranked if places))


def again(state: SchedulerState, batch: DecisionBatch) -> RankAnswer:
    """Choose the whole batch once more, in the state that ``state_from`` gave."""
    return batches.answer_batch(
        state, batch.asked, batch.answer.batch, now=0.0, reasons_of=explanation_rendering.reasons_of
    )


def before(state: SchedulerState, batch: DecisionBatch, position: int) -> None:
    """Turn the state that ``state_from`` gave into what one server of the batch was chosen from: those before it have
    their hosts."""
    for claim_id, _, _ in batch.asked.servers:
        state.drop(claim_id)
    _note(state, batch.answer.batch, batch.asked, batch.answer, range(position))


def with_policy(
    state: SchedulerState, batch: DecisionBatch, position: int, document: Document
) -> tuple[tuple[str, ...], str]:
    """Return the hosts, best first, that a policy would have chosen for one server of the batch, () when none fits; and
    what is wrong with the request under that policy, if anything.

    What was before it stays as it was; servers that one request asked for together are chosen together. Raises Invalid
    for the policy.
    """
    policy = policy_of(PolicyVersion(document=document))
    first, size = group_of(batch.asked, position)
    before(state, batch, first)
    state.policy = policy
    state.shadow = None
    asked = replace(batch.asked, servers=batch.asked.servers[first : first + size], together=(size,))
    answer = batches.select_batch(state, asked)
    place = position - first
    return tuple(answer.hosts[number] for number in answer.ranked[place]), answer.malformed.get(place, "")


def group_of(asked: RankBatch, position: int) -> tuple[int, int]:
    """Return where the request that a server belongs to begins in its batch, and how many servers it asked for."""
    first = 0
    for size in asked.together or (1,) * len(asked.servers):
        if position < first + size:
            return first, size
        first += size
    raise errors.NotFound(f"The batch has no server at {position}.")


def request_at(state: SchedulerState, batch: DecisionBatch, position: int) -> SchedulingRequest:
    """Return the question for one server, as it stood when those before it had their hosts. Raises Invalid."""
    asked, answer = batch.asked, batch.answer
    first, size = group_of(asked, position)
    claim_id, number, _ = asked.servers[position]
    request = replace(batches.request_of(asked.shapes[number], state.policy), servers=(claim_id,))
    members = asked.servers[first : first + size]
    excluded = tuple(dict.fromkeys(host for one in members for host in asked.exclude.get(one[0], ())))
    request = batches.asked_for(request, asked.moves.get(claim_id), excluded, state.table)
    if request.group is not None and position > first:
        chosen = [answer.hosts[places[0]] for places in answer.ranked[first:position] if places]
        request = replace(request, group=replace(request.group, hosts=(*request.group.hosts, *chosen)))
    return request
