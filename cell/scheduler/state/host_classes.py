"""The class of each host, and what was worked out for each class: filters' verdicts and weighers' multipliers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from cell.scheduler.state.array_types import Codes, Flags, Reals
from cell.scheduler.state.host_class import ABSENT, HostClass, host_class_of
from cell.scheduler.state.interned import Interned
from cellcloud.model.host import Aggregate, HostState

VERDICTS_KEPT = 8192


class HostClasses:
    """``values``: the classes by id, of which 0 is that of hosts that may not be selected. ``aggregates`` are part of
    what a class is made of; ``revision`` grows when they change."""

    def __init__(self) -> None:
        self._classes: Interned[HostClass] = Interned()
        self._classes.code(ABSENT)
        self._ids = np.zeros(0, dtype=np.int32)
        self._count = 0
        self.revision = 0
        self._aggregates: dict[int, Aggregate] = {}
        self._aggregates_of: dict[str, list[int]] = {}
        self._verdicts: dict[Hashable, Flags] = {}
        self._multipliers: dict[Hashable, Reals] = {}

    def __len__(self) -> int:
        """Return how many classes there are."""
        return len(self._classes)

    @property
    def values(self) -> Sequence[HostClass]:
        """The classes by id."""
        return self._classes.values

    @property
    def ids(self) -> Codes:
        """The id of each host's class; 0 where no host may be selected."""
        return self._ids[: self._count]

    @property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """Every aggregate of the cell."""
        return tuple(self._aggregates.values())

    def at(self, position: int) -> HostClass:
        """Return the class of a host."""
        return self._classes.values[int(self._ids[position])]

    def append(self, more: int) -> None:
        """Add a host that may not be selected yet, and room for ``more`` others."""
        if more:
            self._ids = np.pad(self._ids, (0, more))
        self._count += 1

    def classify(self, position: int, state: HostState) -> None:
        """Find a host's class from what it says and from its aggregates."""
        mine = (self._aggregates[number] for number in self._aggregates_of.get(state.host, ()))
        self._ids[position] = self._classes.code(host_class_of(state, mine))

    def close(self, position: int) -> None:
        """Let a host be selected no more."""
        self._ids[position] = 0

    def set_aggregates(self, aggregates: Iterable[Aggregate]) -> set[str]:
        """Replace all aggregates; returns the hosts that must be classified anew."""
        before = self._aggregates
        self._aggregates = {one.id: one for one in aggregates}
        members: dict[str, list[int]] = {}
        for one in self._aggregates.values():
            for host in one.hosts:
                members.setdefault(host, []).append(one.id)
        self._aggregates_of = members
        self._verdicts.clear()
        self.revision += 1
        return {
            host
            for one in (*before.values(), *self._aggregates.values())
            if before.get(one.id) != self._aggregates.get(one.id)
            for host in one.hosts
        }

    def verdicts(self, key: Hashable) -> Flags | None:
        """Return what a filter said of each class that was there then; None when it was not asked."""
        return self._verdicts.get(key)

    def keep_verdicts(self, key: Hashable, verdicts: Flags) -> None:
        """Keep what a filter says of each class; the oldest goes when there are too many."""
        self._verdicts.pop(key, None)
        while len(self._verdicts) >= VERDICTS_KEPT:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[key] = verdicts

    def multipliers(self, key: Hashable) -> Reals | None:
        """Return a weigher's multiplier for each class that was there then; None when it was not asked."""
        return self._multipliers.get(key)

    def keep_multipliers(self, key: Hashable, multipliers: Reals) -> None:
        """Keep a weigher's multiplier for each class."""
        self._multipliers[key] = multipliers

    def copy(self) -> HostClasses:
        """Copy them: what changes in one does not in the other."""
        found = HostClasses()
        found._classes, found._ids, found._count = self._classes.copy(), self._ids.copy(), self._count
        found.revision = self.revision
        found._aggregates, found._aggregates_of = self._aggregates.copy(), self._aggregates_of.copy()
        found._verdicts, found._multipliers = self._verdicts.copy(), self._multipliers.copy()
        return found
