"""Find the image that a request names, which hosts are to be able to use: what they would refuse is refused before."""

from __future__ import annotations

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.image_gate import BOOTABLE
from cellcloud.model.image import Image
from top_api.services import ApiServices


def get_active_image(
    services: ApiServices, context: RequestContext, image_id: str, *, missing: str | None = None
) -> Image:
    """Return the image; raises Invalid when the requester sees none of that id (told as ``missing``), or when it has
    no data to be used, or such that no host takes."""
    try:
        image = services.images.get_image(image_id, project_id=context.project_id, is_admin=context.is_admin)
    except errors.NotFound as error:
        raise errors.Invalid(missing or f"Image {image_id} could not be found.") from error
    if image.status != "active":
        raise errors.Invalid(f"Image {image_id} is not active.")
    reason = why_not_used(services, image)
    if reason:
        raise errors.Invalid(f"Image {image_id} is unacceptable: {reason}")
    return image


def why_not_used(services: ApiServices, image: Image) -> str:
    """Say what hosts have against an active image; "" for nothing that its record tells."""
    most = services.config.adapters.max_image_bytes
    if image.disk_format not in BOOTABLE:
        return f"Disk format {image.disk_format or 'none'} is not one of {', '.join(BOOTABLE)}."
    if image.size > most:
        return f"It has {image.size} bytes, and at most {most} are taken."
    if image.os_hash_value and image.os_hash_algo not in (None, "sha512"):
        return f"Its checksum is of a kind that is not verified here: {image.os_hash_algo}."
    return ""
