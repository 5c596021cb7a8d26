"""Network v2.0 over the embedded network service: discovery, networks and subnets as Neutron shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellcloud import errors
from cellcloud.model.network import Network, Subnet
from top_api.embedded_api import network_list_filters as lists
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.embedded_api.network_schemas import NETWORK_UPDATE, NETWORKS, SUBNET_UPDATE, SUBNETS
from top_api.embedded_api.network_viewers import owner_of, viewer_of
from top_api.request_pipeline import Call, Resource

network = Resource("network", API)


_UPDATED = "2026-11-29T00:00:00-00:00"
_COLUMNS = {"router:external": "external"}
_PROVIDER = ("provider:network_type", "provider:physical_network", "provider:segmentation_id")
_OF_ADMINISTRATORS = ("shared", "router:external", "is_default", *_PROVIDER)


@network.route("GET", "", None)
@network.route("GET", "/", None)
def versions(call: Call) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{call.base_url}/network/v2.0/"}]
    return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}


@network.route("GET", "/v2.0", "cellcloud:network_discovery")
@network.route("GET", "/v2.0/", "cellcloud:network_discovery")
def resources(call: Call) -> dict[str, Any]:
    root = f"{call.base_url}/network/v2.0"
    names = {
        **{f"{name}s": name for name in ("network", "subnet", "port", "router", "floatingip", "agent")},
        **{f"{name}s": name for name in ("security_group", "security_group_rule", "availability_zone", "extension")},
        "rbac_policies": "rbac_policy",
        "network_ip_availabilities": "network_ip_availability",
    }
    found = [
        {"name": name, "collection": kind, "links": [{"rel": "self", "href": f"{root}/{_path(kind)}"}]}
        for kind, name in names.items()
    ]
    return {"resources": found}


def _path(collection: str) -> str:
    return collection if collection == "availability_zones" else collection.replace("_", "-")


@network.route("GET", "/v2.0/extensions", "cellcloud:network_discovery")
def extensions(call: Call) -> dict[str, Any]:
    known = {
        "quotas": "Quota management support",
        "quota_details": "Quota details management support",
        "security-group": "security-group",
        "security-groups-normalized-cidr": "Normalized CIDR field for security group rules",
        "standard-attr-description": "standard-attr-description",
        "standard-attr-revisions": "Resource revision numbers",
        "standard-attr-timestamp": "Resource timestamps",
        "revision-if-match": "If-Match constraints based on revision_number",
        "sorting": "Sorting support",
        "filter-validation": "Filter parameters validation",
        "pagination": "Pagination support",
        "project-id": "project_id field enabled",
        "binding": "Port Binding",
        "net-mtu": "Network MTU",
        "net-mtu-writable": "Network MTU (writable)",
        "router": "Neutron L3 Router",
        "standard-attr-tag": "Tag support for resources with standard attribute",
        "availability_zone": "Availability Zone",
        "quota-check-limit": "Quota engine limit check",
        "ext-gw-mode": "Neutron L3 Configurable external gateway mode",
        "extraroute": "Neutron Extra Route",
        "extraroute-atomic": "Atomically add/remove extra routes",
        "fip-port-details": "Floating IP Port Details Extension",
        "external-net": "Neutron external network",
        "provider": "Provider Network",
        "port-security": "Port Security",
        "rbac-policies": "RBAC Policies",
        "rbac-security-groups": "Add security_group type to network RBAC",
        "security-groups-shared-filtering": "Security group filtering on the shared field",
        "agent": "agent",
        "network-ip-availability": "Network IP Availability",
        "ip-substring-filtering": "IP address substring filtering",
        "empty-string-filtering": "Empty String Filtering Extension",
        "allowed-address-pairs": "Allowed Address Pairs",
    }
    found = [
        {"alias": alias, "name": name, "description": name, "updated": _UPDATED, "links": []}
        for alias, name in known.items()
    ]
    return {"extensions": found}


@network.route("GET", "/v2.0/extensions/<alias>", "cellcloud:network_discovery")
def show_extension(call: Call, alias: str) -> dict[str, Any]:
    for one in extensions(call)["extensions"]:
        if one["alias"] == alias:
            return {"extension": one}
    raise errors.NotFound(f"Extension with alias {alias[:64]} does not exist")


@network.route("GET", "/v2.0/availability_zones", "get_availability_zone")
def list_zones(call: Call) -> dict[str, Any]:
    kinds = ("network", "router")
    return {"availability_zones": [{"name": "nova", "resource": kind, "state": "available"} for kind in kinds]}


@network.route("GET", "/v2.0/networks", "get_network")
def list_networks(call: Call) -> dict[str, Any]:
    page = lists.NETWORKS.page(call)
    return lists.listed(
        call,
        "networks",
        [_network(call, one) for one in call.embedded.networks.list_networks(viewer_of(call), page)],
        page,
    )


@network.route("POST", "/v2.0/networks", "create_network", status=201, body=NETWORKS)
def create_network(call: Call) -> dict[str, Any]:
    wanted = call.body.get("networks") or [call.body["network"]]
    made = call.embedded.networks.create_networks(viewer_of(call), [_new_network(call, one) for one in wanted])
    shown = [_network(call, network) for network in made]
    return {"networks": shown} if "networks" in call.body else {"network": shown[0]}


@network.route("GET", "/v2.0/networks/<network_id>", "get_network")
def show_network(call: Call, network_id: str) -> dict[str, Any]:
    return {
        "network": lists.fields(call, _network(call, call.embedded.networks.get_network(viewer_of(call), network_id)))
    }


@network.route("PUT", "/v2.0/networks/<network_id>", "update_network", body=NETWORK_UPDATE)
def update_network(call: Call, network_id: str) -> dict[str, Any]:
    wanted = call.body["network"]
    _check_network(call, "update_network", wanted)
    changes = {_COLUMNS.get(name, name): value for name, value in wanted.items()}
    return {"network": _network(call, call.embedded.networks.update_network(viewer_of(call), network_id, changes))}


@network.route("DELETE", "/v2.0/networks/<network_id>", "delete_network", status=204)
def delete_network(call: Call, network_id: str) -> None:
    call.embedded.networks.delete_network(viewer_of(call), network_id)


@network.route("GET", "/v2.0/subnets", "get_subnet")
def list_subnets(call: Call) -> dict[str, Any]:
    page = lists.SUBNETS.page(call)
    found = call.embedded.networks.list_subnets(viewer_of(call), page)
    return lists.listed(call, "subnets", map(_subnet, found), page)


@network.route("POST", "/v2.0/subnets", "create_subnet", status=201, body=SUBNETS)
def create_subnet(call: Call) -> dict[str, Any]:
    wanted = call.body.get("subnets") or [call.body["subnet"]]
    made = call.embedded.networks.create_subnets(viewer_of(call), [_new_subnet(call, one) for one in wanted])
    shown = [_subnet(subnet) for subnet in made]
    return {"subnets": shown} if "subnets" in call.body else {"subnet": shown[0]}


@network.route("GET", "/v2.0/subnets/<subnet_id>", "get_subnet")
def show_subnet(call: Call, subnet_id: str) -> dict[str, Any]:
    return {"subnet": lists.fields(call, _subnet(call.embedded.networks.get_subnet(viewer_of(call), subnet_id)))}


@network.route("PUT", "/v2.0/subnets/<subnet_id>", "update_subnet", body=SUBNET_UPDATE)
def update_subnet(call: Call, subnet_id: str) -> dict[str, Any]:
    changes = dict(call.body["subnet"])
    for name, read in (("host_routes", _routes), ("allocation_pools", _pools), ("dns_nameservers", tuple)):
        if name in changes:
            changes[name] = read(changes[name] or ())
    return {"subnet": _subnet(call.embedded.networks.update_subnet(viewer_of(call), subnet_id, changes))}


@network.route("DELETE", "/v2.0/subnets/<subnet_id>", "delete_subnet", status=204)
def delete_subnet(call: Call, subnet_id: str) -> None:
    call.embedded.networks.delete_subnet(viewer_of(call), subnet_id)


# ---- requests --------------------------------------------------------------------------------------------------------
def _picked(wanted: dict[str, Any], model: type[Network] | type[Subnet]) -> dict[str, Any]:
    known = model.__dataclass_fields__
    return {name: value for name, value in wanted.items() if name in known and name != "project_id"}


def _new_network(call: Call, wanted: dict[str, Any]) -> Network:
    _check_network(call, "create_network", wanted)
    return Network(
        id="",
        project_id=owner_of(call, wanted, allowed=call.context.is_admin),
        external=wanted.get("router:external") or False,
        segmentation_id=wanted.get("provider:segmentation_id"),
        **_picked(wanted, Network),
    )


def _check_network(call: Call, rule: str, wanted: dict[str, Any]) -> None:
    for name in _OF_ADMINISTRATORS:
        if wanted.get(name) or (wanted.get(name) is not None and name.startswith(("provider:", "router:"))):
            call.check(f"{rule}:{name}")


def _new_subnet(call: Call, wanted: dict[str, Any]) -> tuple[Subnet, bool]:
    """Return it, and whether it shall have a gateway."""
    picked = _picked(wanted, Subnet)
    picked |= {
        "ip_version": wanted.get("ip_version", 4),
        "dns_nameservers": tuple(wanted.get("dns_nameservers") or ()),
        "allocation_pools": _pools(wanted.get("allocation_pools") or ()),
        "host_routes": _routes(wanted.get("host_routes") or ()),
    }
    new = Subnet(id="", project_id=owner_of(call, wanted, allowed=call.context.is_admin), **picked)
    return new, "gateway_ip" not in wanted or wanted["gateway_ip"] is not None


def _pools(given: Sequence[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((pool["start"], pool["end"]) for pool in given)


def _routes(given: Sequence[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((route["destination"], route["nexthop"]) for route in given)


# ---- answers ---------------------------------------------------------------------------------------------------------
def _network(call: Call, network: Network) -> dict[str, Any]:
    provider = dict(zip(_PROVIDER, ("vxlan", None, network.segmentation_id), strict=True))
    seen = {name: value for name, value in provider.items() if call.allows(f"get_network:{name}")}
    outer = {"is_default": network.is_default} if network.external else {}
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
        "router:external": network.external,
        "port_security_enabled": network.port_security_enabled,
        **outer,
        **seen,
        "dns_domain": network.dns_domain,
        "availability_zones": ["nova"],
        "availability_zone_hints": [],
        "ipv4_address_scope": None,
        "ipv6_address_scope": None,
        "tags": list(network.tags),
        "created_at": network.created_at,
        "updated_at": network.updated_at,
        "revision_number": network.revision,
    }


def _subnet(subnet: Subnet) -> dict[str, Any]:
    return {
        "id": subnet.id,
        "name": subnet.name,
        "description": subnet.description,
        "network_id": subnet.network_id,
        "project_id": subnet.project_id,
        "tenant_id": subnet.project_id,
        "ip_version": subnet.ip_version,
        "cidr": subnet.cidr,
        "gateway_ip": subnet.gateway_ip,
        "enable_dhcp": subnet.enable_dhcp,
        "dns_nameservers": list(subnet.dns_nameservers),
        "allocation_pools": [{"start": first, "end": last} for first, last in subnet.allocation_pools],
        "host_routes": [{"destination": to, "nexthop": hop} for to, hop in subnet.host_routes],
        "ipv6_address_mode": subnet.ipv6_address_mode,
        "ipv6_ra_mode": subnet.ipv6_ra_mode,
        "subnetpool_id": None,
        "service_types": [],
        "tags": list(subnet.tags),
        "created_at": subnet.created_at,
        "updated_at": subnet.updated_at,
        "revision_number": subnet.revision,
    }
