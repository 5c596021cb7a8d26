"""Saying why: what each filter refused, what each weigher gave, how near the next host came.

The same rules over the same columns as selecting; hosts are looked at by host class and by column, and one by one only
when somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.compiled_policy import CompiledPolicy, compile_policy
from cell.scheduler.policy.filters import FilterContext, HostFilter
from cell.scheduler.policy.filters.counts import CountFilter
from cell.scheduler.policy.filters.interface import HostClassFilter, TopologyFilter
from cell.scheduler.policy.filters.resource_class import ResourceClassFilter, lacks_at
from cell.scheduler.policy.weighers import multipliers, sort
from cell.scheduler.request.resources_and_traits import demands_of
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select import filter_and_weigh
from cell.scheduler.state.array_types import Amounts, Flags, Places, Reals
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.scheduling_policy import DEFAULT, SchedulingPolicy

MOST_ASKED = 300
"""Hosts that are asked one by one at most, where no column answers for them."""
QUARANTINE, PRESENCE = "quarantine", "presence"
"""What refuses a host before any filter is asked: whether it would fit else, nobody knows."""
RULED_OUT = HostRefusal("is ruled out by name")


@dataclass(frozen=True, slots=True)
class RefusalGroup:
    """``count`` hosts that one filter refused for the same reason; ``refusal`` is that of the nearest of them."""

    filter: str
    count: int
    refusal: HostRefusal


@dataclass(frozen=True, slots=True)
class WeigherShare:
    """What one weigher gave a host: raw, between 0 and 1 among those that passed, and times its multiplier."""

    weigher: str
    raw: float
    normalised: float
    weighted: float


@dataclass(frozen=True, slots=True)
class RefusedHost:
    """A host that was refused, by whom, and why: what would have to change for it to fit."""

    host: str
    refusals: tuple[tuple[str, HostRefusal], ...]

    @property
    def change(self) -> str:
        """What refuses the host and what would have to change, as in "h1 is disabled; enabled, it would fit"."""
        said = f"{self.host} {' and '.join(str(refusal) for _, refusal in self.refusals)}"
        if self.refusals[0][0] in (QUARANTINE, PRESENCE):
            return said
        conditions = [refusal.condition for _, refusal in self.refusals]
        return f"{said}; {' and '.join(conditions)}, it would fit" if all(conditions) else f"{said}; else it would fit"


class Explainer:
    """Why the first server of a request goes where it goes, or nowhere. It holds until the table changes.

    ``asked``: the filters that were asked, in order. ``places``: the hosts that are there, ``fails`` (asked, places):
    who refuses whom; what is costly to ask is asked only of hosts that are shown to it, or that come near.
    """

    def __init__(self, table: HostTable, request: SchedulingRequest, compiled: CompiledPolicy) -> None:
        self.table, self.request, self.compiled = table, request, compiled
        self.context = FilterContext(
            compiled.options, table.host_classes.aggregates, request.moving or request.servers[0]
        )
        self.places: Places = np.flatnonzero(table.present).astype(np.int64)
        self.ruled_out: Flags = ~filter_and_weigh.named(table, request)[self.places]
        self.asked = () if filter_and_weigh.is_forced(request) else tuple(self._asked())
        self.fails = self._ask()

    def _asked(self) -> Iterable[HostFilter]:
        for rule in self.compiled.filters:
            wanted = rule.on_rebuild or not self.request.shape.rebuild
            if wanted and rule.applies(self.request, self.context):
                yield rule

    def _ask(self) -> Flags:
        fails = np.zeros((len(self.asked), len(self.places)), dtype=np.bool_)
        costly = [number for number, rule in enumerate(self.asked) if isinstance(rule, TopologyFilter)]
        for number, rule in enumerate(self.asked):
            if number not in costly:
                fails[number] = ~rule.passes(self.table, self.places, self.request, self.context)
        near = fails.sum(axis=0) + self.ruled_out <= 1
        for number in costly:
            shown = near | ~(fails[:number].any(axis=0) | self.ruled_out)
            passes = self.asked[number].passes(self.table, self.places[shown], self.request, self.context)
            fails[number, shown] = ~passes
        return fails

    # ---- who refused -----------------------------------------------------------------------------------------------
    @cached_property
    def first(self) -> Amounts:
        """For each place the number of the first filter that refused it; -1: none did, -2: ruled out by name."""
        found = np.where(self.fails.any(axis=0), self.fails.argmax(axis=0), -1) if len(self.asked) else -1
        return np.asarray(np.where(self.ruled_out, -2, found), dtype=np.int64).reshape(len(self.places))

    @cached_property
    def groups(self) -> tuple[RefusalGroup, ...]:
        """The refused hosts by filter and reason, in the order of asking, the many before the few."""
        found: list[RefusalGroup] = []
        ruled_out = int(np.count_nonzero(self.first == -2))
        if ruled_out:
            found.append(RefusalGroup(filter_and_weigh.NAMES, ruled_out, RULED_OUT))
        for number, rule in enumerate(self.asked):
            places = self.places[self.first == number]
            if len(places):
                found += sorted(self._groups_of(rule, places), key=lambda group: -group.count)
        return tuple(found)

    def refusals_of(self, host: str) -> tuple[tuple[str, HostRefusal], ...]:
        """Return every filter that refuses a host, in the order of asking, with the numbers; the first one decided.

        Quarantine and absence are refusals as well. () for a host that passes.
        """
        if host in self.table.quarantined:
            return ((QUARANTINE, HostRefusal(f"is in quarantine: it {self.table.quarantined[host]}")),)
        positions = [place for place in self.table.positions.like(host) if self.table.host_classes.ids[place]]
        if not positions:
            return ((PRESENCE, HostRefusal("is not a host of this cell")),)
        found = self._refusals_at(positions[0])
        out = bool(self.ruled_out[np.searchsorted(self.places, positions[0])])
        return ((filter_and_weigh.NAMES, RULED_OUT), *found) if out else found

    def _refusals_at(self, position: int) -> tuple[tuple[str, HostRefusal], ...]:
        found: list[tuple[str, HostRefusal]] = []
        for rule in self.asked:
            if isinstance(rule, ResourceClassFilter):
                lacks = lacks_at(self.table, position, self.request, self.context)
                found += [(rule.name, lack) for lack in lacks]
            else:
                refusal = rule.refuse_at(self.table, position, self.request, self.context)
                found += [] if refusal is None else [(rule.name, refusal)]
        return tuple(found)

    # ---- who was best ----------------------------------------------------------------------------------------------
    @cached_property
    def _weighed(self) -> tuple[Places, Reals, Reals, Reals]:
        """Passing places best first; raw, normalised and weighted (weighers, places) in that order."""
        passing = self.places[self.first == -1]
        shape = (len(self.compiled.weighers), len(passing))
        raw, normalised, weighted = (np.zeros(shape, dtype=np.float64) for _ in range(3))
        total = np.zeros(len(passing), dtype=np.float64)
        for row, weigher in enumerate(self.compiled.weighers):
            raw[row] = weigher.raw(self.table, passing, self.request, self.compiled.options)
            if len(passing) > 1:
                normalised[row] = weigher.normalise(raw[row])
                factors = multipliers(self.table, weigher, self.compiled.options)
                weighted[row] = factors[self.table.host_classes.ids[passing]] * normalised[row]
                total += weighted[row]
        best = sort(total)
        return passing[best], raw[:, best], normalised[:, best], weighted[:, best]

    @property
    def ranked(self) -> Places:
        """Positions of the hosts that pass, best first, before chance has its part."""
        return self._weighed[0]

    def weights(self, rank: int) -> tuple[WeigherShare, ...]:
        """Return what each weigher gave the host of that rank, from 0, in the policy's order."""
        _, raw, normalised, weighted = self._weighed
        return tuple(
            WeigherShare(weigher.name, float(raw[row, rank]), float(normalised[row, rank]), float(weighted[row, rank]))
            for row, weigher in enumerate(self.compiled.weighers)
        )

    def score(self, rank: int) -> float:
        """Return the sum of the weighted weights, in the policy's order."""
        total = 0.0
        for weight in self.weights(rank):
            total += weight.weighted
        return total

    # ---- who came near ---------------------------------------------------------------------------------------------
    @cached_property
    def nearest_miss(self) -> RefusedHost | None:
        """The refused host that lacks least: refused by the fewest filters, then by the least part of what is needed.

        None when no host was refused by filters alone.
        """
        wanted = (self.first >= 0) & ~self.ruled_out
        if not wanted.any():
            return None
        counts = np.where(wanted, self.fails.sum(axis=0), len(self.asked) + 1)
        near = self.places[counts == counts.min()]
        short = self._shortage(near)
        asked = near[np.argsort(short, kind="stable")][:MOST_ASKED].tolist()
        found = [RefusedHost(self.table.states[place].host, self._refusals_at(place)) for place in asked]
        return min(found, key=lambda miss: _distance(miss.refusals))

    def _shortage(self, places: Places) -> Reals:
        """Return how large a part of what is needed each host lacks, in the class it lacks most of."""
        demand = demands_of(self.request.shape)[-1]
        found = np.zeros(len(places), dtype=np.float64)
        for name, amount in demand.resources.items():
            row = self.table.columns.row_of.get(name)
            left = 0 if row is None else self.table.columns.free[row][places]
            found = np.maximum(found, (amount - left) / amount)
        return found

    # ---- grouping --------------------------------------------------------------------------------------------------
    def _groups_of(self, rule: HostFilter, places: Places) -> Sequence[RefusalGroup]:
        if isinstance(rule, HostClassFilter):
            codes, counts = np.unique(self.table.host_classes.ids[places], return_counts=True)
            classes = self.table.host_classes.values
            refusals = [rule.refuse(classes[code], self.request, self.context) for code in codes.tolist()]
            return _merged(rule.name, zip(refusals, counts.tolist(), strict=True))
        if isinstance(rule, ResourceClassFilter):
            return self._groups_by_class(rule.name, places)
        if isinstance(rule, CountFilter):
            limits = rule.limits(self.table, self.context)[self.table.host_classes.ids[places]]
            nearest = places[int(np.argmin(self.table.columns.figure(rule.figure)[places] - limits))]
            refusal = rule.refuse_at(self.table, int(nearest), self.request, self.context)
            return _merged(rule.name, [(refusal, len(places))])
        asked = places[:MOST_ASKED].tolist()
        refusals = [rule.refuse_at(self.table, place, self.request, self.context) for place in asked]
        found = [*_merged(rule.name, ((refusal, 1) for refusal in refusals))]
        others = len(places) - len(asked)
        return [*found, RefusalGroup(rule.name, others, HostRefusal("does not pass"))] if others else found

    def _groups_by_class(self, name: str, places: Places) -> Sequence[RefusalGroup]:
        """Group hosts, each by the class of which it lacks the largest part."""
        resources = demands_of(self.request.shape)[-1].resources
        if not resources:
            return [RefusalGroup(name, len(places), HostRefusal("does not pass"))]
        rows = [self.table.columns.row_of.get(one) for one in resources]
        left = np.array(
            [np.zeros(len(places), np.int64) if row is None else self.table.columns.free[row][places] for row in rows]
        )
        needed = np.array(list(resources.values()), dtype=np.int64)[:, None]
        worst = ((needed - left) / needed).argmax(axis=0)
        found = []
        for number, (resource, amount) in enumerate(resources.items()):
            mine = left[number][worst == number]
            if len(mine):
                found.append(RefusalGroup(name, len(mine), HostRefusal(resource, amount, int(mine.max()))))
        return found


def explain(table: HostTable, request: SchedulingRequest, policy: SchedulingPolicy = DEFAULT) -> Explainer:
    """Return why the first server of a request would go where it goes. Nothing is taken."""
    return Explainer(table, request, compile_policy(policy))


def _distance(refusals: Sequence[tuple[str, HostRefusal]]) -> float:
    """Return how far from fitting: the parts that are lacking; what is no number counts as the whole."""
    return sum(refusal.lack / refusal.needed if refusal.needed else 1.0 for _, refusal in refusals)


def _merged(name: str, refusals: Iterable[tuple[HostRefusal | None, int]]) -> list[RefusalGroup]:
    """Merge refusals into one group a reason; of figures it has the one that lacks least."""
    found: dict[tuple[str, str], tuple[HostRefusal, int]] = {}
    for refusal, count in refusals:
        if refusal is None:
            continue
        key = (refusal.what, refusal.where)
        nearest, before = found.get(key, (refusal, 0))
        found[key] = (min(nearest, refusal, key=lambda one: one.lack), before + count)
    return [RefusalGroup(name, count, refusal) for refusal, count in found.values()]
