"""Projects that shared images of the embedded service are offered to."""

from __future__ import annotations

from collections.abc import Callable

from cellcloud import errors
from cellcloud.db import image_members as db
from cellcloud.db import images
from cellcloud.db.engine import Database, retried, transact
from cellcloud.model.image import Image, ImageMember

MOST = 128  # of one image: Glance's
STATUSES = ("pending", "accepted", "rejected")


class EmbeddedImageMembers:
    """``get_image``: the image that a caller may use; raises NotFound."""

    def __init__(self, database: Database, get_image: Callable[..., Image]) -> None:
        self._database = database
        self._get_image = get_image

    def create_member(self, image_id: str, member_id: str, *, project_id: str, is_admin: bool) -> ImageMember:
        """Offer an image to a project. Raises NotFound, Forbidden for an image that is another's or not shared,
        Conflict for a member, TooLarge for one too many."""
        image = self._find(image_id, project_id, is_admin)
        if image.visibility != "shared" or not (is_admin or image.owner == project_id):
            raise errors.Forbidden(f"Not allowed to create members for image {image_id}.")
        _insert(self._database, image.id, member_id)
        return self._get(image, member_id)

    def update_member(
        self, image_id: str, member_id: str, status: str, *, project_id: str, is_admin: bool
    ) -> ImageMember:
        """Say what a project makes of the offer: it itself does, not the image's owner. Raises NotFound, Forbidden,
        Invalid for another status."""
        image = self._find(image_id, project_id, is_admin)
        if image.visibility != "shared" or not (is_admin or image.owner != project_id):
            raise errors.Forbidden(f"Not allowed to update members for image {image_id}.")
        self.get_member(image_id, member_id, project_id=project_id, is_admin=is_admin)
        if status not in STATUSES:
            raise errors.Invalid('Incorrect request: Status must be "pending", "accepted" or "rejected".')
        transact(self._database, lambda c: db.set_status(c, image.id, member_id, status))
        return self._get(image, member_id)

    def delete_member(self, image_id: str, member_id: str, *, project_id: str, is_admin: bool) -> None:
        """Take the offer back. Raises NotFound, Forbidden for an image that is another's or not shared."""
        image = self._find(image_id, project_id, is_admin)
        if image.visibility != "shared" or not (is_admin or image.owner == project_id):
            raise errors.Forbidden(f"Not allowed to delete members for image {image_id}.")
        if not transact(self._database, lambda c: db.delete(c, image.id, member_id)):
            raise _unknown(image, member_id)

    def get_member(self, image_id: str, member_id: str, *, project_id: str, is_admin: bool) -> ImageMember:
        """Return a member; of the others a member learns nothing. Raises NotFound."""
        image = self._find(image_id, project_id, is_admin)
        if image.visibility != "shared":
            raise errors.NotFound("Only shared images have members.")
        if not is_admin and project_id not in (image.owner, member_id):
            raise _unknown(image, member_id)
        return self._get(image, member_id)

    def list_members(self, image_id: str, *, project_id: str, is_admin: bool) -> list[ImageMember]:
        """Return the members of an image; for a member itself alone. Raises NotFound, Forbidden where it is not
        shared."""
        image = self._find(image_id, project_id, is_admin)
        if image.visibility != "shared":
            raise errors.Forbidden(
                f"Not allowed to list members for image {image_id}: Only shared images have members."
            )
        only = None if is_admin or image.owner == project_id else project_id
        with self._database.read() as c:
            return db.list_members(c, image.id, only=only)

    def _find(self, image_id: str, project_id: str, is_admin: bool) -> Image:
        try:
            return self._get_image(image_id, project_id=project_id, is_admin=is_admin)
        except errors.NotFound:
            raise errors.NotFound(f"Image {image_id[:64]} not found.") from None

    def _get(self, image: Image, member_id: str) -> ImageMember:
        with self._database.read() as c:
            found = db.find(c, image.id, member_id)
        if found is None:
            raise _unknown(image, member_id)
        return found


@retried
def _insert(database: Database, image_id: str, member_id: str) -> None:
    with database.write() as c:
        if images.find_image(c, image_id, lock=True) is None:
            raise errors.NotFound(f"Image {image_id} not found.")
        db.insert(c, image_id, member_id, most=MOST)


def _unknown(image: Image, member_id: str) -> errors.NotFound:
    return errors.NotFound(f"{member_id[:64]} not found in the member list of the image {image.id}.")
