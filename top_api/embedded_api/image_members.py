"""Image v2: whom a shared image is offered to."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from top_api.embedded_api.error_formats import IMAGE as API
from top_api.embedded_api.image_schemas import MEMBER, MEMBER_STATUS
from top_api.embedded_api.image_views import member_view
from top_api.request_pipeline import Call, Resource

members = Resource("image_members", API)
ALL, ONE = "/v2/images/<image_id>/members", "/v2/images/<image_id>/members/<member_id>"


@members.route("GET", ALL, "get_members")
def list_members(call: Call, image_id: str) -> dict[str, Any]:
    found = call.embedded.images.members.list_members(image_id, **_who(call))
    return {"members": [member_view(member) for member in found], "schema": "/v2/schemas/members"}


@members.route("POST", ALL, "add_member", body=MEMBER)
def create_member(call: Call, image_id: str) -> dict[str, Any]:
    made = call.embedded.images.members.create_member(image_id, call.body["member"], **_who(call))
    return member_view(made)


@members.route("GET", ONE, "get_member")
def show_member(call: Call, image_id: str, member_id: str) -> dict[str, Any]:
    return member_view(call.embedded.images.members.get_member(image_id, member_id, **_who(call)))


@members.route("PUT", ONE, "modify_member", body=MEMBER_STATUS)
def update_member(call: Call, image_id: str, member_id: str) -> dict[str, Any]:
    status, named = call.body["status"], call.body.get("member", member_id)  # clients name it once more
    if named != member_id:
        raise errors.Invalid("The member of the body is another than that of the path.")
    return member_view(call.embedded.images.members.update_member(image_id, member_id, status, **_who(call)))


@members.route("DELETE", ONE, "delete_member", status=204)
def delete_member(call: Call, image_id: str, member_id: str) -> None:
    call.embedded.images.members.delete_member(image_id, member_id, **_who(call))


def _who(call: Call) -> dict[str, Any]:
    return {"project_id": call.context.project_id, "is_admin": call.context.is_admin}
