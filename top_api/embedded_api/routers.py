"""Routers, as Neutron shows them."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.db.routers import RouterInterface
from cellcloud.embedded.routers import EmbeddedRouters, WantedGateway
from cellcloud.model.router import VirtualRouter
from top_api.embedded_api import network_list_filters as lists
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.embedded_api.network_schemas import ROUTER, ROUTER_INTERFACE, ROUTER_ROUTES, ROUTER_UPDATE
from top_api.embedded_api.network_viewers import owner_of, viewer_of
from top_api.request_pipeline import Call, Resource

routers = Resource("network_routers", API)
_GATEWAY = "external_gateway_info"


def _service(call: Call) -> EmbeddedRouters:
    return call.embedded.networks.routers


@routers.route("GET", "/v2.0/routers", "get_router")
def list_routers(call: Call) -> dict[str, Any]:
    page = lists.ROUTERS.page(call)
    found = _service(call).list_routers(viewer_of(call), page)
    return lists.listed(call, "routers", (_router(call, router) for router in found), page)


@routers.route("POST", "/v2.0/routers", "create_router", status=201, body=ROUTER)
def create_router(call: Call) -> dict[str, Any]:
    wanted = call.body["router"]
    new = VirtualRouter(
        id="",
        name=wanted.get("name", ""),
        description=wanted.get("description", ""),
        admin_state_up=wanted.get("admin_state_up", True),
        project_id=owner_of(call, wanted, allowed=call.context.is_admin),
    )
    return {
        "router": _router(
            call, _service(call).create_router(viewer_of(call), new, _gateway(call, "create_router", wanted))
        )
    }


@routers.route("GET", "/v2.0/routers/<router_id>", "get_router")
def show_router(call: Call, router_id: str) -> dict[str, Any]:
    return {"router": lists.fields(call, _router(call, _service(call).get_router(viewer_of(call), router_id)))}


@routers.route("PUT", "/v2.0/routers/<router_id>", "update_router", body=ROUTER_UPDATE)
def update_router(call: Call, router_id: str) -> dict[str, Any]:
    wanted = call.body["router"]
    changes = {name: wanted[name] for name in ("name", "description", "admin_state_up") if name in wanted}
    if "routes" in wanted:
        changes["routes"] = _routes(wanted)
    gateway = _gateway(call, "update_router", wanted)
    return {"router": _router(call, _service(call).update_router(viewer_of(call), router_id, changes, gateway))}


@routers.route("DELETE", "/v2.0/routers/<router_id>", "delete_router", status=204)
def delete_router(call: Call, router_id: str) -> None:
    _service(call).delete_router(viewer_of(call), router_id)


@routers.route("PUT", "/v2.0/routers/<router_id>/add_router_interface", "add_router_interface", body=ROUTER_INTERFACE)
def add_interface(call: Call, router_id: str) -> dict[str, Any]:
    if len(call.body) != 1:
        raise errors.Invalid("Bad router request: Either subnet_id or port_id must be specified.")
    return _interface(*_service(call).add_interface(viewer_of(call), router_id, **call.body))


@routers.route(
    "PUT", "/v2.0/routers/<router_id>/remove_router_interface", "remove_router_interface", body=ROUTER_INTERFACE
)
def remove_interface(call: Call, router_id: str) -> dict[str, Any]:
    if not call.body:
        raise errors.Invalid("Bad router request: Either subnet_id or port_id must be specified.")
    return _interface(*_service(call).remove_interface(viewer_of(call), router_id, **call.body))


@routers.route("PUT", "/v2.0/routers/<router_id>/add_extraroutes", "add_extraroutes", body=ROUTER_ROUTES)
def add_routes(call: Call, router_id: str) -> dict[str, Any]:
    new = _routes(call.body["router"])
    changed = _service(call).change_routes(
        viewer_of(call), router_id, lambda known: (*known, *(route for route in new if route not in known))
    )
    return {"router": _router(call, changed)}


@routers.route("PUT", "/v2.0/routers/<router_id>/remove_extraroutes", "remove_extraroutes", body=ROUTER_ROUTES)
def remove_routes(call: Call, router_id: str) -> dict[str, Any]:
    going = _routes(call.body["router"])
    changed = _service(call).change_routes(
        viewer_of(call), router_id, lambda known: tuple(route for route in known if route not in going)
    )
    return {"router": _router(call, changed)}


# ---- requests --------------------------------------------------------------------------------------------------------
def _gateway(call: Call, rule: str, wanted: dict[str, Any]) -> WantedGateway | None:
    if _GATEWAY not in wanted:
        return None
    given = wanted[_GATEWAY] or {}
    for name in ("external_gateway_info:enable_snat", "external_gateway_info:external_fixed_ips"):
        if name.partition(":")[2] in given:
            call.check(f"{rule}:{name}")
    if given and "network_id" not in given:
        raise errors.Invalid("Invalid input for external_gateway_info. Reason: 'network_id' is missing.")
    fixed = given.get("external_fixed_ips")
    return WantedGateway(
        network_id=given.get("network_id"),
        addresses=tuple((ip.get("subnet_id"), ip.get("ip_address")) for ip in fixed) if fixed else None,
        enable_snat=given.get("enable_snat"),
    )


def _routes(wanted: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((route["destination"], route["nexthop"]) for route in wanted.get("routes") or ())


# ---- answers ---------------------------------------------------------------------------------------------------------
def _router(call: Call, router: VirtualRouter) -> dict[str, Any]:
    gateway: dict[str, Any] | None = None
    if router.gateway_network_id is not None:
        ips = [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address} for ip in router.gateway_ips]
        gateway = {
            "network_id": router.gateway_network_id,
            "external_fixed_ips": ips,
            "enable_snat": router.enable_snat,
        }
    admin = {"distributed": False, "ha": False} if call.context.is_admin else {}
    return {
        "id": router.id,
        "name": router.name,
        "description": router.description,
        "project_id": router.project_id,
        "tenant_id": router.project_id,
        "admin_state_up": router.admin_state_up,
        "status": "ACTIVE",
        _GATEWAY: gateway,
        "routes": [{"destination": destination, "nexthop": hop} for destination, hop in router.routes],
        "availability_zones": ["nova"],
        "availability_zone_hints": [],
        "flavor_id": None,
        **admin,
        "tags": list(router.tags),
        "created_at": router.created_at,
        "updated_at": router.updated_at,
        "revision_number": router.revision,
    }


def _interface(router: VirtualRouter, found: list[RouterInterface]) -> dict[str, Any]:
    first = found[0]
    return {
        "id": router.id,
        "tenant_id": router.project_id,
        "project_id": router.project_id,
        "network_id": first.network_id,
        "port_id": first.port_id,
        "subnet_id": first.subnet_id,
        "subnet_ids": [one.subnet_id for one in found],
    }
