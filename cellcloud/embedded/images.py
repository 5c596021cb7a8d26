"""The embedded image service: rows in the top's database, bytes as files in one directory.

A file becomes an image's bytes only whole, hashed, through the gate and on the disk: it is written under another name
and linked to its own. An upload that ends any other way leaves the image queued and no file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from cellcloud import clock, errors, image_gate
from cellcloud.clients.image import OWNER_TOO, EditProperties, check_same, fill
from cellcloud.config import AdaptersConfig
from cellcloud.db import images as db
from cellcloud.db import pagination_snapshots
from cellcloud.db.engine import Database, retried, transact
from cellcloud.db.listing import ALL, Condition, Page
from cellcloud.model.image import Image, ImageQuery

CHUNK = 1 << 20
_UPLOAD = ".upload-"
_STALE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Of each project: ``count`` of its images, ``size`` in bytes of all of them; -1: no limit."""

    count: int = -1
    size: int = -1


class EmbeddedImages:
    """Implements ``ImageClient`` and what the image API needs. Safe to call from several threads and processes."""

    def __init__(
        self, database: Database, directory: Path, *, max_bytes: int, limits: ImageLimits | None = None
    ) -> None:
        self._limits = limits or ImageLimits()
        self._database = database
        self._directory = directory
        self._max_bytes = max_bytes
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    @classmethod
    def of(cls, database: Database, directory: Path, config: AdaptersConfig) -> EmbeddedImages:
        """As the options say."""
        size = config.image_size_total
        limits = ImageLimits(count=config.image_count_total, size=size if size < 0 else size << 20)
        return cls(database, directory, max_bytes=config.max_image_bytes, limits=limits)

    # ---- ImageClient ---------------------------------------------------------------------------------------------
    def get_url(self) -> str:
        """See ``ImageClient``."""
        return ""

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        """See ``ImageClient``."""
        with self._database.read() as c:
            image = db.find_image(c, image_id)
        if image is None or not _visible(image, project_id, is_admin):
            raise errors.NotFound(f"No image found with ID {image_id[:64]}")
        return image

    def search_images(self, query: ImageQuery, *, project_id: str, is_admin: bool) -> list[Image]:
        """See ``ImageClient``."""
        return self.list_images(project_id=project_id, is_admin=is_admin, page=_page(query))

    def edit_properties(self, image_id: str, edit: EditProperties, *, project_id: str, is_admin: bool) -> Image:
        """See ``ImageClient``."""
        return self.change_image(
            image_id,
            lambda image: replace(image, properties=dict(edit(image.properties))),
            project_id=project_id,
            is_admin=is_admin,
        )

    def ensure_image(self, image: Image) -> Image:
        """See ``ImageClient``."""
        try:
            return self.create_image(image)
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
        with self._database.read() as c:
            image = db.find_image(c, image_id)
        try:
            if image is None or image.status != "active":
                raise FileNotFoundError
            file = self._path(image.id).open("rb")
        except FileNotFoundError:
            raise errors.NotFound(f"No image found with ID {image_id[:64]}") from None
        return _chunks(file)

    # ---- records -------------------------------------------------------------------------------------------------
    def list_images(
        self,
        *,
        project_id: str,
        is_admin: bool,
        page: Page = ALL,
    ) -> list[Image]:
        """See ``db.images.list_images``. Raises Invalid for an unknown marker."""
        try:
            return pagination_snapshots.listed(
                self._database,
                page.walk,
                lambda c: db.list_images(c, project_id=project_id, is_admin=is_admin, page=page),
            )
        except errors.NotFound as error:
            raise errors.Invalid(error.message) from None

    def create_image(self, image: Image) -> Image:
        """Store a new image without bytes. An empty id gets a new one. Raises Forbidden, Conflict, TooLarge for
        one too many of its owner's."""
        image = replace(image, id=image.id or str(uuid.uuid4()), status="queued")
        transact(self._database, lambda c: db.insert_image(c, image, most=self._limits.count))
        return self._get(image.id)

    def change_image(self, image_id: str, edit: Callable[[Image], Image], *, project_id: str, is_admin: bool) -> Image:
        """Write what a user may change of what ``edit`` makes of the image as it is, whatever others do meanwhile.

        ``edit`` may be asked again. Raises what it raises, NotFound, Forbidden for another's image.
        """
        _edit(self._database, image_id, edit, project_id, is_admin)
        return self._get(image_id)

    def delete_image(self, image_id: str, *, project_id: str, is_admin: bool) -> None:
        """Delete the record, then the bytes. Raises NotFound, Forbidden for another's or a protected image."""
        image = self.get_image(image_id, project_id=project_id, is_admin=is_admin)
        _check_owner(image, project_id, is_admin)
        if not transact(self._database, lambda c: db.delete_image(c, image.id)):
            self._get(image.id)  # of two that delete it at once one finds it gone
            raise errors.Forbidden(f"Image {image.id} is protected and cannot be deleted.")
        self._path(image.id).unlink(missing_ok=True)

    # ---- bytes ---------------------------------------------------------------------------------------------------
    def upload(self, image_id: str, data: Iterable[bytes], *, project_id: str, is_admin: bool) -> Image:
        """Take an image's bytes. Raises NotFound, Forbidden, Conflict for one that has bytes, TooLarge, Invalid."""
        image = self.get_image(image_id, project_id=project_id, is_admin=is_admin)
        _check_owner(image, project_id, is_admin)
        descriptor, name = tempfile.mkstemp(prefix=f"{_UPLOAD}{image.id}-", dir=self._directory)
        part = Path(name)
        with os.fdopen(descriptor, "w+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._take(_begin_upload(self._database, image.id), data, file, part)
            finally:
                part.unlink(missing_ok=True)
        return self._get(image.id)

    def _take(self, image: Image, data: Iterable[bytes], file: IO[bytes], part: Path) -> None:
        done = False
        try:
            if not image.disk_format or not image.container_format:
                raise errors.Invalid("Set disk_format and container_format before uploading.")
            size, md5, sha512 = _write(data, file, self._most_bytes(image))
            facts = image_gate.inspect(part, image.disk_format, self._max_bytes)
            file.flush()
            os.fsync(file.fileno())
            self._path(image.id).unlink(missing_ok=True)
            self._path(image.id).hardlink_to(part)  # the locked name stays until the record says active
            _sync_directory(self._directory)
            known = {"size": size, "virtual_size": facts.virtual_size, "checksum": md5, "os_hash_value": sha512}
            done = transact(self._database, lambda c: db.activate(c, image, known, most=self._limits.size))
            if not done:
                raise errors.NotFound(f"Image {image.id} was deleted during the upload.")
        finally:
            if not done:
                self._path(image.id).unlink(missing_ok=True)
                transact(self._database, lambda c: db.move_status(c, image.id, "saving", "queued"))

    def _most_bytes(self, image: Image) -> int:
        """How many may come at most: more than its owner has left is not even written. Raises TooLarge for none."""
        if self._limits.size < 0:
            return self._max_bytes
        with self._database.read() as c:
            left = self._limits.size - db.size_of_all(c, image.owner or "")
        if left <= 0:
            raise errors.TooLarge(db.TOO_MANY_BYTES)
        return min(self._max_bytes, left)

    def sweep(self) -> None:
        """Take back what killed processes left: half uploads and files of images that are gone."""
        live = set()
        for part in self._directory.glob(f"{_UPLOAD}*"):
            with suppress(FileNotFoundError), part.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    live.add(part.name[len(_UPLOAD) :][:36])
                    continue
                if _age(part) > _STALE_SECONDS:
                    part.unlink(missing_ok=True)
        known = _end_uploads(self._database, live)
        for path in self._directory.iterdir():
            if not path.name.startswith(".") and path.name not in known:
                path.unlink(missing_ok=True)

    def _get(self, image_id: str) -> Image:
        return self.get_image(image_id, project_id="", is_admin=True)

    def _path(self, image_id: str) -> Path:
        return self._directory / str(uuid.UUID(image_id))


@retried
def _edit(database: Database, image_id: str, edit: Callable[[Image], Image], project_id: str, is_admin: bool) -> None:
    with database.write() as c:
        before = db.find_image(c, image_id, lock=True)
        if before is None or not _visible(before, project_id, is_admin):
            raise errors.NotFound(f"No image found with ID {image_id[:64]}")
        _check_owner(before, project_id, is_admin)
        after = edit(before)
        formats = (after.disk_format, after.container_format)
        if before.status != "queued" and formats != (before.disk_format, before.container_format):
            raise errors.Forbidden("The formats of an image with data cannot be changed.")
        db.update_image(c, replace(after, id=before.id, owner=before.owner))


@retried
def _begin_upload(database: Database, image_id: str) -> Image:
    """Return the image, whose formats are fixed from here on."""
    with database.write() as c:
        if not db.move_status(c, image_id, "queued", "saving"):
            raise errors.Conflict(f"Image {image_id} already has data or is being uploaded.")
        image = db.find_image(c, image_id)
    if image is None:
        raise errors.NotFound(f"No image found with ID {image_id[:64]}")
    return image


@retried
def _end_uploads(database: Database, live: Container[str]) -> set[str]:
    """Let images whose upload ended long ago, and is not ``live``, be queued again; returns those that have a file."""
    with database.write() as c:
        for image_id in db.list_saving(c, older_than=_STALE_SECONDS):
            if image_id not in live:
                db.move_status(c, image_id, "saving", "queued")
        return db.list_with_bytes(c)


def _check_owner(image: Image, project_id: str, is_admin: bool) -> None:
    if not is_admin and image.owner != project_id:
        raise errors.Forbidden("You are not permitted to modify this image.")


def _visible(image: Image, project_id: str, is_admin: bool) -> bool:
    if is_admin or image.owner == project_id or image.visibility in ("public", "community"):
        return True
    return image.visibility == "shared" and image.properties.get(OWNER_TOO) == project_id


def _page(query: ImageQuery) -> Page:
    given = {name: getattr(query, name) for name in ("name", "status", "min_ram", "min_disk", "owner")}
    where = [Condition(name, (value,)) for name, value in given.items() if value is not None]
    where += [Condition("properties", (pair,)) for pair in query.properties]
    if query.changed_since is not None:
        where.append(Condition("updated_at", (query.changed_since,), "gte"))
    return Page(where=where, sort=(("created_at", False), ("id", False)), after=query.after, limit=query.limit)


def _write(data: Iterable[bytes], file: IO[bytes], max_bytes: int) -> tuple[int, str, str]:
    md5, sha512, size = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0
    for chunk in data:
        size += len(chunk)
        if size > max_bytes:
            raise errors.TooLarge(f"The image is larger than {max_bytes} bytes.")
        md5.update(chunk)
        sha512.update(chunk)
        file.write(chunk)
    file.flush()
    return size, md5.hexdigest(), sha512.hexdigest()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _age(path: Path) -> float:
    return clock.now().timestamp() - path.stat().st_mtime
