"""Images as this machine keeps them: fetched once, verified, passed by the image gate, then only read."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cell.compute.qemu_img import CONVERTED, TARGET, convert_image
from cellcloud import clock, errors, image_gate
from cellcloud.clients.image import READABLE, ImageClient
from cellcloud.model.image import Image
from cellcloud.safe_regex import Pattern

LOG = logging.getLogger(__name__)
NAME = Pattern(r"([0-9a-f]{128}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})(\.qcow2)?")
PARTIAL = "partial-"
LOCK = ".lock"
IN_USE_SECONDS = 600.0  # after it was asked for, until whoever asked has it under a name of its own


class ImageCache:
    """The ImageStore of a compute service; several processes may share its directory.

    ``find_client`` is asked when first needed. ``max_bytes`` bounds an image's file. ``most_unused``: bytes of all
    images that no guest uses; None: any.
    """

    def __init__(
        self,
        directory: Path,
        find_client: Callable[[], ImageClient],
        *,
        max_bytes: int,
        most_unused: int | None = None,
    ) -> None:
        self._directory = directory
        self._find_client = find_client
        self.max_bytes = max_bytes
        self._most_unused = most_unused
        self._closed = threading.Event()

    def ensure(self, image: Image) -> Path:
        """Return the local file, a qcow2 where the image is of a format that is converted. Raises HostRefused when the
        bytes are not the image's or cannot be converted, Invalid when the gate refuses them, Unreachable."""
        path = self._path_of(image)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(path):
            fetched = not path.exists()
            if fetched:
                self._fetch(image, path)
            image_gate.inspect(path, _kept_format(image), self.max_bytes)
            os.utime(path)
        if fetched:
            self._evict()
        return path

    def holds(self, image: Image) -> bool:
        """Return whether it is here. Raises HostRefused where nothing could tell its bytes from others."""
        return self._path_of(image).exists()

    def _path_of(self, image: Image) -> Path:
        suffix = f".{TARGET}" if image.disk_format in CONVERTED else ""
        return self._directory / (_name_of(image) + suffix)

    def is_filled(self, image_id: str) -> bool:
        """See ``ImageStore``."""
        return self._find_client().get_image(image_id, project_id="", is_admin=True).status in READABLE

    def fill(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        """See ``ImageStore``."""
        self._find_client().fill_image(image_id, size, self._until_closed(data))

    def close(self) -> None:
        """Break off what is being sent: it is sent again by whoever comes next."""
        self._closed.set()

    def _until_closed(self, data: Iterable[bytes]) -> Iterator[bytes]:
        for piece in data:
            if self._closed.is_set():
                raise errors.Busy("The host's compute service is being stopped.")
            yield piece

    def prune(self, seconds: float) -> None:
        """Remove images that were not asked for in the last ``seconds`` and have no other name (hard link). What has
        not a name that this cache gives is left alone."""
        oldest = clock.now().timestamp() - seconds
        for path in self._directory.glob("*"):
            if path.name.startswith(PARTIAL):
                _unlink_unused(path, oldest)
            elif NAME.matches(path.name):
                with _locked(path):
                    _unlink_unused(path, oldest)
        self._evict()

    def _evict(self) -> None:
        """Remove unused images, those used least recently first, until the others have few enough bytes."""
        if self._most_unused is None:
            return
        unused = sorted(_unused(self._directory), reverse=True)
        recent, total = clock.now().timestamp() - IN_USE_SECONDS, 0
        for _, size, path in unused:
            total += size
            if total > self._most_unused:
                with _locked(path):
                    _unlink_unused(path, recent)

    def _fetch(self, image: Image, path: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL, dir=self._directory)
        partial = Path(name)
        converted = partial.with_suffix(f".{TARGET}")
        try:
            with os.fdopen(descriptor, "wb") as file:
                self._copy(image, file.fileno())
            image_gate.inspect(partial, image.disk_format, self.max_bytes)
            if image.disk_format in CONVERTED:
                convert_image(partial, image.disk_format, converted, self.max_bytes)
                converted.chmod(0o600)
                image_gate.inspect(converted, TARGET, self.max_bytes)
                converted.rename(path)
            else:
                partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
            converted.unlink(missing_ok=True)
        LOG.info("image fetched", extra={"image": image.id})

    def _copy(self, image: Image, target: int) -> None:
        digest, size = hashlib.sha512(), 0
        try:
            for chunk in self._find_client().open_image(image.id):
                size += len(chunk)
                if size > self.max_bytes or (image.size and size > image.size):
                    raise errors.HostRefused("The image has more bytes than it should.")
                digest.update(chunk)
                _write(target, chunk)
            os.fsync(target)
        except OSError as error:
            raise errors.HostRefused("The host cannot store the image.", detail=str(error)) from error
        if image.size and size != image.size:
            raise errors.HostRefused("The image has fewer bytes than it should.")
        if image.os_hash_value and digest.hexdigest() != image.os_hash_value.lower():
            raise errors.HostRefused("The image's bytes do not have its checksum.")


def _name_of(image: Image) -> str:
    """Return a file name that cannot lead elsewhere: the SHA-512, or the id of an image that has none."""
    name = (image.os_hash_value or image.id).lower()
    if image.os_hash_value and image.os_hash_algo not in (None, "sha512"):
        raise errors.HostRefused("The image's checksum is of a kind this host does not verify.")
    if not NAME.matches(name):
        raise errors.HostRefused("The image has no usable id or checksum.")
    return name


def _kept_format(image: Image) -> str:
    """Return the format of the file that is kept of an image."""
    return TARGET if image.disk_format in CONVERTED else image.disk_format


def _unused(directory: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield when each image was last asked for that has no other name, and the bytes that it takes on the disk."""
    for path in directory.glob("*"):  # none where no image was ever asked for
        if NAME.matches(path.name):
            with suppress(FileNotFoundError):
                status = path.stat()
                if status.st_nlink == 1:
                    yield status.st_mtime, status.st_blocks * 512, path


def _unlink_unused(path: Path, oldest: float) -> None:
    status = path.stat() if path.exists() else None
    if status is not None and status.st_mtime < oldest and status.st_nlink == 1:
        path.unlink()
        LOG.info("image pruned", extra={"image": path.name[:36]})


def _write(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time, over threads and processes. The small lock files stay: removing one would break its promise."""
    with open(path.with_name(path.name + LOCK), "wb", opener=_open_private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _open_private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
