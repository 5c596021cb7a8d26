"""Network v2.0 over the embedded network service: ports as Neutron shows them.

What a server's port is to its server travels in ``binding:profile``, which only administrators may write.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from cellcloud import errors
from cellcloud.clients.network import INDEX_KEY, OWNED_KEY, PLACEMENT_KEY
from cellcloud.model.network import NewPort, PortRecord
from cellcloud.model.router import port_status
from top_api.embedded_api import network_list_filters as lists
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.embedded_api.network_schemas import PORT_UPDATE, PORTS
from top_api.embedded_api.network_viewers import owner_of, serves_all, service_viewer_of
from top_api.request_pipeline import Call, Resource

ports = Resource("network_ports", API)
_BINDING = ("binding:host_id", "binding:profile")


@ports.route("GET", "/v2.0/ports", "get_port")
def list_ports(call: Call) -> dict[str, Any]:
    page = lists.PORTS.page(call)
    found = call.embedded.networks.list_port_records(service_viewer_of(call), page)
    return lists.listed(call, "ports", (_port(call, record) for record in found), page)


@ports.route("POST", "/v2.0/ports", "create_port", status=201, body=PORTS)
def create_ports(call: Call) -> dict[str, Any]:
    body = call.body
    new = [_new_port(call, wanted) for wanted in body.get("ports") or [body["port"]]]
    made = call.embedded.networks.create_ports(service_viewer_of(call), new)
    return {"ports": [_port(call, r) for r in made]} if "ports" in body else {"port": _port(call, made[0])}


@ports.route("GET", "/v2.0/ports/<port_id>", "get_port")
def show_port(call: Call, port_id: str) -> dict[str, Any]:
    return {"port": lists.fields(call, _port(call, call.embedded.networks.get_port(service_viewer_of(call), port_id)))}


@ports.route("PUT", "/v2.0/ports/<port_id>", "update_port", body=PORT_UPDATE)
def update_port(call: Call, port_id: str) -> dict[str, Any]:
    wanted = call.body["port"]
    _check_binding(call, "update_port", wanted)
    if "mac_address" in wanted:
        call.check("update_port:mac_address")
    names = ("name", "description", "admin_state_up", "device_id", "device_owner", "security_groups")
    changes = {name: wanted[name] for name in (*names, "port_security_enabled", "dns_name") if name in wanted}
    if "mac_address" in wanted:
        changes["mac_address"] = wanted["mac_address"].lower()
    if "fixed_ips" in wanted:
        changes["fixed_ips"] = _addresses(wanted)
    if "allowed_address_pairs" in wanted:
        changes["allowed_address_pairs"] = _pairs(wanted)
    if "binding:host_id" in wanted:
        changes["host_id"] = wanted["binding:host_id"] or ""
    if "binding:profile" in wanted:
        changes |= {
            "device_index": _profile(wanted).get(INDEX_KEY),
            "owned": _profile(wanted).get(OWNED_KEY, False),
            "placement": _profile(wanted).get(PLACEMENT_KEY, 0),
        }
    changed = call.embedded.networks.update_port(service_viewer_of(call), port_id, changes)
    return {"port": _port(call, changed)}


@ports.route("DELETE", "/v2.0/ports/<port_id>", "delete_port", status=204)
def delete_port(call: Call, port_id: str) -> None:
    call.embedded.networks.delete_port(service_viewer_of(call), port_id)


# ---- requests --------------------------------------------------------------------------------------------------------
def _new_port(call: Call, wanted: dict[str, Any]) -> NewPort:
    _check_binding(call, "create_port", wanted)
    return NewPort(
        network_id=wanted["network_id"],
        project_id=owner_of(call, wanted, allowed=serves_all(call)),
        name=wanted.get("name", ""),
        description=wanted.get("description", ""),
        device_id=wanted.get("device_id", ""),
        device_owner=wanted.get("device_owner", ""),
        device_index=_profile(wanted).get(INDEX_KEY),
        placement=_profile(wanted).get(PLACEMENT_KEY, 0),
        owned=_profile(wanted).get(OWNED_KEY, False),
        host_id=wanted.get("binding:host_id") or "",
        mac_address=wanted["mac_address"].lower() if "mac_address" in wanted else None,
        admin_state_up=wanted.get("admin_state_up", True),
        security_groups=tuple(wanted["security_groups"]) if "security_groups" in wanted else None,
        addresses=None if wanted.get("fixed_ips") is None else _addresses(wanted),
        port_security_enabled=wanted.get("port_security_enabled"),
        allowed_address_pairs=_pairs(wanted),
        dns_name=wanted.get("dns_name", ""),
    )


def _addresses(wanted: dict[str, Any]) -> tuple[tuple[str | None, str | None], ...]:
    return tuple((ip.get("subnet_id"), ip.get("ip_address")) for ip in wanted["fixed_ips"] or ())


def _pairs(wanted: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return (address, MAC) pairs; an empty MAC is the port's. Raises Invalid."""
    found = []
    for pair in wanted.get("allowed_address_pairs") or ():
        try:
            ipaddress.ip_network(pair["ip_address"], strict=False)
        except ValueError:
            raise errors.Invalid(f"'{pair['ip_address'][:64]}' is not a valid IP address or subnet.") from None
        found.append((pair["ip_address"], pair.get("mac_address", "").lower()))
    if len(set(found)) < len(found):
        raise errors.Invalid("Request contains duplicate address pair.")
    return tuple(found)


def _check_binding(call: Call, rule: str, wanted: dict[str, Any]) -> None:
    """Who names an attribute of the binding writes it, whatever the value. Raises Forbidden."""
    for name in _BINDING:
        if name in wanted:
            call.check(f"{rule}:{name}")
    if wanted.get("device_owner", "").startswith("network:"):
        call.check(f"{rule}:device_owner")


def _profile(wanted: dict[str, Any]) -> dict[str, Any]:
    profile: dict[str, Any] = wanted.get("binding:profile") or {}
    return profile


# ---- answers ---------------------------------------------------------------------------------------------------------
def _port(call: Call, record: PortRecord) -> dict[str, Any]:
    port = record.port
    body: dict[str, Any] = {
        "id": port.id,
        "name": record.name,
        "description": record.description,
        "network_id": port.network_id,
        "project_id": port.project_id,
        "tenant_id": port.project_id,
        "mac_address": port.mac_address,
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address} for ip in port.fixed_ips],
        "device_id": port.device_id,
        "device_owner": record.device_owner,
        "status": port_status(record),
        "admin_state_up": record.admin_state_up,
        "security_groups": list(port.security_groups),
        "allowed_address_pairs": [
            {"ip_address": address, "mac_address": mac} for address, mac in port.allowed_address_pairs
        ],
        "extra_dhcp_opts": [],
        "port_security_enabled": port.port_security_enabled,
        "dns_name": port.dns_name,
        "binding:vnic_type": "normal",
        "tags": list(record.tags),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "revision_number": record.revision,
    }
    binding = {
        "binding:host_id": port.host_id,
        "binding:profile": _profile_of(record),
        "binding:vif_type": port.vif_type if port.host_id else "unbound",
        "binding:vif_details": port.vif_details,
    }
    return body | {name: value for name, value in binding.items() if call.allows(f"get_port:{name}")}


def _profile_of(record: PortRecord) -> dict[str, Any]:
    if record.device_index is None:
        return {}
    number = {PLACEMENT_KEY: record.placement} if record.placement else {}
    return {INDEX_KEY: record.device_index, OWNED_KEY: record.port.owned, **number}
