"""Attachments of volumes: what Compute asks for when a server gets one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import volume_attachments as db
from cellcloud.embedded.volume import attachments as operations
from cellcloud.model.block_storage import Attachment
from top_api.embedded_api import volume_list_filters as lists
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_calls import check_id, find_volume, service_of, viewer_of
from top_api.embedded_api.volume_schemas import ATTACHMENT, ATTACHMENT_UPDATE, COMPLETE
from top_api.embedded_api.volume_views import attachment_summary, attachment_view
from top_api.request_pipeline import Actions, Call, Resource

attachments = Resource("volume_attachments", API)
_SINCE = (3, 27)


def look_up(call: Call, words: Mapping[str, str]) -> None:
    """Find the attachment that a path names. Raises NotFound for another project's."""
    attachment_id = words["attachment_id"]
    check_id(attachment_id, f"Attachment {attachment_id[:64]} could not be found.")
    call.found = operations.get_attachment(service_of(call), viewer_of(call), attachment_id)
    call.target = {"project_id": call.found.project_id}


actions = Actions(look_up, api=API)


@attachments.route("GET", "/v3/attachments", "volume:get_all", since=_SINCE)
def list_attachments(call: Call) -> dict[str, Any]:
    return _list(call, attachment_summary, ("attachments",))


@attachments.route("GET", "/v3/attachments/summary", "volume:get_all", since=_SINCE)
def summarize_attachments(call: Call) -> dict[str, Any]:
    return _list(call, attachment_summary, ("attachments", "summary"))


@attachments.route("GET", "/v3/attachments/detail", "volume:get_all", since=_SINCE)
def list_attachments_in_detail(call: Call) -> dict[str, Any]:
    return _list(call, attachment_view, ("attachments", "detail"))


def _list(call: Call, view: Any, path: tuple[str, ...]) -> dict[str, Any]:
    service, project_id = service_of(call), lists.project_of(call)
    return lists.listed(
        call,
        lists.ATTACHMENTS,
        lambda page: operations.list_attachments(service, project_id, page),
        view,
        path=path,
    )


@attachments.route("POST", "/v3/attachments", "volume:attachment_create", since=_SINCE, body=ATTACHMENT)
def create_attachment(call: Call) -> dict[str, Any]:
    wanted = call.body["attachment"]
    volume = find_volume(call, wanted["volume_uuid"])
    service, viewer = service_of(call), viewer_of(call)
    made = operations.create_attachment(
        service, viewer, volume.id, wanted.get("instance_uuid"), mode=wanted.get("mode")
    )
    if wanted.get("connector"):
        try:
            made = operations.connect_attachment(service, viewer, made.id, wanted["connector"])
        except errors.CellcloudError:
            operations.discard_attachment(service, made.id)
            raise
    return {"attachment": attachment_view(made)}


@attachments.route("GET", "/v3/attachments/<attachment_id>", "volume:get", since=_SINCE, lookup=look_up)
def show_attachment(call: Call, attachment_id: str) -> dict[str, Any]:
    return {"attachment": attachment_view(_found(call))}


@attachments.route(
    "PUT",
    "/v3/attachments/<attachment_id>",
    "volume:attachment_update",
    since=_SINCE,
    body=ATTACHMENT_UPDATE,
    lookup=look_up,
)
def update_attachment(call: Call, attachment_id: str) -> dict[str, Any]:
    connector = call.body["attachment"]["connector"]
    made = operations.connect_attachment(service_of(call), viewer_of(call), attachment_id, connector)
    return {"attachment": attachment_view(made)}


@attachments.route(
    "DELETE", "/v3/attachments/<attachment_id>", "volume:attachment_delete", since=_SINCE, lookup=look_up
)
def delete_attachment(call: Call, attachment_id: str) -> dict[str, Any]:
    left = operations.delete_attachment(service_of(call), viewer_of(call), attachment_id)
    return {"attachments": [attachment_summary(each) for each in left]}


@attachments.route("POST", "/v3/attachments/<attachment_id>/action", actions, since=(3, 44), status=204)
def act(call: Call, attachment_id: str) -> Any:
    return actions.perform(call, attachment_id=attachment_id)


@actions.action("os-complete", "volume:attachment_complete", status=204, body=COMPLETE)
def complete_attachment(call: Call, attachment_id: str) -> None:
    operations.complete_attachment(service_of(call), viewer_of(call), attachment_id)


def _found(call: Call) -> Attachment:
    with service_of(call).database.read() as c:
        return db.get_attachment(c, call.found.id)
