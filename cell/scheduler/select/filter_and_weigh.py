"""One decision, step by step over columns: filter, weigh, take, for one server after the other of a request.

Source: Nova's SchedulerManager._schedule and HostManager.get_filtered_hosts. What was taken stays noted in the
table when all servers got a host; else it is given back and the answer is empty.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cell.scheduler.numa import topology
from cell.scheduler.numa.topology import Settled
from cell.scheduler.policy.compiled_policy import CompiledPolicy
from cell.scheduler.policy.filters import FilterContext
from cell.scheduler.policy.filters.resource_class import demand_at
from cell.scheduler.policy.weighers import disk_mb, sort, weigh
from cell.scheduler.request.resources_and_traits import Demand
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.allocation import Allocation, figures_of
from cellcloud.model.image_properties import text_of
from cellcloud.model.numa import Placed

NUMA_FILTER = "NUMATopologyFilter"
NAMES = "names"
"""What refuses the hosts that a request rules out by name; it stands before all filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """``hosts``: for each server the position chosen and its alternates; () when not all got one.

    ``refused``: filter -> how many hosts it refused of those it was shown; only where no host was left.
    ``placed``: for each server what of NUMA and PCI it got on the chosen host.
    """

    hosts: tuple[tuple[int, ...], ...] = ()
    refused: dict[str, int] = field(default_factory=dict)
    placed: tuple[Placed | None, ...] = ()


def select_stepwise(
    table: HostTable,
    request: SchedulingRequest,
    compiled: CompiledPolicy,
    seed: int = 0,
    *,
    carries_order: bool = False,
) -> Selection:
    """Select hosts for all servers of the request, or for none. ``seed`` decides where the policy wants chance.

    Of equal hosts the lowest position wins. ``carries_order``: within a request, the order of the server before
    decides instead, as in Nova, where the hosts of each request stand in no order at all to begin with.
    """
    return _StepwiseSelection(table, request, compiled, chance_of(seed), carries_order=carries_order).run()


def chance_of(seed: int) -> random.Random:
    """Return what decides where the policy wants chance; the same for the same seed."""
    return random.Random(seed)  # noqa: S311  # it is to be repeatable


def allocation_for(request: SchedulingRequest, demand: Demand | None, settled: Settled | None = None) -> Allocation:
    """Return what a server of the request takes of a host. Source: Nova's HostState.consume_from_request."""
    flavor = request.shape.flavor
    resources = {} if demand is None else {name: amount for name, amount in demand.resources.items() if amount}
    taken = (flavor.memory_mb, disk_mb(flavor), flavor.vcpus)
    follows = figures_of(resources)
    differs = [None if mine == due else mine for mine, due in zip(taken, follows, strict=True)]
    return Allocation(
        resources=resources,
        image_props=props_of(request),
        placed=None if settled is None else settled.placed,
        memory_mb=differs[0],
        disk_mb=differs[1],
        vcpus=differs[2],
        building=settled is None or settled.complete,
    )


def candidates(table: HostTable, request: SchedulingRequest) -> Places:
    """Return the hosts that are there and that the request does not rule out by name."""
    return np.flatnonzero(table.present & named(table, request)).astype(np.int64)


def named(table: HostTable, request: SchedulingRequest) -> Flags:
    """Return which hosts the request's own names leave."""
    found = np.ones(len(table), dtype=np.bool_)
    wanted = request.destination
    if wanted is not None:
        if wanted.cell and not wanted.allow_cross_cell_move:
            cells = np.array(
                [host_class.cell == wanted.cell for host_class in table.host_classes.values], dtype=np.bool_
            )
            found &= cells[table.host_classes.ids]
        if wanted.host:
            found &= _at(table, table.positions.of(wanted.host))
        if wanted.node:
            found &= _at(table, table.positions.of_node(wanted.node))
    for host in request.ignore_hosts:
        found[list(table.positions.like(host))] = False
    if request.force_hosts:
        found &= _at(table, [place for host in request.force_hosts for place in table.positions.like(host)])
    if request.force_nodes:
        found &= _at(table, [place for node in request.force_nodes for place in table.positions.of_node(node)])
    return found


def is_forced(request: SchedulingRequest) -> bool:
    """Return whether hosts are taken as named, without filters."""
    return bool(request.force_hosts or request.force_nodes) and not request.checks_forced


def pass_filters(
    table: HostTable,
    places: Places,
    request: SchedulingRequest,
    compiled: CompiledPolicy,
    context: FilterContext,
    *,
    first: bool,
) -> tuple[Places, dict[str, int]]:
    """Return the places that pass, in their order, and how many each filter refused of those it was shown.

    ``first``: for the first server of a request; for the others, some filters' answers stand.
    """
    refused: dict[str, int] = {}
    if is_forced(request):
        return places, refused
    for rule in compiled.filters:
        asked = rule.on_rebuild if request.shape.rebuild else first or not rule.once
        if not asked or not rule.applies(request, context):
            continue
        left = places[rule.passes(table, places, request, context)]
        if len(left) < len(places):
            refused[rule.name] = len(places) - len(left)
        places = left
        if not len(places):
            break
    return places, refused


