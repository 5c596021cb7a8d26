"""/servers/{id}/ips."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from top_api.answers import server_ips as answers
from top_api.operations.server_in_cell import look_up_server
from top_api.request_pipeline import Call, Resource
from top_api.views.servers import addresses_of, floating_of

server_ips = Resource("server-ips")


@server_ips.route(
    "GET", "/servers/<server_id>/ips", "os_compute_api:ips:index", lookup=look_up_server, answer=answers.LIST
)
def list_addresses(call: Call, server_id: str) -> dict[str, Any]:
    return {"addresses": addresses_of(call.server, floating_of(call, [call.server]), typed=False)}


@server_ips.route(
    "GET",
    "/servers/<server_id>/ips/<network>",
    "os_compute_api:ips:show",
    lookup=look_up_server,
    answer=answers.NETWORK,
)
def show_network(call: Call, server_id: str, network: str) -> dict[str, Any]:
    addresses = addresses_of(call.server, floating_of(call, [call.server]), typed=False)
    if network not in addresses:
        raise errors.NotFound("Instance is not a member of specified network")
    return {network: addresses[network]}
