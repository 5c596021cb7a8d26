"""IdentityRecords of the identity API as Keystone shows them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from cellcloud.model.identity import CatalogService, Domain, Endpoint, Group, IdentityRole, Project, Region, User
from top_api.embedded_api.error_formats import IDENTITY
from top_api.request_pipeline import Call


def root(call: Call) -> str:
    """Return the address of the identity API as this client reaches it."""
    return call.base_url + IDENTITY.prefix


def _own(call: Call, kind: str, record_id: str) -> dict[str, str]:
    return {"self": f"{root(call)}/v3/{kind}/{record_id}"}


def stamp(when: dt.datetime | None) -> str | None:
    """Return a time in Keystone's form."""
    return None if when is None else when.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def domain(call: Call, record: Domain) -> dict[str, Any]:
    return {
        "options": {},
        **record.extra,
        "id": record.id,
        "name": record.name,
        "description": record.description,
        "enabled": record.enabled,
        "tags": list(record.tags),
        "links": _own(call, "domains", record.id),
    }


def project(call: Call, record: Project) -> dict[str, Any]:
    return {
        "options": {},
        **record.extra,
        "id": record.id,
        "name": record.name,
        "domain_id": record.domain_id,
        "parent_id": record.parent_id or record.domain_id,
        "description": record.description,
        "enabled": record.enabled,
        "is_domain": False,
        "tags": list(record.tags),
        "links": _own(call, "projects", record.id),
    }


def domain_as_project(call: Call, record: Domain) -> dict[str, Any]:
    """Return a domain as the project that it is, too."""
    links = _own(call, "projects", record.id)
    return domain(call, record) | {"domain_id": None, "parent_id": None, "is_domain": True, "links": links}


def user(call: Call, record: User) -> dict[str, Any]:
    body: dict[str, Any] = {
        "options": {},
        **record.extra,
        "id": record.id,
        "name": record.name,
        "domain_id": record.domain_id,
        "enabled": record.enabled,
        "password_expires_at": (stamp(record.password_expires_at) or "").removesuffix("Z") or None,
        "links": _own(call, "users", record.id),
    }
    if record.default_project_id:
        body["default_project_id"] = record.default_project_id
    return body


def group(call: Call, record: Group) -> dict[str, Any]:
    return {
        **{name: value for name, value in record.extra.items() if name != "options"},
        "id": record.id,
        "name": record.name,
        "domain_id": record.domain_id,
        "description": record.description,
        "links": _own(call, "groups", record.id),
    }


def role(call: Call, record: IdentityRole) -> dict[str, Any]:
    return {
        "options": {},
        **record.extra,
        "id": record.id,
        "name": record.name,
        "domain_id": record.domain_id or None,
        "description": record.description,
        "links": _own(call, "roles", record.id),
    }


def short_role(call: Call, record: IdentityRole) -> dict[str, Any]:
    return {"id": record.id, "name": record.name, "links": _own(call, "roles", record.id)}


def region(call: Call, record: Region) -> dict[str, Any]:
    return {
        **{name: value for name, value in record.extra.items() if name != "options"},
        "id": record.id,
        "description": record.description,
        "parent_region_id": record.parent_region_id,
        "links": _own(call, "regions", record.id),
    }


def service(call: Call, record: CatalogService) -> dict[str, Any]:
    body = {
        **{name: value for name, value in record.extra.items() if name != "options"},
        "id": record.id,
        "type": record.type,
        "name": record.name,
        "enabled": record.enabled,
        "links": _own(call, "services", record.id),
    }
    return body if record.description is None else body | {"description": record.description}


def endpoint(call: Call, record: Endpoint) -> dict[str, Any]:
    return {
        **{name: value for name, value in record.extra.items() if name != "options"},
        "id": record.id,
        "service_id": record.service_id,
        "region": record.region_id,
        "region_id": record.region_id,
        "interface": record.interface,
        "url": call.base_url + record.url if record.url.startswith("/") else record.url,
        "enabled": record.enabled,
        "links": _own(call, "endpoints", record.id),
    }
