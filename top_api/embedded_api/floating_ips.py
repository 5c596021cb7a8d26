"""Floating IPs, as Neutron shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.embedded.floating_ips import EmbeddedFloatingIps
from cellcloud.model.network import PortRecord
from cellcloud.model.router import FloatingIp, port_status
from top_api.embedded_api import network_list_filters as lists
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.embedded_api.network_schemas import FLOATING_IP, FLOATING_IP_UPDATE
from top_api.embedded_api.network_viewers import owner_of, service_viewer_of
from top_api.request_pipeline import Call, Resource

floating_ips = Resource("network_floating_ips", API)


def _service(call: Call) -> EmbeddedFloatingIps:
    return call.embedded.networks.floating_ips


def _shown(call: Call, found: list[FloatingIp]) -> list[dict[str, Any]]:
    ports = _service(call).find_ports([one.port_id for one in found if one.port_id])
    return [_floating_ip(one, ports) for one in found]


@floating_ips.route("GET", "/v2.0/floatingips", "get_floatingip")
def list_floating_ips(call: Call) -> dict[str, Any]:
    page = lists.FLOATING_IPS.page(call)
    found = _service(call).list_floating_ips(service_viewer_of(call), page)
    return lists.listed(call, "floatingips", _shown(call, found), page)


@floating_ips.route("POST", "/v2.0/floatingips", "create_floatingip", status=201, body=FLOATING_IP)
def create_floating_ip(call: Call) -> dict[str, Any]:
    wanted = call.body["floatingip"]
    if wanted.get("floating_ip_address"):
        call.check("create_floatingip:floating_ip_address")
    if wanted.get("fixed_ip_address") and not wanted.get("port_id"):
        raise errors.Invalid("Bad floatingip request: fixed_ip_address cannot be specified without a port_id.")
    new = FloatingIp(
        id="",
        project_id=owner_of(call, wanted, allowed=call.context.is_admin),
        description=wanted.get("description") or "",
        floating_network_id=wanted["floating_network_id"],
        floating_ip_address=wanted.get("floating_ip_address") or "",
        port_id=wanted.get("port_id") or None,
        fixed_ip_address=wanted.get("fixed_ip_address") or None,
        dns_name=wanted.get("dns_name") or "",
        dns_domain=wanted.get("dns_domain") or "",
    )
    made = _service(call).create_floating_ip(service_viewer_of(call), new, subnet_id=wanted.get("subnet_id") or None)
    return {"floatingip": _shown(call, [made])[0]}


@floating_ips.route("GET", "/v2.0/floatingips/<floating_ip_id>", "get_floatingip")
def show_floating_ip(call: Call, floating_ip_id: str) -> dict[str, Any]:
    found = _service(call).get_floating_ip(service_viewer_of(call), floating_ip_id)
    return {"floatingip": lists.fields(call, _shown(call, [found])[0])}


@floating_ips.route("PUT", "/v2.0/floatingips/<floating_ip_id>", "update_floatingip", body=FLOATING_IP_UPDATE)
def update_floating_ip(call: Call, floating_ip_id: str) -> dict[str, Any]:
    changed = _service(call).update_floating_ip(service_viewer_of(call), floating_ip_id, call.body["floatingip"])
    return {"floatingip": _shown(call, [changed])[0]}


@floating_ips.route("DELETE", "/v2.0/floatingips/<floating_ip_id>", "delete_floatingip", status=204)
def delete_floating_ip(call: Call, floating_ip_id: str) -> None:
    _service(call).delete_floating_ip(service_viewer_of(call), floating_ip_id)


def _floating_ip(one: FloatingIp, ports: Mapping[str, PortRecord]) -> dict[str, Any]:
    port = ports.get(one.port_id or "")
    details: dict[str, Any] | None = None
    if port is not None:
        details = {
            "name": port.name,
            "network_id": port.port.network_id,
            "mac_address": port.port.mac_address,
            "admin_state_up": port.admin_state_up,
            "status": port_status(port),
            "device_id": port.port.device_id,
            "device_owner": port.device_owner,
        }
    return {
        "id": one.id,
        "project_id": one.project_id,
        "tenant_id": one.project_id,
        "description": one.description,
        "floating_network_id": one.floating_network_id,
        "floating_ip_address": one.floating_ip_address,
        "port_id": one.port_id,
        "fixed_ip_address": one.fixed_ip_address,
        "router_id": one.router_id,
        "port_details": details,
        "status": "ACTIVE" if one.port_id else "DOWN",
        "dns_name": one.dns_name,
        "dns_domain": one.dns_domain,
        "tags": list(one.tags),
        "created_at": one.created_at,
        "updated_at": one.updated_at,
        "revision_number": one.revision,
    }
