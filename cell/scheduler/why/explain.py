"""Saying why: what each filter refused, what each weigher gave, how near the next host came.

The same rules over the same columns as choosing; hosts are looked at by signature and by column, and one by one only
when somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cell.scheduler.policy.filters import Context, Filter
from cell.scheduler.policy.filters.counts import CountFilter
from cell.scheduler.policy.filters.resource_class import ResourceClassFilter, lacks_at
from cell.scheduler.policy.filters.rule import FactsFilter, TopologyFilter
from cell.scheduler.policy.plan import Plan, plan_of
from cell.scheduler.policy.weighers import multipliers, sort
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.demand import demands_of
from cell.scheduler.request.request import Request
from cell.scheduler.select import choice
from cell.scheduler.state.snapshot import Amounts, Flags, Places, Reals, Snapshot
from cellcloud.model.policy import DEFAULT, Policy

MOST_ASKED = 300
"""Hosts that are asked one by one at most, where no column answers for them."""
RULED_OUT = Refusal("is ruled out by name")


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` hosts that one filter refused for the same reason; ``refusal`` is that of the nearest of them."""

    filter: str
    count: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Weight:
    """What one weigher gave a host: raw, between 0 and 1 among those that passed, and times its multiplier."""

    weigher: str
    raw: float
    normalised: float
    weighted: float


@dataclass(frozen=True, slots=True)
class Miss:
    """A host that was refused, by whom, and why: what would have to change for it to fit."""

    host: str
    refusals: tuple[tuple[str, Refusal], ...]

    @property
    def change(self) -> str:
        """The change in plain words."""
        parts = [
            f"had it {refusal.lack:g} more {refusal.what}{f' in {refusal.where}' if refusal.where else ''}"
            if refusal.needed
            else f"were it not that it {refusal}"
            for _, refusal in self.refusals
        ]
        return f"{self.host} would fit {' and '.join(parts)}"


