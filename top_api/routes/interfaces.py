"""/servers/{id}/os-interface: the ports that a server has; and addresses more or less, up to 2.43."""

from __future__ import annotations

from typing import Any

from top_api.answers import interfaces as answers
from top_api.operations import interfaces as operations
from top_api.operations.server_in_cell import look_up_server
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.routes.server_actions import actions
from top_api.schemas import interfaces as schemas
from top_api.views import interfaces as views

interfaces = Resource("os-interface")
_RULE = "os_compute_api:os-attach-interfaces"
_ALL, _ONE = "/servers/<server_id>/os-interface", "/servers/<server_id>/os-interface/<port_id>"
_UNTIL = (2, 43)


@interfaces.route("GET", _ALL, f"{_RULE}:list", lookup=look_up_server, answer=answers.LIST)
def list_interfaces(call: Call, server_id: str) -> dict[str, Any]:
    states = call.services.networks.list_states(server_id) if call.server.ports else {}
    shown = [views.show(call, port, states[port.id]) for port in call.server.ports if port.id in states]
    return {"interfaceAttachments": shown}


@interfaces.route("GET", _ONE, f"{_RULE}:show", lookup=look_up_server, answer=answers.ONE)
def show(call: Call, server_id: str, port_id: str) -> dict[str, Any]:
    port = operations.get_attached(call.server, port_id)
    state = call.services.networks.list_states(server_id).get(port_id, "DOWN")
    return {"interfaceAttachment": views.show(call, port, state)}


@interfaces.route("POST", _ALL, f"{_RULE}:create", body=schemas.CREATE, lookup=look_up_server, answer=answers.ONE)
def create(call: Call, server_id: str) -> dict[str, Any]:
    wanted = call.body.get("interfaceAttachment") or {}
    port = operations.attach(call.services, call.context, call.server, wanted)
    return {"interfaceAttachment": views.show(call, port, "DOWN")}


@interfaces.route("DELETE", _ONE, f"{_RULE}:delete", status=202, lookup=look_up_server, answer=NOTHING)
def delete(call: Call, server_id: str, port_id: str) -> None:
    operations.detach(call.services, call.context, call.server, port_id)


@actions.action("addFixedIp", "os_compute_api:os-multinic:add", until=_UNTIL, body=schemas.ADD_FIXED_IP, answer=NOTHING)
def add_fixed_ip(call: Call, server_id: str) -> None:
    network_id = str(call.body["addFixedIp"]["networkId"])
    operations.add_address(call.services, call.context, call.server, network_id)


@actions.action(
    "removeFixedIp", "os_compute_api:os-multinic:remove", until=_UNTIL, body=schemas.REMOVE_FIXED_IP, answer=NOTHING
)
def remove_fixed_ip(call: Call, server_id: str) -> None:
    operations.remove_address(call.services, call.context, call.server, call.body["removeFixedIp"]["address"])
