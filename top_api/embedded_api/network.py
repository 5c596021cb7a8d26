"""Network v2.0 over the embedded network service: networks, subnets and ports as Neutron shows them.

What a server's port is to its server travels in ``binding:profile``, which only administrators may write.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from flask import Blueprint, Response, request

from cellcloud import errors
from cellcloud.clients.identity import IdentityClient
from cellcloud.clients.network import INDEX_KEY, OWNED_KEY, PLACEMENT_KEY
from cellcloud.embedded.networks import EmbeddedNetworks, Viewer
from cellcloud.model.network import Network, NewPort, PortRecord, Subnet
from top_api.embedded_api import network_lists as lists
from top_api.embedded_api import network_quotas
from top_api.embedded_api.network_schemas import (
    NETWORK,
    NETWORK_UPDATE,
    PORT_UPDATE,
    PORTS,
    SUBNET,
    SUBNET_UPDATE,
)
from top_api.embedded_api.request import (
    Failure,
    allows,
    answer,
    asks,
    body_of,
    caller,
    check,
    guard,
    is_admin,
    set_up,
)
from top_api.policy import Policy

OPEN = {"network.versions", "network.unknown"}
_TYPES = {
    400: "HTTPBadRequest",
    401: "Unauthorized",
    403: "PolicyNotAuthorized",
    404: "HTTPNotFound",
    409: "Conflict",
    412: "RevisionNumberConstraintFailed",
}
_BINDING = ("binding:host_id", "binding:profile")
_REVISION = "revision_number="


def create_blueprint(
    identity: IdentityClient, networks: EmbeddedNetworks, policy: Policy, *, max_body: int
) -> Blueprint:
    """Routes below ``/network``."""
    blueprint = Blueprint("network", __name__, url_prefix="/network")
    set_up(blueprint, _form, max_body=max_body)

    def authenticate() -> None:
        if request.endpoint not in OPEN:
            guard(identity, policy)

    blueprint.before_request(authenticate)
    _add_discovery(blueprint)
    _add_networks(blueprint, networks)
    _add_subnets(blueprint, networks)
    _add_ports(blueprint, networks)
    network_quotas.add_routes(blueprint, networks)
    return blueprint


def _form(failure: Failure) -> Response:
    headers = {"WWW-Authenticate": f'Keystone uri="{request.root_url}identity"'} if failure.status == 401 else None
    kind, status = _TYPES.get(failure.status, failure.kind), failure.status
    if failure.kind == errors.QuotaExceeded.__name__:
        kind, status = "OverQuota", 409
    return answer({"NeutronError": {"type": kind, "message": failure.message, "detail": ""}}, status, headers)


def _viewer() -> Viewer:
    return Viewer(project_id=caller().project_id, is_admin=is_admin())


def _serves_all() -> bool:
    """Whether the caller has to do with ports of whatever project."""
    return is_admin() or allows("service_api")


def _port_viewer() -> Viewer:
    return Viewer(project_id=caller().project_id, is_admin=_serves_all())


def _add_discovery(blueprint: Blueprint) -> None:
    @blueprint.get("", endpoint="versions")
    @blueprint.get("/", endpoint="versions")
    def versions() -> Response:
        links = [{"rel": "self", "href": f"{request.root_url}network/v2.0/"}]
        return answer({"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]})

    @blueprint.get("/v2.0")
    @blueprint.get("/v2.0/")
    @asks("cellcloud:network_discovery")
    def resources() -> Response:
        root = f"{request.root_url}network/v2.0"
        names = (("network", "networks"), ("subnet", "subnets"), ("port", "ports"))
        found = [
            {"name": name, "collection": plural, "links": [{"rel": "self", "href": f"{root}/{plural}"}]}
            for name, plural in names
        ]
        return answer({"resources": found})

    @blueprint.get("/v2.0/extensions")
    @asks("cellcloud:network_discovery")
    def extensions() -> Response:
        known = {"quotas": "Quota management support", "quota_details": "Quota details management support"}
        found = [{"alias": alias, "name": name, "description": name, "links": []} for alias, name in known.items()]
        return answer({"extensions": found})


def _add_networks(blueprint: Blueprint, networks: EmbeddedNetworks) -> None:
    @blueprint.get("/v2.0/networks")
    @asks("get_network")
    def list_networks() -> Response:
        page = lists.NETWORKS.page()
        return lists.listed("networks", map(_network, networks.list_networks(_viewer(), page)), page)

    @blueprint.post("/v2.0/networks")
    @asks("create_network")
    def create_network() -> Response:
        wanted = body_of(NETWORK)["network"]
        if wanted.get("shared"):
            check("create_network:shared")
        new = Network(id="", project_id=_owner(wanted, allowed=is_admin()), **_picked(wanted, Network))
        return answer({"network": _network(networks.create_network(_viewer(), new))}, 201)

    @blueprint.get("/v2.0/networks/<network_id>")
    @asks("get_network")
    def show_network(network_id: str) -> Response:
        return answer({"network": lists.fields(_network(networks.get_network(_viewer(), network_id)))})

    @blueprint.put("/v2.0/networks/<network_id>")
    @asks("update_network")
    def update_network(network_id: str) -> Response:
        changes = body_of(NETWORK_UPDATE)["network"]
        if changes.get("shared"):
            check("update_network:shared")
        return answer({"network": _network(networks.update_network(_viewer(), network_id, changes))})

    @blueprint.delete("/v2.0/networks/<network_id>")
    @asks("delete_network")
    def delete_network(network_id: str) -> Response:
        networks.delete_network(_viewer(), network_id)
        return Response(status=204)


def _add_subnets(blueprint: Blueprint, networks: EmbeddedNetworks) -> None:
    @blueprint.get("/v2.0/subnets")
    @asks("get_subnet")
    def list_subnets() -> Response:
        page = lists.SUBNETS.page()
        return lists.listed("subnets", map(_subnet, networks.list_subnets(_viewer(), page)), page)

    @blueprint.post("/v2.0/subnets")
    @asks("create_subnet")
    def create_subnet() -> Response:
        wanted = body_of(SUBNET)["subnet"]
        picked = _picked(wanted, Subnet)
        picked["dns_nameservers"] = tuple(picked.get("dns_nameservers", ()))
        picked["allocation_pools"] = tuple((p["start"], p["end"]) for p in wanted.get("allocation_pools", ()))
        new = Subnet(id="", project_id=_owner(wanted, allowed=is_admin()), **picked)
        gateway = "gateway_ip" not in wanted or wanted["gateway_ip"] is not None
        return answer({"subnet": _subnet(networks.create_subnet(_viewer(), new, gateway=gateway))}, 201)

    @blueprint.get("/v2.0/subnets/<subnet_id>")
    @asks("get_subnet")
    def show_subnet(subnet_id: str) -> Response:
        return answer({"subnet": lists.fields(_subnet(networks.get_subnet(_viewer(), subnet_id)))})

    @blueprint.put("/v2.0/subnets/<subnet_id>")
    @asks("update_subnet")
    def update_subnet(subnet_id: str) -> Response:
        changes = body_of(SUBNET_UPDATE)["subnet"]
        for server in changes.get("dns_nameservers", ()):
            _check_address(server)
        return answer({"subnet": _subnet(networks.update_subnet(_viewer(), subnet_id, changes))})

    @blueprint.delete("/v2.0/subnets/<subnet_id>")
    @asks("delete_subnet")
    def delete_subnet(subnet_id: str) -> Response:
        networks.delete_subnet(_viewer(), subnet_id)
        return Response(status=204)


def _add_ports(blueprint: Blueprint, networks: EmbeddedNetworks) -> None:
    @blueprint.get("/v2.0/ports")
    @asks("get_port")
    def list_ports() -> Response:
        page = lists.PORTS.page()
        return lists.listed("ports", map(_port, networks.list_port_records(_port_viewer(), page)), page)

    @blueprint.post("/v2.0/ports")
    @asks("create_port")
    def create_ports() -> Response:
        body = body_of(PORTS)
        made = networks.create_ports(_port_viewer(), [_new_port(port) for port in body.get("ports") or [body["port"]]])
        return answer({"ports": [_port(r) for r in made]} if "ports" in body else {"port": _port(made[0])}, 201)

    @blueprint.get("/v2.0/ports/<port_id>")
    @asks("get_port")
    def show_port(port_id: str) -> Response:
        return answer({"port": lists.fields(_port(networks.get_port(_port_viewer(), port_id)))})

    @blueprint.put("/v2.0/ports/<port_id>")
    @asks("update_port")
    def update_port(port_id: str) -> Response:
        wanted = body_of(PORT_UPDATE)["port"]
        _check_binding("update_port", wanted)
        names = ("name", "description", "admin_state_up", "device_id", "device_owner", "security_groups")
        changes = {name: wanted[name] for name in names if name in wanted}
        if "binding:host_id" in wanted:
            changes["host_id"] = wanted["binding:host_id"] or ""
        if "binding:profile" in wanted:
            changes |= {
                "device_index": _profile(wanted).get(INDEX_KEY),
                "owned": _profile(wanted).get(OWNED_KEY, False),
                "placement": _profile(wanted).get(PLACEMENT_KEY, 0),
            }
        changed = networks.update_port(_port_viewer(), port_id, changes, revision=_revision())
        return answer({"port": _port(changed)})

    @blueprint.delete("/v2.0/ports/<port_id>")
    @asks("delete_port")
    def delete_port(port_id: str) -> Response:
        networks.delete_port(_port_viewer(), port_id, revision=_revision())
        return Response(status=204)


# ---- requests ------------------------------------------------------------------------------------------------------
def _owner(wanted: dict[str, Any], *, allowed: bool) -> str:
    """Whose the thing shall be. ``allowed``: to act for another project."""
    named = {wanted[name] for name in ("project_id", "tenant_id") if name in wanted}
    if len(named) > 1:
        raise errors.Invalid("'project_id' and 'tenant_id' do not match")
    owner = str(next(iter(named), caller().project_id))
    if owner != caller().project_id and not allowed:
        raise errors.Forbidden("Only an administrator may act for another project.")
    return owner


def _picked(wanted: dict[str, Any], model: type[Network] | type[Subnet]) -> dict[str, Any]:
    known = model.__dataclass_fields__
    return {name: value for name, value in wanted.items() if name in known and name != "project_id"}


def _new_port(wanted: dict[str, Any]) -> NewPort:
    _check_binding("create_port", wanted)
    fixed = wanted.get("fixed_ips")
    return NewPort(
        network_id=wanted["network_id"],
        project_id=_owner(wanted, allowed=_serves_all()),
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
        security_groups=tuple(wanted.get("security_groups", ("default",))),
        addresses=tuple((ip.get("subnet_id"), ip.get("ip_address")) for ip in fixed) if fixed is not None else None,
    )


def _check_binding(rule: str, wanted: dict[str, Any]) -> None:
    """Who names an attribute of the binding writes it, whatever the value. Raises Forbidden."""
    for name in _BINDING:
        if name in wanted:
            check(f"{rule}:{name}")
    if wanted.get("device_owner", "").startswith("network:"):
        check(f"{rule}:device_owner")


def _revision() -> int | None:
    """The one revision that the request is about, if it says so. Raises Invalid."""
    named = [tag for tag in request.if_match.as_set() if tag.startswith(_REVISION)]
    if not named:
        return None
    if len(named) > 1 or not named[0].removeprefix(_REVISION).isdecimal():
        raise errors.Invalid("Name one revision, as revision_number=NUMBER.")
    return int(named[0].removeprefix(_REVISION))


def _profile(wanted: dict[str, Any]) -> dict[str, Any]:
    profile: dict[str, Any] = wanted.get("binding:profile") or {}
    return profile


def _check_address(address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise errors.Invalid("A name server is no IP address.") from None


# ---- answers -------------------------------------------------------------------------------------------------------
def _network(network: Network) -> dict[str, Any]:
    return {
        "id": network.id,
        "name": network.name,
        "description": network.description,
        "project_id": network.project_id,
        "tenant_id": network.project_id,
        "status": "ACTIVE",
        "admin_state_up": network.admin_state_up,
        "shared": network.shared,
        "mtu": network.mtu,
        "subnets": list(network.subnet_ids),
        "router:external": False,
        "port_security_enabled": True,
        "availability_zones": [],
        "availability_zone_hints": [],
        "ipv4_address_scope": None,
        "ipv6_address_scope": None,
        "tags": [],
        "created_at": network.created_at,
        "updated_at": network.updated_at,
        "revision_number": 1,
    }


def _subnet(subnet: Subnet) -> dict[str, Any]:
    return {
        "id": subnet.id,
        "name": subnet.name,
        "description": subnet.description,
        "network_id": subnet.network_id,
        "project_id": subnet.project_id,
        "tenant_id": subnet.project_id,
        "ip_version": 4,
        "cidr": subnet.cidr,
        "gateway_ip": subnet.gateway_ip,
        "enable_dhcp": subnet.enable_dhcp,
        "dns_nameservers": list(subnet.dns_nameservers),
        "allocation_pools": [{"start": first, "end": last} for first, last in subnet.allocation_pools],
        "host_routes": [],
        "ipv6_address_mode": None,
        "ipv6_ra_mode": None,
        "subnetpool_id": None,
        "service_types": [],
        "tags": [],
        "created_at": subnet.created_at,
        "updated_at": subnet.updated_at,
        "revision_number": 1,
    }


def _port(record: PortRecord) -> dict[str, Any]:
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
        "status": "ACTIVE" if port.host_id else "DOWN",
        "admin_state_up": record.admin_state_up,
        "security_groups": list(port.security_groups),
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "port_security_enabled": True,
        "binding:vnic_type": "normal",
        "tags": [],
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
    return body | {name: value for name, value in binding.items() if allows(f"get_port:{name}")}


def _profile_of(record: PortRecord) -> dict[str, Any]:
    if record.device_index is None:
        return {}
    number = {PLACEMENT_KEY: record.placement} if record.placement else {}
    return {INDEX_KEY: record.device_index, OWNED_KEY: record.port.owned, **number}
