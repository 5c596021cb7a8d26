"""Choosing hosts: no I/O, no clock, no chance. The same columns, requests and seeds give the same answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cell.scheduler import weights
from cell.scheduler.filters import FILTERS
from cell.scheduler.snapshot import Amounts, Flags, Snapshot
from cellcloud import fastsched
from cellcloud.model.placement import SelectAnswer, SelectRequest


def select(snapshot: Snapshot, requests: Sequence[SelectRequest]) -> list[SelectAnswer]:
    """Rank hosts for each request. The best one's room is taken from ``snapshot`` before the next request looks."""
    return [_select_one(snapshot, request) for request in requests]


def _select_one(snapshot: Snapshot, request: SelectRequest) -> SelectAnswer:
    allowed, refused = _filter(snapshot, request)
    need = snapshot.need(request.resources)
    if need is None:
        refused["resource_class"] = int(allowed.sum())
        return SelectAnswer(server_id=request.server_id, refused=refused)
    fitting = fastsched.fitting(snapshot.free, need, allowed.view(np.uint8))
    if not len(fitting):
        return SelectAnswer(server_id=request.server_id, refused=refused | _lacking(snapshot, need, allowed))
    ranked = _rank(snapshot, fitting, max(request.alternates, 0) + 1, request.seed)
    snapshot.take(int(ranked[0]), need)
    return SelectAnswer(server_id=request.server_id, hosts=tuple(snapshot.hosts[place] for place in ranked))


def _filter(snapshot: Snapshot, request: SelectRequest) -> tuple[Flags, dict[str, int]]:
    """Hosts that every filter left, and how many each one refused of those it was shown."""
    allowed = np.ones(len(snapshot.hosts), dtype=np.bool_)
    refused: dict[str, int] = {}
    for name, passes in FILTERS:
        left = allowed & passes(snapshot, request)
        lost = int(allowed.sum()) - int(left.sum())
        if lost:
            refused[name] = lost
        allowed = left
    return allowed, refused


def _lacking(snapshot: Snapshot, need: Amounts, allowed: Flags) -> dict[str, int]:
    """Resource class -> hosts that lack it; a host counts for the first class it lacks."""
    counts: dict[str, int] = {}
    left = allowed
    for name, free, amount in zip(snapshot.classes, snapshot.free, need, strict=True):
        lacks = left & (free < amount)
        if lacks.any():
            counts[name] = int(lacks.sum())
        left = left & ~lacks
    return counts


def _rank(snapshot: Snapshot, fitting: Amounts, count: int, seed: int) -> Amounts:
    """The ``count`` best, best first. Equal hosts are ordered by the seed, so that schedulers racing with different
    seeds spread out."""
    weight = weights.weigh(snapshot, fitting)
    if count < len(fitting):
        good = weight >= np.partition(weight, -count)[-count]
        fitting, weight = fitting[good], weight[good]
    ties = np.random.default_rng(abs(seed)).permutation(len(fitting))
    return np.asarray(fitting[np.lexsort((ties, -weight))][:count], dtype=np.int64)
