"""The guest of ``counting_guest.S``, which tells how often its disk has booted and costs next to nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

SIZE = 1 << 20  # bytes of its image
_LINKED = ("-nostdlib", "-static", "-Wl,--oformat=binary", "-Wl,-Ttext=0x7c00", "-Wl,--build-id=none")


def build(place: Path) -> Path:
    """Its image, as raw as a disk, in that directory."""
    image = place / "counting.raw"
    source = Path(__file__).with_suffix(".S")
    subprocess.run(["gcc", "-m32", *_LINKED, "-o", str(image), str(source)], check=True)
    with image.open("r+b") as file:
        file.truncate(SIZE)
    return image
