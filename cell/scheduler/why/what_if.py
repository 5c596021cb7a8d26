"""What would be if: how many servers of a kind fit, and where the servers of lost or emptied hosts would go.

Asked on a copy of the columns with the code that selects, one server after the other, each seeing what those before it
take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select import batches
from cell.scheduler.select.hosts import select_hosts
from cell.scheduler.state.host_table import HostTable
from cell.scheduler.why import explainer, explanation_rendering
from cellcloud import errors
from cellcloud.model.decision import Shape
from cellcloud.model.explanation import Fits, HostCount, Loss, PlannedMove
from cellcloud.model.scheduling_policy import SchedulingPolicy

MOST_SERVERS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A claim that would have to move, its server, and what that asks for."""

    claim_id: str
    server_id: str
    host: str
    shape: Shape


def fits(table: HostTable, shape: Shape, wanted: int, policy: SchedulingPolicy) -> Fits:
    """Return how many of ``wanted`` servers of a shape have room, and where. They take it in ``table``: give a copy."""
    try:
        request = batches.request_of(replace(shape, alternates=0), policy)
    except errors.Invalid as error:
        return Fits(wanted=wanted, fit=0, malformed=error.message)
    where: Counter[str] = Counter()
    for number in range(min(wanted, MOST_SERVERS)):
        one = replace(request, servers=(f"tried-{number}",))
        selection = select_hosts(table, one, policy, number)
        if not selection.hosts:
            why = explainer.explain(table, one, policy)
            groups, nearest = explanation_rendering.groups_of(why), explanation_rendering.nearest_of(why)
            return Fits(wanted=wanted, fit=number, where=_counted(where), refused=groups, nearest=nearest)
        host = table.states[selection.hosts[0][0]].host
        where[host] += 1
        request = _grown(request, host)
    return Fits(wanted=wanted, fit=sum(where.values()), where=_counted(where))


def residents(table: HostTable, hosts: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (claim id, server id, host) of the claims on some hosts. Raises NotFound for a host that is not there."""
    found = []
    for host in hosts:
        if host not in table.positions:
            raise errors.NotFound(f"Compute host {host[:255]} could not be found.")
        for position in table.positions.of(host):
            found += [(claim_id, server_id, host) for claim_id, server_id in table.claims.claims_at(position)]
    return found


def lose(
    table: HostTable, hosts: Sequence[str], moving: Sequence[Resident], policy: SchedulingPolicy, *, drain: bool
) -> Loss:
    """Return where the servers of some hosts would go, the largest first. ``drain``: the hosts are disabled and each
    server holds its place until it moves; else all are gone at once. Changes ``table``: give a copy."""
    for host in hosts:
        if drain:
            for position in table.positions.of(host):
                table.set_host(replace(table.states[position], enabled=False), keeps_use=True)
        else:
            table.remove_host(host)
    if not drain:
        for one in moving:
            table.release(one.claim_id)
    moves = [_move(table, one, policy, hosts) for one in sorted(moving, key=_size, reverse=True)]
    return Loss(hosts=tuple(hosts), moves=tuple(moves), stranded=sum(move.to is None for move in moves))


def _move(table: HostTable, one: Resident, policy: SchedulingPolicy, hosts: Sequence[str]) -> PlannedMove:
    move = PlannedMove(server_id=one.server_id, host=one.host, flavor=one.shape.flavor.name)
    try:
        request = batches.request_of(replace(one.shape, alternates=0, host=None), policy)
    except errors.Invalid as error:
        return replace(move, why=error.message)
    moving = "" if one.claim_id == one.server_id else one.server_id
    request = replace(request, servers=(one.claim_id,), moving=moving)
    elsewhere = replace(request, ignore_hosts=tuple(hosts))
    table.release(one.claim_id)
    selection = select_hosts(table, request if "ComputeFilter" in policy.filters else elsewhere, policy)
    if selection.hosts:
        return replace(move, to=table.states[selection.hosts[0][0]].host)
    miss = explainer.explain(table, elsewhere, policy).nearest_miss
    return replace(move, why="no other host is left" if miss is None else miss.change)


def _grown(request: SchedulingRequest, host: str) -> SchedulingRequest:
    """Return what the next server of the request sees of its group."""
    group = request.group
    return request if group is None else replace(request, group=replace(group, hosts=(*group.hosts, host)))


def _counted(where: Counter[str]) -> tuple[HostCount, ...]:
    ordered = sorted(where.items(), key=lambda one: (-one[1], one[0]))
    return tuple(HostCount(host=host, count=count) for host, count in ordered)


def _size(one: Resident) -> tuple[int, int, int, str]:
    flavor = one.shape.flavor
    return flavor.memory_mb, flavor.vcpus, flavor.root_gb, one.claim_id
