"""How an image looks in the image proxy."""

from __future__ import annotations

from typing import Any

from cellcloud.model.image import Image
from top_api.request_pipeline import Call
from top_api.schemas.types import is_true

_STATUS = {
    "active": "ACTIVE",
    "queued": "SAVING",
    "saving": "SAVING",
    "deleted": "DELETED",
    "pending_delete": "DELETED",
    "killed": "ERROR",
}
_PROGRESS = {"queued": 25, "saving": 50, "active": 100}


def brief(call: Call, image: Image) -> dict[str, Any]:
    """Return an item of GET /images."""
    return {"id": image.id, "name": image.name or None, "links": _links(call, image)}


def detail(call: Call, image: Image) -> dict[str, Any]:
    """Return a whole image."""
    shown: dict[str, Any] = {
        "id": image.id,
        "name": image.name or None,
        "minRam": image.min_ram,
        "minDisk": image.min_disk,
        "metadata": image.properties,
        "created": image.created_at,
        "updated": image.updated_at,
        "status": _STATUS.get(image.status, "UNKNOWN"),
        "progress": _PROGRESS.get(image.status, 0),
        "OS-EXT-IMG-SIZE:size": image.size or 0,
        "links": _links(call, image),
    }
    server_id = image.properties.get("instance_uuid")
    if server_id is not None:
        shown["server"] = {"id": server_id, "links": call.links("servers", server_id)}
    config = image.properties.get("auto_disk_config")
    if config is not None:
        shown["OS-DCF:diskConfig"] = "AUTO" if is_true(config) else "MANUAL"
    return shown


def url_of(call: Call, image_id: str) -> str:
    """Return where the image service itself has an image."""
    return f"{call.services.images.get_url() or f'{call.base_url}/image/v2'}/images/{image_id}"


def _links(call: Call, image: Image) -> list[dict[str, str]]:
    alternate = {"rel": "alternate", "type": "application/vnd.openstack.image", "href": url_of(call, image.id)}
    return [*call.links("images", image.id), alternate]
