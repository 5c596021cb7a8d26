"""What Nova would ask of Placement for a request, worked out from our own rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from cell.scheduler.policy.filters import isolated_aggregate, require_tenant_aggregate, zone
from cell.scheduler.request.resources_and_traits import DISABLED_TRAIT, Demand, demands_of, root_required
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cellcloud.model.host import Aggregate
from cellcloud.model.scheduling_policy import Options

NOVA_TRAIT = "OWNER_NOVA"  # marks Nova's providers among those of other services: there are none here
LIMIT = "1000"
UNLIMITING_HINTS = ("group", "same_host", "different_host")
Query = tuple[tuple[str, str, frozenset[str]], ...]
"""Parameters: name, what stands before a colon, and the values in no order."""


def read(text: str) -> Query:
    """A query string, so that two can be compared."""
    return tuple(sorted(map(_parameter, parse_qsl(text)), key=repr))


def _parameter(pair: tuple[str, str]) -> tuple[str, str, frozenset[str]]:
    name, value = pair
    prefix, _, values = value.partition(":") if name == "member_of" else ("", "", value)
    return name, prefix, frozenset(values.split(","))


def queries_of(
    given: dict[str, Any],
    hosts: Sequence[dict[str, Any]],
    request: SchedulingRequest,
    options: Options,
    all_: Sequence[Aggregate],
) -> list[Query]:
    """The queries for a request; none where Nova finds before that there is no such host."""
    target = _target(given, hosts)
    if request.shape.rebuild or target == []:
        return []
    fixed = [("root_required", "", _root(request, options)), *_aggregates(request, options, all_)]
    if target is not None and len(target) == 1:
        fixed.append(("in_tree", "", frozenset([target[0]["uuid"]])))
    limited = target is None or len(target) == 1
    if limited and not any(hint in given["scheduler_hints"] for hint in UNLIMITING_HINTS):
        fixed.append(("limit", "", frozenset([LIMIT])))
    return [tuple(sorted([*fixed, *_demanded(demand)], key=repr)) for demand in demands_of(request.shape)]


def _target(given: dict[str, Any], hosts: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The hosts that the request names; None when it names none."""
    wanted = given["requested_destination"] or {}
    host = wanted.get("host") or next(iter(given["force_hosts"]), None)
    node = wanted.get("node") or next(iter(given["force_nodes"]), None)
    if not host and not node:
        return None
    return [
        one
        for one in hosts
        if (not host or one["host"] == host)
        and (not node or one["node"] == node)
        and (not wanted.get("cell") or one["cell"] == wanted["cell"])
    ]


def _root(request: SchedulingRequest, options: Options) -> frozenset[str]:
    return root_required(request.shape, options) | {NOVA_TRAIT, f"!{DISABLED_TRAIT}"}


def _demanded(demand: Demand) -> list[tuple[str, str, frozenset[str]]]:
    resources = frozenset(f"{name}:{amount}" for name, amount in demand.resources.items())
    traits = demand.required | {f"!{name}" for name in demand.forbidden}
    found = [("resources", "", resources)]
    return [*found, ("required", "", frozenset(traits))] if traits else found


def _aggregates(
    request: SchedulingRequest, options: Options, all_: Sequence[Aggregate]
) -> list[tuple[str, str, frozenset[str]]]:
    shape = request.shape
    found: list[tuple[str, list[Aggregate]]] = []
    if options.limit_tenants_to_placement_aggregate:
        found.append(("in", require_tenant_aggregate.aggregates_of(shape.project_id, all_)))
    if shape.zone:
        found.append(("in", [one for one in all_ if one.metadata.get(zone.KEY) == shape.zone]))
    if options.enable_isolated_aggregate_filtering:
        required = demands_of(shape)[0].required
        found.append(("!in", [one for one in all_ if isolated_aggregate.unmet(one.metadata, required)]))
    return [("member_of", sign, frozenset(one.uuid for one in members)) for sign, members in found if members]
