"""Carries out commands about copies of guests' disks that are to become images."""

from __future__ import annotations

from cell.compute.driver import Driver, ImageStore
from cellcloud import errors
from cellcloud.model.guest_commands import ImageCommand, Snapshot, UploadSnapshot
from cellcloud.model.observed_guests import GuestState


def perform(driver: Driver, images: ImageStore, command: ImageCommand) -> GuestState:
    """Return the guest as it is afterwards. Raises what the driver and the image service raise."""
    match command:
        case Snapshot():
            return driver.snapshot(command.server_id, command.generation, command.image_id)
        case UploadSnapshot():
            return _upload(driver, images, command)
        case _:
            return driver.discard_snapshot(command.server_id, command.generation, command.image_id)


def _upload(driver: Driver, images: ImageStore, command: UploadSnapshot) -> GuestState:
    """Send the copy to the image service, and drop it once nothing can come of it any more. One that got lost, as with
    the host's restart, is made again, unless the image is whole: then it was the answer that got lost."""
    server_id, generation, image_id = command.server_id, command.generation, command.image_id
    try:
        copy = driver.open_snapshot(server_id, image_id)
    except errors.NotFound:
        if images.is_filled(image_id):
            return driver.discard_snapshot(server_id, generation, image_id)
        driver.snapshot(server_id, generation, image_id)
        copy = driver.open_snapshot(server_id, image_id)
    try:
        images.fill(image_id, copy.size, copy)
    except errors.TryLater:
        raise
    except errors.CellcloudError:
        driver.discard_snapshot(server_id, generation, image_id)
        raise
    return driver.discard_snapshot(server_id, generation, image_id)
