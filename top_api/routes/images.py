"""/images: the image service as clients of before 2.36 ask Nova for it, images' metadata until 2.38."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.model.image import Image, ImageQuery
from top_api.answers import images as answers
from top_api.answers import server_metadata_tags as metadata_answers
from top_api.operations import snapshots
from top_api.paging import limit_of, next_links
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NOTHING
from top_api.schemas import images as schemas
from top_api.schemas import server_metadata_tags as metadata_schemas
from top_api.views import images as views

images = Resource("images")
RULE = "os_compute_api:images"
ONE, METADATA, ITEM = "/images/<image_id>", "/images/<image_id>/metadata", "/images/<image_id>/metadata/<key>"
LAST_PROXY, LAST_METADATA = (2, 35), (2, 38)
NOT_FOUND = "Image not found."


@images.route("GET", "/images", RULE, until=LAST_PROXY, query=schemas.LIST, answer=answers.LIST)
def list_images(call: Call) -> dict[str, Any]:
    found = _search(call)
    shown = [views.brief(call, image) for image in found]
    return {"images": shown, **next_links(call, "images", ("images",), [image.id for image in found])}


@images.route("GET", "/images/detail", RULE, until=LAST_PROXY, query=schemas.LIST, answer=answers.DETAIL)
def list_images_in_detail(call: Call) -> dict[str, Any]:
    found = _search(call)
    shown = [views.detail(call, image) for image in found]
    return {"images": shown, **next_links(call, "images", ("images", "detail"), [image.id for image in found])}


@images.route("GET", ONE, RULE, until=LAST_PROXY, answer=answers.ONE)
def show(call: Call, image_id: str) -> dict[str, Any]:
    return {"image": views.detail(call, _get(call, image_id))}


@images.route("DELETE", ONE, RULE, until=LAST_PROXY, status=204, answer=NOTHING)
def delete(call: Call, image_id: str) -> None:
    who = call.context
    try:
        call.services.images.delete_image(image_id, project_id=who.project_id, is_admin=who.is_admin)
    except errors.NotFound:
        raise errors.NotFound(NOT_FOUND) from None
    except errors.Forbidden:
        raise errors.Forbidden("You are not allowed to delete the image.") from None


# ---- metadata --------------------------------------------------------------------------------------------------------
@images.route("GET", METADATA, RULE, until=LAST_METADATA, answer=metadata_answers.METADATA)
def list_metadata(call: Call, image_id: str) -> dict[str, Any]:
    return {"metadata": _get(call, image_id).properties}


@images.route("POST", METADATA, RULE, until=LAST_METADATA, body=metadata_schemas.ALL, answer=metadata_answers.METADATA)
def merge_metadata(call: Call, image_id: str) -> dict[str, Any]:
    return {"metadata": _set(call, image_id, call.body["metadata"]).properties}


@images.route("PUT", METADATA, RULE, until=LAST_METADATA, body=metadata_schemas.ALL, answer=metadata_answers.METADATA)
def replace_metadata(call: Call, image_id: str) -> dict[str, Any]:
    return {"metadata": _set(call, image_id, call.body["metadata"], keep=False).properties}


@images.route("GET", ITEM, RULE, until=LAST_METADATA, answer=metadata_answers.ITEM)
def show_item(call: Call, image_id: str, key: str) -> dict[str, Any]:
    properties = _get(call, image_id).properties
    if key not in properties:
        raise errors.NotFound("The resource could not be found.")
    return {"meta": {key: properties[key]}}


@images.route("PUT", ITEM, RULE, until=LAST_METADATA, body=metadata_schemas.ONE, answer=metadata_answers.ITEM)
def set_item(call: Call, image_id: str, key: str) -> dict[str, Any]:
    if key not in call.body["meta"]:
        raise errors.Invalid("Request body and URI mismatch")
    _set(call, image_id, call.body["meta"])
    return {"meta": call.body["meta"]}


@images.route("DELETE", ITEM, RULE, until=LAST_METADATA, status=204, answer=NOTHING)
def delete_item(call: Call, image_id: str, key: str) -> None:
    def without(properties: Mapping[str, str]) -> Mapping[str, str]:
        if key not in properties:
            raise errors.NotFound("Invalid metadata key")
        return {name: value for name, value in properties.items() if name != key}

    _get(call, image_id)
    who = call.context
    call.services.images.edit_properties(image_id, without, project_id=who.project_id, is_admin=who.is_admin)


# ---- what the routes have in common ----------------------------------------------------------------------------------
def _get(call: Call, image_id: str) -> Image:
    who = call.context
    try:
        return call.services.images.get_image(image_id, project_id=who.project_id, is_admin=who.is_admin)
    except errors.NotFound:
        raise errors.NotFound(NOT_FOUND) from None


def _set(call: Call, image_id: str, items: Mapping[str, str], *, keep: bool = True) -> Image:
    """Set properties, and drop the others unless they are to be kept."""
    snapshots.check_metadata(call.services, call.context, items, bounded=False)
    most = snapshots.most_metadata(call.services, call.context)

    def edit(properties: Mapping[str, str]) -> Mapping[str, str]:
        wanted = {**properties, **items} if keep else dict(items)
        if 0 <= most < len(wanted):
            raise errors.QuotaExceeded("Image metadata limit exceeded")
        return wanted

    _get(call, image_id)
    who = call.context
    return call.services.images.edit_properties(image_id, edit, project_id=who.project_id, is_admin=who.is_admin)


def _search(call: Call) -> list[Image]:
    who = call.context
    return call.services.images.search_images(_query(call), project_id=who.project_id, is_admin=who.is_admin)


def _query(call: Call) -> ImageQuery:
    given = {key: values[-1] for key, values in call.query.items()}
    properties = {
        key.removeprefix(schemas.PROPERTY): value for key, value in given.items() if key.startswith(schemas.PROPERTY)
    }
    if "server" in given:
        properties["instance_uuid"] = given["server"].rsplit("/", 1)[-1]
    if "type" in given:
        properties["image_type"] = given["type"]
    return ImageQuery(
        name=given.get("name"),
        status=given["status"].lower() if "status" in given else None,
        min_ram=_number(given, "minRam"),
        min_disk=_number(given, "minDisk"),
        changed_since=_time(given.get("changes-since")),
        properties=tuple(sorted(properties.items())),
        after=given.get("marker") or None,
        limit=limit_of(call),
    )


def _number(given: Mapping[str, str], key: str) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise errors.Invalid(f"Invalid value '{value[:64]}' for '{key}' filter.")
    return int(value)


def _time(value: str | None) -> dt.datetime | None:
    if value is None:
        return None
    try:
        at = dt.datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise errors.Invalid(f"Invalid value '{value[:64]}' for 'changes-since' filter.") from None
