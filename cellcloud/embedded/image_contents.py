"""How images of the embedded service get their bytes: whole, hashed, through the gate, within their owner's quota, or
not at all. An upload that ends any other way leaves the image queued and no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from cellcloud import errors, image_gate
from cellcloud.db import images as db
from cellcloud.db.engine import Database, retried, transact
from cellcloud.embedded.image_files import STALE_SECONDS, ImageFiles, IncomingFile, chunks
from cellcloud.model.image import MAPPING, Image


class WrongContent(errors.Invalid):
    """Bytes that are not what the image was declared to be."""


class DeletedMeanwhile(errors.NotFound):
    """The image was deleted while its bytes came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Of each project: ``count`` of its images, ``size`` in bytes of all of them; -1: no limit."""

    count: int = -1
    size: int = -1


class ImageContents:
    """Who may do it has been asked before. ``max_bytes``: of one image's file."""

    def __init__(self, database: Database, files: ImageFiles, *, max_bytes: int, limits: ImageLimits) -> None:
        self.files = files
        self._database = database
        self._max_bytes = max_bytes
        self._limits = limits

    def upload(self, image_id: str, data: Iterable[bytes]) -> None:
        """Take an image's bytes. Raises Conflict for one that is not queued, TooLarge, Invalid, WrongContent,
        DeletedMeanwhile."""
        with self.files.receive(image_id) as part:
            self.fill(_begin(self._database, image_id, "saving"), data, part)

    def stage(self, image_id: str, data: Iterable[bytes]) -> None:
        """Take bytes that wait to be imported. Raises as ``upload``, but looks at nothing of them."""
        with self.files.receive(image_id) as part:
            image = _begin(self._database, image_id, "uploading")
            done = False
            try:
                size = part.take(data, self._most_bytes(image)).size
                part.keep_as(self.files.staged_path_of(image_id))
                done = transact(self._database, lambda c: db.stage(c, image, size, most=self._limits.size))
                if not done:
                    raise DeletedMeanwhile(_gone(image_id))
            finally:
                if not done:
                    self._put_back(image)

    def fill(self, image: Image, data: Iterable[bytes], part: IncomingFile) -> None:
        """Give an image that somebody began to upload or import its bytes, by way of ``part``. Raises as ``upload``."""
        done = False
        try:
            missing = [name for name in ("disk_format", "container_format") if not getattr(image, name)]
            if missing:
                words = "Property {} must" if len(missing) == 1 else "Properties {} must"
                raise errors.Invalid(f"{words.format(', '.join(missing))} be set prior to saving data.")
            digest = part.take(data, self._most_bytes(image))
            virtual_size = self._virtual_size(image, part, digest.size)
            part.keep_as(self.files.path_of(image.id))
            known = {"size": digest.size, "virtual_size": virtual_size, "checksum": digest.md5}
            known["os_hash_value"] = digest.sha512
            done = transact(self._database, lambda c: db.activate(c, image, known, most=self._limits.size))
            done = done or self._has(image.id, digest.sha512)
            if not done:
                raise DeletedMeanwhile(_gone(image.id))
            self.files.staged_path_of(image.id).unlink(missing_ok=True)
        finally:
            if not done:
                self._put_back(image)

    def _virtual_size(self, image: Image, part: IncomingFile, size: int) -> int:
        """Return how large a guest's disk of these bytes is; an image that only says which disks there are needs none.
        Raises WrongContent."""
        if not size and image.properties.get(MAPPING):
            return 0
        try:
            return image_gate.inspect(part.path, image.disk_format, self._max_bytes).virtual_size
        except errors.Invalid as error:
            raise WrongContent(error.message) from error

    def open_staged(self, image_id: str) -> Iterator[bytes]:
        """Return the bytes that wait to be imported. Raises Invalid where they are gone."""
        try:
            return chunks(self.files.staged_path_of(image_id).open("rb"))
        except FileNotFoundError:
            raise errors.Invalid("The staged data of the image are gone.") from None

    def sweep(self) -> set[str]:
        """Take back what killed processes left: half uploads and files of images that are gone. Return the images
        that something still comes in for."""
        live = self.files.sweep_incoming()
        files = self.files.list_files()  # before it is asked which images may have one: none gets one in between
        with_bytes, staged = _end_uploads(self._database, live)
        known = {self.files.path_of(one) for one in with_bytes} | {self.files.staged_path_of(one) for one in staged}
        for path in files:
            if path not in known:
                path.unlink(missing_ok=True)
        return live

    def _put_back(self, image: Image) -> None:
        """Let the image be queued, and without files; one that is being filled no more is left alone."""
        with suppress(errors.TryLater):  # a sweep does it then
            with self._database.read() as c:
                found = db.find_image(c, image.id)
            if found is None or found.status == image.status:
                self.files.drop(image.id)
            if found is not None:
                free = {"size": None}
                transact(self._database, lambda c: db.move_status(c, image.id, image.status, "queued", free))

    def _has(self, image_id: str, sha512: str) -> bool:
        """Whether the image has these bytes: the answer to its being activated may have been lost."""
        with self._database.read() as c:
            found = db.find_image(c, image_id)
        return found is not None and found.status == "active" and found.os_hash_value == sha512

    def _most_bytes(self, image: Image) -> int:
        """How many may come at most: more than its owner has left is not even written. Raises TooLarge for none."""
        if self._limits.size < 0:
            return self._max_bytes
        with self._database.read() as c:
            left = self._limits.size - db.size_of_all(c, image.owner) + image.size
        if left <= 0:
            raise errors.TooLarge(db.TOO_MANY_BYTES)
        return min(self._max_bytes, left)


def _gone(image_id: str) -> str:
    return (
        f"Image {image_id} could not be found after upload. The image may have been deleted during the upload, "
        "cleaning up the chunks uploaded."
    )


@retried
def _begin(database: Database, image_id: str, status: str) -> Image:
    """Let a queued image be uploaded; its formats are fixed from here on. Return it. Raises Conflict, NotFound."""
    with database.write() as c:
        moved = db.move_status(c, image_id, "queued", status)
        image = db.find_image(c, image_id)
    if image is None:
        raise errors.NotFound(f"No image found with ID {image_id[:64]}")
    if not moved:
        raise errors.Conflict(f"Image status transition from {image.status} to {status} is not allowed")
    return image


@retried
def _end_uploads(database: Database, live: set[str]) -> tuple[set[str], set[str]]:
    """Let images whose upload or import ended long ago, and is not ``live``, be queued again; return those that have
    a file, and those that may have a staged one."""
    with database.write() as c:
        for image_id, status in db.list_under_way(c, older_than=STALE_SECONDS):
            if image_id not in live:
                db.move_status(c, image_id, status, "queued", {"size": None})
        return db.list_with_files(c)
