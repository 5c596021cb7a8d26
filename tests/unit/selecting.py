"""Hosts for servers as a scheduler selects them, one after the other, on a table of hosts made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cell.scheduler.select import batches
from cell.scheduler.select.hosts import select_hosts
from cell.scheduler.state.host_table import HostTable
from cellcloud import errors
from cellcloud.model.decision import shape_of
from cellcloud.model.scheduling_policy import DEFAULT, SchedulingPolicy
from cellcloud.model.server import ServerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One server. ``resources`` None: what follows from its flavor."""

    spec: ServerSpec
    seed: int = 0
    exclude: tuple[str, ...] = ()
    alternates: int = 2
    resources: dict[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """``hosts`` best first; () where none fits, and ``refused`` says how many hosts each filter refused."""

    hosts: tuple[str, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    malformed: str = ""


def select(table: HostTable, asked: Sequence[Ask], policy: SchedulingPolicy = DEFAULT) -> list[Told]:
    """Select hosts for each server. The best one's room is taken before the next is looked at."""
    return [_select(table, one, policy) for one in asked]


def _select(table: HostTable, asked: Ask, policy: SchedulingPolicy) -> Told:
    shape = replace(shape_of(asked.spec), alternates=asked.alternates)
    if asked.resources is not None:
        shape = replace(shape, resources=asked.resources)
    try:
        request = batches.request_of(shape, policy)
    except errors.Invalid as error:
        return Told(malformed=error.message)
    request = replace(request, servers=(asked.spec.id,), ignore_hosts=asked.exclude)
    found = select_hosts(table, request, policy, asked.seed)
    if not found.hosts:
        return Told(refused=found.refused)
    return Told(hosts=tuple(table.states[place].host for place in found.hosts[0]))
