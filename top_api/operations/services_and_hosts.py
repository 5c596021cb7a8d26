"""Services and hosts of every cell: each cell is asked at once, and an unreachable one is shown as last known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model.host import Host, ServiceRecord
from cellcloud.model.server import ServerRecord
from top_api.services import ApiServices

COMPUTE = "nova-compute"
OURS = "nova-"  # how the names of Compute's services begin


def list_services(services: ApiServices, context: RequestContext) -> list[tuple[ServiceRecord, bool]]:
    """(service, whether its cell answers), by binary and host: those of Compute. A cell has others' too."""
    answers = services.cells.ask_all(context, "services", lambda conductor, patient: conductor.list_services(patient))
    told = [(service, cell.name, fresh) for cell, services, fresh in answers for service in services]
    found = [(replace(one, cell=cell), fresh) for one, cell, fresh in told if one.binary.startswith(OURS)]
    return sorted(found, key=lambda pair: (pair[0].binary, pair[0].host, pair[0].cell))


def list_hosts(services: ApiServices, context: RequestContext) -> list[tuple[Host, bool]]:
    """(host, whether its cell answers), by name."""
    answers = services.cells.ask_all(context, "hosts", lambda conductor, patient: conductor.list_hosts(patient))
    found = [(replace(host, cell=cell.name), fresh) for cell, hosts, fresh in answers for host in hosts]
    return sorted(found, key=lambda pair: (pair[0].facts.hypervisor_hostname, pair[0].cell))


def find_host(services: ApiServices, context: RequestContext, host: str) -> Host:
    """Return a host by its service's name. Raises NotFound; Unreachable while a cell that might have it does not
    answer."""
    found = next((one for one, _ in list_hosts(services, context) if one.host == host), None)
    return found or _raise_absent(services, host)


@contextmanager
def within_cell(
    services: ApiServices, context: RequestContext, record: ServerRecord, host: str, zone: str = ""
) -> Iterator[None]:
    """Whatever the block asks of the server's cell for that host and zone: raises Invalid that says it, where one of
    them is another cell's. A server stays in its own, as in Nova, which finds no valid host for it there."""
    try:
        yield
    except errors.Invalid as error:
        if host or zone:
            there = [one for one, _ in list_hosts(services, context) if one.cell != record.cell]
            stays = f"is not in the cell of instance {record.id}, which stays in its own."
            if any(one.host == host for one in there) and "could not be found" in error.message:
                raise errors.Invalid(f"Compute host {host} {stays}") from None
            if any(one.zone == zone for one in there) and "zone" in error.message:
                raise errors.Invalid(f"{error.message}: zone {zone} {stays}") from None
        raise


def find_destination(services: ApiServices, context: RequestContext, host: str | None, node: str | None) -> str:
    """Return the host of that name, with that hypervisor's name if one is given. Raises Invalid for one that there is
    not, Unreachable while a cell that might have it does not answer."""
    answers = services.cells.ask_all(context, "hosts", lambda conductor, patient: conductor.list_hosts(patient))
    for _cell, hosts, _fresh in answers:
        for one in hosts:
            if host in (None, "", one.host) and node in (None, "", one.facts.hypervisor_hostname):
                return one.host
    if len(answers) < len(services.cells.list_cells()):
        raise errors.Unreachable("A cell that may have that host does not answer.")
    raise errors.Invalid(f"Compute host {(host or node or '')[:255]} could not be found.")


def get_service(services: ApiServices, context: RequestContext, identifier: str) -> ServiceRecord:
    """By UUID. Raises NotFound."""
    for service, _ in list_services(services, context):
        if service.id == identifier:
            return service
    raise errors.NotFound(f"Compute service {identifier[:64]} could not be found.")


def find_service(services: ApiServices, context: RequestContext, host: str, binary: str) -> ServiceRecord:
    """By host and binary. Raises NotFound."""
    for service, _ in list_services(services, context):
        if (service.host, service.binary) == (host, binary):
            return service
    raise errors.NotFound(f"Could not find binary {binary} on host {host}.")


def find_compute(services: ApiServices, context: RequestContext, host: str) -> ServiceRecord:
    """Return the compute service of a host. Raises NotFound; Conflict when several cells have a host of that name;
    Unreachable while a cell that might have it does not answer."""
    found = [one for one, _ in list_services(services, context) if (one.host, one.binary) == (host, COMPUTE)]
    if len(found) > 1:
        raise errors.Conflict(f"Cells {', '.join(one.cell for one in found)} each have a host {host}.")
    return found[0] if found else _raise_absent(services, host)


def _raise_absent(services: ApiServices, host: str) -> NoReturn:
    if services.cells.unreachable_cells():
        raise errors.Unreachable("A cell that may have that host does not answer.")
    raise errors.NotFound(f"Compute host {host[:255]} could not be found.")


def set_service(
    services: ApiServices,
    context: RequestContext,
    service: ServiceRecord,
    *,
    enabled: bool | None = None,
    disabled_reason: str | None = None,
    forced_down: bool | None = None,
) -> ServiceRecord:
    """Enable, disable, force down or release a compute service. Raises Invalid for a service that is no compute
    service, Unreachable."""
    if service.binary != COMPUTE:
        raise errors.Invalid(f"Updating a {service.binary} service is not supported. Must be {COMPUTE}.")
    conductor = services.cells.conductor(service.cell)
    patient = services.cells.budget(context)
    changed = conductor.set_service(patient, service.host, enabled, disabled_reason, forced_down)
    return replace(changed, cell=service.cell)


def remove_service(services: ApiServices, context: RequestContext, service: ServiceRecord) -> None:
    """Forget a service, and with a compute service its host. Raises Conflict while servers are there, Unreachable."""
    conductor = services.cells.conductor(service.cell)
    patient = services.cells.budget(context)
    if service.binary == COMPUTE:
        conductor.remove_host(patient, service.host, True)
    else:
        conductor.remove_service(patient, service.id)
