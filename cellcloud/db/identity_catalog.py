"""Rows of the embedded identity's catalog: regions in trees, services and their endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.identity_records import IdentityRecords
from cellcloud.db.identity_schema import (
    identity_endpoints,
    identity_regions,
    identity_registered_limits,
    identity_services,
)
from cellcloud.model.identity import CatalogService, Endpoint, Region

REGIONS = IdentityRecords(
    "region",
    identity_regions,
    Region,
    columns={"id": identity_regions.c.id, "parent_region_id": identity_regions.c.parent_region_id},
)
SERVICES = IdentityRecords(
    "service",
    identity_services,
    CatalogService,
    columns={name: identity_services.c[name] for name in ("id", "name", "type", "enabled")},
)
ENDPOINTS = IdentityRecords(
    "endpoint",
    identity_endpoints,
    Endpoint,
    columns={name: identity_endpoints.c[name] for name in ("id", "interface", "service_id", "region_id", "enabled")},
)


def insert_region(c: Connection, region: Region) -> None:
    """Store a region. Raises NotFound for its parent, Conflict for an id in use."""
    if region.parent_region_id is not None:
        REGIONS.get(c, region.parent_region_id, lock=True)
    if REGIONS.find(c, id=region.id) is not None:
        raise errors.Conflict(f"Conflict occurred attempting to store region - Duplicate ID, {region.id[:64]}.")
    REGIONS.insert(c, region)


def update_region(c: Connection, region_id: str, changes: Mapping[str, Any]) -> Region:
    """Change a region. Raises NotFound, Invalid for one that would be above itself."""
    parent_id = changes.get("parent_region_id")
    if parent_id is not None:
        every = sa.select(identity_regions.c.id, identity_regions.c.parent_region_id).order_by(identity_regions.c.id)
        parents = {row.id: row.parent_region_id for row in c.execute(every.with_for_update())}
        REGIONS.get(c, parent_id)
        above: str | None = parent_id
        while above is not None:
            if above == region_id:
                raise errors.Invalid(
                    f"The specified parent region {parent_id} would create a circular region hierarchy."
                )
            above = parents.pop(above, None)
    return REGIONS.update(c, region_id, changes)


def delete_region(c: Connection, region_id: str) -> None:
    """Delete a region with those below it. Raises NotFound, Forbidden where an endpoint is in one of them."""
    REGIONS.get(c, region_id, lock=True)
    children: dict[str, list[str]] = {}
    for region in REGIONS.list_all(c):
        if region.parent_region_id is not None:
            children.setdefault(region.parent_region_id, []).append(region.id)
    gone = [region_id]
    for one in gone:
        gone += [child for child in children.get(one, ()) if child not in gone]
    e, r = identity_endpoints, identity_registered_limits
    for table in (e, r):
        if c.execute(sa.select(table.c.id).where(table.c.region_id.in_(gone)).limit(1)).first() is not None:
            raise errors.Forbidden(
                f"Unable to delete region {region_id[:64]} because it or its child regions have associated endpoints "
                "or limits."
            )
    c.execute(identity_regions.delete().where(identity_regions.c.id.in_(gone)))


def delete_service(c: Connection, service_id: str) -> None:
    """Delete a service with its endpoints. Raises NotFound, Forbidden where a limit is of it."""
    SERVICES.get(c, service_id, lock=True)
    r = identity_registered_limits.c
    if c.execute(sa.select(r.id).where(r.service_id == service_id).limit(1)).first() is not None:
        raise errors.Forbidden(f"Unable to delete service {service_id} because registered limits are of it.")
    c.execute(identity_endpoints.delete().where(identity_endpoints.c.service_id == service_id))
    SERVICES.delete(c, service_id)


def insert_endpoint(c: Connection, endpoint: Endpoint) -> None:
    """Store an endpoint. Raises Invalid for a service or region that does not exist."""
    _check_place(c, endpoint.service_id, endpoint.region_id)
    ENDPOINTS.insert(c, endpoint)


def update_endpoint(c: Connection, endpoint_id: str, changes: Mapping[str, Any]) -> Endpoint:
    """Change an endpoint. Raises NotFound; Invalid as for a new one."""
    before = ENDPOINTS.get(c, endpoint_id, lock=True)
    _check_place(c, changes.get("service_id", before.service_id), changes.get("region_id", before.region_id))
    return ENDPOINTS.update(c, endpoint_id, changes)


def _check_place(c: Connection, service_id: str, region_id: str | None) -> None:
    if SERVICES.find(c, lock=True, id=service_id) is None:
        raise errors.Invalid(f"Could not find service: {service_id[:64]}.")
    if region_id is not None and REGIONS.find(c, lock=True, id=region_id) is None:
        raise errors.Invalid(f"Could not find region: {region_id[:64]}.")


def ensure_region(c: Connection, region_id: str) -> None:
    """Make a region of that id where there is none."""
    if REGIONS.find(c, id=region_id) is None:
        REGIONS.insert(c, Region(id=region_id))


def list_catalog(c: Connection) -> list[tuple[CatalogService, list[Endpoint]]]:
    """Return the enabled services with their enabled endpoints; every service by its type and id."""
    by_service: dict[str, list[Endpoint]] = {}
    for endpoint in ENDPOINTS.list_all(c, enabled=True):
        by_service.setdefault(endpoint.service_id, []).append(endpoint)
    found = sorted(SERVICES.list_all(c, enabled=True), key=lambda service: (service.type, service.id))
    return [(service, by_service.get(service.id, [])) for service in found]
