"""Files of the embedded image service, in one directory: images' bytes, staged ones, and those that still come in.

What comes in is written under a name of its own, locked by its writer. Who dies leaves it unlocked: a sweep takes it
away. A file gets an image's name only whole and on the disk.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from cellcloud import clock, errors

CHUNK = 1 << 20
STALE_SECONDS = 60.0
_INCOMING = ".upload-"
_STAGED = ".staged-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What was written: bytes, and their checksums in hexadecimal."""

    size: int
    md5: str
    sha512: str


class IncomingFile:
    """Bytes on their way in; gone once it is closed, under this name."""

    def __init__(self, directory: Path, image_id: str) -> None:
        descriptor, name = tempfile.mkstemp(prefix=f"{_INCOMING}{image_id}-", dir=directory)
        self.path = Path(name)
        self._file: IO[bytes] = os.fdopen(descriptor, "w+b")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __enter__(self) -> IncomingFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the name up."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def take(self, data: Iterable[bytes], most: int) -> Digest:
        """Write the bytes. Raises TooLarge for more than ``most``, and where the disk is full."""
        try:
            return self._write(data, most)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise errors.TooLarge("Image storage media is full.", detail=str(error)) from error
            raise

    def _write(self, data: Iterable[bytes], most: int) -> Digest:
        md5, sha512, size = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0
        for piece in data:
            size += len(piece)
            if size > most:
                raise errors.TooLarge(f"The image is larger than {most} bytes.")
            md5.update(piece)
            sha512.update(piece)
            self._file.write(piece)
        self._file.flush()
        return Digest(size=size, md5=md5.hexdigest(), sha512=sha512.hexdigest())

    def keep_as(self, path: Path) -> None:
        """Give what was written a name that stays; the locked one remains until this is closed."""
        os.fsync(self._file.fileno())
        path.unlink(missing_ok=True)
        path.hardlink_to(self.path)
        _sync_directory(path.parent)


class ImageFiles:
    """The directory. Safe to use from several threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path_of(self, image_id: str) -> Path:
        """Return where an image's bytes are."""
        return self._directory / str(uuid.UUID(image_id))

    def staged_path_of(self, image_id: str) -> Path:
        """Return where the bytes are that wait to be imported."""
        return self._directory / f"{_STAGED}{uuid.UUID(image_id)}"

    def receive(self, image_id: str) -> IncomingFile:
        """Begin a file that comes in."""
        return IncomingFile(self._directory, str(uuid.UUID(image_id)))

    def drop(self, image_id: str) -> None:
        """Remove whatever there is of an image; who reads it finishes."""
        self.path_of(image_id).unlink(missing_ok=True)
        self.staged_path_of(image_id).unlink(missing_ok=True)

    def sweep_incoming(self) -> set[str]:
        """Remove what writers that are dead left; images that something still comes in for."""
        live = set()
        for path in self._directory.glob(f"{_INCOMING}*"):
            with suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    live.add(path.name[len(_INCOMING) :][:36])
                    continue
                if clock.now().timestamp() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink(missing_ok=True)
        return live

    def list_files(self) -> list[Path]:
        """Return those of images, staged ones too."""
        return [path for path in self._directory.iterdir() if path.name[0] != "." or path.name.startswith(_STAGED)]


def chunks(file: IO[bytes], size: int | None = None) -> Iterator[bytes]:
    """Yield the file's bytes from where it stands, at most ``size`` of them, and close it."""
    with file:
        while chunk := file.read(CHUNK if size is None else min(CHUNK, size)):
            if size is not None:
                size -= len(chunk)
            yield chunk


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
