"""/servers/{id}/metadata and /servers/{id}/tags."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from cellcloud import errors
from cellcloud.patterns import Pattern
from top_api.operations.metadata import delete_metadata, replace_metadata, set_metadata
from top_api.operations.servers import find_server
from top_api.operations.update import add_tag, delete_tag, set_tags
from top_api.routing import Answer, Call, Resource
from top_api.schemas import server_metadata as schemas
from top_api.schemas.types import TAG as TAG_SCHEMA

server_metadata = Resource("server-metadata")
PATH, ITEM = "/servers/<server_id>/metadata", "/servers/<server_id>/metadata/<key>"
TAGS, TAG = "/servers/<server_id>/tags", "/servers/<server_id>/tags/<tag>"
_VALID_TAG = Pattern(TAG_SCHEMA["pattern"], most=TAG_SCHEMA["maxLength"])
LIST, SHOW, CHANGE = (f"os_compute_api:server-metadata:{verb}" for verb in ("index", "show", "change"))
LIST_TAGS, CHANGE_TAGS = (f"os_compute_api:os-server-tags:{verb}" for verb in ("index", "change"))


@server_metadata.route("GET", PATH, LIST)
def list_metadata(call: Call, server_id: str) -> dict[str, Any]:
    return {"metadata": find_server(call.parts, server_id, call.project_filter).spec.metadata}


@server_metadata.route("POST", PATH, CHANGE, body=schemas.ALL)
def merge_metadata(call: Call, server_id: str) -> dict[str, Any]:
    record = find_server(call.parts, server_id, call.project_filter)
    return {"metadata": set_metadata(call.parts, call.context, record, call.body["metadata"])}


@server_metadata.route("PUT", PATH, CHANGE, body=schemas.ALL)
def replace_all(call: Call, server_id: str) -> dict[str, Any]:
    record = find_server(call.parts, server_id, call.project_filter)
    return {"metadata": replace_metadata(call.parts, call.context, record, call.body["metadata"])}


@server_metadata.route("GET", ITEM, SHOW)
def show_item(call: Call, server_id: str, key: str) -> dict[str, Any]:
    metadata = find_server(call.parts, server_id, call.project_filter).spec.metadata
    if key not in metadata:
        raise errors.NotFound("Metadata item was not found")
    return {"meta": {key: metadata[key]}}


@server_metadata.route("PUT", ITEM, CHANGE, body=schemas.ONE)
def set_item(call: Call, server_id: str, key: str) -> dict[str, Any]:
    record = find_server(call.parts, server_id, call.project_filter)
    if key not in call.body["meta"]:
        raise errors.Invalid("Request body and URI mismatch")
    metadata = set_metadata(call.parts, call.context, record, call.body["meta"])
    return {"meta": {key: metadata[key]}}


@server_metadata.route("DELETE", ITEM, CHANGE, status=204)
def delete_item(call: Call, server_id: str, key: str) -> None:
    delete_metadata(call.parts, call.context, find_server(call.parts, server_id, call.project_filter), key)


@server_metadata.route("GET", TAGS, LIST_TAGS, since=(2, 26))
def list_tags(call: Call, server_id: str) -> dict[str, Any]:
    return {"tags": list(find_server(call.parts, server_id, call.project_filter).spec.tags)}


@server_metadata.route("PUT", TAGS, CHANGE_TAGS, since=(2, 26), body=schemas.SET_TAGS)
def replace_tags(call: Call, server_id: str) -> dict[str, Any]:
    record = find_server(call.parts, server_id, call.project_filter)
    changed = set_tags(call.parts, call.context, record, list(dict.fromkeys(call.body["tags"])))
    return {"tags": list(changed.spec.tags)}


@server_metadata.route("DELETE", TAGS, CHANGE_TAGS, since=(2, 26), status=204)
def delete_tags(call: Call, server_id: str) -> None:
    set_tags(call.parts, call.context, find_server(call.parts, server_id, call.project_filter), [])


@server_metadata.route("GET", TAG, LIST_TAGS, since=(2, 26), status=204)
def check_tag(call: Call, server_id: str, tag: str) -> None:
    if tag not in find_server(call.parts, server_id, call.project_filter).spec.tags:
        raise errors.NotFound(f"Server {server_id} has no tag '{tag[:60]}'")


@server_metadata.route("PUT", TAG, CHANGE_TAGS, since=(2, 26))
def put_tag(call: Call, server_id: str, tag: str) -> Answer:
    if call.body is not None:
        raise errors.Invalid("A tag is said by its path alone: the request has no body.")
    record = find_server(call.parts, server_id, call.project_filter)
    if not _VALID_TAG.matches(tag):
        raise errors.Invalid("Tag is not valid: at most 60 characters, without '/', ',' and control characters.")
    add_tag(call.parts, call.context, record, tag)
    if tag in record.spec.tags:
        return Answer(status=204)
    return Answer(status=201, headers={"Location": call.url("servers", server_id, "tags", quote(tag, safe=""))})


@server_metadata.route("DELETE", TAG, CHANGE_TAGS, since=(2, 26), status=204)
def remove_tag(call: Call, server_id: str, tag: str) -> None:
    delete_tag(call.parts, call.context, find_server(call.parts, server_id, call.project_filter), tag)
