"""The hosts of a cell as numbers in columns: what choosing reads, and where choices are noted until the records say so.

A host keeps its position for life; where weights are equal the lowest position wins. What is static of a host is
its host class, what is left of its NUMA cells and PCI devices its topology; equal ones are one number. Every change is
noted in ``change``, so that an index over the columns can follow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from cell.scheduler.state.claim_map import ENDED, ClaimMap, Held, take_out
from cell.scheduler.state.host_class import ABSENT, HostClass, host_class_of
from cell.scheduler.state.host_topologies import NO_TOPOLOGY, HostTopologies
from cell.scheduler.state.interned import Interned
from cellcloud.model import host_report_validation
from cellcloud.model.allocation import Allocation
from cellcloud.model.host import Aggregate, HostState
from cellcloud.model.numa import Topology

Amounts = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]
Places = Amounts
"""Positions of hosts, in the order in which equal ones are preferred."""
ALLOCATIONS_KEPT = 4096
MOST_DEVICES = 100  # source: Nova's PCIWeigher
VERDICTS_KEPT = 8192
REPORTED_KEPT = 64


class Figure(IntEnum):
    """Whole numbers of a host under the names of Nova's HostState. Memory and disk in MiB."""

    free_ram_mb = 0
    free_disk_mb = 1
    vcpus_used = 2
    num_instances = 3
    num_io_ops = 4
    failed_builds = 5
    vcpus_total = 6
    hypervisor_version = 7
    pci_weight = 8


@dataclass(frozen=True, slots=True)
class Released:
    """What a claim of a server took until it was given back. ``held`` None: it was part of what the host reported."""

    server_id: str
    held: Held | None
    allocation: Allocation
    image_props: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Overwritten:
    """What a host had said of itself until it said something else: ``free`` and ``figures`` were more by so much."""

    position: int
    state: HostState
    report: int
    free: Amounts
    figures: Amounts
    cpu_ratio: float


