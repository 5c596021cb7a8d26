"""Image v2 over the embedded image service: records, bytes, tags, and JSON patches as Glance takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.model import image_properties
from cellcloud.model.image import Image
from top_api.embedded_api import image_list_filters as lists
from top_api.embedded_api.error_formats import IMAGE as API
from top_api.embedded_api.image_schemas import CORE, IMAGE, MAX_PROPERTIES, OPERATIONS, PATCH, READ_ONLY
from top_api.microversion import FIRST
from top_api.request_pipeline import Answer, Call, Resource, receive
from top_api.validation import check_body, path_words

image = Resource("image", API)
_VERSIONS = (("v2.9", "CURRENT"), ("v2.7", "SUPPORTED"), ("v2.5", "SUPPORTED"), ("v2.0", "SUPPORTED"))
_FORMATS = ("disk_format", "container_format")
_PUBLISHED = {"public": "publicize_image", "community": "communitize_image"}
_PATCHES = tuple(f"application/openstack-images-{version}-json-patch" for version in ("v2.1", "v2.0"))
_BYTES = ("application/octet-stream",)


@image.route("GET", "", None, status=300)
@image.route("GET", "/", None, status=300)
@image.route("GET", "/versions", None, status=300)
@image.route("GET", "/v2", None, status=300)
@image.route("GET", "/v2/", None, status=300)
def list_versions(call: Call) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{call.base_url}/image/v2/"}]
    return {"versions": [{"id": version, "status": status, "links": links} for version, status in _VERSIONS]}


@image.route("GET", "/v2/schemas/<kind>", "cellcloud:image_discovery")
def show_schema(call: Call, kind: str) -> dict[str, Any]:
    schema = {"name": "image", "properties": CORE, "additionalProperties": {"type": "string"}}
    if kind == "image":
        return schema
    if kind != "images":
        raise errors.NotFound("There is no such schema.")
    return {"name": "images", "properties": {"images": {"type": "array", "items": schema}}}


@image.route("GET", "/v2/info/import", "cellcloud:image_discovery")
def show_import_methods(call: Call) -> dict[str, Any]:
    return {"import-methods": {"description": "Import methods available.", "type": "array", "value": []}}


# ---- records -------------------------------------------------------------------------------------------------------
@image.route("GET", "/v2/images", "get_images")
def list_images(call: Call) -> dict[str, Any]:
    wanted, who = lists.page(call), call.context
    found = call.embedded.images.list_images(project_id=who.project_id, is_admin=who.is_admin, page=wanted)
    more = found[-1].id if found and len(found) == wanted.limit else None
    return {
        "images": [_view(each) for each in found],
        "schema": "/v2/schemas/images",
        **lists.links(call, more, wanted),
    }


@image.route("POST", "/v2/images", "add_image", body=IMAGE)
def create_image(call: Call) -> Answer:
    wanted, who = call.body, call.context
    _refuse_read_only(wanted)
    if wanted.get("owner", who.project_id) != who.project_id and not who.is_admin:
        raise errors.Forbidden("You are not permitted to create images owned by another project.")
    empty = Image(id=wanted.get("id") or "", disk_format="", container_format="", visibility="shared")
    new = replace(_changed(empty, wanted), owner=wanted.get("owner") or who.project_id)
    _check_visibility(call, empty, new)
    made = call.embedded.images.create_image(new)
    return Answer(status=201, body=_view(made), headers={"Location": f"{call.base_url}/image/v2/images/{made.id}"})


@image.route("GET", "/v2/images/<image_id>", "get_image")
def show_image(call: Call, image_id: str) -> dict[str, Any]:
    return _view(_get(call, image_id))


@image.route("GET", "/v2/images/<image_id>/tasks", "get_image")
def list_tasks(call: Call, image_id: str) -> dict[str, Any]:
    """Answer with none: what is done to an image here is over when it is answered."""
    _get(call, image_id)
    return {"tasks": []}


@image.route("PATCH", "/v2/images/<image_id>", "modify_image", body=PATCH, body_types=_PATCHES)
def update_image(call: Call, image_id: str) -> dict[str, Any]:
    def edit(before: Image) -> Image:
        after = _patched(before, call.body)
        _check_visibility(call, before, after)
        return after

    return _view(_change(call, image_id, edit))


@image.route("DELETE", "/v2/images/<image_id>", "delete_image", status=204)
def delete_image(call: Call, image_id: str) -> None:
    who = call.context
    call.embedded.images.delete_image(image_id, project_id=who.project_id, is_admin=who.is_admin)


# ---- bytes ---------------------------------------------------------------------------------------------------------
@image.route("PUT", "/v2/images/<image_id>/file", "upload_image", status=204, body_types=_BYTES, streams=True)
def upload_image(call: Call, image_id: str) -> None:
    who, pieces = call.context, receive(call.services.config.adapters.max_image_bytes)
    call.embedded.images.upload(image_id, pieces, project_id=who.project_id, is_admin=who.is_admin)


@image.route("GET", "/v2/images/<image_id>/file", "download_image")
def download_image(call: Call, image_id: str) -> Answer:
    found = _get(call, image_id)
    if found.status != "active":
        return Answer(status=204)
    headers = {"Content-Length": str(found.size), "Content-MD5": found.checksum or ""}
    return Answer(stream=call.embedded.images.open_image(found.id), headers=headers)


# ---- tags ----------------------------------------------------------------------------------------------------------
@image.route("PUT", "/v2/images/<image_id>/tags/<tag>", "modify_image", status=204)
def add_tag(call: Call, image_id: str, tag: str) -> None:
    _change(call, image_id, lambda before: _tagged(before, tag))


@image.route("DELETE", "/v2/images/<image_id>/tags/<tag>", "modify_image", status=204)
def remove_tag(call: Call, image_id: str, tag: str) -> None:
    _change(call, image_id, lambda before: _untagged(before, tag))


def _get(call: Call, image_id: str) -> Image:
    who = call.context
    return call.embedded.images.get_image(image_id, project_id=who.project_id, is_admin=who.is_admin)


def _change(call: Call, image_id: str, edit: Callable[[Image], Image]) -> Image:
    who = call.context
    return call.embedded.images.change_image(image_id, edit, project_id=who.project_id, is_admin=who.is_admin)


# ---- changes -------------------------------------------------------------------------------------------------------
def _refuse_read_only(wanted: dict[str, Any]) -> None:
    for name in wanted:
        if name in READ_ONLY:
            raise errors.Forbidden(f"Attribute '{name}' is read-only.")


def _check_visibility(call: Call, before: Image, after: Image) -> None:
    """Check that the caller may let others use the image. Raises Forbidden."""
    if after.visibility != before.visibility and after.visibility in _PUBLISHED:
        call.check(_PUBLISHED[after.visibility])


def _changed(image: Image, wanted: dict[str, Any]) -> Image:
    """With the wanted attributes; those that are no attribute of every image become properties."""
    core = {name: value for name, value in wanted.items() if name in CORE and name not in ("id", "owner", "os_hidden")}
    core |= {name: core[name] or "" for name in (*_FORMATS, "name") if name in core}
    if "tags" in core:
        core["tags"] = tuple(dict.fromkeys(core["tags"]))
    properties = image.properties | {name: value for name, value in wanted.items() if name not in CORE}
    if len(properties) > MAX_PROPERTIES:
        raise errors.TooLarge(f"An image has at most {MAX_PROPERTIES} properties.")
    image_properties.check_size(properties)
    return replace(image, **core, properties=properties)


def _tagged(image: Image, tag: str) -> Image:
    tags = tuple(dict.fromkeys((*image.tags, tag)))
    if len(tag) > 255 or len(tags) > MAX_PROPERTIES:
        raise errors.Invalid("A tag has at most 255 characters, an image at most 128 tags.")
    return replace(image, tags=tags)


def _untagged(image: Image, tag: str) -> Image:
    if tag not in image.tags:
        raise errors.NotFound("The image has no such tag.")
    return replace(image, tags=tuple(known for known in image.tags if known != tag))


def _patched(image: Image, operations: list[dict[str, Any]]) -> Image:
    for operation in operations:
        older = None if "op" in operation else next(one for one in OPERATIONS if one in operation)  # as of v2.0
        verb = older or operation["op"]
        name = operation[older or "path"][1:].replace("~1", "/").replace("~0", "~")
        if name in READ_ONLY or name in ("id", "owner"):
            raise errors.Forbidden(f"Attribute '{name}' is read-only.")
        known = name in CORE or name in image.properties
        if verb == "remove":
            if not known:
                raise errors.Conflict(f"Property {name[:255]} does not exist.")
            if name in CORE:
                raise errors.Forbidden(f"Property '{name}' may not be removed.")
            image = replace(image, properties={n: v for n, v in image.properties.items() if n != name})
            continue
        if verb == "replace" and not known:
            raise errors.Conflict(f"Property {name[:255]} does not exist.")
        if older == "add" and known:
            raise errors.Conflict(f"Property {name[:255]} already present.")
        if "value" not in operation:
            raise errors.Invalid("An operation has no value.")
        change = {name: operation["value"]}
        check_body(IMAGE, FIRST, change, words=path_words)
        image = _changed(image, change)
    return image


def _view(image: Image) -> dict[str, Any]:
    has_bytes = image.os_hash_value is not None
    return {
        **image.properties,
        "id": image.id,
        "name": image.name or None,
        "status": image.status,
        "visibility": image.visibility,
        "owner": image.owner,
        "protected": image.protected,
        "os_hidden": False,
        "disk_format": image.disk_format or None,
        "container_format": image.container_format or None,
        "size": image.size if has_bytes else None,
        "virtual_size": image.virtual_size,
        "checksum": image.checksum,
        "os_hash_algo": image.os_hash_algo,
        "os_hash_value": image.os_hash_value,
        "min_ram": image.min_ram,
        "min_disk": image.min_disk,
        "tags": list(image.tags),
        "created_at": image.created_at,
        "updated_at": image.updated_at,
        "self": f"/v2/images/{image.id}",
        "file": f"/v2/images/{image.id}/file",
        "schema": "/v2/schemas/image",
    }
