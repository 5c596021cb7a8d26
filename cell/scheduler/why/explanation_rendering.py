"""Explanations as they are told: hosts by name, reasons with their numbers, the smallest change in words."""

from __future__ import annotations

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_table import HostTable
from cell.scheduler.why import explainer
from cellcloud.model import explanation as told
from cellcloud.model.no_valid_host_message import Reason, RefusedGroup
from cellcloud.model.scheduling_policy import SchedulingPolicy


def reason_of(filter_name: str, refusal: HostRefusal) -> Reason:
    """Render a refusal as it is told and stored."""
    return Reason(
        filter=filter_name,
        text=str(refusal),
        what=refusal.what,
        needed=refusal.needed,
        available=max(0, refusal.available) if refusal.needed else 0,
        where=refusal.where,
    )


def groups_of(found: explainer.Explainer) -> tuple[RefusedGroup, ...]:
    """Return who refused how many hosts, by reason: in the order of asking, the many before the few."""
    made = [RefusedGroup(count=one.count, reason=reason_of(one.filter, one.refusal)) for one in found.groups]
    names = list(dict.fromkeys(group.reason.filter for group in made))
    return tuple(sorted(made, key=lambda group: (names.index(group.reason.filter), -group.count, group.reason.text)))


def reasons_of(table: HostTable, request: SchedulingRequest, policy: SchedulingPolicy) -> tuple[RefusedGroup, ...]:
    """Return why no host takes the first server of a request, by filter and reason."""
    return groups_of(explainer.explain(table, request, policy))


def nearest_of(found: explainer.Explainer) -> told.Miss | None:
    """Return the host that came nearest to fitting, of those that did not."""
    miss = found.nearest_miss
    return None if miss is None else _miss(miss)


def about(found: explainer.Explainer, host: str) -> told.Miss | None:
    """Return why a host was refused; None when it passed all filters."""
    refusals = found.refusals_of(host)
    return _miss(explainer.RefusedHost(host, refusals)) if refusals else None


def best_of(found: explainer.Explainer, most: int, host: str | None = None) -> tuple[told.RankedHost, ...]:
    """Return the best of the hosts that passed, and beside them the one asked about."""
    places = found.ranked.tolist()
    wanted = list(range(min(most, len(places))))
    if host is not None:
        named = set(found.table.positions.like(host))
        wanted += [rank for rank, place in enumerate(places) if place in named and rank >= most]
    return tuple(
        told.RankedHost(
            rank=rank + 1,
            host=found.table.states[places[rank]].host,
            score=found.score(rank),
            margin=found.score(rank) - found.score(rank + 1) if rank + 1 < len(places) else None,
            weights=tuple(
                told.Weight(weigher=one.weigher, raw=one.raw, normalised=one.normalised, weighted=one.weighted)
                for one in found.weights(rank)
            ),
        )
        for rank in wanted
    )


def _miss(miss: explainer.RefusedHost) -> told.Miss:
    reasons = tuple(reason_of(name, refusal) for name, refusal in miss.refusals)
    return told.Miss(host=miss.host, reasons=reasons, change=miss.change)