class _Reported:
    """Something that hosts report, as numbers into ``values``; values of other types are other values."""

    def __init__(self, read: Callable[[HostState], Any], codes: Codes) -> None:
        self.read, self.codes = read, codes
        self.values: list[Any] = []
        self._known: dict[tuple[str, Hashable], int] = {}

    def note(self, position: int, state: HostState) -> None:
        value = self.read(state)
        key = (type(value).__name__, value if isinstance(value, Hashable) else repr(value))
        code = self._known.setdefault(key, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        self.codes[position] = code


class HostTable:
    """``free`` is (classes, hosts): capacity with its ratio applied, less what is used. ``figures`` (Figure, hosts).

    ``quarantined``: host name -> why its report is not believed; such a host passes no filter, as one that is gone.
    """

    def __init__(self) -> None:
        self.states: list[HostState] = []
        self.position_of: dict[tuple[str, str], int] = {}
        # Values that change are replaced, so that copies may share them.
        self.positions_of: dict[str, tuple[int, ...]] = {}
        self._positions_lowered: dict[str, tuple[int, ...]] = {}
        self._positions_of_node: dict[str, tuple[int, ...]] = {}
        self.classes: list[str] = []
        self.row_of: dict[str, int] = {}
        self.host_classes: Interned[HostClass] = Interned()
        self.host_classes.code(ABSENT)
        self.topologies = HostTopologies()
        self.quarantined: dict[str, str] = {}
        self.claims = ClaimMap()
        self._changed: list[int] = []
        self._change = 0
        self.structure = 0
        self.verdicts: dict[Hashable, Flags] = {}
        self.multipliers: dict[Hashable, Reals] = {}
        self._reported: dict[Hashable, _Reported] = {}
        self._amounts: dict[int, tuple[Allocation, Amounts, Amounts]] = {}  # by identity: it is kept with them
        self._reports: list[int] = []
        self._owner: dict[str, tuple[str, str]] = {}
        self._aggregates: dict[int, Aggregate] = {}
        self._aggregates_of: dict[str, list[int]] = {}
        self._moves: dict[tuple[int, int, bool], tuple[Allocation, list[int]]] = {}  # what is still to be added up
        self._free_but_moves = np.zeros((0, 0), dtype=np.int64)
        self._figures_but_moves = np.zeros((len(Figure), 0), dtype=np.int64)
        self._cpu_ratio = np.zeros(0, dtype=np.float64)
        self._host_class_ids = np.zeros(0, dtype=np.int32)

    # ---- what choosing reads ---------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self.states)

    @property
    def free(self) -> Amounts:
        return self._free[:, : len(self.states)]

    @property
    def host_class_ids(self) -> Codes:
        """Numbers into ``host_classes``; 0 where no host may be chosen."""
        return self._host_class_ids[: len(self.states)]

    @property
    def cpu_ratio(self) -> Reals:
        return self._cpu_ratio[: len(self.states)]

    def figure(self, figure: Figure) -> Amounts:
        """One figure of every host."""
        return self._figures[figure, : len(self.states)]

    @property
    def present(self) -> Flags:
        """Which positions have a host that may be chosen."""
        return np.asarray(self.host_class_ids != 0)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts by position; "" where there is none any more."""
        return tuple(state.host for state in self.states)

    def host_class_at(self, position: int) -> HostClass:
        return self.host_classes.values[int(self._host_class_ids[position])]

    def topology_at(self, position: int) -> Topology:
        """What is left of a host's NUMA cells and PCI devices."""
        return self.topologies.at(position)

    def positions_like(self, host: str) -> tuple[int, ...]:
        """Where hosts of this name are, whatever the case."""
        return self._positions_lowered.get(host.lower(), ())

    def positions_of_node(self, node: str) -> tuple[int, ...]:
        """Where a node of this name is."""
        return self._positions_of_node.get(node, ())

    def keep_verdicts(self, key: Hashable, verdicts: Flags) -> None:
        """Keep what a rule answered for each host class; the oldest goes when there are too many."""
        self.verdicts.pop(key, None)
        while len(self.verdicts) >= VERDICTS_KEPT:
            del self.verdicts[next(iter(self.verdicts))]
        self.verdicts[key] = verdicts

    def reported(self, key: Hashable, read: Callable[[HostState], Any]) -> tuple[Codes, list[Any]]:
        """What ``read`` finds in every host's report, as numbers into its distinct values. Kept by ``key``."""
        found = self._reported.get(key)
        if found is None:
            if len(self._reported) >= REPORTED_KEPT:
                del self._reported[next(iter(self._reported))]
            found = self._reported[key] = _Reported(read, np.zeros(self._host_class_ids.shape[0], dtype=np.int32))
            for position, state in enumerate(self.states):
                found.note(position, state)
        return found.codes[: len(self.states)], found.values

    @property
    def change(self) -> int:
        """A number that grows with each change of a host."""
        return self._change + len(self._changed)

    def changed_since(self, change: int) -> set[int] | None:
        """Positions that changed after a change; None when it is too long ago to say."""
        return None if change < self._change else set(self._changed[change - self._change :])

    def _note(self, *positions: int) -> None:
        if len(self._changed) > 4 * len(self.states) + 4096:
            self._change += len(self._changed)
            self._changed.clear()
            self.add_up()
        self._changed.extend(positions)

    # ---- hosts -----------------------------------------------------------------------------------------------------
    def set_host(self, state: HostState, *, keeps_use: bool = False) -> Overwritten | None:
        """Note what a host says of itself, be it new or known. One that cannot be true is put into quarantine.

        ``keeps_use``: ``used``, ``servers`` and ``hosted`` of the state say nothing, what is noted of them stays.

        Returns what ``set_host_back`` takes; None where there was nothing before, or nothing that was believed.
        """
        name = (state.host, state.node or state.host)
        position = self.position_of.get(name)
        fault = host_report_validation.find_state_defect(state) or self._second_name(state, name)
        if fault is not None:
            self.quarantined[state.host] = fault
            if position is not None:
                self._close(position)
            return None
        believed = self.quarantined.pop(state.host, None) is None
        if position is None:
            position = self._append(name, state)
        elif keeps_use:
            state = self._with_use(position, state)
        if state.uuid:
            self._owner[state.uuid] = name
        if not (keeps_use and believed):
            self._write(position, state, keeps_use=keeps_use)
            return None
        known, report, ratio = self.states[position], self._reports[position], float(self._cpu_ratio[position])
        free, figures = self._free[:, position].copy(), self._figures[:, position].copy()
        self._write(position, state, keeps_use=True)
        if not report or known.uuid != state.uuid:
            return None
        free = np.pad(free, (0, len(self.classes) - len(free))) - self._free[:, position]
        return Overwritten(position, known, report, free, figures - self._figures[:, position], ratio)

    def set_host_back(self, was: Overwritten) -> None:
        """Undo ``set_host``, with all that came after it on the host undone before."""
        position = was.position
        self.states[position] = was.state
        self._reports[position] = was.report
        self._free[: len(was.free), position] += was.free
        self._figures[:, position] += was.figures
        self._cpu_ratio[position] = was.cpu_ratio
        self._note_report(position, was.state)
        self._weigh_devices(position)
        self._sign(position)

    def remove_host(self, host: str) -> None:
        """Forget a host. Its position is not used again; servers noted on it can still be released."""
        self.quarantined.pop(host, None)
        for position in self.positions_of.pop(host, ()):
            state = self.states[position]
            del self.position_of[host, state.node or host]
            take_out(self._positions_lowered, host.lower(), position)
            take_out(self._positions_of_node, state.node or host, position)
            if self._owner.get(state.uuid) == (host, state.node or host):
                del self._owner[state.uuid]
            self._close(position)

    def set_aggregates(self, aggregates: Iterable[Aggregate]) -> None:
        """Replace all aggregates; only hosts whose aggregates changed are touched."""
        before = self._aggregates
        self._aggregates = {one.id: one for one in aggregates}
        touched = {
            host
            for one in (*before.values(), *self._aggregates.values())
            if before.get(one.id) != self._aggregates.get(one.id)
            for host in one.hosts
        }
        members: dict[str, list[int]] = {}
        for one in self._aggregates.values():
            for host in one.hosts:
                members.setdefault(host, []).append(one.id)
        self._aggregates_of = members
        self.verdicts.clear()
        self.structure += 1
        for host in touched:
            for position in self.positions_of.get(host, ()):
                if self._host_class_ids[position]:
                    self._sign(position)

    @property
    def aggregates(self) -> tuple[Aggregate, ...]:
        return tuple(self._aggregates.values())

    # ---- servers ---------------------------------------------------------------------------------------------------
    @property
    def hosted(self) -> list[dict[str, Mapping[str, str]]]:
        """The servers on each host, with their images' properties."""
        return self.claims.hosted

    @property
    def hosts_of(self) -> dict[str, tuple[int, ...]]:
        """Server id -> where it is."""
        return self.claims.hosts_of

    def claim(self, claim_id: str, host: str, allocation: Allocation, server_id: str = "") -> None:
        """Note a claim on a host, of the server whose id it has, or of another. A second time, or a host that is not
        known, is no matter."""
        positions = self.positions_of.get(host)
        if claim_id not in self.claims.held and positions:
            self.take(claim_id, positions[0], allocation)
            self.claims.place(claim_id, server_id or claim_id, positions[0], allocation.image_props)

    def take(self, claim_id: str, position: int, allocation: Allocation) -> None:
        """Subtract what a claim takes; its server is not among the host's until placed."""
        self.claims.held[claim_id] = Held(position, allocation, self._reports[position])
        self._move((position,), allocation, 1)
        if allocation.placed is not None:
            self.topologies.place(position, claim_id, allocation.placed)
            self._weigh_devices(position)

    def put(self, servers: Sequence[str], positions: Sequence[int], allocation: Allocation) -> None:
        """``claim`` for servers alike that get no place on NUMA cells."""
        self._move(positions, allocation, 1)
        held, place = self.claims.held, self.claims.place
        for server_id, position in zip(servers, positions, strict=True):
            held[server_id] = Held(position, allocation, self._reports[position])
            place(server_id, server_id, position, allocation.image_props)

    def end_build(self, claim_id: str) -> None:
        """No operation is under way for a claim any more; of one that is not counted so, nothing changes."""
        held = self.claims.held.get(claim_id)
        if held is None or held.allocation is None or held.report != self._reports[held.position]:
            return
        if held.allocation.building:
            self._set_building(claim_id, held, ENDED, -1)

    def resume_build(self, claim_id: str) -> None:
        """Undo ``end_build``, if it changed something."""
        held = self.claims.held.get(claim_id)
        if held is not None and held.report == ENDED:
            self._set_building(claim_id, held, self._reports[held.position], 1)

    def _set_building(self, claim_id: str, held: Held, report: int, more: int) -> None:
        self.claims.held[claim_id] = replace(held, report=report)
        self._figures_but_moves[Figure.num_io_ops, held.position] += more
        self._note(held.position)

    def servers_with(self, prop: tuple[str, str]) -> Amounts:
        """How many servers on each host have an image with this property (name, value as text)."""
        return self.claims.servers_with(prop, self._host_class_ids.shape[0])[: len(self.states)]

    def release(self, claim_id: str, given: Allocation | None = None) -> Released | None:
        """Give back what a claim took. ``given`` is needed for one that came with a host's report.

        Returns what ``restore`` takes; None when there was nothing, or when it was in several places.
        """
        server_id = self.claims.server_of(claim_id)
        held = noted = self.claims.held.pop(claim_id, None)
        places = self.claims.leave(claim_id)
        if held is None:
            if not places:
                return None
            held = Held(places[0].position, None, ENDED)
        allocation = held.allocation or given
        if allocation is not None:
            self._move((held.position,), allocation, -1, building=held.report == self._reports[held.position])
        if allocation is None or allocation.placed is not None:
            self.topologies.remove(held.position, claim_id)
            self._weigh_devices(held.position)
        if allocation is None or len(places) != 1 or places[0].position != held.position:
            return None
        return Released(server_id, noted, allocation, places[0].image_props)

    def restore(self, claim_id: str, gone: Released, host: str) -> None:
        """Undo a release, if the host has reported nothing since."""
        held, allocation = gone.held, gone.allocation
        position = self.positions_of[host][0] if held is None else held.position
        if held is not None:
            self.claims.held[claim_id] = held
        building = held is not None and held.report == self._reports[position]
        self._move((position,), allocation, 1, building=building)
        if allocation.placed is not None:
            self.topologies.place(position, claim_id, allocation.placed)
            self._weigh_devices(position)
        self.claims.place(claim_id, gone.server_id, position, gone.image_props)

    def swap(self, claim_id: str, other_id: str, server_id: str) -> None:
        """Let two claims of a server stand for what the other did. A second time undoes it."""
        mine = {(place, claim_id): other_id for place in self.claims.positions_of(claim_id)}
        its = {(place, other_id): claim_id for place in self.claims.positions_of(other_id)}
        self.topologies.rename(mine | its)
        self.claims.swap(claim_id, other_id, server_id)

    def allocation_of(self, claim_id: str) -> Allocation:
        """What was subtracted for a claim. Raises KeyError when nothing was."""
        allocation = self.claims.held[claim_id].allocation
        if allocation is None:
            raise KeyError(claim_id)
        return allocation

    def host_of(self, claim_id: str) -> str | None:
        """The host a claim was noted on."""
        held = self.claims.held.get(claim_id)
        return None if held is None else self.states[held.position].host

    def _weigh_devices(self, position: int) -> None:
        self._figures[Figure.pci_weight, position] = pci_weight(self.topology_at(position))
        self._note(position)

    def _move(self, positions: Sequence[int], allocation: Allocation, sign: int, *, building: bool = True) -> None:
        """``building`` False: what was under way for the servers is not in the figures any more."""
        key = (id(allocation), sign, building)
        moves = self._moves.get(key)
        if moves is None:
            self._amounts_of(allocation)  # which makes a row for a resource class that is new
            self._moves[key] = (allocation, list(positions))
        else:
            moves[1].extend(positions)
        self._note(*positions)

    def add_up(self) -> None:
        """Numbers are added up when they are read, not for each server: an index in front of them reads them seldom."""
        moves, self._moves = self._moves, {}
        for (_, sign, building), (allocation, positions) in moves.items():
            free, figures = self._amounts_of(allocation)
            if allocation.building and not building:
                figures = figures.copy()
                figures[Figure.num_io_ops] = 0
            if len(positions) == 1:
                self._free_but_moves[:, positions[0]] -= sign * free
                self._figures_but_moves[:, positions[0]] += sign * figures
                continue
            places, counts = np.unique(np.array(positions, dtype=np.int64), return_counts=True)
            self._free_but_moves[:, places] -= sign * np.outer(free, counts)
            self._figures_but_moves[:, places] += sign * np.outer(figures, counts)

    @property
    def _free(self) -> Amounts:
        if self._moves:
            self.add_up()
        return self._free_but_moves

    @property
    def _figures(self) -> Amounts:
        if self._moves:
            self.add_up()
        return self._figures_but_moves

    def _amounts_of(self, allocation: Allocation) -> tuple[Amounts, Amounts]:
        """What an allocation adds to the use of each class, and to each figure; worked out once for each."""
        known = self._amounts.get(id(allocation))
        if known is not None and len(known[1]) == len(self.classes):
            return known[1], known[2]
        rows = {self._row(name): amount for name, amount in allocation.resources.items() if amount}
        free, figures = np.zeros(len(self.classes), dtype=np.int64), np.zeros(len(Figure), dtype=np.int64)
        free[list(rows)] = list(rows.values())
        memory_mb, disk_mb, figures[Figure.vcpus_used] = allocation.figures
        figures[Figure.free_ram_mb], figures[Figure.free_disk_mb] = -memory_mb, -disk_mb
        figures[Figure.num_instances] = 1
        figures[Figure.num_io_ops] = allocation.building
        if len(self._amounts) >= ALLOCATIONS_KEPT:
            self._amounts.clear()
        self._amounts[id(allocation)] = (allocation, free, figures)
        return free, figures

    # ---- trying ----------------------------------------------------------------------------------------------------
    def copy(self) -> HostTable:
        """The same hosts and servers, to try things on: what changes in one does not in the other."""
        found = HostTable()
        self.add_up()
        for name, value in vars(self).items():
            vars(found)[name] = value.copy() if isinstance(value, list | dict | np.ndarray | Interned) else value
        found.claims, found.topologies = self.claims.copy(), self.topologies.copy()
        found._reported = {}
        return found

    # ---- writing ---------------------------------------------------------------------------------------------------
    def _second_name(self, state: HostState, name: tuple[str, str]) -> str | None:
        owner = self._owner.get(state.uuid, name) if state.uuid else name
        return None if owner == name else f"reports the identity {state.uuid} of host {owner[0]}"

    def _append(self, name: tuple[str, str], state: HostState) -> int:
        position = len(self.states)
        if position == self._host_class_ids.shape[0]:
            self._grow(max(64, 2 * position))
        self.states.append(state)
        self.hosted.append({})
        self._reports.append(0)
        self.position_of[name] = position
        self.positions_of[name[0]] = (*self.positions_of.get(name[0], ()), position)
        lowered = name[0].lower()
        self._positions_lowered[lowered] = (*self._positions_lowered.get(lowered, ()), position)
        self._positions_of_node[name[1]] = (*self._positions_of_node.get(name[1], ()), position)
        return position

    def _grow(self, room: int) -> None:
        more = room - self._host_class_ids.shape[0]
        self._free_but_moves = np.pad(self._free, ((0, 0), (0, more)))
        self._figures_but_moves = np.pad(self._figures, ((0, 0), (0, more)))
        self._cpu_ratio = np.pad(self._cpu_ratio, (0, more))
        self._host_class_ids = np.pad(self._host_class_ids, (0, more))
        for found in self._reported.values():
            found.codes = np.pad(found.codes, (0, more))
        self.claims.grow(more)
        self.structure += 1

    def _row(self, name: str) -> int:
        row = self.row_of.get(name)
        if row is None:
            self.add_up()  # while there is no such class
            row = self.row_of[name] = len(self.classes)
            self.classes.append(name)
            self._free_but_moves = np.pad(self._free_but_moves, ((0, 1), (0, 0)))
            self.structure += 1
        return row

    def _close(self, position: int) -> None:
        self._host_class_ids[position] = 0
        self._note(position)

    def _sign(self, position: int) -> None:
        state = self.states[position]
        mine = (self._aggregates[number] for number in self._aggregates_of.get(state.host, ()))
        self._host_class_ids[position] = self.host_classes.code(host_class_of(state, mine))
        self._note(position)

    def _with_use(self, position: int, state: HostState) -> HostState:
        """The state with what is noted of the host's use."""
        known = self.states[position]
        used = {name: self._used(position, name) for name in self.classes}
        return replace(state, used=used, servers=known.servers, hosted=known.hosted)

    def _used(self, position: int, name: str) -> int:
        capacity = self.states[position].capacity.get(name, 0)
        return capacity - int(self._free[self.row_of[name], position])

    def _write(self, position: int, state: HostState, *, keeps_use: bool) -> None:
        servers = int(self._figures[Figure.num_instances, position])
        self.states[position] = state
        self._reports[position] += 1
        for name in {*state.capacity, *state.used}:
            self._row(name)
        free, figures = self._free, self._figures
        for name, row in self.row_of.items():
            free[row, position] = _left(state, name)
        stats = state.stats or {}
        reported = _count(stats, "num_instances")
        figures[:-1, position] = (  # in the order of Figure; the last, of devices, is written below
            _given(state.free_ram_mb, _left(state, "MEMORY_MB")),
            1024 * _least(state, _left(state, "DISK_GB")),
            _given(state.vcpus_used, state.used.get("VCPU", 0) + state.used.get("PCPU", 0)),
            servers if keeps_use else _given(reported, state.servers),
            _given(_count(stats, "io_workload"), 0),
            _given(_count(stats, "failed_builds"), 0),
            _given(state.vcpus, _capacity_of_cpus(state)),
            state.hypervisor_version or 0,
        )
        self._cpu_ratio[position] = 1.0 if state.vcpus is None else state.cpu_allocation_ratio
        self._note_report(position, state)
        if not keeps_use:
            self._set_hosted(position, state)
        self._weigh_devices(position)
        self._sign(position)

    def _note_report(self, position: int, state: HostState) -> None:
        self.topologies.report(position, _topology_of(state))
        for key, found in list(self._reported.items()):
            found.note(position, state)
            if len(found.values) > 4 * len(self.states) + 1024:  # values that come and go
                del self._reported[key]

    def _set_hosted(self, position: int, state: HostState) -> None:
        named = {server.claim_id or server.uuid for server in state.hosted}
        for claim_id in self.claims.clear(position):
            if claim_id not in named:
                self.topologies.remove(position, claim_id)
        for server in state.hosted:
            claim_id = server.claim_id or server.uuid
            self.claims.place(claim_id, server.uuid, position, server.image_props)
            if server.placed is not None:
                self.topologies.place(position, claim_id, server.placed)


def build(
    states: Sequence[HostState], aggregates: Iterable[Aggregate] = (), *, order_seed: int | None = None
) -> HostTable:
    """Columns from records, hosts in the order of their names, so that equal records give equal columns.

    ``order_seed`` shuffles them: schedulers with different seeds prefer different ones among equal hosts.
    """
    found = HostTable()
    found.set_aggregates(aggregates)
    ordered = sorted(states, key=lambda state: (state.host, state.node))
    if order_seed is not None:
        order = np.random.default_rng(abs(order_seed)).permutation(len(ordered))
        ordered = [ordered[place] for place in order]
    for state in ordered:
        found.set_host(state)
    return found


def pci_weight(found: Topology) -> int:
    """What the PCI weigher reads: the fewer free devices, the more. Source: Nova's PCIWeigher."""
    return MOST_DEVICES - min(sum(pool.count for pool in found.pools), MOST_DEVICES - 1)


def _topology_of(state: HostState) -> Topology:
    if state.numa is None and not state.pci_pools:
        return NO_TOPOLOGY
    return Topology(
        cells=state.numa,
        pools=state.pci_pools,
        cpu_ratio=state.cpu_allocation_ratio,
        memory_ratio=state.ram_allocation_ratio,
    )


def _left(state: HostState, name: str) -> int:
    """What the host has left of a resource class by its own word."""
    return state.capacity.get(name, 0) - state.used.get(name, 0)


def _given(reported: int | None, otherwise: int) -> int:
    return otherwise if reported is None else reported


def _count(stats: Mapping[str, str | None], name: str) -> int | None:
    text = stats.get(name)
    return None if text is None else host_report_validation.count_of(text)


def _capacity_of_cpus(state: HostState) -> int:
    return state.capacity.get("VCPU", 0) + state.capacity.get("PCPU", 0)


def _least(state: HostState, otherwise: int) -> int:
    """Free disk in GiB: of what is on the books and what is really there, the less. Source: Nova's HostState."""
    free = _given(state.free_disk_gb, otherwise)
    return free if state.disk_available_least is None else min(free, state.disk_available_least)
