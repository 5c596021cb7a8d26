"""The fast way to a decision: an index over the columns, for requests whose hosts' figures alone decide.

The index holds for each host its class, what is left of each resource class (and of each limit on servers and
operations), and the raw weights that are the host's own. A request that names hosts, servers or a group, that asks for
NUMA cells or devices, or whose filters and weighers read anything else, goes the slow way (see filter_and_weigh), to
the same answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from cell.scheduler.policy.compiled_policy import CompiledPolicy
from cell.scheduler.policy.filters import FilterContext
from cell.scheduler.policy.filters.counts import CountFilter
from cell.scheduler.policy.filters.interface import HostClassFilter
from cell.scheduler.policy.filters.resource_class import ResourceClassFilter
from cell.scheduler.policy.weighers import multipliers
from cell.scheduler.request.resources_and_traits import Demand, demands_of
from cell.scheduler.request.scheduling_request import SHAPES_KEPT, ParsedShape, SchedulingRequest
from cell.scheduler.select.filter_and_weigh import Selection, allocation_for, chance_of
from cell.scheduler.state.array_types import Amounts, Flags, Places, Reals
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.host_table import HostTable
from cellcloud.fastsched import Index
from cellcloud.model.allocation import Allocation

POLICIES_KEPT = 4  # of one table: the active policy, the shadow, and those being tried
MOST_HOST_CLASSES = 1 << 20
SUBDIVISIONS = 64.0
MANY = 64
REST = 1000  # decisions until an index that could not hold its hosts is tried again
LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _ShapeClass:
    """A class of the index. ``classes_seen``: for how many it was said which of them pass. ``unknown``: it asks for a
    resource class that no host has."""

    number: int
    demand: Demand | None
    allocation: Allocation
    classes_seen: int
    unknown: bool


class KernelIndex:
    """An index over a table's hosts for one compiled policy. It follows the table before each use."""

    def __init__(self, table: HostTable, compiled: CompiledPolicy) -> None:
        self.table, self.compiled = table, compiled
        self._weighers = tuple((one, one.own) for one in compiled.weighers if one.own is not None)
        self._limits = tuple(one for one in compiled.filters if isinstance(one, CountFilter))
        self._class_filters = tuple(one for one in compiled.filters if isinstance(one, HostClassFilter))
        self._classes: dict[ParsedShape, _ShapeClass | None] = {}
        self._rows: tuple[str, ...] | None = None
        self._index = Index(0, ())
        self._exact = self._one_cell = True
        self._judged = self._rest = 0
        self._structure: tuple[int, int] | None = None  # of the table when it was loaded
        self._seen = 0

    # ---- deciding --------------------------------------------------------------------------------------------------
    def select(self, request: SchedulingRequest, seed: int, servers: Sequence[str] = ()) -> Selection | None:
        """Select hosts for all servers of the request (or those given), or for none; None when the index cannot hold
        such a request, or when its answer must be explained: no host fits."""
        servers = servers or request.servers
        several = len(servers) > 1
        if self._rest or not request.plain or (several and self.compiled.options.host_subset_size > 1):
            self._rest = max(0, self._rest - 1)
            return None
        try:
            self._follow()
            kind = self._class_of(request)
            if kind is None or (several and not self._exact):
                return None
            rows = self._place(request, kind, len(servers)) if several else self._rank(request, kind, seed)
        except ValueError:  # more columns than it has, or figures that it does not take
            LOG.warning("the index cannot hold the hosts", exc_info=True)
            self._structure, self._rest = None, REST
            return None
        if not rows:
            return None
        self.table.put(servers, [row[0] for row in rows], kind.allocation)
        if self._exact:  # the index has them already
            self._seen = self.table.changes.count
        return Selection(hosts=rows, placed=(None,) * len(rows))

    def _rank(self, request: SchedulingRequest, kind: _ShapeClass, seed: int) -> tuple[tuple[int, ...], ...]:
        """Select a host for a single server, and its alternates; () when no host fits."""
        subset = self.compiled.options.host_subset_size
        best = self._index.choose(kind.number, max(subset, request.alternates + 1))
        if not best:
            return ()
        if subset > 1:
            best.insert(0, best.pop(chance_of(seed).randrange(min(subset, len(best)))))
        if self._exact:
            self._index.claim(kind.number, best[0])
        return (tuple(best[: request.alternates + 1]),)

    def _place(self, request: SchedulingRequest, kind: _ShapeClass, count: int) -> tuple[tuple[int, ...], ...]:
        """Select hosts for several servers, and the alternates that they share; () when not all fit."""
        chosen = [row[0] for row in self._index.place(kind.number, count)]
        if len(chosen) < count:
            for position in chosen:
                self._index.release(kind.number, position)
            return ()
        others: list[int] = []
        if request.alternates:
            mine = set(chosen)
            best = self._index.choose(kind.number, len(mine) + request.alternates)
            others = [place for place in best if place not in mine][: request.alternates]
        return tuple((place, *others) for place in chosen)

    def _judge(self) -> None:
        """Judge whether the index can answer: not where there are hosts of several cells, or very many host classes."""
        host_classes = self.table.host_classes.values
        self._judged = len(host_classes)
        self._one_cell = len({one.cell for one in host_classes[1:]}) <= 1 and len(host_classes) <= MOST_HOST_CLASSES

    # ---- classes ---------------------------------------------------------------------------------------------------
    def _class_of(self, request: SchedulingRequest) -> _ShapeClass | None:
        if self._judged != len(self.table.host_classes):
            self._judge()
        if not self._one_cell:
            return None
        shape = request.shape
        if shape in self._classes:
            kind = self._classes[shape]
        else:
            kind = self._add_class(request) if self._can_hold(request) else None
            if len(self._classes) >= SHAPES_KEPT:
                oldest = self._classes.pop(next(iter(self._classes)))
                if oldest is not None:
                    self._index.drop_class(oldest.number)
            self._classes[shape] = kind
        if kind is not None and not kind.unknown and kind.classes_seen < len(self.table.host_classes):
            passes, factors = self._passes(request)
            self._index.set_passes(kind.number, passes, factors)
            kind.classes_seen = len(self.table.host_classes)
        return kind

    def _can_hold(self, request: SchedulingRequest) -> bool:
        options, shape = self.compiled.options, request.shape
        beyond = (
            shape.rebuild
            or shape.topology.guest is not None
            or shape.topology.devices
            or len(demands_of(shape, pinned_only=options.disable_fallback_pcpu_query)) > 1
            or options.shuffle_best_same_weighed_hosts
            or options.metrics_weight_setting
            or (options.image_props_weight_multiplier and shape.image_props)
        )
        context = FilterContext(options, self.table.host_classes.aggregates)
        held = (HostClassFilter, CountFilter, ResourceClassFilter)
        return not beyond and all(
            isinstance(one, held) or not one.applies(request, context) for one in self.compiled.filters
        )

    def _add_class(self, request: SchedulingRequest) -> _ShapeClass:
        demand = demands_of(request.shape)[0]
        asks = any(isinstance(one, ResourceClassFilter) for one in self.compiled.filters)
        amounts = [demand.resources.get(name, 0) if asks else 0 for name in self.table.columns.resource_classes]
        unknown = asks and any(name not in self.table.columns.row_of for name in demand.resources)
        passes, factors = self._passes(request)
        number = self._index.add_class(
            np.array([*amounts, *[1] * len(self._limits)], dtype=np.int64),
            np.zeros(len(passes), dtype=np.uint8) if unknown else passes,
            factors,
            np.array([one.step(request.shape.flavor) for one, _ in self._weighers], dtype=np.float64),
        )
        return _ShapeClass(number, demand, allocation_for(request, demand), len(self.table.host_classes), unknown)

    def _passes(self, request: SchedulingRequest) -> tuple[Flags, Reals]:
        """Return for each host class whether its hosts pass, and their multipliers (or those of all)."""
        context = FilterContext(self.compiled.options, self.table.host_classes.aggregates)
        host_classes = self.table.host_classes
        found = np.ones(len(host_classes), dtype=np.bool_)
        found[0] = False
        for rule in self._class_filters:
            if rule.applies(request, context):
                found &= rule.verdicts(host_classes, request, context)
        columns = [multipliers(self.table, one, self.compiled.options) for one, _ in self._weighers]
        factors = np.stack(columns, axis=1) if columns else np.zeros((len(host_classes), 0))
        alike = bool((factors == factors[0]).all())
        return found.view(np.uint8), factors[0] if alike else factors

    # ---- following the table ------------------------------------------------------------------------------------
    def _load(self) -> None:
        """Load everything anew; classes stay where the index keeps its columns."""
        table = self.table
        rows = tuple(table.columns.resource_classes)
        if self._rows != rows:
            self._rows = None
            self._classes.clear()
            self._index = Index(len(rows) + len(self._limits), [one.floor for one, _ in self._weighers])
            self._rows = rows
        known = [(shape, kind) for shape, kind in self._classes.items() if kind is not None]
        self._classes = dict(known)
        for _, kind in known:
            kind.classes_seen = 0
        places = np.arange(len(table))
        self._index.load(table.host_classes.ids, self._free(places), self._raw(places))
        self._exact = self._is_exact(places)
        self._structure, self._seen = table.structure, table.changes.count

    def _follow(self) -> None:
        """Take in what changed since: host by host, or everything when that is less work."""
        table = self.table
        changed = table.changes.since(self._seen)
        grown = self._structure != table.structure or self._index.hosts != len(table)
        if grown or changed is None or len(changed) > max(MANY, len(table) // 4):
            self._load()
        elif changed:
            places = np.array(sorted(changed), dtype=np.int64)
            free, raw = self._free(places), self._raw(places)
            for column, place in enumerate(places.tolist()):
                self._index.set_host(place, int(table.host_classes.ids[place]), free[:, column], raw[:, column])
            self._exact = self._exact and self._is_exact(places)
            self._seen = table.changes.count

    def _is_exact(self, places: Places) -> bool:
        """Return whether raw weights stay the same to the last bit when claims are added up one by one: where the
        number of a host's CPUs times its ratio has no long fraction."""
        total = (
            self.table.columns.figure(Figure.vcpus_total)[places] * self.table.columns.cpu_ratio[places] * SUBDIVISIONS
        )
        return bool((total == np.floor(total)).all())

    def _free(self, places: Places) -> Amounts:
        table = self.table
        context = FilterContext(self.compiled.options, table.host_classes.aggregates)
        limits = [
            one.limits(table, context)[table.host_classes.ids[places]] - table.columns.figure(one.figure)[places]
            for one in self._limits
        ]
        return np.concatenate(
            [
                table.columns.free[:, places],
                np.array(limits, dtype=np.int64).reshape(len(limits), len(places)),
            ]
        )

    def _raw(self, places: Places) -> Reals:
        columns = [own(self.table, places) for _, own in self._weighers]
        return np.array(columns, dtype=np.float64).reshape(len(self._weighers), len(places))


_INDEXES: WeakKeyDictionary[HostTable, dict[CompiledPolicy, KernelIndex]] = WeakKeyDictionary()


def index_of(table: HostTable, compiled: CompiledPolicy) -> KernelIndex:
    """Return the index of a table for a compiled policy; it is made at its first use."""
    mine = _INDEXES.setdefault(table, {})
    if compiled not in mine:
        while len(mine) >= POLICIES_KEPT:
            del mine[next(iter(mine))]
        mine[compiled] = KernelIndex(table, compiled)
    return mine[compiled]


def forget(table: HostTable) -> None:
    """Let go of a table's indexes, which hold it: nobody will choose from it any more."""
    _INDEXES.pop(table, None)
