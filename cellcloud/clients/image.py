"""Image: descriptions and bytes of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from cellcloud import errors
from cellcloud.model.image import Image, ImageQuery

EditProperties = Callable[[Mapping[str, str]], Mapping[str, str]]
OWNER_TOO = "instance_owner"  # a property: another project that is offered a shared image, whose server it is of
READABLE = ("active", "deactivated")
"""What images have bytes that the cloud itself may read."""


class ImageClient(Protocol):
    """Safe to call from several threads."""

    def get_url(self) -> str:
        """Return where clients find the service; empty: at the API's own port."""
        ...

    # ---- in the name of a project ------------------------------------------------------------------------------------
    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        """Return an image. Raises NotFound for an image that the project may not see."""
        ...

    def search_images(self, query: ImageQuery, *, project_id: str, is_admin: bool) -> list[Image]:
        """Return a page of the project's own images and the public ones, of an administrator all; the newest first.
        Raises Invalid for an unknown marker."""
        ...

    def edit_properties(self, image_id: str, edit: EditProperties, *, project_id: str, is_admin: bool) -> Image:
        """Write what ``edit`` makes of the image's properties as they are; it may be asked again. Raises what it
        raises, NotFound, and Forbidden for another's image."""
        ...

    def delete_image(self, image_id: str, *, project_id: str, is_admin: bool) -> None:
        """Delete an image. Raises NotFound, and Forbidden for another's or a protected image."""
        ...

    # ---- of the cloud itself -----------------------------------------------------------------------------------------
    def open_image(self, image_id: str) -> Iterator[bytes]:
        """Return the image's bytes in chunks. Raises NotFound, Unreachable."""
        ...

    def ensure_image(self, image: Image) -> Image:
        """Make an image without bytes under the id that it has, unless it is there. OWNER_TOO among its
        properties: a project that may use it as well. Raises Conflict where another image has that id, TooLarge for
        one too many of its owner's, or where those have no room for a byte more."""
        ...

    def fill_image(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        """Give an image its ``size`` bytes; one that has so many already is left alone. Raises NotFound, TooLarge,
        Invalid, Conflict for one with other bytes, and Busy while another upload of it has not ended."""
        ...

    def discard_image(self, image_id: str) -> None:
        """Delete an image, whoever owns it. Absent is success."""
        ...


def guest_owner(image: Image) -> str | None:
    """Return the project that a new image is offered to."""
    return (image.properties.get(OWNER_TOO) or None) if image.visibility == "shared" else None


def check_same(wanted: Image, found: Image) -> None:
    """Check that the image found is the one wanted. Raises Conflict where an image has the id of another."""
    mark = "instance_uuid"
    if (found.owner, found.properties.get(mark)) != (wanted.owner, wanted.properties.get(mark)):
        raise errors.Conflict("An image with that id exists already.")


def is_filled(image: Image, size: int) -> bool:
    """Return whether an image has its ``size`` bytes; if not, it can be given them. Raises NotFound, Conflict, Busy."""
    if image.status in READABLE:
        if image.size != size:
            raise errors.Conflict(f"Image {image.id} has other bytes already.")
        return True
    if image.status not in ("queued", "saving"):
        raise errors.NotFound(f"No image found with ID {image.id}")
    if image.status == "saving":
        raise errors.Busy(f"Another upload of image {image.id} has not ended yet.")
    return False


def fill(
    look: Callable[[], Image], size: int, data: Iterable[bytes], upload: Callable[[Iterator[bytes]], object]
) -> None:
    """Upload an image's bytes unless it has them. Raises what ``is_filled``, ``exactly`` and the data do, and Busy
    where another upload began after the image was looked at."""
    image = look()
    if is_filled(image, size):
        return
    broken: list[Exception] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield from exactly(size, data)
        except Exception as error:
            broken.append(error)
            raise

    try:
        upload(pieces())
    except errors.Conflict as error:
        if broken:
            raise
        if not is_filled(look(), size):
            raise errors.Busy(f"Another upload of image {image.id} has not ended yet.") from error


def exactly(size: int, data: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces. Raises Invalid where they come to another length, so that no half image is taken for one."""
    seen = 0
    for piece in data:
        seen += len(piece)
        yield piece
    if seen != size:
        raise errors.Invalid(f"An image of {size} bytes came with {seen}.")
