"""Image v2 over the embedded image service: records, bytes, tags, and JSON patches as Glance takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request

from cellcloud import errors
from cellcloud.clients.identity import IdentityClient
from cellcloud.embedded.images import CHUNK, EmbeddedImages
from cellcloud.model import image_properties
from cellcloud.model.image import Image
from top_api.embedded_api import image_lists as lists
from top_api.embedded_api.image_schemas import CORE, IMAGE, MAX_PROPERTIES, PATCH, READ_ONLY
from top_api.embedded_api.request import (
    Failure,
    answer,
    asks,
    body_of,
    caller,
    check,
    guard,
    is_admin,
    set_up,
)
from top_api.policy import Policy

OPEN = {"image.versions", "image.unknown"}
_VERSIONS = (("v2.9", "CURRENT"), ("v2.7", "SUPPORTED"), ("v2.5", "SUPPORTED"), ("v2.0", "SUPPORTED"))
_FORMATS = ("disk_format", "container_format")
_PUBLISHED = {"public": "publicize_image", "community": "communitize_image"}


def create_blueprint(
    identity: IdentityClient, images: EmbeddedImages, policy: Policy, *, max_body: int, max_image_bytes: int
) -> Blueprint:
    """Routes below ``/image``."""
    blueprint = Blueprint("image", __name__, url_prefix="/image")
    set_up(blueprint, _form, max_body=max_body)

    def authenticate() -> None:
        if request.endpoint not in OPEN:
            guard(identity, policy)

    blueprint.before_request(authenticate)
    _add_discovery(blueprint)
    _add_records(blueprint, images)
    _add_bytes(blueprint, images, max_image_bytes)
    _add_tags(blueprint, images)
    return blueprint


def _form(failure: Failure) -> Response:
    headers = {"WWW-Authenticate": f'Keystone uri="{request.root_url}identity"'} if failure.status == 401 else None
    return answer({"message": failure.message, "code": failure.status}, failure.status, headers)


def _add_discovery(blueprint: Blueprint) -> None:
    @blueprint.get("", endpoint="versions")
    @blueprint.get("/", endpoint="versions")
    @blueprint.get("/versions", endpoint="versions")
    @blueprint.get("/v2", endpoint="versions")
    @blueprint.get("/v2/", endpoint="versions")
    def versions() -> Response:
        links = [{"rel": "self", "href": f"{request.root_url}image/v2/"}]
        return answer({"versions": [{"id": v, "status": status, "links": links} for v, status in _VERSIONS]}, 300)

    @blueprint.get("/v2/schemas/<kind>")
    @asks("cellcloud:image_discovery")
    def schema(kind: str) -> Response:
        image = {"name": "image", "properties": CORE, "additionalProperties": {"type": "string"}}
        if kind == "image":
            return answer(image)
        if kind != "images":
            raise errors.NotFound("There is no such schema.")
        return answer({"name": "images", "properties": {"images": {"type": "array", "items": image}}})

    @blueprint.get("/v2/info/import")
    @asks("cellcloud:image_discovery")
    def import_methods() -> Response:
        return answer({"import-methods": {"description": "Import methods available.", "type": "array", "value": []}})


def _add_records(blueprint: Blueprint, images: EmbeddedImages) -> None:
    @blueprint.get("/v2/images")
    @asks("get_images")
    def listed() -> Response:
        wanted = lists.page()
        found = images.list_images(project_id=caller().project_id, is_admin=is_admin(), page=wanted)
        more = found[-1].id if found and len(found) == wanted.limit else None
        body = {
            "images": [_view(image) for image in found],
            "schema": "/v2/schemas/images",
            **lists.links(more, wanted),
        }
        return answer(body)

    @blueprint.post("/v2/images")
    @asks("add_image")
    def create() -> Response:
        wanted = body_of(IMAGE)
        _refuse_read_only(wanted)
        if wanted.get("owner", caller().project_id) != caller().project_id and not is_admin():
            raise errors.Forbidden("You are not permitted to create images owned by another project.")
        empty = Image(id=wanted.get("id") or "", disk_format="", container_format="", visibility="shared")
        image = replace(_changed(empty, wanted), owner=wanted.get("owner") or caller().project_id)
        _check_visibility(empty, image)
        made = images.create_image(image)
        return answer(_view(made), 201, {"Location": f"{request.root_url}image/v2/images/{made.id}"})

    @blueprint.get("/v2/images/<image_id>")
    @asks("get_image")
    def show(image_id: str) -> Response:
        return answer(_view(_get(images, image_id)))

    @blueprint.patch("/v2/images/<image_id>")
    @asks("modify_image")
    def update(image_id: str) -> Response:
        if request.mimetype != "application/openstack-images-v2.1-json-patch":
            return _form(Failure(415, "UnsupportedMediaType", "The body is no JSON patch of images."))
        patch = body_of(PATCH)
        return answer(_view(_change(images, image_id, lambda image: _published(image, _patched(image, patch)))))

    @blueprint.delete("/v2/images/<image_id>")
    @asks("delete_image")
    def delete(image_id: str) -> Response:
        images.delete_image(image_id, project_id=caller().project_id, is_admin=is_admin())
        return Response(status=204)


def _add_bytes(blueprint: Blueprint, images: EmbeddedImages, max_image_bytes: int) -> None:
    @blueprint.put("/v2/images/<image_id>/file")
    @asks("upload_image")
    def upload(image_id: str) -> Response:
        if request.mimetype != "application/octet-stream":
            return _form(Failure(415, "UnsupportedMediaType", "Image data is application/octet-stream."))
        request.max_content_length = max_image_bytes
        images.upload(image_id, _received(), project_id=caller().project_id, is_admin=is_admin())
        return Response(status=204)

    @blueprint.get("/v2/images/<image_id>/file")
    @asks("download_image")
    def download(image_id: str) -> Response:
        image = _get(images, image_id)
        if image.status != "active":
            return Response(status=204)
        headers = {"Content-Length": str(image.size), "Content-MD5": image.checksum or ""}
        return Response(images.open_image(image.id), mimetype="application/octet-stream", headers=headers)


def _add_tags(blueprint: Blueprint, images: EmbeddedImages) -> None:
    @blueprint.put("/v2/images/<image_id>/tags/<tag>")
    @asks("modify_image")
    def add_tag(image_id: str, tag: str) -> Response:
        _change(images, image_id, lambda image: _tagged(image, tag))
        return Response(status=204)

    @blueprint.delete("/v2/images/<image_id>/tags/<tag>")
    @asks("modify_image")
    def remove_tag(image_id: str, tag: str) -> Response:
        _change(images, image_id, lambda image: _untagged(image, tag))
        return Response(status=204)


def _get(images: EmbeddedImages, image_id: str) -> Image:
    return images.get_image(image_id, project_id=caller().project_id, is_admin=is_admin())


def _change(images: EmbeddedImages, image_id: str, edit: Callable[[Image], Image]) -> Image:
    return images.change_image(image_id, edit, project_id=caller().project_id, is_admin=is_admin())


def _received() -> Iterator[bytes]:
    """The body in pieces. Raises Invalid where the client stopped early."""
    size, expected = 0, request.content_length
    while chunk := request.stream.read(CHUNK):
        size += len(chunk)
        yield chunk
    if expected is not None and size != expected:
        raise errors.Invalid("The upload ended early.")


# ---- changes -------------------------------------------------------------------------------------------------------
def _refuse_read_only(wanted: dict[str, Any]) -> None:
    for name in wanted:
        if name in READ_ONLY:
            raise errors.Forbidden(f"Attribute '{name}' is read-only.")


def _published(before: Image, after: Image) -> Image:
    _check_visibility(before, after)
    return after


def _check_visibility(before: Image, after: Image) -> None:
    """Raises Forbidden for who lets others use an image and may not."""
    if after.visibility != before.visibility and after.visibility in _PUBLISHED:
        check(_PUBLISHED[after.visibility])


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
        name = operation["path"][1:].replace("~1", "/").replace("~0", "~")
        if name in READ_ONLY or name in ("id", "owner"):
            raise errors.Forbidden(f"Attribute '{name}' is read-only.")
        known = name in CORE or name in image.properties
        if operation["op"] == "remove":
            if not known:
                raise errors.Conflict(f"Property {name[:255]} does not exist.")
            if name in CORE:
                raise errors.Forbidden(f"Property '{name}' may not be removed.")
            image = replace(image, properties={n: v for n, v in image.properties.items() if n != name})
            continue
        if operation["op"] == "replace" and not known:
            raise errors.Conflict(f"Property {name[:255]} does not exist.")
        if "value" not in operation:
            raise errors.Invalid("An operation has no value.")
        change = {name: operation["value"]}
        IMAGE.check(change)
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
