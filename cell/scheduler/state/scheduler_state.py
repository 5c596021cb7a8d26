"""What a scheduler believes of its cell: the change log's word up to a sequence, and its own selections on top.

A selection is pending from the moment it is made until the log says what became of it: claimed (by whomever, wherever),
or dropped. One of which nothing is heard for long is given up. So nothing counts twice, and nothing is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from cell.scheduler.state import host_table
from cell.scheduler.state.host_table import Overwritten, Released
from cellcloud import errors
from cellcloud.model import scheduling_policy
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import AggregateChange, CellState, ChangeEntry, HostChange, PolicyVersion
from cellcloud.model.decision import Basis
from cellcloud.model.scheduling_policy import SchedulingPolicy

T = TypeVar("T")
MOST_GONE = 20_000
MOST_SAID = 5_000  # a host's whole word each, some kilobytes
PENDING_SECONDS = 60.0  # longer than any claim takes to be made or refused


class ChangeLogGap(errors.Stale):
    """The change log does not go on where the state ends: the whole must be read again."""


class NotUndoable(errors.Stale):
    """What was believed earlier cannot be told from what is believed now."""


class Pending(NamedTuple):
    """A claim until the log has it. ``server_id``: whose it is; "": the server's whose id it has."""

    host: str
    allocation: Allocation
    server_id: str = ""


@dataclass(slots=True)
class _Batch:
    until: float
    count: int
    left: dict[int, str]


