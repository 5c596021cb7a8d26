"""Content of images to volumes and back. The only place of the volume service that starts qemu-img."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from cellcloud import errors, image_gate
from cellcloud.clients.image import ImageClient
from cellcloud.model.block_storage import GIB

FORMATS = ("raw", "qcow2")
CHUNK = 1 << 20
CONVERT_SECONDS = 3600.0
_LIMITS = ("prlimit", "--cpu=3600", f"--as={2 * GIB}")
_ZEROES = bytes(CHUNK)


def fetch_image(images: ImageClient, image_id: str, image_format: str, target: Path, most: int) -> None:
    """Write an image's content to a file, raw and of at most ``most`` bytes. Raises NotFound, Invalid, HostRefused."""
    if image_format not in FORMATS:
        raise errors.Invalid(f"Images of format {image_format} cannot be written to volumes.")
    part = target.with_suffix(".part")
    try:
        _store(images.open_image(image_id), part, most)
        facts = image_gate.inspect(part, image_format, most)
        if (facts.virtual_size or 0) > most:
            raise errors.Invalid("The image is larger than the volume.")
        if image_format == "raw":
            part.replace(target)
        else:
            _convert(part, image_format, target, "raw")
    finally:
        part.unlink(missing_ok=True)


def send_volume(images: ImageClient, image_id: str, image_format: str, source: Path) -> int:
    """Give an image the content of a file that nobody writes, in a format; returns its bytes. Raises Invalid, Busy."""
    if image_format not in FORMATS:
        raise errors.Invalid(f"Volumes cannot be written to images of format {image_format}.")
    made = source.with_name(f"{image_id}.image")
    try:
        if image_format != "raw":
            _convert(source, "raw", made, image_format)
        file = source if image_format == "raw" else made
        size = file.stat().st_size
        images.fill_image(image_id, size, _pieces(file))
        return size
    finally:
        made.unlink(missing_ok=True)


def _store(data: Iterator[bytes], part: Path, most: int) -> None:
    """Write what comes, leaving holes for zeroes."""
    size = 0
    with part.open("wb") as file:
        for piece in data:
            size += len(piece)
            if size > most:
                raise errors.Invalid("The image is larger than the volume.")
            if piece == _ZEROES[: len(piece)]:
                file.seek(len(piece), 1)
            else:
                file.write(piece)
        file.truncate(size)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _convert(source: Path, source_format: str, target: Path, target_format: str) -> None:
    argv = [*_LIMITS, "qemu-img", "convert", "-q", "-f", source_format, "-O", target_format, str(source), str(target)]
    try:
        subprocess.run(argv, capture_output=True, text=True, cwd="/", timeout=CONVERT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise errors.HostRefused("The content could not be converted.", detail=said.strip()) from error
