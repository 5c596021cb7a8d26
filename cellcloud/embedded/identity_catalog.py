"""The embedded identity's catalog: the services of this cloud under the address that the caller came to, and what the
operator registers beside them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import cellcloud.db.identity_catalog as db
from cellcloud.db.engine import Connection, Database
from cellcloud.embedded.identity_collections import IdentityCollection, change
from cellcloud.model.identity import CatalogService, Endpoint

REGION = "RegionOne"
INTERFACES = ("public", "internal", "admin")
# Type, name and path of each service that this cloud has of its own.
EMBEDDED = (
    ("compute", "nova", "/v2.1"),
    ("image", "glance", "/image"),
    ("block-storage", "cinder", "/volume/v3"),
    ("volumev3", "cinderv3", "/volume/v3"),
    ("network", "neutron", "/network"),
    ("identity", "keystone", "/identity"),
)
Entries = Sequence[tuple[CatalogService, Sequence[Endpoint]]]


class Catalog:
    """Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.regions = IdentityCollection(
            database, db.REGIONS, insert=db.insert_region, update=db.update_region, delete=db.delete_region
        )
        self.services = IdentityCollection(database, db.SERVICES, delete=db.delete_service)
        self.endpoints = IdentityCollection(
            database, db.ENDPOINTS, insert=db.insert_endpoint, update=db.update_endpoint
        )

    def ensure_region(self, region_id: str) -> None:
        """Make a region of that id where there is none."""
        change(self._database, lambda c: db.ensure_region(c, region_id))

    def list_entries(self) -> Entries:
        """Return the enabled services with their enabled endpoints."""
        with self._database.read() as c:
            return db.list_catalog(c)


def register_embedded(c: Connection) -> None:
    """Register this cloud's own services, as far as they are not."""
    db.ensure_region(c, REGION)
    services = {service.id for service in db.SERVICES.list_all(c)}
    endpoints = {endpoint.id for endpoint in db.ENDPOINTS.list_all(c)}
    for kind, name, path in EMBEDDED:
        service_id = _id_of(kind)
        if service_id not in services:
            db.SERVICES.insert(c, CatalogService(id=service_id, type=kind, name=name))
        for interface in INTERFACES:
            endpoint_id = _id_of(f"{interface}.{kind}")
            if endpoint_id not in endpoints:
                db.insert_endpoint(
                    c,
                    Endpoint(id=endpoint_id, service_id=service_id, region_id=REGION, interface=interface, url=path),
                )


def shown(entries: Entries, root_url: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the catalog in Keystone's form. ``root_url``: how the caller reaches this cloud; ``values``: what may
    stand in an operator's URLs, as ``$(project_id)s``."""
    root = root_url.rstrip("/")
    return [
        {
            "id": service.id,
            "type": service.type,
            "name": service.name,
            "endpoints": [
                {
                    "id": endpoint.id,
                    "interface": endpoint.interface,
                    "region": endpoint.region_id,
                    "region_id": endpoint.region_id,
                    "url": url,
                }
                for endpoint in endpoints
                if (url := url_of(endpoint, root, values)) is not None
            ],
        }
        for service, endpoints in entries
    ]


def url_of(endpoint: Endpoint, root: str, values: Mapping[str, str]) -> str | None:
    """Return the URL of an endpoint for one caller; None where it needs what the caller has not."""
    if endpoint.url.startswith("/"):
        return root + endpoint.url
    url = endpoint.url
    for name in _VALUES:
        for form in (f"$({name})s", f"%({name})s"):
            if form in url:
                if not values.get(name):
                    return None
                url = url.replace(form, values[name])
    return url


_VALUES = ("project_id", "tenant_id", "user_id")


def _id_of(name: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{REGION}").hex
