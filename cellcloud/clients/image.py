"""Image: descriptions and bytes of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from cellcloud.model.image import Image


class ImageClient(Protocol):
    """Safe to call from several threads."""

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        """Raises NotFound for an image that the project may not see."""
        ...

    def open_image(self, image_id: str) -> Iterator[bytes]:
        """The image's bytes in chunks. Raises NotFound, Unreachable."""
        ...
