"""The topologies of a cell's hosts: what each reported, less what the servers placed there use. Equal ones are one
number, and what a rule said of a topology is remembered until no host has it any more."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import numpy as np
import numpy.typing as npt

from cell.scheduler.filter_rejection import HostRefusal
from cellcloud import errors
from cellcloud.model.host import HostState
from cellcloud.model.numa import Placed, Topology
from cellcloud.model.numa_pci_usage import consume, release

NO_TOPOLOGY = Topology()
MOST_DEVICES = 100  # source: Nova's PCIWeigher
TABLES_KEPT = 64
REFUSED, PASSES, UNKNOWN = 0, 1, 2
Codes = npt.NDArray[np.int32]
Answers = npt.NDArray[np.int8]


class HostTopologies:
    """Hosts are positions from 0; one of which nothing was said has no cells and no devices.

    Servers whose places contradict the report or each other (two on one CPU) are noted, and count again as soon as
    the contradiction is gone; until then the ones noted later are left out.
    """

    def __init__(self) -> None:
        self._codes: Codes = np.zeros(0, dtype=np.int32)
        self._values: list[Topology] = [NO_TOPOLOGY]
        self._code_of: dict[Topology, int] = {NO_TOPOLOGY: 0}
        self._hosts: list[int] = [1]
        self._unused: list[int] = []
        self._reported: dict[int, Topology] = {}
        self._placed: dict[int, dict[str, Placed]] = {}
        self._doubtful: set[int] = set()
        self._tables: dict[Hashable, Answers] = {}

    def __len__(self) -> int:
        """Return how many different ones there are."""
        return len(self._values) - len(self._unused)

    def at(self, position: int) -> Topology:
        """Return what is left of a host's cells and devices."""
        return self._values[self._codes[position]] if position < len(self._codes) else NO_TOPOLOGY

    def report(self, position: int, topology: Topology) -> None:
        """Note what a host says of itself. The servers placed there stay."""
        self._reported[position] = topology
        self._count_again(position)

    def place(self, position: int, claim_id: str, placed: Placed) -> None:
        """Note what a claim has there. A second time is no matter."""
        claims = self._placed.setdefault(position, {})
        if claim_id in claims:
            return
        claims[claim_id] = placed
        try:
            self._set(position, consume(self.at(position), placed))
        except errors.ClaimLost:
            self._doubtful.add(position)

    def rename(self, renamed: Mapping[tuple[int, str], str]) -> None:
        """Give claims other ids: (position, id) -> the id it has from now on, all at once."""
        known = ((place, new, self._placed.get(place, {}).pop(old, None)) for (place, old), new in renamed.items())
        for position, claim_id, placed in list(known):
            if placed is not None:
                self._placed[position][claim_id] = placed

    def remove(self, position: int, claim_id: str) -> None:
        """Give back what a claim has there, if it has anything."""
        placed = self._placed.get(position, {}).pop(claim_id, None)
        if placed is None:
            return
        if position in self._doubtful:
            self._count_again(position)
        else:
            self._set(position, release(self.at(position), placed))

    def passing(
        self, key: Hashable, places: npt.NDArray[np.int64], refuse: Callable[[Topology], HostRefusal | None]
    ) -> npt.NDArray[np.bool_]:
        """Return which of the hosts at ``places`` a rule does not refuse. ``key``: all that its answer depends on
        besides."""
        table = self._tables.pop(key, np.zeros(0, dtype=np.int8))
        if len(table) < len(self._values):
            table = np.pad(table, (0, 2 * len(self._values) - len(table)), constant_values=UNKNOWN)
        while len(self._tables) >= TABLES_KEPT:
            del self._tables[next(iter(self._tables))]
        self._tables[key] = table
        self._make_room(int(places.max()) if len(places) else -1)
        codes = self._codes[places]
        for code in np.unique(codes[table[codes] == UNKNOWN]).tolist():
            table[code] = REFUSED if refuse(self._values[code]) is not None else PASSES
        return np.asarray(table[codes] == PASSES)

    def copy(self) -> HostTopologies:
        """Copy them: what changes in one does not in the other."""
        found = HostTopologies()
        found._codes, found._values, found._code_of = self._codes.copy(), list(self._values), dict(self._code_of)
        found._hosts, found._unused, found._reported = list(self._hosts), list(self._unused), dict(self._reported)
        found._placed = {position: dict(servers) for position, servers in self._placed.items()}
        found._doubtful = set(self._doubtful)
        return found

    def _count_again(self, position: int) -> None:
        found = self._reported.get(position, NO_TOPOLOGY)
        self._doubtful.discard(position)
        for placed in self._placed.get(position, {}).values():
            try:
                found = consume(found, placed)
            except errors.ClaimLost:
                self._doubtful.add(position)
        self._set(position, found)

    def _set(self, position: int, topology: Topology) -> None:
        self._make_room(position)
        code = self._code_of.get(topology)
        if code is None:
            code = self._add(topology)
        self._hosts[code] += 1
        before = int(self._codes[position])
        self._codes[position] = code
        self._hosts[before] -= 1
        if before and not self._hosts[before]:
            del self._code_of[self._values[before]]
            self._values[before] = NO_TOPOLOGY
            self._unused.append(before)

    def _add(self, topology: Topology) -> int:
        if self._unused:
            code = self._unused.pop()
            self._values[code] = topology
            for table in self._tables.values():
                if code < len(table):
                    table[code] = UNKNOWN
        else:
            code = len(self._values)
            self._values.append(topology)
            self._hosts.append(0)
        self._code_of[topology] = code
        return code

    def _make_room(self, position: int) -> None:
        more = position + 1 - len(self._codes)
        if more > 0:
            self._codes = np.pad(self._codes, (0, more + len(self._codes)))


def topology_of(state: HostState) -> Topology:
    """Return the topology that a host reports."""
    if state.numa is None and not state.pci_pools:
        return NO_TOPOLOGY
    return Topology(
        cells=state.numa,
        pools=state.pci_pools,
        cpu_ratio=state.cpu_allocation_ratio,
        memory_ratio=state.ram_allocation_ratio,
    )


def pci_weight(topology: Topology) -> int:
    """Return what the PCI weigher reads: the fewer free devices, the more. Source: Nova's PCIWeigher."""
    return MOST_DEVICES - min(sum(pool.count for pool in topology.pools), MOST_DEVICES - 1)
