"""How the image API shows images, members and tasks."""

from __future__ import annotations

from typing import Any

from cellcloud.model.image import Image, ImageMember

STORE = "file"  # the one that there is


def image_view(image: Image) -> dict[str, Any]:
    """Return an image as Glance shows it."""
    has_bytes = image.os_hash_value is not None
    return {
        **image.properties,
        "id": image.id,
        "name": image.name or None,
        "status": image.status,
        "visibility": image.visibility,
        "owner": image.owner,
        "protected": image.protected,
        "os_hidden": image.os_hidden,
        "disk_format": image.disk_format or None,
        "container_format": image.container_format or None,
        "size": image.size if has_bytes or image.size else None,
        "virtual_size": image.virtual_size,
        "checksum": image.checksum,
        "os_hash_algo": image.os_hash_algo,
        "os_hash_value": image.os_hash_value,
        "min_ram": image.min_ram,
        "min_disk": image.min_disk,
        "tags": list(image.tags),
        "created_at": image.created_at,
        "updated_at": image.updated_at,
        **({"stores": STORE} if has_bytes else {}),
        "self": f"/v2/images/{image.id}",
        "file": f"/v2/images/{image.id}/file",
        "schema": "/v2/schemas/image",
    }


def member_view(member: ImageMember) -> dict[str, Any]:
    """Return a member of an image."""
    return {
        "member_id": member.member_id,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": f"{member.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "updated_at": f"{member.updated_at:%Y-%m-%dT%H:%M:%SZ}",
        "schema": "/v2/schemas/member",
    }
