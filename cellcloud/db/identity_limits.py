"""Rows of the embedded identity's limits: those registered for everybody, and other ones of projects and domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.identity import DOMAINS, PROJECTS
from cellcloud.db.identity_catalog import REGIONS, SERVICES
from cellcloud.db.identity_records import IdentityRecords
from cellcloud.db.identity_schema import identity_limits, identity_registered_limits
from cellcloud.db.listing import ALL
from cellcloud.model.identity import PROJECT, OwnLimit, RegisteredLimit

REGISTERED = IdentityRecords(
    "registered limit",
    identity_registered_limits,
    RegisteredLimit,
    columns={name: identity_registered_limits.c[name] for name in ("id", "service_id", "region_id", "resource_name")},
)
LIMITS = IdentityRecords(
    "limit",
    identity_limits,
    OwnLimit,
    columns={name: identity_limits.c[name] for name in ("id", "owner", "owner_id", "registered_limit_id")},
)


def insert_registered(c: Connection, limit: RegisteredLimit) -> None:
    """Register a limit. Raises Conflict for one of the same resource, Invalid for a service or region that is not."""
    _check_place(c, limit.service_id, limit.region_id)
    same: dict[str, Any] = {
        "service_id": limit.service_id,
        "region_id": limit.region_id,
        "resource_name": limit.resource_name,
    }
    if REGISTERED.find(c, **same) is not None:
        raise errors.Conflict("Conflict occurred attempting to store registered limit - Duplicate entry.")
    REGISTERED.insert(c, limit)


def update_registered(c: Connection, limit_id: str, changes: Mapping[str, Any]) -> RegisteredLimit:
    """Change a registered limit. Raises NotFound, Invalid, Conflict; Forbidden where others refer to it."""
    before = REGISTERED.get(c, limit_id, lock=True)
    _check_place(c, changes.get("service_id", before.service_id), changes.get("region_id", before.region_id))
    if set(changes) - {"default_limit", "description"}:
        _check_unused(c, limit_id)
    return REGISTERED.update(c, limit_id, changes)


def delete_registered(c: Connection, limit_id: str) -> None:
    """Delete a registered limit. Raises NotFound; Forbidden where others refer to it."""
    REGISTERED.get(c, limit_id, lock=True)
    _check_unused(c, limit_id)
    REGISTERED.delete(c, limit_id)


def _check_unused(c: Connection, limit_id: str) -> None:
    if LIMITS.find(c, registered_limit_id=limit_id) is not None:
        raise errors.Forbidden(
            f"Unable to update or delete registered limit {limit_id} because there are project limits associated with "
            "it."
        )


def _check_place(c: Connection, service_id: str, region_id: str) -> None:
    if SERVICES.find(c, lock=True, id=service_id) is None:
        raise errors.Invalid(f"service_id: could not find service: {service_id[:64]}.")
    if region_id and REGIONS.find(c, lock=True, id=region_id) is None:
        raise errors.Invalid(f"region_id: could not find region: {region_id[:64]}.")


def find_registered(c: Connection, service_id: str, region_id: str, resource_name: str) -> RegisteredLimit:
    """Return the registered limit of a resource. Raises Forbidden where there is none, Invalid for a service or region
    that is not."""
    _check_place(c, service_id, region_id)
    found = REGISTERED.find(c, lock=True, service_id=service_id, region_id=region_id, resource_name=resource_name)
    if found is None:
        raise errors.Forbidden("Unable to create a limit that has no corresponding registered limit.")
    return found


def insert_limit(c: Connection, limit: OwnLimit) -> None:
    """Store a limit of a project or domain. Raises Invalid for an owner that is not, Conflict for a second one."""
    if (PROJECTS if limit.owner == PROJECT else DOMAINS).find(c, lock=True, id=limit.owner_id) is None:
        raise errors.Invalid(f"{limit.owner}_id: could not find {limit.owner}: {limit.owner_id[:64]}.")
    same: dict[str, Any] = {
        "owner": limit.owner,
        "owner_id": limit.owner_id,
        "registered_limit_id": limit.registered_limit_id,
    }
    if LIMITS.find(c, **same) is not None:
        raise errors.Conflict("Conflict occurred attempting to store limit - Duplicate entry.")
    LIMITS.insert(c, limit)


def list_registered_of(c: Connection, ids: list[str]) -> dict[str, RegisteredLimit]:
    """Return registered limits by their ids."""
    wanted = identity_registered_limits.c.id.in_(ids)
    return {limit.id: limit for limit in REGISTERED.list_all(c, ALL, wanted)}
