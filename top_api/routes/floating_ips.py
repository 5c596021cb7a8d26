"""/os-floating-ips, /os-floating-ip-pools, /os-networks and /os-tenant-networks up to 2.35, and the floating IPs of
servers up to 2.43."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.clients.floating_ips import FloatingIpClient
from cellcloud.model.network import Network
from cellcloud.model.router import FloatingIp
from top_api.answers import floating_ips as answers
from top_api.operations import floating_ips as operations
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.routes.server_actions import actions
from top_api.schemas import floating_ips as schemas

floating_ips = Resource("os-floating-ips")
LAST_PROXY, LAST_ACTION = (2, 35), (2, 43)
_RULE = "os_compute_api:os-floating-ips"
_ALL, _ONE = "/os-floating-ips", "/os-floating-ips/<floating_ip_id>"
# What nova-network told of a network, and Neutron does not.
_UNTOLD = (
    "cidr", "netmask", "gateway", "broadcast", "dns1", "dns2", "cidr_v6", "gateway_v6", "netmask_v6",
)  # fmt: skip


def _client(call: Call) -> FloatingIpClient:
    return call.services.networks.floating_ip_client


def _shown(call: Call, found: tuple[FloatingIp, ...]) -> list[dict[str, Any]]:
    client = _client(call)
    ports = client.find_ports([one.port_id for one in found if one.port_id])
    names = {network.id: network.name for network in client.list_networks(call.context.project_id)} if found else {}
    return [
        {
            "id": one.id,
            "ip": one.floating_ip_address,
            "pool": names.get(one.floating_network_id, one.floating_network_id),
            "fixed_ip": one.fixed_ip_address,
            "instance_id": ports[one.port_id].device_id or None if one.port_id in ports else None,
        }
        for one in found
    ]


@floating_ips.route("GET", _ALL, f"{_RULE}:list", until=LAST_PROXY, answer=answers.LIST)
def list_floating_ips(call: Call) -> dict[str, Any]:
    return {"floating_ips": _shown(call, _client(call).list_floating_ips(call.context.project_id))}


@floating_ips.route("POST", _ALL, f"{_RULE}:create", until=LAST_PROXY, body=schemas.CREATE, answer=answers.ONE)
def create_floating_ip(call: Call) -> dict[str, Any]:
    made = operations.create(_client(call), call.context.project_id, (call.body or {}).get("pool"))
    return {"floating_ip": _shown(call, (made,))[0]}


@floating_ips.route("GET", _ONE, f"{_RULE}:show", until=LAST_PROXY, answer=answers.ONE)
def show_floating_ip(call: Call, floating_ip_id: str) -> dict[str, Any]:
    found = _client(call).get_floating_ip(call.context.project_id, floating_ip_id)
    return {"floating_ip": _shown(call, (found,))[0]}


@floating_ips.route("DELETE", _ONE, f"{_RULE}:delete", status=202, until=LAST_PROXY, answer=NOTHING)
def delete_floating_ip(call: Call, floating_ip_id: str) -> None:
    _client(call).delete_floating_ip(call.context.project_id, floating_ip_id)


@floating_ips.route(
    "GET", "/os-floating-ip-pools", "os_compute_api:os-floating-ip-pools", until=LAST_PROXY, answer=answers.POOLS
)
def list_pools(call: Call) -> dict[str, Any]:
    found = _client(call).list_networks(call.context.project_id)
    return {"floating_ip_pools": [{"name": network.name or network.id} for network in found if network.external]}


# ---- networks --------------------------------------------------------------------------------------------------------
def _inner(call: Call) -> list[Network]:
    return [one for one in _client(call).list_networks(call.context.project_id) if one.shared or not one.external]


def _find(call: Call, network_id: str) -> Network:
    for network in _inner(call):
        if network.id == network_id:
            return network
    raise errors.NotFound("Network not found")


def _network(network: Network) -> dict[str, Any]:
    return {**dict.fromkeys(_UNTOLD), "id": network.id, "label": network.name}


def _tenants(network: Network) -> dict[str, Any]:
    return {"id": network.id, "label": network.name, "cidr": "None"}


@floating_ips.route("GET", "/os-networks", "os_compute_api:os-networks:list", until=LAST_PROXY, answer=answers.NETWORKS)
def list_networks(call: Call) -> dict[str, Any]:
    return {"networks": [_network(network) for network in _inner(call)]}


@floating_ips.route(
    "GET", "/os-networks/<network_id>", "os_compute_api:os-networks:show", until=LAST_PROXY, answer=answers.NETWORK
)
def show_network(call: Call, network_id: str) -> dict[str, Any]:
    return {"network": _network(_find(call, network_id))}


@floating_ips.route(
    "GET",
    "/os-tenant-networks",
    "os_compute_api:os-tenant-networks:list",
    until=LAST_PROXY,
    answer=answers.TENANT_NETWORKS,
)
def list_tenant_networks(call: Call) -> dict[str, Any]:
    return {"networks": [_tenants(network) for network in _inner(call)]}


@floating_ips.route(
    "GET",
    "/os-tenant-networks/<network_id>",
    "os_compute_api:os-tenant-networks:show",
    until=LAST_PROXY,
    answer=answers.TENANT_NETWORK,
)
def show_tenant_network(call: Call, network_id: str) -> dict[str, Any]:
    return {"network": _tenants(_find(call, network_id))}


# ---- servers ---------------------------------------------------------------------------------------------------------
@actions.action("addFloatingIp", f"{_RULE}:add", until=LAST_ACTION, body=schemas.ADD, answer=NOTHING)
def add_floating_ip(call: Call, server_id: str) -> None:
    wanted = call.body["addFloatingIp"]
    operations.associate(_client(call), call.server, wanted["address"], wanted.get("fixed_address"))


@actions.action("removeFloatingIp", f"{_RULE}:remove", until=LAST_ACTION, body=schemas.REMOVE, answer=NOTHING)
def remove_floating_ip(call: Call, server_id: str) -> None:
    operations.disassociate(_client(call), call.server, call.body["removeFloatingIp"]["address"])
