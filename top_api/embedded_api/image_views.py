"""How the image API shows images, members and tasks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from cellcloud.embedded.image_imports import KEPT_SECONDS, STORE
from cellcloud.model.image import Image, ImageMember, ImageTask

_BRIEF = frozenset({"input", "result", "message"})


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
        "created_at": _stamp(member.created_at),
        "updated_at": _stamp(member.updated_at),
        "schema": "/v2/schemas/member",
    }


def task_view(task: ImageTask, *, brief: bool = False) -> dict[str, Any]:
    """Return a task; ``brief``: as lists show it."""
    ended = task.status in ("success", "failure")
    shown = {
        "id": task.id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "input": task.input,
        "result": task.result,
        "message": task.message,
        "image_id": task.image_id,
        "request_id": task.request_id,
        "user_id": task.user_id,
        "created_at": _stamp(task.created_at),
        "updated_at": _stamp(task.updated_at),
        "expires_at": _stamp(task.updated_at + dt.timedelta(seconds=KEPT_SECONDS)) if ended else None,
        "self": f"/v2/tasks/{task.id}",
        "schema": "/v2/schemas/task",
    }
    return {name: value for name, value in shown.items() if name not in _BRIEF} if brief else shown


def _stamp(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
