"""Image v2 over the embedded image service: versions, records and tags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.embedded.image_imports import METHODS, STORE
from cellcloud.model.image import Image
from top_api.embedded_api import image_list_filters as lists
from top_api.embedded_api import image_patches
from top_api.embedded_api.error_formats import IMAGE as API
from top_api.embedded_api.image_schemas import IMAGE, PATCH
from top_api.embedded_api.image_views import image_view
from top_api.request_pipeline import Answer, Call, Resource

image = Resource("image", API)
_VERSIONS = (15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
_PUBLISHED = {"public": "publicize_image", "community": "communitize_image"}


@image.route("GET", "", None, status=300)
@image.route("GET", "/", None, status=300)
@image.route("GET", "/versions", None, status=300)
@image.route("GET", "/v2", None, status=300)
@image.route("GET", "/v2/", None, status=300)
def list_versions(call: Call) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{call.base_url}/image/v2/"}]
    return {
        "versions": [
            {"id": f"v2.{number}", "status": "SUPPORTED" if at else "CURRENT", "links": links}
            for at, number in enumerate(_VERSIONS)
        ]
    }


# ---- records -------------------------------------------------------------------------------------------------------
@image.route("GET", "/v2/images", "get_images")
def list_images(call: Call) -> dict[str, Any]:
    wanted, who = lists.page(call), call.context
    found = call.embedded.images.list_images(
        project_id=who.project_id, is_admin=who.is_admin, page=wanted, member_status=lists.member_status(call)
    )
    more = found[-1].id if found and len(found) == wanted.limit else None
    return {
        "images": [_view(call, each) for each in found],
        "schema": "/v2/schemas/images",
        **lists.links(call, more, wanted),
    }


@image.route("POST", "/v2/images", "add_image", body=IMAGE)
def create_image(call: Call) -> Answer:
    wanted, who = call.body, call.context
    for name in wanted:
        image_patches.check_changeable(name, "locations")
    if (wanted.get("owner") or who.project_id) != who.project_id and not who.is_admin:
        raise errors.Forbidden("You are not permitted to create images owned by another project.")
    empty = Image(
        id=wanted.get("id") or "", disk_format="", container_format="", visibility="shared", owner=who.project_id
    )
    new = image_patches.with_values(empty, wanted)
    _check_visibility(call, empty, new)
    call.embedded.images.protections.check(empty.properties, new.properties, call.context.roles)
    made = call.embedded.images.create_image(new)
    headers = {
        "Location": f"{call.base_url}/image/v2/images/{made.id}",
        "OpenStack-image-import-methods": ",".join(METHODS),
        "OpenStack-image-store-ids": STORE,
    }
    return Answer(status=201, body=_view(call, made), headers=headers)


@image.route("GET", "/v2/images/<image_id>", "get_image")
def show_image(call: Call, image_id: str) -> dict[str, Any]:
    who = call.context
    found = call.embedded.images.get_image(image_id, project_id=who.project_id, is_admin=who.is_admin)
    return _view(call, found)


@image.route(
    "PATCH", "/v2/images/<image_id>", "modify_image", body=PATCH, body_types=(image_patches.NEWER, image_patches.OLDER)
)
def update_image(call: Call, image_id: str) -> dict[str, Any]:
    changes = image_patches.read(call.body, call.headers.get("Content-Type", "").partition(";")[0].strip().lower())

    def edit(before: Image) -> Image:
        after = image_patches.apply(before, changes)
        _check_visibility(call, before, after)
        call.embedded.images.protections.check(before.properties, after.properties, call.context.roles)
        return after

    return _view(call, _change(call, image_id, edit))


@image.route("DELETE", "/v2/images/<image_id>", "delete_image", status=204)
def delete_image(call: Call, image_id: str) -> None:
    who = call.context
    call.embedded.images.delete_image(image_id, project_id=who.project_id, is_admin=who.is_admin)


@image.route("POST", "/v2/images/<image_id>/actions/deactivate", "deactivate", status=204)
def deactivate_image(call: Call, image_id: str) -> None:
    call.embedded.images.deactivate(image_id, project_id=call.context.project_id, is_admin=call.context.is_admin)


@image.route("POST", "/v2/images/<image_id>/actions/reactivate", "reactivate", status=204)
def reactivate_image(call: Call, image_id: str) -> None:
    call.embedded.images.reactivate(image_id, project_id=call.context.project_id, is_admin=call.context.is_admin)


# ---- tags ----------------------------------------------------------------------------------------------------------
@image.route("PUT", "/v2/images/<image_id>/tags/<tag>", "modify_image", status=204)
def add_tag(call: Call, image_id: str, tag: str) -> None:
    _change(call, image_id, lambda before: _tagged(before, tag))


@image.route("DELETE", "/v2/images/<image_id>/tags/<tag>", "modify_image", status=204)
def remove_tag(call: Call, image_id: str, tag: str) -> None:
    _change(call, image_id, lambda before: _untagged(before, tag))


def _tagged(before: Image, tag: str) -> Image:
    if len(tag) > 255:
        raise errors.Invalid("A tag has at most 255 characters.")
    tags = tuple(dict.fromkeys((*before.tags, tag)))
    image_patches.check_count("tags", len(tags))
    return replace(before, tags=tags)


def _untagged(before: Image, tag: str) -> Image:
    if tag not in before.tags:
        raise errors.NotFound("The image has no such tag.")
    return replace(before, tags=tuple(known for known in before.tags if known != tag))


def _view(call: Call, found: Image) -> dict[str, Any]:
    """Return an image with those of its properties that the caller may see."""
    seen = call.embedded.images.protections.readable(found.properties, call.context.roles)
    return image_view(replace(found, properties=seen))


def _change(call: Call, image_id: str, edit: Callable[[Image], Image]) -> Image:
    who = call.context
    return call.embedded.images.change_image(image_id, edit, project_id=who.project_id, is_admin=who.is_admin)


def _check_visibility(call: Call, before: Image, after: Image) -> None:
    """Check that the caller may let others use the image. Raises Forbidden."""
    if after.visibility != before.visibility and after.visibility in _PUBLISHED:
        call.check(_PUBLISHED[after.visibility])
