"""When Python looks for garbage: not while code is loaded, which leaves none and is a tenth faster for it, and seldom
afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

ALLOCATIONS = 20_000  # objects between two looks: a request makes thousands, hardly any in cycles


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Let the block load code; what is there at its end is kept for good."""
    gc.disable()
    try:
        yield
    finally:
        look_seldom_for_garbage()
        gc.enable()


def look_seldom_for_garbage() -> None:
    """Keep what is loaded now for good, and look seldom through what comes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 20, 20)
