"""Identity v3 over the embedded identity: regions, services and endpoints."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.embedded.identity_collections import new_id
from cellcloud.model.identity import CatalogService, Endpoint, Region
from top_api.embedded_api import identity_list_filters, identity_views
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_catalog_schemas import (
    ENDPOINT,
    ENDPOINT_UPDATE,
    REGION,
    REGION_UPDATE,
    SERVICE,
    SERVICE_UPDATE,
)
from top_api.embedded_api.identity_list_filters import listed
from top_api.embedded_api.identity_schemas import fields_of
from top_api.request_pipeline import Call, Resource

catalog = Resource("identity_catalog", IDENTITY)
_REGION, _SERVICE, _ENDPOINT = "/v3/regions/<region_id>", "/v3/services/<service_id>", "/v3/endpoints/<endpoint_id>"
_REGION_COLUMNS = ("description", "parent_region_id")
_SERVICE_COLUMNS = ("type", "name", "description", "enabled")
_ENDPOINT_COLUMNS = ("service_id", "region_id", "interface", "url", "enabled")


# ---- regions -------------------------------------------------------------------------------------------------------
@catalog.route("GET", "/v3/regions", "identity:list_regions")
def regions(call: Call) -> dict[str, Any]:
    page = identity_list_filters.REGIONS.page(call)
    found = call.embedded.identity.catalog.regions.list_all(page)
    return listed(call, "regions", [identity_views.region(call, region) for region in found], page)


@catalog.route("POST", "/v3/regions", "identity:create_region", status=201, body=REGION)
def create_region(call: Call) -> dict[str, Any]:
    return _create_region(call, None)


@catalog.route("PUT", _REGION, "identity:create_region", status=201, body=REGION)
def create_region_of_id(call: Call, region_id: str) -> dict[str, Any]:
    return _create_region(call, region_id)


def _create_region(call: Call, region_id: str | None) -> dict[str, Any]:
    given = dict(call.body["region"])
    named = given.pop("id", None)
    if region_id and named not in (None, region_id):
        raise errors.Invalid("Conflicting region IDs specified: the body names another than the path.")
    wanted = fields_of(given, _REGION_COLUMNS)
    region = Region(id=region_id or named or new_id(), **wanted)
    return {"region": identity_views.region(call, call.embedded.identity.catalog.regions.create(region))}


@catalog.route("GET", _REGION, "identity:get_region")
def show_region(call: Call, region_id: str) -> dict[str, Any]:
    return {"region": identity_views.region(call, call.embedded.identity.catalog.regions.get(region_id))}


@catalog.route("PATCH", _REGION, "identity:update_region", body=REGION_UPDATE)
def update_region(call: Call, region_id: str) -> dict[str, Any]:
    changes = fields_of(call.body["region"], _REGION_COLUMNS, known_id=region_id)
    return {"region": identity_views.region(call, call.embedded.identity.catalog.regions.update(region_id, changes))}


@catalog.route("DELETE", _REGION, "identity:delete_region", status=204)
def delete_region(call: Call, region_id: str) -> None:
    call.embedded.identity.catalog.regions.delete(region_id)


# ---- services ------------------------------------------------------------------------------------------------------
@catalog.route("GET", "/v3/services", "identity:list_services")
def services(call: Call) -> dict[str, Any]:
    page = identity_list_filters.SERVICES.page(call)
    found = call.embedded.identity.catalog.services.list_all(page)
    return listed(call, "services", [identity_views.service(call, service) for service in found], page)


@catalog.route("POST", "/v3/services", "identity:create_service", status=201, body=SERVICE)
def create_service(call: Call) -> dict[str, Any]:
    service = CatalogService(
        id=new_id(), **fields_of(call.body["service"], _SERVICE_COLUMNS, nullable=("description",))
    )
    return {"service": identity_views.service(call, call.embedded.identity.catalog.services.create(service))}


@catalog.route("GET", _SERVICE, "identity:get_service")
def show_service(call: Call, service_id: str) -> dict[str, Any]:
    return {"service": identity_views.service(call, call.embedded.identity.catalog.services.get(service_id))}


@catalog.route("PATCH", _SERVICE, "identity:update_service", body=SERVICE_UPDATE)
def update_service(call: Call, service_id: str) -> dict[str, Any]:
    given = call.body["service"]
    changes = fields_of(given, _SERVICE_COLUMNS, known_id=service_id, nullable=("description",))
    found = call.embedded.identity.catalog.services.update(service_id, changes)
    return {"service": identity_views.service(call, found)}


@catalog.route("DELETE", _SERVICE, "identity:delete_service", status=204)
def delete_service(call: Call, service_id: str) -> None:
    call.embedded.identity.catalog.services.delete(service_id)


# ---- endpoints -----------------------------------------------------------------------------------------------------
@catalog.route("GET", "/v3/endpoints", "identity:list_endpoints")
def endpoints(call: Call) -> dict[str, Any]:
    page = identity_list_filters.ENDPOINTS.page(call)
    found = call.embedded.identity.catalog.endpoints.list_all(page)
    return listed(call, "endpoints", [identity_views.endpoint(call, endpoint) for endpoint in found], page)


@catalog.route("POST", "/v3/endpoints", "identity:create_endpoint", status=201, body=ENDPOINT)
def create_endpoint(call: Call) -> dict[str, Any]:
    endpoint = Endpoint(id=new_id(), **_endpoint_fields(call, None))
    return {"endpoint": identity_views.endpoint(call, call.embedded.identity.catalog.endpoints.create(endpoint))}


@catalog.route("GET", _ENDPOINT, "identity:get_endpoint")
def show_endpoint(call: Call, endpoint_id: str) -> dict[str, Any]:
    return {"endpoint": identity_views.endpoint(call, call.embedded.identity.catalog.endpoints.get(endpoint_id))}


@catalog.route("PATCH", _ENDPOINT, "identity:update_endpoint", body=ENDPOINT_UPDATE)
def update_endpoint(call: Call, endpoint_id: str) -> dict[str, Any]:
    identity = call.embedded.identity
    identity.catalog.endpoints.get(endpoint_id)
    found = identity.catalog.endpoints.update(endpoint_id, _endpoint_fields(call, endpoint_id))
    return {"endpoint": identity_views.endpoint(call, found)}


@catalog.route("DELETE", _ENDPOINT, "identity:delete_endpoint", status=204)
def delete_endpoint(call: Call, endpoint_id: str) -> None:
    call.embedded.identity.catalog.endpoints.delete(endpoint_id)


def _endpoint_fields(call: Call, known_id: str | None) -> dict[str, Any]:
    """Return the fields of an endpoint; a region by its old key is made where there is none, as Keystone does."""
    given = dict(call.body["endpoint"])
    old = given.pop("region", None)
    if old is not None and given.get("region_id") is None:
        call.embedded.identity.catalog.ensure_region(old)
        given["region_id"] = old
    return fields_of(given, _ENDPOINT_COLUMNS, known_id=known_id)
