"""/os-hypervisors: the hosts of every cell."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from cellcloud import errors
from cellcloud.db import server_index
from cellcloud.model.host import Host
from top_api.answers import hypervisors as answers
from top_api.operations.services_and_hosts import list_hosts
from top_api.paging import next_links, page_of
from top_api.request_pipeline import Call, Resource
from top_api.schemas import hypervisors as schemas
from top_api.schemas.types import is_true
from top_api.views import hypervisors as views

hypervisors = Resource("os-hypervisors")
Found = tuple[Host, bool]


@hypervisors.route(
    "GET", "/os-hypervisors", "os_compute_api:os-hypervisors:list", also=(404,), query=schemas.LIST, answer=answers.LIST
)
def list_hypervisors(call: Call) -> dict[str, Any]:
    return _list(call, views.brief, ("os-hypervisors",))


@hypervisors.route(
    "GET",
    "/os-hypervisors/detail",
    "os_compute_api:os-hypervisors:list-detail",
    also=(404,),
    query=schemas.LIST,
    answer=answers.DETAIL,
)
def list_hypervisors_in_detail(call: Call) -> dict[str, Any]:
    return _list(call, views.detail, ("os-hypervisors", "detail"))


def _list(call: Call, view: Any, path: tuple[str, ...]) -> dict[str, Any]:
    found = list_hosts(call.services, call.context)
    pattern = call.param("hypervisor_hostname_pattern")
    if pattern is not None:
        if call.param("limit") or call.param("marker"):
            raise errors.Invalid("Paging over hypervisors with the hypervisor_hostname_pattern is not supported.")
        found = _matching(found, pattern)
    page = found if pattern is not None else page_of(call, found, _id(call), since=(2, 33))[0]
    shown = _shown(call, view, page, with_servers=is_true(call.param("with_servers")))
    ids = [str(views.id_of(call, host)) for host, _ in page]
    links = next_links(call, "hypervisors", path, ids) if call.version >= (2, 33) and pattern is None else {}
    return {"hypervisors": shown, **links}


def _id(call: Call) -> Callable[[Found], str]:
    return lambda pair: str(views.id_of(call, pair[0]))


def _matching(found: list[Found], pattern: str) -> list[Found]:
    fitting = [pair for pair in found if pattern in pair[0].facts.hypervisor_hostname]
    if not fitting:
        raise errors.NotFound(f"No hypervisor matching '{pattern}' could be found.")
    return fitting


def _shown(call: Call, view: Any, page: Sequence[Found], *, with_servers: bool) -> list[dict[str, Any]]:
    servers: dict[tuple[str, str], list[dict[str, str]]] = {}
    if with_servers:
        with call.services.database.read() as connection:
            found = server_index.list_names_on(connection, {(host.cell, host.host) for host, _ in page})
        for cell, on, server_id, name in found:
            servers.setdefault((cell, on), []).append({"uuid": server_id, "name": name})
    return [
        view(call, host, fresh=fresh, servers=servers.get((host.cell, host.host), []) if with_servers else None)
        for host, fresh in page
    ]


@hypervisors.route(
    "GET",
    "/os-hypervisors/statistics",
    "os_compute_api:os-hypervisors:statistics",
    until=(2, 87),
    answer=answers.STATISTICS,
)
def show_statistics(call: Call) -> dict[str, Any]:
    return {"hypervisor_statistics": views.statistics([host for host, _ in list_hosts(call.services, call.context)])}


@hypervisors.route(
    "GET", "/os-hypervisors/<identifier>", "os_compute_api:os-hypervisors:show", query=schemas.SHOW, answer=answers.ONE
)
def show(call: Call, identifier: str) -> dict[str, Any]:
    found = _get(call, identifier)
    (shown,) = _shown(call, views.detail, [found], with_servers=is_true(call.param("with_servers")))
    return {"hypervisor": shown}


@hypervisors.route(
    "GET",
    "/os-hypervisors/<identifier>/uptime",
    "os_compute_api:os-hypervisors:uptime",
    until=(2, 87),
    answer=answers.UPTIME,
)
def show_uptime(call: Call, identifier: str) -> dict[str, Any]:
    host, fresh = _get(call, identifier)
    if not fresh or not host.up:
        raise errors.Invalid(f"Host {host.host} does not answer.")
    return {"hypervisor": {**views.brief(call, host, fresh=fresh), "uptime": host.facts.uptime}}


@hypervisors.route(
    "GET",
    "/os-hypervisors/<pattern>/search",
    "os_compute_api:os-hypervisors:search",
    until=(2, 52),
    answer=answers.FOUND,
)
def search(call: Call, pattern: str) -> dict[str, Any]:
    found = _matching(list_hosts(call.services, call.context), pattern)
    return {"hypervisors": _shown(call, views.brief, found, with_servers=False)}


@hypervisors.route(
    "GET",
    "/os-hypervisors/<pattern>/servers",
    "os_compute_api:os-hypervisors:servers",
    until=(2, 52),
    answer=answers.SERVERS,
)
def list_servers(call: Call, pattern: str) -> dict[str, Any]:
    found = _matching(list_hosts(call.services, call.context), pattern)
    return {"hypervisors": _shown(call, views.brief, found, with_servers=True)}


def _get(call: Call, identifier: str) -> Found:
    if call.version >= (2, 53) and not _is_uuid(identifier):
        raise errors.Invalid(f"Invalid uuid {identifier[:64]}")
    for host, fresh in list_hosts(call.services, call.context):
        if str(views.id_of(call, host)) == identifier:
            return host, fresh
    raise errors.NotFound(f"Hypervisor with ID '{identifier[:64]}' could not be found.")


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