def order(
    table: HostTable,
    places: Places,
    request: SchedulingRequest,
    compiled: CompiledPolicy,
    chance: random.Random,
    *,
    most: int | None = None,
) -> Places:
    """Order places, best first; the first is the one selected, by chance among the best few where the policy says so.

    ``most``: how many are wanted; None: all.
    """
    weight = weigh(table, places, request, compiled.options, compiled.weighers)
    most = None if most is None else max(most, compiled.options.host_subset_size)
    if most is not None and most < len(weight) // 4:
        good = weight >= np.partition(weight, -most)[-most]
        places, weight = places[good], weight[good]
    ranks = sort(weight)
    if compiled.options.shuffle_best_same_weighed_hosts and len(ranks):
        best = ranks[weight[ranks] == weight[ranks[0]]].tolist()
        ranks = np.concatenate([chance.sample(best, len(best)), ranks[len(best) :]])
    subset = min(compiled.options.host_subset_size, len(ranks))
    if subset > 1:
        drawn = chance.randrange(subset)
        ranks = np.concatenate([ranks[drawn : drawn + 1], np.delete(ranks, drawn)])
    return places[ranks]


def props_of(request: SchedulingRequest) -> dict[str, str]:
    """Return the properties of a request's image, as servers on hosts have them."""
    return {name: text_of(value) for name, value in request.shape.image_props.items()}


def _at(table: HostTable, positions: Sequence[int]) -> Flags:
    found = np.zeros(len(table), dtype=np.bool_)
    found[list(positions)] = True
    return found


class _StepwiseSelection:
    """The state between the servers of one request. ``places``: the hosts that still pass, the best first."""

    def __init__(
        self,
        table: HostTable,
        request: SchedulingRequest,
        compiled: CompiledPolicy,
        chance: random.Random,
        *,
        carries_order: bool,
    ) -> None:
        self.carries_order = carries_order
        self.table, self.request, self.compiled, self.chance = table, request, compiled, chance
        self.context = FilterContext(compiled.options, table.host_classes.aggregates)
        self.places = candidates(table, request)
        self.unnamed = int(np.count_nonzero(table.present)) - len(self.places)
        self.cells = {host_class.cell for host_class in table.host_classes.values[1:]}
        self.chosen: list[int] = []
        self.placed: list[Placed | None] = []
        self.refused: dict[str, int] = {}

    def run(self) -> Selection:
        servers = self.request.servers
        for number, claim_id in enumerate(servers):
            if not self._rank(claim_id, first=number == 0):
                for taken in servers[:number]:
                    self.table.release(taken)
                return Selection(refused=self.refused)
            self._take(claim_id, int(self.places[0]))
        if self.request.group is None:
            props = props_of(self.request)
            for claim_id, position in zip(servers, self.chosen, strict=True):
                self.table.claims.place(claim_id, self.request.moving or claim_id, position, props)
        if len(servers) > 1 and self.request.alternates:
            self._rank(servers[-1], first=False)
        return Selection(hosts=tuple(self._with_alternates()), placed=tuple(self.placed))

    def _rank(self, claim_id: str, *, first: bool) -> bool:
        self.context = replace(self.context, server_id=self.request.moving or claim_id)
        if not (first or self.carries_order):
            self.places = np.sort(self.places)
        passing, refused = pass_filters(self.table, self.places, self.request, self.compiled, self.context, first=first)
        self.refused = {NAMES: self.unnamed, **refused} if self.unnamed else refused
        alone = len(self.request.servers) == 1 and len(self.cells) == 1
        most = self.request.alternates + 1 if alone else None
        self.places = order(self.table, passing, self.request, self.compiled, self.chance, most=most)
        return bool(len(passing))

    def _take(self, claim_id: str, position: int) -> None:
        table, request = self.table, self.request
        settled = None
        if request.topology.guest is not None or request.topology.devices:
            limited = NUMA_FILTER in self.compiled.policy.filters and not is_forced(request)
            settled = topology.settle(table.topologies.at(position), request.topology, limited=limited)
        allocation = allocation_for(request, demand_at(table, position, request, self.context), settled)
        table.take(claim_id, position, allocation)
        self.chosen.append(position)
        self.placed.append(allocation.placed)
        if settled is not None:
            request = replace(request, topology=settled.request)
        if request.group is not None:
            host = table.states[position].host
            request = replace(request, group=replace(request.group, hosts=(*request.group.hosts, host)))
            table.claims.place(claim_id, request.moving or claim_id, position, props_of(request))
        self.request = request

    def _with_alternates(self) -> list[tuple[int, ...]]:
        """Return each selected host with the next best hosts of its own cell that no server of the request got."""
        table, wanted = self.table, self.request.alternates
        others = self.places[~np.isin(self.places, self.chosen)] if wanted else self.places[:0]
        best: dict[str, list[int]] = {}
        for cell in self.cells:
            mine = np.array([host_class.cell == cell for host_class in table.host_classes.values], dtype=np.bool_)
            best[cell] = others[mine[table.host_classes.ids[others]]][:wanted].tolist()
        return [(place, *best[table.host_classes.at(place).cell]) for place in self.chosen]
