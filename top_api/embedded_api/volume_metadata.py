"""Metadata of volumes and of snapshots: the same routes over both; and what a volume keeps of its image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cellcloud import errors
from cellcloud.embedded.volume import snapshots as snapshot_operations
from cellcloud.embedded.volume import volumes as volume_operations
from cellcloud.model.block_storage import BlockSnapshot, BlockVolume
from top_api.embedded_api import volume_schemas as schemas
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_actions import actions
from top_api.embedded_api.volume_calls import look_up_volume, service_of, viewer_of, volume_of
from top_api.embedded_api.volume_snapshots import look_up as look_up_snapshot
from top_api.request_pipeline import Call, Resource

volume_metadata = Resource("volume_metadata", API)
Edit = Callable[[Mapping[str, str]], dict[str, str]]


def _change_volume(call: Call, volume_id: str, edit: Edit) -> Mapping[str, str]:
    def work(c: Any, volume: BlockVolume) -> Mapping[str, Any]:
        return {"metadata": _bounded(edit(volume.metadata))}

    return volume_operations.change(service_of(call), viewer_of(call), volume_id, work).metadata


def _change_snapshot(call: Call, snapshot_id: str, edit: Edit) -> Mapping[str, str]:
    def work(c: Any, snapshot: BlockSnapshot) -> Mapping[str, Any]:
        return {"metadata": _bounded(edit(snapshot.metadata))}

    return snapshot_operations.change(service_of(call), viewer_of(call), snapshot_id, work).metadata


def _bounded(metadata: dict[str, str]) -> dict[str, str]:
    if len(metadata) > schemas.MOST_ITEMS:
        raise errors.Invalid(f"There are at most {schemas.MOST_ITEMS} items of metadata.")
    return metadata


def _declare(path: str, word: str, rules: Mapping[str, str], lookup: Any, change: Any) -> None:
    """Declare the routes of one kind. ``rules``: get, create, update and delete."""
    item = f"{path}/<key>"

    @volume_metadata.route("GET", path, rules["get"], lookup=lookup)
    def show_all(call: Call, **words: str) -> dict[str, Any]:
        return {"metadata": dict(call.found.metadata)}

    @volume_metadata.route("POST", path, rules["create"], body=schemas.METADATA_BODY, lookup=lookup)
    def create(call: Call, **words: str) -> dict[str, Any]:
        return {"metadata": change(call, words[word], lambda known: {**known, **call.body["metadata"]})}

    @volume_metadata.route("PUT", path, rules["update"], body=schemas.METADATA_BODY, lookup=lookup)
    def replace_all(call: Call, **words: str) -> dict[str, Any]:
        return {"metadata": change(call, words[word], lambda known: dict(call.body["metadata"]))}

    @volume_metadata.route("GET", item, rules["get"], lookup=lookup)
    def show(call: Call, **words: str) -> dict[str, Any]:
        return {"meta": {words["key"]: _item(call.found.metadata, words["key"])}}

    @volume_metadata.route("PUT", item, rules["update"], body=schemas.META, lookup=lookup)
    def update(call: Call, **words: str) -> dict[str, Any]:
        given = call.body["meta"]
        if words["key"] not in given:
            raise errors.Invalid("Request body and URI mismatch")
        if len(given) > 1:
            raise errors.Invalid("Request body contains too many items")
        change(call, words[word], lambda known: {**known, **given})
        return {"meta": dict(given)}

    @volume_metadata.route("DELETE", item, rules["delete"], lookup=lookup)
    def delete(call: Call, **words: str) -> None:
        def without(known: Mapping[str, str]) -> dict[str, str]:
            _item(known, words["key"])
            return {key: value for key, value in known.items() if key != words["key"]}

        change(call, words[word], without)


def _item(metadata: Mapping[str, str], key: str) -> str:
    if key not in metadata:
        raise errors.NotFound(f"Metadata has no item with key {key[:255]}.")
    return metadata[key]


_declare(
    "/v3/volumes/<volume_id>/metadata",
    "volume_id",
    {
        "get": "volume:get_volume_metadata",
        "create": "volume:create_volume_metadata",
        "update": "volume:update_volume_metadata",
        "delete": "volume:delete_volume_metadata",
    },
    look_up_volume,
    _change_volume,
)
_declare(
    "/v3/snapshots/<snapshot_id>/metadata",
    "snapshot_id",
    {
        "get": "volume:get_snapshot_metadata",
        "create": "volume:update_snapshot_metadata",
        "update": "volume:update_snapshot_metadata",
        "delete": "volume:delete_snapshot_metadata",
    },
    look_up_snapshot,
    _change_snapshot,
)


# ---- of images ---------------------------------------------------------------------------------------------------
@actions.action(
    "os-set_image_metadata", "volume_extension:volume_image_metadata:set", status=200, body=schemas.SET_IMAGE_METADATA
)
def set_image_metadata(call: Call, volume_id: str) -> dict[str, Any]:
    given = call.body["os-set_image_metadata"]["metadata"]
    return {"metadata": _change_image_metadata(call, lambda known: {**known, **given})}


@actions.action(
    "os-unset_image_metadata",
    "volume_extension:volume_image_metadata:remove",
    status=200,
    body=schemas.UNSET_IMAGE_METADATA,
)
def unset_image_metadata(call: Call, volume_id: str) -> None:
    key = call.body["os-unset_image_metadata"]["key"]

    def without(known: Mapping[str, str]) -> dict[str, str]:
        if key not in known:
            raise errors.NotFound(f"Glance metadata for volume/snapshot {volume_id} cannot be found.")
        return {name: value for name, value in known.items() if name != key}

    _change_image_metadata(call, without)


@actions.action(
    "os-show_image_metadata",
    "volume_extension:volume_image_metadata:show",
    status=200,
    body=schemas.BARE["os-show_image_metadata"],
)
def show_image_metadata(call: Call, volume_id: str) -> dict[str, Any]:
    return {"metadata": dict(volume_of(call).image_metadata or {})}


def _change_image_metadata(call: Call, edit: Edit) -> Mapping[str, str]:
    def work(c: Any, volume: BlockVolume) -> Mapping[str, Any]:
        return {"image_metadata": _bounded(edit(volume.image_metadata or {}))}

    made = volume_operations.change(service_of(call), viewer_of(call), volume_of(call).id, work)
    return made.image_metadata or {}
