"""Steps that make an image of a guest: its record, the copy of the disk on the host, the bytes, the older backups."""

from __future__ import annotations

import logging

from cell.conductor.steps import guests, volume_images
from cell.conductor.workflow import (
    PassiveServices,
    PassiveStep,
    Step,
    StepContext,
    StepResult,
    StepServices,
    Wait,
)
from cellcloud import errors
from cellcloud.model.guest_commands import DiscardSnapshot, Snapshot, UploadSnapshot
from cellcloud.model.image import Image, ImageQuery
from cellcloud.server_states import TaskState

LOG = logging.getLogger(__name__)
COPIED, UPLOADED = "guests.copied", "guests.uploaded"
BACKUP = ("image_type", "backup_type", "instance_uuid")  # the properties that backups of one kind share


def _image(context: StepContext) -> Image:
    image = context.run.arguments.image
    if image is None:
        raise errors.CallHuman("The operation does not say which image it is to make.")
    return image


def ensure_image(context: StepContext, services: StepServices) -> StepResult:
    """Make the image's record, unless it is there: the API has made it before, and its owner may have deleted it. Of a
    server on a volume it has the snapshots of its volumes instead of bytes; one that is put away needs none."""
    if context.run.arguments.image is None and context.record.spec.is_volume_backed:
        return StepResult()
    services.images.ensure_image(_image(context))
    if context.record.spec.is_volume_backed:
        volume_images.fill(context, services, _image(context))
    return StepResult()


def discard_image(context: StepContext, services: StepServices) -> StepResult:
    """Delete the image, of which nothing whole has come."""
    image = context.run.arguments.image
    if image is not None:
        discard(services, image.id)
        if context.record.spec.is_volume_backed:
            volume_images.discard_snapshots(context, services, image)
    return StepResult()


def discard(services: StepServices, image_id: str) -> None:
    """Delete an image. One that may not be deleted stays: its owner protects it."""
    try:
        services.images.discard_image(image_id)
    except errors.FixRequest as error:
        LOG.info("image kept", extra={"image": image_id, "why": error.message})


def send_copy(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host copy the guest's root disk, if it has it."""
    if context.record.spec.is_volume_backed:
        return StepResult()
    return StepResult(command=guests.command_for(context, Snapshot, COPIED))


def await_copy(context: StepContext, services: PassiveServices) -> StepResult:
    """Wait until the copy is whole."""
    if context.record.spec.is_volume_backed:
        return StepResult()
    return guests.result_of(context, services, Snapshot, COPIED)


def discard_copy(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host drop the copy. One that does not hear of it drops it when it is back, or with the guest."""
    if context.record.spec.is_volume_backed:
        return StepResult()
    unheard = context.run.attempt > 1 and not services.is_up(context.record.host or "")
    if context.event is not None or context.record.host is None or unheard or context.run.attempt > guests.LATER_TRIES:
        return StepResult()
    raise Wait(services.resend_after, command=guests.command_for(context, DiscardSnapshot, context.step))


def send_upload(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host give the image its bytes, and drop the copy."""
    if context.record.spec.is_volume_backed:
        return StepResult()
    return StepResult(command=guests.command_for(context, UploadSnapshot, UPLOADED))


def await_upload(context: StepContext, services: PassiveServices) -> StepResult:
    """Wait until the image service has all of them."""
    if context.record.spec.is_volume_backed:
        return StepResult()
    return guests.result_of(context, services, UploadSnapshot, UPLOADED)


def rotate(context: StepContext, services: StepServices) -> StepResult:
    """Delete the oldest backups of the image's kind, so that as many as asked for are left."""
    image, keep = _image(context), context.run.arguments.rotation
    kind = tuple((name, image.properties.get(name, "")) for name in BACKUP)
    query = ImageQuery(owner=image.owner, properties=kind)
    for old in services.images.search_images(query, project_id=image.owner, is_admin=True)[keep:]:
        discard(services, old.id)
    return StepResult()


ensure = Step(name="images.ensure", do=ensure_image, undo=discard_image)
copy = PassiveStep(name="guests.copy", do=send_copy, undo=discard_copy, task_state=TaskState.IMAGE_PENDING_UPLOAD)
copied = PassiveStep(name=COPIED, do=await_copy)
upload = PassiveStep(name="guests.upload", do=send_upload, task_state=TaskState.IMAGE_UPLOADING)
uploaded = PassiveStep(name=UPLOADED, do=await_upload)
rotated = Step(name="images.rotate", do=rotate)