class Explanation:
    """Why the first server of a request goes where it goes, or nowhere. It holds until the snapshot changes.

    ``asked``: the filters that were asked, in order. ``places``: the hosts that are there, ``fails`` (asked, places):
    who refuses whom; what is costly to ask is asked only of hosts that are shown to it, or that come near.
    """

    def __init__(self, snapshot: Snapshot, request: Request, plan: Plan) -> None:
        self.snapshot, self.request, self.plan = snapshot, request, plan
        self.context = Context(plan.options, snapshot.aggregates, request.servers[0])
        self.places: Places = np.flatnonzero(snapshot.present).astype(np.int64)
        self.ruled_out: Flags = ~choice.named(snapshot, request)[self.places]
        self.asked = () if choice.is_forced(request) else tuple(self._asked())
        self.fails = self._ask()

    def _asked(self) -> Iterable[Filter]:
        for rule in self.plan.filters:
            wanted = rule.on_rebuild or not self.request.shape.rebuild
            if wanted and rule.applies(self.request, self.context):
                yield rule

    def _ask(self) -> Flags:
        fails = np.zeros((len(self.asked), len(self.places)), dtype=np.bool_)
        costly = [number for number, rule in enumerate(self.asked) if isinstance(rule, TopologyFilter)]
        for number, rule in enumerate(self.asked):
            if number not in costly:
                fails[number] = ~rule.passes(self.snapshot, self.places, self.request, self.context)
        near = fails.sum(axis=0) + self.ruled_out <= 1
        for number in costly:
            shown = near | ~(fails[:number].any(axis=0) | self.ruled_out)
            passes = self.asked[number].passes(self.snapshot, self.places[shown], self.request, self.context)
            fails[number, shown] = ~passes
        return fails

    # ---- who refused -----------------------------------------------------------------------------------------------
    @cached_property
    def first(self) -> Amounts:
        """For each place the number of the first filter that refused it; -1: none did, -2: ruled out by name."""
        found = np.where(self.fails.any(axis=0), self.fails.argmax(axis=0), -1) if len(self.asked) else -1
        return np.asarray(np.where(self.ruled_out, -2, found), dtype=np.int64).reshape(len(self.places))

    @cached_property
    def refused(self) -> Mapping[str, int]:
        """Filter -> how many hosts it refused of those it was shown, in the order of asking."""
        counts = {choice.NAMES: int(np.count_nonzero(self.first == -2))}
        counts |= {rule.name: int(np.count_nonzero(self.first == at)) for at, rule in enumerate(self.asked)}
        return {name: count for name, count in counts.items() if count}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The refused hosts by filter and reason, in the order of asking, the many before the few."""
        found: list[Group] = []
        ruled_out = int(np.count_nonzero(self.first == -2))
        if ruled_out:
            found.append(Group(choice.NAMES, ruled_out, RULED_OUT))
        for number, rule in enumerate(self.asked):
            places = self.places[self.first == number]
            if len(places):
                found += sorted(self._groups_of(rule, places), key=lambda group: -group.count)
        return tuple(found)

    def refusals_of(self, host: str) -> tuple[tuple[str, Refusal], ...]:
        """Every filter that refuses a host, in the order of asking, with the numbers; the first one decided.

        Quarantine and absence are refusals as well. () for a host that passes.
        """
        if host in self.snapshot.quarantined:
            return (("quarantine", Refusal(f"is in quarantine: it {self.snapshot.quarantined[host]}")),)
        positions = [place for place in self.snapshot.positions_like(host) if self.snapshot.signature[place]]
        if not positions:
            return (("presence", Refusal("is not a host of this cell")),)
        found = self._refusals_at(positions[0])
        out = bool(self.ruled_out[np.searchsorted(self.places, positions[0])])
        return ((choice.NAMES, RULED_OUT), *found) if out else found

    def _refusals_at(self, position: int) -> tuple[tuple[str, Refusal], ...]:
        found: list[tuple[str, Refusal]] = []
        for rule in self.asked:
            if isinstance(rule, ResourceClassFilter):
                lacks = lacks_at(self.snapshot, position, self.request, self.context)
                found += [(rule.name, lack) for lack in lacks]
            else:
                refusal = rule.refuse_at(self.snapshot, position, self.request, self.context)
                found += [] if refusal is None else [(rule.name, refusal)]
        return tuple(found)

    # ---- who was best ----------------------------------------------------------------------------------------------
    @cached_property
    def _weighed(self) -> tuple[Places, Reals, Reals, Reals]:
        """Passing places best first; raw, normalised and weighted (weighers, places) in that order."""
        passing = self.places[self.first == -1]
        shape = (len(self.plan.weighers), len(passing))
        raw, normalised, weighted = (np.zeros(shape, dtype=np.float64) for _ in range(3))
        total = np.zeros(len(passing), dtype=np.float64)
        for row, weigher in enumerate(self.plan.weighers):
            raw[row] = weigher.raw(self.snapshot, passing, self.request, self.plan.options)
            if len(passing) > 1:
                normalised[row] = weigher.normalise(raw[row])
                factors = multipliers(self.snapshot, weigher, self.plan.options)
                weighted[row] = factors[self.snapshot.signature[passing]] * normalised[row]
                total += weighted[row]
        best = sort(total)
        return passing[best], raw[:, best], normalised[:, best], weighted[:, best]

    @property
    def ranked(self) -> Places:
        """Positions of the hosts that pass, best first, before chance has its part."""
        return self._weighed[0]

    def weights(self, rank: int) -> tuple[Weight, ...]:
        """What each weigher gave the host of that rank, from 0, in the policy's order."""
        _, raw, normalised, weighted = self._weighed
        return tuple(
            Weight(weigher.name, float(raw[row, rank]), float(normalised[row, rank]), float(weighted[row, rank]))
            for row, weigher in enumerate(self.plan.weighers)
        )

    def score(self, rank: int) -> float:
        """The sum of the weighted weights, in the policy's order."""
        total = 0.0
        for weight in self.weights(rank):
            total += weight.weighted
        return total

    @property
    def margin(self) -> float | None:
        """By how much the best host leads; None when it is alone."""
        return self.score(0) - self.score(1) if len(self.ranked) > 1 else None

    # ---- who came near ---------------------------------------------------------------------------------------------
    @cached_property
    def nearest_miss(self) -> Miss | None:
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
        found = [Miss(self.snapshot.states[place].host, self._refusals_at(place)) for place in asked]
        return min(found, key=lambda miss: _distance(miss.refusals))

    def _shortage(self, places: Places) -> Reals:
        """How large a part of what is needed each host lacks, in the class it lacks most of."""
        demand = demands_of(self.request.shape)[-1]
        found = np.zeros(len(places), dtype=np.float64)
        for name, amount in demand.resources.items():
            row = self.snapshot.row_of.get(name)
            left = 0 if row is None else self.snapshot.free[row][places]
            found = np.maximum(found, (amount - left) / amount)
        return found

    # ---- grouping --------------------------------------------------------------------------------------------------
    def _groups_of(self, rule: Filter, places: Places) -> Sequence[Group]:
        if isinstance(rule, FactsFilter):
            codes, counts = np.unique(self.snapshot.signature[places], return_counts=True)
            facts = self.snapshot.facts.values
            refusals = [rule.refuse(facts[code], self.request, self.context) for code in codes.tolist()]
            return _merged(rule.name, zip(refusals, counts.tolist(), strict=True))
        if isinstance(rule, ResourceClassFilter):
            return self._groups_by_class(rule.name, places)
        if isinstance(rule, CountFilter):
            limits = rule.limits(self.snapshot, self.context)[self.snapshot.signature[places]]
            nearest = places[int(np.argmin(self.snapshot.figure(rule.figure)[places] - limits))]
            refusal = rule.refuse_at(self.snapshot, int(nearest), self.request, self.context)
            return _merged(rule.name, [(refusal, len(places))])
        asked = places[:MOST_ASKED].tolist()
        refusals = [rule.refuse_at(self.snapshot, place, self.request, self.context) for place in asked]
        found = [*_merged(rule.name, ((refusal, 1) for refusal in refusals))]
        others = len(places) - len(asked)
        return [*found, Group(rule.name, others, Refusal("does not pass"))] if others else found

    def _groups_by_class(self, name: str, places: Places) -> Sequence[Group]:
        """Each host counts for the class of which it lacks the largest part."""
        resources = demands_of(self.request.shape)[-1].resources
        if not resources:
            return [Group(name, len(places), Refusal("does not pass"))]
        rows = [self.snapshot.row_of.get(one) for one in resources]
        left = np.array(
            [np.zeros(len(places), np.int64) if row is None else self.snapshot.free[row][places] for row in rows]
        )
        needed = np.array(list(resources.values()), dtype=np.int64)[:, None]
        worst = ((needed - left) / needed).argmax(axis=0)
        found = []
        for number, (resource, amount) in enumerate(resources.items()):
            mine = left[number][worst == number]
            if len(mine):
                found.append(Group(name, len(mine), Refusal(resource, amount, int(mine.max()))))
        return found


def explain(snapshot: Snapshot, request: Request, policy: Policy = DEFAULT) -> Explanation:
    """Why the first server of a request would go where it goes. Nothing is taken."""
    return Explanation(snapshot, request, plan_of(policy))


def _distance(refusals: Sequence[tuple[str, Refusal]]) -> float:
    """How far from fitting: the parts that are lacking; what is no number counts as the whole."""
    return sum(refusal.lack / refusal.needed if refusal.needed else 1.0 for _, refusal in refusals)


def _merged(name: str, refusals: Iterable[tuple[Refusal | None, int]]) -> list[Group]:
    """One group a reason; of figures the one that lacks least."""
    found: dict[tuple[str, str], tuple[Refusal, int]] = {}
    for refusal, count in refusals:
        if refusal is None:
            continue
        key = (refusal.what, refusal.where)
        nearest, before = found.get(key, (refusal, 0))
        found[key] = (min(nearest, refusal, key=lambda one: one.lack), before + count)
    return [Group(name, count, refusal) for refusal, count in found.values()]
