"""Rescue: the image is looked at first, since a host refuses too late for the caller to hear of it."""

from __future__ import annotations

import secrets
from dataclasses import replace

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model import codec, flavor_image_validation, image_properties
from cellcloud.model.image import Image
from cellcloud.model.operations import Operation, spec_of
from cellcloud.model.rescue import rescue_machine
from cellcloud.model.server import ServerRecord
from top_api.operations.active_image import why_not_used
from top_api.operations.server_in_cell import begin, check_may_begin, check_unlocked
from top_api.services import ApiServices

ON_VOLUMES_SINCE = (2, 87)


def rescue_server(
    services: ApiServices,
    context: RequestContext,
    record: ServerRecord,
    image_id: str | None,
    password: str | None,
    *,
    version: tuple[int, int],
) -> str:
    """Begin to rescue a server from an image, its own unless one is named; the password of that system. Raises
    Conflict, Invalid, Unreachable."""
    spec = spec_of(Operation.RESCUE)
    check_unlocked(context, record)
    check_may_begin(record, spec)
    if record.spec.is_volume_backed and not (image_id and version >= ON_VOLUMES_SINCE):
        raise errors.Invalid("Cannot rescue a volume-backed instance")
    image = _image(services, context, image_id) if image_id else record.spec.image
    flavor_image_validation.check(record.spec.flavor, image)
    image = replace(image, properties=image_properties.known(image.properties))
    shown = rescue_machine(record.spec.flavor, record.spec.image, image)
    if record.spec.is_volume_backed and not shown.is_stable:
        raise errors.Invalid("Cannot rescue a volume-backed instance")
    password = password or secrets.token_urlsafe(9)
    told = password if record.spec.config_drive else ""  # where the guest can read it
    begin(services, context, record, spec, {"image": codec.to_plain(image), "admin_pass": told})
    return password


def _image(services: ApiServices, context: RequestContext, image_id: str) -> Image:
    try:
        image = services.images.get_image(image_id, project_id=context.project_id, is_admin=context.is_admin)
    except errors.NotFound:
        image = None
    if image is None or image.status != "active" or why_not_used(services, image):
        raise errors.Invalid(f"Requested rescue image '{image_id}' is not supported")
    return image
