"""The embedded image service: rows in the top's database, bytes as files in one directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from cellcloud import errors
from cellcloud.clients.image import READABLE, EditProperties, check_same, fill, guest_owner
from cellcloud.config import AdaptersConfig
from cellcloud.db import image_members, pagination_snapshots
from cellcloud.db import images as db
from cellcloud.db.engine import Connection, Database, retried, transact
from cellcloud.db.listing import ALL, Condition, Page
from cellcloud.embedded.image_contents import ImageContents, ImageLimits
from cellcloud.embedded.image_files import ImageFiles, chunks
from cellcloud.embedded.image_imports import EmbeddedImageImports
from cellcloud.embedded.image_members import EmbeddedImageMembers
from cellcloud.embedded.property_protections import PropertyProtections
from cellcloud.embedded.web_download import WebDownloadRules, make_rules
from cellcloud.model.image import RESERVED, Image, ImageQuery, new_image_id


class EmbeddedImages:
    """Implements ``ImageClient`` and what the image API needs. Safe to call from several threads and processes."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        *,
        max_bytes: int,
        limits: ImageLimits | None = None,
        rules: WebDownloadRules | None = None,
        protections: PropertyProtections | None = None,
    ) -> None:
        self._limits = limits or ImageLimits()
        self._database = database
        self._contents = ImageContents(database, ImageFiles(directory), max_bytes=max_bytes, limits=self._limits)
        self.protections = protections or PropertyProtections()
        self.members = EmbeddedImageMembers(database, self.get_image)
        self.imports = EmbeddedImageImports(database, self._contents, self._get_own, rules or WebDownloadRules())

    @classmethod
    def of(cls, database: Database, directory: Path, config: AdaptersConfig) -> EmbeddedImages:
        """As the options say."""
        size = config.image_size_total
        limits = ImageLimits(count=config.image_count_total, size=size if size < 0 else size << 20)
        rules = make_rules(config.web_download_networks, config.web_download_ports, config.web_download_seconds)
        return cls(
            database,
            directory,
            max_bytes=config.max_image_bytes,
            limits=limits,
            rules=rules,
            protections=PropertyProtections(config.property_protection_file),
        )

    # ---- ImageClient ---------------------------------------------------------------------------------------------
    def get_url(self) -> str:
        """See ``ImageClient``."""
        return ""

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        """See ``ImageClient``."""
        with self._database.read() as c:
            image = db.find_image(c, image_id)
            seen = image is not None and (is_admin or _may_use(c, image, project_id))
        if image is None or not seen:
            raise _unknown(image_id)
        return image

    def search_images(self, query: ImageQuery, *, project_id: str, is_admin: bool) -> list[Image]:
        """See ``ImageClient``."""
        return self.list_images(project_id=project_id, is_admin=is_admin, page=_page(query), member_status=None)

    def edit_properties(self, image_id: str, edit: EditProperties, *, project_id: str, is_admin: bool) -> Image:
        """See ``ImageClient``."""

        def change(image: Image) -> Image:
            own = {name: value for name, value in image.properties.items() if not name.startswith(RESERVED)}
            after = edit(own)
            if any(name.startswith(RESERVED) for name in after):
                raise errors.Forbidden(f"Properties called {RESERVED}... are the image service's own.")
            self.protections.check(own, after, ("admin",) if is_admin else ("member", "reader"))
            reserved = {name: value for name, value in image.properties.items() if name not in own}
            return replace(image, properties={**after, **reserved})

        return self.change_image(image_id, change, project_id=project_id, is_admin=is_admin)

    def ensure_image(self, image: Image) -> Image:
        """See ``ImageClient``."""
        try:
            return self._insert(image, guest_owner(image), is_to_be_filled=True)
        except errors.Conflict:
            found = self._get(image.id)
            check_same(image, found)
            return found

    def fill_image(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        """See ``ImageClient``."""
        fill(
            lambda: self._get(image_id),
            size,
            data,
            lambda pieces: self.upload(image_id, pieces, project_id="", is_admin=True),
        )

    def discard_image(self, image_id: str) -> None:
        """See ``ImageClient``."""
        with suppress(errors.NotFound):
            self.delete_image(image_id, project_id="", is_admin=True)

    def open_image(self, image_id: str) -> Iterator[bytes]:
        """See ``ImageClient``."""
        return chunks(self._open(image_id))

    def open_range(self, image_id: str, first: int, size: int) -> Iterator[bytes]:
        """Return ``size`` of the image's bytes from the ``first`` on. Raises as ``open_image``."""
        file = self._open(image_id)
        file.seek(first)
        return chunks(file, size)

    def _open(self, image_id: str) -> IO[bytes]:
        with self._database.read() as c:
            image = db.find_image(c, image_id)
        try:
            if image is None or image.status not in READABLE:
                raise FileNotFoundError
            return self._contents.files.path_of(image.id).open("rb")
        except FileNotFoundError:
            raise _unknown(image_id) from None

    # ---- records -------------------------------------------------------------------------------------------------
    def list_images(
        self, *, project_id: str, is_admin: bool, page: Page = ALL, member_status: str | None = "accepted"
    ) -> list[Image]:
        """See ``db.images.list_images``. Raises Invalid for an unknown marker."""

        def found(c: Connection) -> list[Image]:
            return db.list_images(c, project_id=project_id, is_admin=is_admin, page=page, member_status=member_status)

        try:
            return pagination_snapshots.listed(self._database, page.walk, found)
        except errors.NotFound as error:
            raise errors.Invalid(error.message) from None

    def create_image(self, image: Image) -> Image:
        """Store a new image without bytes. An empty id gets a new one. Raises Forbidden, Conflict, TooLarge for
        one too many of its owner's."""
        return self._insert(image, None)

    def _insert(self, image: Image, member_id: str | None, *, is_to_be_filled: bool = False) -> Image:
        image = replace(image, id=image.id or new_image_id(), status="queued")

        def insert(c: Connection) -> None:
            db.insert_image(c, image, most=self._limits.count)
            if is_to_be_filled:  # with at least one byte
                db.check_size(c, image.owner, 1, self._limits.size)
            if member_id is not None:
                image_members.insert(c, image.id, member_id)

        transact(self._database, insert)
        return self._get(image.id)

    def change_image(self, image_id: str, edit: Callable[[Image], Image], *, project_id: str, is_admin: bool) -> Image:
        """Write what a user may change of what ``edit`` makes of the image as it is, whatever others do meanwhile.

        ``edit`` may be asked again. Raises what it raises, NotFound, Forbidden for another's image, TooLarge where its
        new owner's quota does not take it.
        """
        _edit(self._database, image_id, edit, project_id, is_admin, self._limits)
        return self._get(image_id)

    def delete_image(self, image_id: str, *, project_id: str, is_admin: bool) -> None:
        """Delete the record, then the bytes. Raises NotFound, Forbidden for another's or a protected image."""
        image = self._get_own(image_id, project_id, is_admin)
        if not transact(self._database, lambda c: db.delete_image(c, image.id)):
            self._get(image.id)  # of two that delete it at once one finds it gone
            raise errors.Forbidden(f"Image {image.id} is protected and cannot be deleted.")
        self._contents.files.drop(image.id)

    def deactivate(self, image_id: str, *, project_id: str, is_admin: bool) -> None:
        """Let nobody but administrators have the image's bytes. Raises NotFound, Forbidden."""
        self._switch(image_id, "active", "deactivated", "deactivate", project_id, is_admin)

    def reactivate(self, image_id: str, *, project_id: str, is_admin: bool) -> None:
        """Undo ``deactivate``."""
        self._switch(image_id, "deactivated", "active", "reactivate", project_id, is_admin)

    def _switch(self, image_id: str, before: str, after: str, verb: str, project_id: str, is_admin: bool) -> None:
        image = self._get_own(image_id, project_id, is_admin)
        if not transact(self._database, lambda c: db.move_status(c, image.id, before, after)):
            status = self._get(image.id).status
            if status != after:
                raise errors.Forbidden(f"Not allowed to {verb} image in status '{status}'")

    # ---- bytes ---------------------------------------------------------------------------------------------------
    def upload(self, image_id: str, data: Iterable[bytes], *, project_id: str, is_admin: bool) -> Image:
        """Take an image's bytes. Raises NotFound, Forbidden, and as ``ImageContents.upload``."""
        image = self._get_own(image_id, project_id, is_admin)
        self._contents.upload(image.id, data)
        return self._get(image.id)

    def stage(self, image_id: str, data: Iterable[bytes], *, project_id: str, is_admin: bool) -> None:
        """Take bytes that wait to be imported. Raises NotFound, Forbidden, and as ``ImageContents.stage``."""
        image = self._get_own(image_id, project_id, is_admin)
        self._contents.stage(image.id, data)

    def get_usage(self, project_id: str) -> dict[str, dict[str, int]]:
        """Return by Glance's names what a project has and may have: sizes in MiB, -1: no limit."""
        with self._database.read() as c:
            used = db.usage_of(c, project_id)
        size = self._limits.size if self._limits.size < 0 else self._limits.size >> 20
        limits = {"image_size_total": size, "image_count_total": self._limits.count}
        return {name: {"usage": usage, "limit": limits.get(name, -1)} for name, usage in used.items()}

    def sweep(self) -> None:
        """Take back what killed processes left: half uploads and imports, files of images that are gone."""
        self.imports.sweep_tasks(self._contents.sweep())

    def _get(self, image_id: str) -> Image:
        return self.get_image(image_id, project_id="", is_admin=True)

    def _get_own(self, image_id: str, project_id: str, is_admin: bool) -> Image:
        image = self.get_image(image_id, project_id=project_id, is_admin=is_admin)
        _check_owner(image, project_id, is_admin)
        return image


@retried
def _edit(
    database: Database,
    image_id: str,
    edit: Callable[[Image], Image],
    project_id: str,
    is_admin: bool,
    limits: ImageLimits,
) -> None:
    with database.write() as c:
        before = db.find_image(c, image_id, lock=True)
        if before is None or not (is_admin or _may_use(c, before, project_id)):
            raise _unknown(image_id)
        _check_owner(before, project_id, is_admin)
        after = edit(before)
        for name in ("container_format", "disk_format"):
            if before.status != "queued" and getattr(after, name) != getattr(before, name):
                raise errors.Forbidden(f"Attribute {name} can be only replaced for a queued image.")
        if not is_admin and after.owner != before.owner:
            raise errors.Forbidden("Owner can't be updated by non admin.")
        if after.owner != before.owner:
            db.check_count(c, after.owner, limits.count)
            db.check_size(c, after.owner, before.size, limits.size)
        db.update_image(c, replace(after, id=before.id))


def _check_owner(image: Image, project_id: str, is_admin: bool) -> None:
    if not is_admin and image.owner != project_id:
        raise errors.Forbidden("You are not permitted to modify this image.")


def _may_use(c: Connection, image: Image, project_id: str) -> bool:
    if image.owner == project_id or image.visibility in ("public", "community"):
        return True
    return image.visibility == "shared" and image_members.find(c, image.id, project_id) is not None


def _unknown(image_id: str) -> errors.NotFound:
    return errors.NotFound(f"No image found with ID {image_id[:64]}")


def _page(query: ImageQuery) -> Page:
    given = {name: getattr(query, name) for name in ("name", "status", "min_ram", "min_disk", "owner")}
    where = [Condition(name, (value,)) for name, value in given.items() if value is not None]
    where += [Condition("properties", (pair,)) for pair in query.properties]
    if query.changed_since is not None:
        where.append(Condition("updated_at", (query.changed_since,), "gte"))
    return Page(where=where, sort=(("created_at", False), ("id", False)), after=query.after, limit=query.limit)
