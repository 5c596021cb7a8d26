"""Where a server shall be: the zone, and for administrators the host, of a request."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.context import RequestContext
from top_api.operations.services_and_hosts import find_destination
from top_api.services import ApiServices

_FORCED = "os_compute_api:servers:create:forced_host"
_REQUESTED = "compute:servers:create:requested_destination"


def read(services: ApiServices, context: RequestContext, server: dict[str, Any]) -> tuple[str | None, str | None]:
    """(zone, host) that a body asks for, as ``zone:host``, ``zone::node``, ``zone:host:node``, or by keys of their own.

    Raises Invalid for a zone, a host or a node that there is not, or that do not belong together, Forbidden,
    Unreachable where a cell that might have the host does not answer.
    """
    zone, host, node = _split((server.get("availability_zone") or "").strip(" "))
    asked_host, asked_node = server.get("host"), server.get("hypervisor_hostname")
    if (host or node) and (asked_host or asked_node):
        raise errors.Invalid("A host is given twice: in the availability zone, and by host or hypervisor_hostname.")
    if host or node:
        services.enforcer.check(context, _FORCED)
    if asked_host or asked_node:
        services.enforcer.check(context, _REQUESTED)
    known = services.cells.zones()
    if zone and known and zone not in known:
        raise errors.Invalid("The requested availability zone is not available")
    wanted = (host or asked_host, node or asked_node)
    return zone or None, find_destination(services, context, *wanted) if any(wanted) else None


def _split(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) > 3:
        raise errors.Invalid("Unable to parse availability_zone")
    zone, host, node = (*parts, "", "")[:3]
    return zone, host, node
