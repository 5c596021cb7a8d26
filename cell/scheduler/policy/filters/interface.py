"""What a filter is: a predicate over what it reads of a host, which answers None or why the host is refused.

A rule about what stays of a host is asked once a host class, one about NUMA and PCI once a topology, and the answers
are kept; one about figures answers in columns. ``refuse_at`` says of one host what ``passes`` says of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_class import HostClass
from cell.scheduler.state.host_classes import HostClasses
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.host import Aggregate
from cellcloud.model.numa import Topology, TopologyRequest
from cellcloud.model.scheduling_policy import Options


@dataclass(frozen=True, slots=True)
class FilterContext:
    """What a rule may read besides host and request. ``server_id``: the one that is being placed."""

    options: Options
    aggregates: Sequence[Aggregate] = ()
    server_id: str = ""


class HostFilter(Protocol):
    """``once``: asked for the first server of a request only. ``on_rebuild``: also asked for rebuilds."""

    name: str
    once: bool
    on_rebuild: bool

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        """Return whether it could refuse any host at all."""
        ...

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        """Return which of the hosts at ``places`` pass."""
        ...

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        """Return why one host is refused; None when it passes."""
        ...


def _always(_request: SchedulingRequest, _context: FilterContext) -> bool:
    return True


class HostClassFilter:
    """A rule about host classes: ``refuse(host_class, request, context)``.

    Its answers depend on a request's shape alone.
    """

    def __init__(
        self,
        name: str,
        refuse: Callable[[HostClass, SchedulingRequest, FilterContext], HostRefusal | None],
        *,
        applies: Callable[[SchedulingRequest, FilterContext], bool] = _always,
        once: bool = True,
        on_rebuild: bool = False,
    ) -> None:
        self.name, self.once, self.on_rebuild = name, once, on_rebuild
        self.refuse, self._applies = refuse, applies

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return self._applies(request, context)

    def verdicts(
        self,
        host_classes: HostClasses,
        request: SchedulingRequest,
        context: FilterContext,
        known: Flags | None = None,
    ) -> Flags:
        """Return whether each host class passes; those in ``known`` need no asking."""
        start = 0 if known is None else len(known)
        fresh = [self.refuse(one, request, context) is None for one in host_classes.values[start:]]
        return np.array(fresh if known is None else [*known, *fresh], dtype=np.bool_)

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        key = (self.name, request.shape, context.options)
        known_verdicts = table.host_classes.verdicts(key)
        if known_verdicts is None or len(known_verdicts) < len(table.host_classes):
            known_verdicts = self.verdicts(table.host_classes, request, context, known_verdicts)
            table.host_classes.keep_verdicts(key, known_verdicts)
        return np.asarray(known_verdicts[table.host_classes.ids[places]])

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        return self.refuse(table.host_classes.at(position), request, context)


class TopologyFilter:
    """A rule about NUMA cells and PCI devices: ``refuse(topology, request)``."""

    once = False
    on_rebuild = False

    def __init__(
        self,
        name: str,
        refuse: Callable[[Topology, TopologyRequest], HostRefusal | None],
        applies: Callable[[TopologyRequest], bool],
    ) -> None:
        self.name, self.refuse, self._applies = name, refuse, applies

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return self._applies(request.topology)

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        """Return which of the hosts at ``places`` pass; asked once a topology."""
        wanted = request.topology
        return table.topologies.passing((self.name, wanted), places, lambda topology: self.refuse(topology, wanted))

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        return self.refuse(table.topologies.at(position), request.topology)
