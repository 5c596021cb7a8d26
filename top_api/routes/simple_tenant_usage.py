"""/os-simple-tenant-usage: what projects' servers used in a time, deleted ones included.

From 2.40 a page is of so many servers, and its sums are of those; below, the sums are of all servers there are, and
as many of them are told singly as a page may have.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import server_index, usage
from cellcloud.model.usage import ServerUsage
from top_api.answers import simple_tenant_usage as answers
from top_api.paging import limit_of, next_links
from top_api.request_pipeline import Call, Resource
from top_api.schemas import simple_tenant_usage as schemas
from top_api.views.times import show_microsecond

simple_tenant_usage = Resource("os-simple-tenant-usage")
PATH, RULE = "/os-simple-tenant-usage", "os_compute_api:os-simple-tenant-usage"
_FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f")
_AT_ONCE = 1000  # servers read in one query where there are no pages
Period = tuple[dt.datetime, dt.datetime]


def _of_project(call: Call, arguments: Mapping[str, str]) -> None:
    call.target = {"project_id": arguments["project_id"]}


@simple_tenant_usage.route("GET", PATH, f"{RULE}:list", query=schemas.LIST, answer=answers.LIST)
def list_of_all(call: Call) -> dict[str, Any]:
    detailed = call.query.get("detailed", ["0"])[0] == "1"
    usages, links = _usages(call, None, detailed=detailed)
    return {"tenant_usages": list(usages.values()), **links}


@simple_tenant_usage.route(
    "GET", PATH + "/<project_id>", f"{RULE}:show", query=schemas.SHOW, lookup=_of_project, answer=answers.SHOW
)
def show(call: Call, project_id: str) -> dict[str, Any]:
    usages, links = _usages(call, project_id, detailed=True)
    return {"tenant_usage": usages.get(project_id, {}), **links}


def _usages(call: Call, project_id: str | None, *, detailed: bool) -> tuple[dict[str, Any], dict[str, object]]:
    """Project -> its usage, and the link to the next page. Raises Invalid."""
    with call.services.database.read() as connection:
        now = server_index.current_time(connection)
    period = _period(call, now)
    sums: dict[str, dict[str, Any]] = {}
    shown: list[str] = []
    for one in _servers(call, period, project_id):
        mine = sums.setdefault(one.project_id, _nothing(one.project_id, period, detailed=detailed))
        hours = one.seconds(*period) / 3600
        mine["total_hours"] += hours
        mine["total_vcpus_usage"] += one.vcpus * hours
        mine["total_memory_mb_usage"] += one.memory_mb * hours
        mine["total_local_gb_usage"] += one.disk_gb * hours
        if detailed and len(shown) < call.services.config.top.max_limit:
            mine["server_usages"].append(_server(one, hours, now))
        shown.append(one.id)
    if call.version < (2, 40):
        return sums, {}
    path = ("os-simple-tenant-usage", *(() if project_id is None else (project_id,)))
    return sums, next_links(call, "tenant_usages" if project_id is None else "tenant_usage", path, shown)


def _servers(call: Call, period: Period, project_id: str | None) -> Iterator[ServerUsage]:
    """One page, or where there are none, each server. Raises Invalid for an unknown marker."""
    if call.version < (2, 40):
        yield from _each_server(call, period, project_id)
        return
    marker = call.param("marker")
    with call.services.database.read() as connection:
        after = usage.find_place(connection, marker, project_id) if marker else None
        if marker and after is None:
            raise errors.Invalid(f"Marker {marker} could not be found.")
        yield from usage.list_usages(connection, *period, project_id=project_id, after=after, limit=limit_of(call))


def _each_server(call: Call, period: Period, project_id: str | None) -> Iterator[ServerUsage]:
    with call.services.database.read() as connection:
        places = usage.find_places(connection, *period, project_id=project_id)
        for start in range(0, len(places), _AT_ONCE):
            yield from usage.list_of(connection, places[start : start + _AT_ONCE])


def _nothing(project_id: str, period: Period, *, detailed: bool) -> dict[str, Any]:
    sums = dict.fromkeys(("total_hours", "total_vcpus_usage", "total_memory_mb_usage", "total_local_gb_usage"), 0.0)
    single: dict[str, Any] = {"server_usages": []} if detailed else {}
    return {
        "tenant_id": project_id,
        "start": show_microsecond(period[0]),
        "stop": show_microsecond(period[1]),
        **sums,
        **single,
    }


def _server(one: ServerUsage, hours: float, now: dt.datetime) -> dict[str, Any]:
    launched = one.launched_at or now  # it was: what never ran used nothing
    return {
        "instance_id": one.id,
        "name": one.name,
        "tenant_id": one.project_id,
        "flavor": one.flavor,
        "vcpus": one.vcpus,
        "memory_mb": one.memory_mb,
        "local_gb": one.disk_gb,
        "state": one.state,
        "hours": hours,
        "started_at": show_microsecond(launched),
        "ended_at": show_microsecond(one.terminated_at),
        "uptime": max(0, int(((one.terminated_at or now) - launched).total_seconds())),
    }


def _period(call: Call, now: dt.datetime) -> Period:
    """From when to when, at the latest until now. Raises Invalid."""
    start, end = (_time(call.query.get(key, [""])[0]) for key in ("start", "end"))
    begin, stop = start or now, end or now
    if (start or end) and not begin < stop:
        raise errors.Invalid("Invalid start time. The start time cannot occur after the end time.")
    return begin, min(stop, now)


def _time(text: str) -> dt.datetime | None:
    if not text:
        return None
    for form in _FORMS:
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
    raise errors.Invalid("Datetime is in invalid format")
