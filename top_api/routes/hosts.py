"""/os-hosts, up to 2.42: the machines of every cell by their names."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.db import server_index
from cellcloud.model.host import Host
from top_api.answers import hosts as answers
from top_api.operations import services_and_hosts as operations
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NEVER
from top_api.schemas import hosts as schemas

hosts = Resource("os-hosts")
LAST = (2, 42)
ONE = "/os-hosts/<host>"
_AMOUNTS = ("cpu", "memory_mb", "disk_gb")


@hosts.route("GET", "/os-hosts", "os_compute_api:os-hosts:list", until=LAST, query=schemas.LIST, answer=answers.LIST)
def list_hosts(call: Call) -> dict[str, Any]:
    zone = call.param("zone")
    return {
        "hosts": [
            {"host_name": one.host, "service": one.binary.removeprefix("nova-"), "zone": one.zone}
            for one, _ in operations.list_services(call.services, call.context)
            if one.enabled and zone in (None, "", one.zone)
        ]
    }


@hosts.route("GET", ONE, "os_compute_api:os-hosts:show", until=LAST, answer=answers.SHOW)
def show(call: Call, host: str) -> dict[str, Any]:
    """Return what the host has, what is used of it, and by whose servers."""
    found = operations.find_host(call.services, call.context, host)
    with call.services.database.read() as connection:
        flavors = server_index.list_flavors_on(connection, found.cell, found.host)
    by_project: dict[str, list[int]] = {}
    for project_id, flavor in flavors:
        amounts = by_project.setdefault(project_id, [0, 0, 0])
        amounts[0] += flavor.vcpus
        amounts[1] += flavor.memory_mb
        amounts[2] += flavor.root_gb + flavor.ephemeral_gb
    total, used = _of_classes(found.total), _of_classes(found.used)
    of_servers = [sum(column) for column in zip(*by_project.values(), strict=True)] or [0, 0, 0]
    rows = [("(total)", total), ("(used_now)", used), ("(used_max)", of_servers), *sorted(by_project.items())]
    return {"host": [_resource(found, project, amounts) for project, amounts in rows]}


def _of_classes(amounts: dict[str, int]) -> list[int]:
    return [amounts.get(name, 0) for name in ("VCPU", "MEMORY_MB", "DISK_GB")]


def _resource(host: Host, project: str, amounts: list[int]) -> dict[str, Any]:
    return {"resource": {"host": host.host, "project": project, **dict(zip(_AMOUNTS, amounts, strict=True))}}


@hosts.route(
    "PUT", ONE, "os_compute_api:os-hosts:update", also=(501,), until=LAST, body=schemas.UPDATE, answer=answers.UPDATED
)
def update(call: Call, host: str) -> dict[str, Any]:
    """Enable or disable its compute service; servers are not moved away for maintenance here."""
    service = operations.find_compute(call.services, call.context, host)
    if "maintenance_mode" in call.body:
        raise errors.NotSupported("The requested functionality is not supported.")
    enabled = call.body["status"].lower() == "enable"
    operations.set_service(call.services, call.context, service, enabled=enabled)
    return {"host": host, "status": "enabled" if enabled else "disabled"}


@hosts.route("GET", ONE + "/startup", "os_compute_api:os-hosts:start", also=(501,), until=LAST, answer=NEVER)
def start_up(call: Call, host: str) -> None:
    _refuse_power(call, host)


@hosts.route("GET", ONE + "/shutdown", "os_compute_api:os-hosts:shutdown", also=(501,), until=LAST, answer=NEVER)
def shut_down(call: Call, host: str) -> None:
    _refuse_power(call, host)


@hosts.route("GET", ONE + "/reboot", "os_compute_api:os-hosts:reboot", also=(501,), until=LAST, answer=NEVER)
def reboot(call: Call, host: str) -> None:
    _refuse_power(call, host)


def _refuse_power(call: Call, host: str) -> None:
    """Refuse to switch a host's machine, as all hypervisors here do. Raises NotSupported, or what is wrong with the
    host."""
    if not operations.find_compute(call.services, call.context, host).up:
        raise errors.Invalid(f"Compute service of {host} is unavailable at this time.")
    raise errors.NotSupported("The requested functionality is not supported.")