class SchedulerState:
    """``table`` holds what the log says and what is pending. Not safe to use from two threads at once."""

    def __init__(self, cell_state: CellState, *, scheduler: str = "", order_seed: int | None = None) -> None:
        self.scheduler = scheduler
        self.order_seed = order_seed
        self.loaded = self.sequence = cell_state.sequence
        self.table = host_table.build(cell_state.hosts, cell_state.aggregates, order_seed=order_seed)
        self.active, self.shadow = cell_state.policy, cell_state.shadow
        self.policy = policy_of(cell_state.policy)
        self._pending: dict[str, Pending] = {}
        self._place: dict[str, tuple[int, int]] = {}
        self._batches: dict[int, _Batch] = {}
        self._gone: dict[tuple[int, str], Released] = {}  # by change and server: what was given back lately
        self._was: dict[tuple[int, str], Overwritten] = {}  # by change and host: what it had said

    def copy(self) -> SchedulerState:
        """Copy the state, to try things on: what changes in one does not in the other."""
        made = copy(self)
        made.table = self.table.copy()
        made._pending, made._place = dict(self._pending), dict(self._place)
        made._gone, made._was = dict(self._gone), dict(self._was)
        made._batches = {number: replace(batch, left=dict(batch.left)) for number, batch in self._batches.items()}
        return made

    # ---- the log -----------------------------------------------------------------------------------------------
    def follow(self, entries: Iterable[ChangeEntry]) -> None:
        """Take in what the log says next; what is known already is passed over. Raises ChangeLogGap."""
        for entry in entries:
            if entry.sequence <= self.sequence:
                continue
            if entry.sequence != self.sequence + 1:
                raise ChangeLogGap("The change log has a gap.", detail=f"{entry.sequence} follows {self.sequence}")
            self.apply(entry)
            self.sequence = entry.sequence

    def apply(self, entry: ChangeEntry) -> None:
        """Make an entry's changes, or take them back when they are reversed."""
        changes = entry.changes
        for claim_id, _, other_id, _ in changes.swapped:
            self.table.swap(claim_id, other_id, changes.server_of(other_id))
        for claim_id, _, number in changes.released:
            self.drop(claim_id)
            gone = self.table.release(claim_id, changes.holdings[number])
            _keep(self._gone, (entry.sequence, claim_id), gone, MOST_GONE)
        for claim_id, host, number in changes.claimed:
            self._settle(claim_id, Pending(host, changes.holdings[number], changes.servers.get(claim_id, "")))
        for claim_id in changes.ended:
            self.table.end_build(claim_id)
        for claim_id in changes.dropped:
            self.drop(claim_id)
        for change in changes.hosts:
            self._change_host(change, entry.sequence)
        if changes.aggregates:
            self._change_aggregates(changes.aggregates)
        for role in changes.policies:
            if role.role == "active":
                self.active = role.after or PolicyVersion()
                self.policy = policy_of(self.active)
            else:
                self.shadow = role.after

    def take_back(self, entry: ChangeEntry) -> None:
        """Undo the entry that was taken in last, with nothing pending.

        Raises NotUndoable for what cannot be undone to the last figure.
        """
        changes = entry.changes
        for role in changes.policies:
            if role.role == "active":
                self.active = role.before or PolicyVersion()
                self.policy = policy_of(self.active)
            else:
                self.shadow = role.before
        if changes.aggregates:
            self._change_aggregates([AggregateChange(before=one.after, after=one.before) for one in changes.aggregates])
        for change in reversed(changes.hosts):
            self._change_host_back(change, entry.sequence)
        for claim_id in reversed(changes.ended):
            self.table.resume_build(claim_id)
        for claim_id, _, number in reversed(changes.claimed):
            self.table.release(claim_id, changes.holdings[number])
        for claim_id, host, _ in reversed(changes.released):
            gone = self._gone.get((entry.sequence, claim_id))
            if gone is None:
                raise NotUndoable("What a claim took is not known any more.")
            self.table.restore(claim_id, gone, host)
        for claim_id, _, other_id, _ in reversed(changes.swapped):
            self.table.swap(claim_id, other_id, changes.server_of(other_id))
        self.sequence = entry.sequence - 1

    def _change_host_back(self, change: HostChange, sequence: int) -> None:
        if change.after is None:
            raise NotUndoable("A host that is gone does not come back where it was.")
        if change.before is None:
            self.table.remove_host(change.after.host)
            return
        was = self._was.get((sequence, change.after.host))
        if was is None:
            raise NotUndoable("What a host had said is not known any more.")
        self.table.set_host_back(was)

    def _settle(self, claim_id: str, made: Pending) -> None:
        if self._pending.get(claim_id) == made:
            self._forget(claim_id)
            return
        self.drop(claim_id)
        self._claim(claim_id, made)

    def _claim(self, claim_id: str, made: Pending) -> None:
        self.table.claim(claim_id, made.host, made.allocation, made.server_id)

    def _change_host(self, change: HostChange, sequence: int) -> None:
        """Change a host; its pending servers are counted after what it says, as those in the log will be."""
        hosts = {side.host for side in (change.before, change.after) if side is not None}
        waiting = [(one, pending) for one, pending in self._pending.items() if pending.host in hosts]
        for claim_id, pending in waiting:
            self.table.release(claim_id, pending.allocation)
        if change.after is not None:
            was = self.table.set_host(change.after, keeps_use=True)
            _keep(self._was, (sequence, change.after.host), was, MOST_SAID)
        elif change.before is not None:
            self.table.remove_host(change.before.host)
        for claim_id, pending in waiting:
            if change.after is None:
                self._forget(claim_id)
            else:
                self._claim(claim_id, pending)

    def _change_aggregates(self, made: Iterable[AggregateChange]) -> None:
        known = {one.id: one for one in self.table.host_classes.aggregates}
        for change in made:
            if change.before is not None:
                known.pop(change.before.id, None)
            if change.after is not None:
                known[change.after.id] = change.after
        self.table.set_aggregates(known[number] for number in sorted(known))

    def take_over(self, other: SchedulerState) -> None:
        """Let another state's pending selections count here, but for those that the records have."""
        for number, batch in other._batches.items():
            for position, claim_id in sorted(batch.left.items()):
                pending = other._pending[claim_id]
                if self.table.claims.positions_of(claim_id) or pending.host not in self.table.positions:
                    continue
                self._claim(claim_id, pending)
                mine = self._batches.setdefault(number, _Batch(batch.until, batch.count, {}))
                mine.left[position] = claim_id
                self._pending[claim_id] = pending
                self._place[claim_id] = (number, position)

    # ---- its own selections ---------------------------------------------------------------------------------------
    def basis(self) -> Basis:
        """Return what the next batch will be chosen from, as decisions record it."""
        return Basis(
            scheduler=self.scheduler,
            sequence=self.sequence,
            loaded=self.loaded,
            pending=tuple(
                (number, () if len(batch.left) == batch.count else tuple(sorted(batch.left)))
                for number, batch in self._batches.items()
            ),
            order_seed=self.order_seed or 0,
            policy=self.active.version,
            shadow=None if self.shadow is None else self.shadow.version,
        )

    def note(
        self, number: int, chosen: Mapping[int, tuple[str, Pending]], *, now: float, count: int | None = None
    ) -> None:
        """Remember what a batch chose: position -> (claim id, what it is to be). The table has it already.

        ``count``: of how many servers the batch named hosts, those that had theirs before included.
        """
        if chosen:
            left = {position: claim_id for position, (claim_id, _) in chosen.items()}
            self._batches[number] = _Batch(now + PENDING_SECONDS, len(left) if count is None else count, left)
        for position, (claim_id, pending) in chosen.items():
            self._pending[claim_id] = pending
            self._place[claim_id] = (number, position)

    def drop(self, claim_id: str) -> None:
        """Give up a pending selection; one that is not pending is left alone."""
        pending = self._pending.get(claim_id)
        if pending is not None:
            self.table.release(claim_id, pending.allocation)
            self._forget(claim_id)

    def expire(self, now: float) -> int:
        """Give up the selections nobody has spoken of for long; returns how many."""
        late = [one for batch in self._batches.values() if batch.until <= now for one in batch.left.values()]
        for claim_id in late:
            self.drop(claim_id)
        return len(late)

    @property
    def pending(self) -> Mapping[str, Pending]:
        """Claim id -> what it is to be."""
        return self._pending

    def _forget(self, claim_id: str) -> None:
        del self._pending[claim_id]
        number, position = self._place.pop(claim_id)
        batch = self._batches[number]
        del batch.left[position]
        if not batch.left:
            del self._batches[number]


def _keep(kept: dict[tuple[int, str], T], key: tuple[int, str], value: T | None, most: int) -> None:
    """Keep what can be undone; the oldest goes when there are too many."""
    if value is not None:
        if len(kept) >= most:
            del kept[next(iter(kept))]
        kept[key] = value


def policy_of(version: PolicyVersion) -> SchedulingPolicy:
    """Parse the policy of a stored document."""
    return scheduling_policy.parse(version.document)
