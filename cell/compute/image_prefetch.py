"""Fetches images before a server needs them, one at a time: what servers wait for goes beside it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from cell.compute.image_cache import ImageCache
from cellcloud import errors
from cellcloud.model.image import FETCHING, Image

LOG = logging.getLogger(__name__)


class ImagePrefetch:
    """``run_later`` does something on a thread of the service's."""

    def __init__(self, images: ImageCache, run_later: Callable[[Callable[[], None]], None]) -> None:
        self._images = images
        self._run_later = run_later
        self._changed = threading.Condition()
        self._states: dict[tuple[str, str], str] = {}  # host and image
        self._waiting: deque[tuple[str, Image]] = deque()
        self._working = False

    def look(self, host: str, images: Sequence[Image], seconds: float) -> dict[str, str]:
        """Begin to fetch what nobody has begun; image id -> "existing", "cached", "error: " and why, or FETCHING where
        it takes longer than that. An end is told once."""
        keys = [(host, image.id) for image in images]
        with self._changed:
            for key, image in zip(keys, images, strict=True):
                if key not in self._states:
                    self._states[key] = FETCHING
                    self._waiting.append((host, image))
            begin, self._working = not self._working and bool(self._waiting), self._working or bool(self._waiting)
        if begin:
            self._run_later(self._work)
        with self._changed:
            self._changed.wait_for(lambda: all(self._states.get(key) != FETCHING for key in keys), seconds)
            told = {key[1]: self._states.get(key, FETCHING) for key in keys}
            for key in keys:
                if self._states.get(key) != FETCHING:
                    self._states.pop(key, None)
        return told

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._working = False
                    return
                host, image = self._waiting.popleft()
            state = self._fetch(host, image)
            with self._changed:
                self._states[host, image.id] = state
                self._changed.notify_all()

    def _fetch(self, host: str, image: Image) -> str:
        try:
            there = self._images.holds(image)
            self._images.ensure(image)
        except (errors.CellcloudError, OSError) as error:
            why = error.message if isinstance(error, errors.CellcloudError) else str(error)
            LOG.warning("image not fetched", extra={"host": host, "image": image.id, "why": why})
            return f"error: {why}"
        return "existing" if there else "cached"
