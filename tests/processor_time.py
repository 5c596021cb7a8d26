"""What work costs, whatever else the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable


def least_seconds(work: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of this thread in the cheapest of several runs: a collection of garbage falls into few."""
    taken = []
    for _ in range(times):
        begun = time.thread_time()
        work()
        taken.append(time.thread_time() - begun)
    return min(taken)
