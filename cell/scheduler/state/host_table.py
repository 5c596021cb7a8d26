"""The hosts of a cell as selecting reads them, and where what it selects is noted until the records say so.

A host keeps its position for life; where weights are equal the lowest position wins. Its numbers lie in columns, what
is static of it is its class, what is left of its NUMA cells and PCI devices its topology, and each claim on it is in
the claim map. Every change is noted, so that an index over the table can follow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from cell.scheduler.state.array_types import Amounts, Codes, Flags
from cell.scheduler.state.changed_hosts import ChangedHosts
from cell.scheduler.state.claims_by_host import ENDED, ClaimMap, Held
from cell.scheduler.state.dictionary_encoding import ReportedValues
from cell.scheduler.state.host_classes import HostClasses
from cell.scheduler.state.host_columns import Figure, HostColumns, HostNumbers
from cell.scheduler.state.host_positions import HostName, HostPositions
from cell.scheduler.state.host_topologies import HostTopologies, pci_weight, topology_of
from cellcloud.model import host_report_validation
from cellcloud.model.allocation import Allocation
from cellcloud.model.host import Aggregate, HostState


class Released(NamedTuple):
    """What a claim of a server took until it was given back. ``held`` None: it was part of what the host reported."""

    server_id: str
    held: Held | None
    allocation: Allocation
    image_props: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Overwritten:
    """What a host had said of itself until it said something else; its numbers were ``more`` by so much."""

    position: int
    state: HostState
    report: int
    more: HostNumbers


class HostTable:
    """``states``: what each host said of itself last, by position.

    ``quarantined``: host name -> why its report is not believed; such a host passes no filter, as one that is gone.
    """

    def __init__(self) -> None:
        self.states: list[HostState] = []
        self.positions = HostPositions()
        self.columns = HostColumns()
        self.host_classes = HostClasses()
        self.topologies = HostTopologies()
        self.claims = ClaimMap()
        self.changes = ChangedHosts()
        self.quarantined: dict[str, str] = {}
        self._reported = ReportedValues()
        self._reports: list[int] = []  # how many each host has made

    def __len__(self) -> int:
        return len(self.states)

    # ---- what selecting reads --------------------------------------------------------------------------------------
    @property
    def present(self) -> Flags:
        """Which positions have a host that may be selected."""
        return np.asarray(self.host_classes.ids != 0)

    @property
    def structure(self) -> tuple[int, int]:
        """What changes when resource classes or aggregates come or go: then an index over the table begins anew."""
        return len(self.columns.resource_classes), self.host_classes.revision

    @property
    def hosted(self) -> list[dict[str, Mapping[str, str]]]:
        """The servers on each host, with their images' properties."""
        return self.claims.hosted

    @property
    def hosts_of(self) -> dict[str, tuple[int, ...]]:
        """Server id -> where it is."""
        return self.claims.hosts_of

    def reported(self, key: Hashable, read: Callable[[HostState], Any]) -> tuple[Codes, list[Any]]:
        """Return what ``read`` finds in every host's report, as numbers into its distinct values, and these."""
        return self._reported.read(key, read, self.states, self.columns.room)

    def servers_with(self, prop: tuple[str, str]) -> Amounts:
        """Return how many servers on each host have an image with this property (name, value as text)."""
        return self.claims.servers_with(prop, self.columns.room)[: len(self.states)]

    # ---- hosts -----------------------------------------------------------------------------------------------------
    def set_host(self, state: HostState, *, keeps_use: bool = False) -> Overwritten | None:
        """Note what a host says of itself, be it new or known. One that cannot be true is put into quarantine.

        ``keeps_use``: ``used``, ``servers`` and ``hosted`` of the state say nothing, what is noted of them stays.

        Returns what ``set_host_back`` takes; None where there was nothing before, or nothing that was believed.
        """
        name = (state.host, state.node or state.host)
        position = self.positions.find(name)
        defect = host_report_validation.find_state_defect(state)
        defect = defect or self.positions.find_identity_defect(name, state.uuid)
        if defect is not None:
            self.quarantined[state.host] = defect
            if position is not None:
                self._close(position)
            return None
        believed = self.quarantined.pop(state.host, None) is None
        if position is None:
            position = self._append(name, state)
        elif keeps_use:
            state = self._with_use(position, state)
        self.positions.identify(name, state.uuid)
        if not (keeps_use and believed):
            self._write(position, state, keeps_use=keeps_use)
            return None
        known, report, before = self.states[position], self._reports[position], self.columns.numbers_at(position)
        self._write(position, state, keeps_use=True)
        if not report or known.uuid != state.uuid:
            return None
        return Overwritten(position, known, report, before.less(self.columns.numbers_at(position)))

    def set_host_back(self, was: Overwritten) -> None:
        """Undo ``set_host``, with all that came after it on the host undone before."""
        position = was.position
        self.states[position] = was.state
        self._reports[position] = was.report
        self.columns.write_back(position, was.more)
        self._note_report(position, was.state)

    def remove_host(self, host: str) -> None:
        """Forget a host. Its position is not used again; claims noted on it can still be released."""
        self.quarantined.pop(host, None)
        for position in self.positions.of(host):
            state = self.states[position]
            self.positions.remove((host, state.node or host), state.uuid)
            self._close(position)

    def set_aggregates(self, aggregates: Iterable[Aggregate]) -> None:
        """Replace all aggregates; only hosts whose aggregates changed are touched."""
        for host in self.host_classes.set_aggregates(aggregates):
            for position in self.positions.of(host):
                if self.host_classes.ids[position]:
                    self._classify(position)

    # ---- claims ----------------------------------------------------------------------------------------------------
    def claim(self, claim_id: str, host: str, allocation: Allocation, server_id: str = "") -> None:
        """Note a claim on a host, of the server whose id it has, or of another. A second time, or a host that is not
        known, is no matter."""
        positions = self.positions.of(host)
        if claim_id not in self.claims.held and positions:
            self.take(claim_id, positions[0], allocation)
            self.claims.place(claim_id, server_id or claim_id, positions[0], allocation.image_props)

    def take(self, claim_id: str, position: int, allocation: Allocation) -> None:
        """Subtract what a claim takes; its server is not among the host's until placed."""
        self.claims.held[claim_id] = Held(position, allocation, self._reports[position])
        self._take((position,), allocation)
        if allocation.placed is not None:
            self.topologies.place(position, claim_id, allocation.placed)
            self._weigh_devices(position)

    def put(self, servers: Sequence[str], positions: Sequence[int], allocation: Allocation) -> None:
        """Claim for servers alike that get no place on NUMA cells."""
        self._take(positions, allocation)
        held, place = self.claims.held, self.claims.place
        for server_id, position in zip(servers, positions, strict=True):
            held[server_id] = Held(position, allocation, self._reports[position])
            place(server_id, server_id, position, allocation.image_props)

    def end_build(self, claim_id: str) -> None:
        """Note that no operation is under way for a claim any more; of one that is not counted so, nothing changes."""
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
        self.columns.add_operations(held.position, more)
        self._note(held.position)

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
            self._take((held.position,), allocation, -1, building=held.report == self._reports[held.position])
        if allocation is None or allocation.placed is not None:
            self.topologies.remove(held.position, claim_id)
            self._weigh_devices(held.position)
        if allocation is None or len(places) != 1 or places[0].position != held.position:
            return None
        return Released(server_id, noted, allocation, places[0].image_props)

    def restore(self, claim_id: str, gone: Released, host: str) -> None:
        """Undo a release, if the host has reported nothing since."""
        held, allocation = gone.held, gone.allocation
        position = self.positions.of(host)[0] if held is None else held.position
        if held is not None:
            self.claims.held[claim_id] = held
        building = held is not None and held.report == self._reports[position]
        self._take((position,), allocation, 1, building=building)
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
        """Return what was subtracted for a claim. Raises KeyError when nothing was."""
        allocation = self.claims.held[claim_id].allocation
        if allocation is None:
            raise KeyError(claim_id)
        return allocation

    def _take(self, positions: Sequence[int], allocation: Allocation, sign: int = 1, *, building: bool = True) -> None:
        self.columns.take(positions, allocation, sign, building=building)
        self.changes.note(positions, len(self.states))

    # ---- trying ----------------------------------------------------------------------------------------------------
    def copy(self) -> HostTable:
        """Copy the hosts and claims, to try things on: what changes in one does not in the other."""
        found = HostTable()
        found.states, found._reports = self.states.copy(), self._reports.copy()
        found.positions, found.columns = self.positions.copy(), self.columns.copy()
        found.host_classes, found.topologies = self.host_classes.copy(), self.topologies.copy()
        found.claims, found.changes = self.claims.copy(), self.changes.copy()
        found.quarantined = self.quarantined.copy()
        return found

    # ---- inside ----------------------------------------------------------------------------------------------------
    def _note(self, *positions: int) -> None:
        self.changes.note(positions, len(self.states))

    def _append(self, name: HostName, state: HostState) -> int:
        more = self.columns.append()
        self.host_classes.append(more)
        if more:
            self._reported.grow(more)
            self.claims.grow(more)
        self.states.append(state)
        self.claims.hosted.append({})
        self._reports.append(0)
        return self.positions.add(name)

    def _close(self, position: int) -> None:
        self.host_classes.close(position)
        self._note(position)

    def _classify(self, position: int) -> None:
        self.host_classes.classify(position, self.states[position])
        self._note(position)

    def _with_use(self, position: int, state: HostState) -> HostState:
        """Complete a state by what is noted of the host's use."""
        known = self.states[position]
        used = self.columns.used_at(position, known.capacity)
        return replace(state, used=used, servers=known.servers, hosted=known.hosted)

    def _write(self, position: int, state: HostState, *, keeps_use: bool) -> None:
        servers = int(self.columns.figure(Figure.num_instances)[position]) if keeps_use else None
        self.states[position] = state
        self._reports[position] += 1
        self.columns.write(position, state, servers=servers)
        self._note_report(position, state, hosts=not keeps_use)

    def _note_report(self, position: int, state: HostState, *, hosts: bool = False) -> None:
        """Note what a host reports. ``hosts``: the report says which servers the host has."""
        self.topologies.report(position, topology_of(state))
        self._reported.note(position, state, len(self.states))
        if hosts:
            self._set_hosted(position, state)
        self._weigh_devices(position)
        self._classify(position)

    def _weigh_devices(self, position: int) -> None:
        self.columns.set_figure(Figure.pci_weight, position, pci_weight(self.topologies.at(position)))
        self._note(position)

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
    """Build a table from records, hosts in the order of their names, so that equal records give equal tables.

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
