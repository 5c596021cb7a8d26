"""What a filter is: a predicate over what it reads of a host, which answers None or why the host is refused.

A rule about facts is asked once a signature, one about NUMA and PCI once a topology, and the answers are kept; one
about figures answers in columns. ``refuse_at`` says of one host what ``passes`` says of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.facts import Facts
from cell.scheduler.state.interned import Interned
from cell.scheduler.state.snapshot import Flags, Places, Snapshot
from cellcloud.model.host import Aggregate
from cellcloud.model.numa import Topology, TopologyRequest
from cellcloud.model.policy import Options


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may read besides host and request. ``server_id``: the one that is being placed."""

    options: Options
    aggregates: Sequence[Aggregate] = ()
    server_id: str = ""


class Filter(Protocol):
    """``once``: asked for the first server of a request only. ``on_rebuild``: also asked for rebuilds."""

    name: str
    once: bool
    on_rebuild: bool

    def applies(self, request: Request, context: Context) -> bool:
        """Whether it could refuse any host at all."""
        ...

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        """Which of the hosts at ``places`` pass."""
        ...

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        """Why one host is refused; None when it passes."""
        ...


def _always(_request: Request, _context: Context) -> bool:
    return True


class FactsFilter:
    """A rule about facts: ``refuse(facts, request, context)``. Its answers depend on a request's shape alone."""

    def __init__(
        self,
        name: str,
        refuse: Callable[[Facts, Request, Context], Refusal | None],
        *,
        applies: Callable[[Request, Context], bool] = _always,
        once: bool = True,
        on_rebuild: bool = False,
    ) -> None:
        self.name, self.once, self.on_rebuild = name, once, on_rebuild
        self.refuse, self._applies = refuse, applies

    def applies(self, request: Request, context: Context) -> bool:
        return self._applies(request, context)

    def table(self, facts: Interned[Facts], request: Request, context: Context, known: Flags | None = None) -> Flags:
        """Whether each signature passes; those in ``known`` need no asking."""
        start = 0 if known is None else len(known)
        fresh = [self.refuse(one, request, context) is None for one in facts.values[start:]]
        return np.array(fresh if known is None else [*known, *fresh], dtype=np.bool_)

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        key = (self.name, request.shape, context.options)
        table = snapshot.tables.get(key)
        if table is None or len(table) < len(snapshot.facts):
            table = self.table(snapshot.facts, request, context, table)
            snapshot.keep_table(key, table)
        return np.asarray(table[snapshot.signature[places]])

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        return self.refuse(snapshot.facts_at(position), request, context)


class TopologyFilter:
    """A rule about NUMA cells and PCI devices: ``refuse(topology, request)``."""

    once = False
    on_rebuild = False

    def __init__(
        self,
        name: str,
        refuse: Callable[[Topology, TopologyRequest], Refusal | None],
        applies: Callable[[TopologyRequest], bool],
    ) -> None:
        self.name, self.refuse, self._applies = name, refuse, applies

    def applies(self, request: Request, context: Context) -> bool:
        return self._applies(request.topology)

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        """Asked once a topology."""
        wanted = request.topology
        return snapshot.topologies.passing((self.name, wanted), places, lambda topology: self.refuse(topology, wanted))

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        return self.refuse(snapshot.topology_at(position), request.topology)
