"""Find the image that a request names, which hosts are to be able to fetch."""

from __future__ import annotations

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model.image import Image
from top_api.services import ApiServices


def get_active_image(
    services: ApiServices, context: RequestContext, image_id: str, *, missing: str | None = None
) -> Image:
    """Return the image; raises Invalid when the requester sees none of that id (told as ``missing``) or when it has
    no data to be used."""
    try:
        image = services.images.get_image(image_id, project_id=context.project_id, is_admin=context.is_admin)
    except errors.NotFound as error:
        raise errors.Invalid(missing or f"Image {image_id} could not be found.") from error
    if image.status != "active":
        raise errors.Invalid(f"Image {image_id} is not active.")
    return image
