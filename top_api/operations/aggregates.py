"""Make and change aggregates. The top's database has them; every cell that answers gets its copy before the answer,
and the router gives it to the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from cellcloud import errors
from cellcloud.batching import portions
from cellcloud.context import RequestContext
from cellcloud.db import aggregates
from cellcloud.db.aggregates import ZONE
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model import codec
from cellcloud.model.host import Aggregate
from top_api import aggregate_copies
from top_api.operations import services_and_hosts
from top_api.operations.active_image import get_active_image
from top_api.services import ApiServices

T = TypeVar("T")
MOST_IMAGES = 100  # in one message to a cell
FULL = "One or more hosts contain instances in this zone"


def create(services: ApiServices, context: RequestContext, name: str, zone: str | None) -> Aggregate:
    """Create an aggregate. Raises Conflict when the name is taken."""
    return _change(services, context, lambda connection: aggregates.create(connection, name, zone))


def update(
    services: ApiServices,
    context: RequestContext,
    aggregate_id: int,
    *,
    name: str | None = None,
    metadata: Mapping[str, str | None] | None = None,
) -> Aggregate:
    """Set the name, and keys of the metadata; None forgets a key. Raises NotFound, Conflict, and Invalid for a zone
    that its hosts or their servers cannot be in."""

    def change(connection: Connection) -> Aggregate:
        known = aggregates.get(connection, aggregate_id)
        if name is not None:
            aggregates.rename(connection, aggregate_id, name)
        if metadata:
            if ZONE in metadata:
                _check_zone(connection, known, metadata[ZONE])
            aggregates.set_metadata(connection, aggregate_id, metadata)
        return aggregates.get(connection, aggregate_id)

    return _change(services, context, change)


def delete(services: ApiServices, context: RequestContext, aggregate_id: int) -> None:
    """Delete an aggregate. Raises NotFound; Invalid while it has hosts."""
    _change(services, context, lambda connection: aggregates.delete(connection, aggregate_id))


def add_host(services: ApiServices, context: RequestContext, aggregate_id: int, host: str) -> Aggregate:
    """Add a host to an aggregate. Raises NotFound; Conflict when the host is there, or in another zone, or has servers
    that would change theirs."""
    service = services_and_hosts.find_compute(services, context, host)

    def change(connection: Connection) -> Aggregate:
        aggregates.begin_change(connection)
        zone = aggregates.get(connection, aggregate_id).zone
        others = aggregates.zones_of(connection, host, service.cell, but=aggregate_id)
        if zone and others - {zone}:
            raise errors.Conflict(_cannot("add_host_to", aggregate_id, f"the host is in zone {', '.join(others)}"))
        if zone and zone != service.zone:
            _check_empty(connection, "add_host_to", aggregate_id, host, service.cell, (service.zone, zone))
        aggregates.add_host(connection, aggregate_id, host, service.cell)
        return aggregates.get(connection, aggregate_id)

    return _change(services, context, change)


def remove_host(services: ApiServices, context: RequestContext, aggregate_id: int, host: str) -> Aggregate:
    """Take a host out of an aggregate. Raises NotFound; Conflict when the host has servers that would change their
    zone."""

    def change(connection: Connection) -> Aggregate:
        aggregates.begin_change(connection)
        zone = aggregates.get(connection, aggregate_id).zone
        cell = aggregates.find_cell(connection, aggregate_id, host)
        if zone and cell and zone not in aggregates.zones_of(connection, host, cell, but=aggregate_id):
            _check_empty(connection, "remove_host_from", aggregate_id, host, cell, (zone, "its own"))
        aggregates.remove_host(connection, aggregate_id, host)
        return aggregates.get(connection, aggregate_id)

    return _change(services, context, change)


def forget_host(services: ApiServices, context: RequestContext, host: str, cell: str) -> None:
    """Take a host that there is no more out of every aggregate."""
    _change(services, context, lambda connection: aggregates.forget_host(connection, host, cell))


def cache_images(services: ApiServices, context: RequestContext, aggregate_id: int, image_ids: Sequence[str]) -> None:
    """Have the aggregate's hosts fetch images, each cell some hosts at a time. Raises NotFound; Invalid for an image
    twice, too many, or one that there is not; Unreachable where a cell did not hear of it: ask again."""
    if len(set(image_ids)) < len(image_ids):
        raise errors.Invalid("Duplicate images in request")
    if len(image_ids) > MOST_IMAGES:
        raise errors.Invalid(f"At most {MOST_IMAGES} images are cached by one request.")
    with services.database.read() as connection:
        aggregates.get(connection, aggregate_id)
        hosts = aggregates.list_hosts(connection, aggregate_id)
    images = [
        replace(get_active_image(services, context, image_id), properties={}, tags=())  # what a host needs to fetch it
        for image_id in image_ids
    ]

    def ask(cell: str) -> None:
        for some in portions(hosts[cell], codec.wire_size):
            services.cells.scheduling_store(cell).cache_images(services.cells.budget(context), list(some), images)

    for told in services.cells.ask_each(list(hosts), ask).values():
        if isinstance(told, errors.CellcloudError):
            raise told


def _change(services: ApiServices, context: RequestContext, change: Callable[[Connection], T]) -> T:
    made = _transact(services.database, change)
    patient = services.cells.budget(context)
    services.cells.ask_each(
        [cell.name for cell in services.cells.list_cells()],
        lambda cell: aggregate_copies.give(services.database, cell, services.cells.scheduling_store(cell), patient),
    )
    return made


@retried
def _transact(database: Database, change: Callable[[Connection], T]) -> T:
    with database.write() as connection:
        return change(connection)


def _check_zone(connection: Connection, aggregate: Aggregate, zone: str | None) -> None:
    if not zone:
        raise errors.Invalid(
            _cannot("update", aggregate.id, f"{aggregate.name} does not support empty named availability zone")
        )
    others = aggregates.zones_beside(connection, aggregate.id) - {zone}
    if others:
        raise errors.Invalid(_cannot("update", aggregate.id, f"hosts are in zone {', '.join(sorted(others))}"))
    if zone != aggregate.zone and aggregates.has_servers(connection, aggregate.id):
        raise errors.Invalid(_cannot("update", aggregate.id, FULL))


def _check_empty(
    connection: Connection, action: str, aggregate_id: int, host: str, cell: str, zones: tuple[str, str]
) -> None:
    count = aggregates.count_servers(connection, host, cell)
    if count:
        reason = f"{count} servers of host {host} would go from zone {zones[0]} to {zones[1]}; move them away first"
        raise errors.Conflict(_cannot(action, aggregate_id, reason))


def _cannot(action: str, aggregate_id: int, reason: str) -> str:
    return f"Cannot {action} aggregate {aggregate_id}. Reason: {reason}."
