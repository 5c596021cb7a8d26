"""/servers/{id}/os-volume_attachments: the volumes that a server has."""

from __future__ import annotations

from typing import Any

from top_api.answers import volume_attachments as answers
from top_api.operations import volume_attachments as operations
from top_api.operations.server_in_cell import look_up_server
from top_api.paging import limit_of
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import volume_attachments as schemas
from top_api.schemas.types import is_true
from top_api.views import volume_attachments as views

volume_attachments = Resource("os-volume_attachments")
_RULE = "os_compute_api:os-volumes-attachments"
_ALL, _ONE = "/servers/<server_id>/os-volume_attachments", "/servers/<server_id>/os-volume_attachments/<volume_id>"
_UPDATED_SINCE, _BODILESS_SINCE = (2, 85), (2, 101)


@volume_attachments.route("GET", _ALL, f"{_RULE}:index", query=schemas.LIST, lookup=look_up_server, answer=answers.LIST)
def list_attachments(call: Call, server_id: str) -> dict[str, Any]:
    first = min(int(call.param("offset") or 0), len(call.server.volumes))
    shown = call.server.volumes[first : first + limit_of(call)]
    return {"volumeAttachments": [views.show(call, one) for one in shown]}


@volume_attachments.route("GET", _ONE, f"{_RULE}:show", lookup=look_up_server, answer=answers.ONE)
def show(call: Call, server_id: str, volume_id: str) -> dict[str, Any]:
    return {"volumeAttachment": views.show(call, operations.get_attached(call.server, volume_id))}


@volume_attachments.route(
    "POST",
    _ALL,
    f"{_RULE}:create",
    later_status=(_BODILESS_SINCE, 202),
    body=schemas.CREATE,
    lookup=look_up_server,
    answer=answers.CREATED,
)
def create(call: Call, server_id: str) -> dict[str, Any] | None:
    wanted = call.body["volumeAttachment"]
    wanted = {**wanted, "delete_on_termination": is_true(wanted.get("delete_on_termination", False))}
    begun = operations.attach(call.services, call.context, call.server, wanted, call.version)
    return None if call.version >= _BODILESS_SINCE else {"volumeAttachment": views.created(call, begun)}


@volume_attachments.route(
    "PUT", _ONE, f"{_RULE}:update", status=202, body=schemas.UPDATE, lookup=look_up_server, answer=NOTHING
)
def update(call: Call, server_id: str, volume_id: str) -> None:
    wanted = dict(call.body["volumeAttachment"])
    swaps = wanted["volumeId"] != volume_id
    if swaps or call.version < _UPDATED_SINCE:
        call.check("os_compute_api:os-volumes-attachments:swap")
    if call.version >= _UPDATED_SINCE:
        if "delete_on_termination" in wanted:
            wanted["delete_on_termination"] = is_true(wanted["delete_on_termination"])
        operations.update(call.services, call.context, call.server, volume_id, wanted)
    if swaps or call.version < _UPDATED_SINCE:
        operations.swap(call.services, call.context, volume_id)


@volume_attachments.route("DELETE", _ONE, f"{_RULE}:delete", status=202, lookup=look_up_server, answer=NOTHING)
def delete(call: Call, server_id: str, volume_id: str) -> None:
    operations.detach(call.services, call.context, call.server, volume_id, call.version)
