"""/servers/{id}/metadata and /servers/{id}/tags."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.safe_regex import Pattern
from top_api.answers import server_metadata_tags as answers
from top_api.operations.metadata import delete_metadata, replace_metadata, set_metadata
from top_api.operations.server_in_cell import look_up_server
from top_api.operations.update import add_tag, delete_tag, set_tags
from top_api.request_pipeline import Answer, Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import server_metadata_tags as schemas
from top_api.schemas.types import TAG as TAG_SCHEMA

server_metadata = Resource("server-metadata")
PATH, ITEM = "/servers/<server_id>/metadata", "/servers/<server_id>/metadata/<key>"
TAGS, TAG = "/servers/<server_id>/tags", "/servers/<server_id>/tags/<tag>"
_VALID_TAG = Pattern(TAG_SCHEMA["pattern"], most=TAG_SCHEMA["maxLength"])


@server_metadata.route(
    "GET", PATH, "os_compute_api:server-metadata:index", lookup=look_up_server, answer=answers.METADATA
)
def list_metadata(call: Call, server_id: str) -> dict[str, Any]:
    return {"metadata": call.server.spec.metadata}


@server_metadata.route(
    "POST",
    PATH,
    "os_compute_api:server-metadata:create",
    lookup=look_up_server,
    body=schemas.ALL,
    answer=answers.METADATA,
)
def merge_metadata(call: Call, server_id: str) -> dict[str, Any]:
    return {"metadata": set_metadata(call.services, call.context, call.server, call.body["metadata"])}


@server_metadata.route(
    "PUT",
    PATH,
    "os_compute_api:server-metadata:update_all",
    lookup=look_up_server,
    body=schemas.ALL,
    answer=answers.METADATA,
)
def replace_all(call: Call, server_id: str) -> dict[str, Any]:
    return {"metadata": replace_metadata(call.services, call.context, call.server, call.body["metadata"])}


@server_metadata.route("GET", ITEM, "os_compute_api:server-metadata:show", lookup=look_up_server, answer=answers.ITEM)
def show_item(call: Call, server_id: str, key: str) -> dict[str, Any]:
    metadata = call.server.spec.metadata
    if key not in metadata:
        raise errors.NotFound("Metadata item was not found")
    return {"meta": {key: metadata[key]}}


@server_metadata.route(
    "PUT", ITEM, "os_compute_api:server-metadata:update", lookup=look_up_server, body=schemas.ONE, answer=answers.ITEM
)
def set_item(call: Call, server_id: str, key: str) -> dict[str, Any]:
    if key not in call.body["meta"]:
        raise errors.Invalid("Request body and URI mismatch")
    metadata = set_metadata(call.services, call.context, call.server, call.body["meta"])
    return {"meta": {key: metadata[key]}}


@server_metadata.route(
    "DELETE", ITEM, "os_compute_api:server-metadata:delete", lookup=look_up_server, status=204, answer=NOTHING
)
def delete_item(call: Call, server_id: str, key: str) -> None:
    delete_metadata(call.services, call.context, call.server, key)


@server_metadata.route(
    "GET", TAGS, "os_compute_api:os-server-tags:index", lookup=look_up_server, since=(2, 26), answer=answers.TAGS
)
def list_tags(call: Call, server_id: str) -> dict[str, Any]:
    return {"tags": list(call.server.spec.tags)}


@server_metadata.route(
    "PUT",
    TAGS,
    "os_compute_api:os-server-tags:update_all",
    lookup=look_up_server,
    since=(2, 26),
    body=schemas.SET_TAGS,
    answer=answers.TAGS,
)
def replace_tags(call: Call, server_id: str) -> dict[str, Any]:
    changed = set_tags(call.services, call.context, call.server, list(dict.fromkeys(call.body["tags"])))
    return {"tags": list(changed.spec.tags)}


@server_metadata.route(
    "DELETE",
    TAGS,
    "os_compute_api:os-server-tags:delete_all",
    lookup=look_up_server,
    since=(2, 26),
    status=204,
    answer=NOTHING,
)
def delete_tags(call: Call, server_id: str) -> None:
    set_tags(call.services, call.context, call.server, [])


@server_metadata.route(
    "GET", TAG, "os_compute_api:os-server-tags:show", lookup=look_up_server, since=(2, 26), status=204, answer=NOTHING
)
def check_tag(call: Call, server_id: str, tag: str) -> None:
    if tag not in call.server.spec.tags:
        raise errors.NotFound(f"Server {server_id} has no tag '{tag[:60]}'")


@server_metadata.route(
    "PUT",
    TAG,
    "os_compute_api:os-server-tags:update",
    status=201,
    also=(204,),
    lookup=look_up_server,
    since=(2, 26),
    answer=NOTHING,
)
def put_tag(call: Call, server_id: str, tag: str) -> Answer:
    if call.body is not None:
        raise errors.Invalid("A tag is said by its path alone: the request has no body.")
    if not _VALID_TAG.matches(tag):
        raise errors.Invalid("Tag is not valid: at most 60 characters, without '/', ',' and control characters.")
    add_tag(call.services, call.context, call.server, tag)
    if tag in call.server.spec.tags:
        return Answer(status=204)
    return Answer(status=201, headers={"Location": call.url("servers", server_id, "tags", tag)})


@server_metadata.route(
    "DELETE",
    TAG,
    "os_compute_api:os-server-tags:delete",
    lookup=look_up_server,
    since=(2, 26),
    status=204,
    answer=NOTHING,
)
def remove_tag(call: Call, server_id: str, tag: str) -> None:
    delete_tag(call.services, call.context, call.server, tag)
