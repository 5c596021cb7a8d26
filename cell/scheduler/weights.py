"""Which of the hosts that fit is best: the one with the most left, in memory, CPUs and disk alike.

Source: Nova's default weighers. Each figure is normalised over the hosts that fit, to 0 for the least and 1 for the
most, and the figures are added up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cell.scheduler.snapshot import Amounts, Snapshot

WEIGHED = ("MEMORY_MB", "VCPU", "DISK_GB")


def weigh(snapshot: Snapshot, fitting: Amounts) -> npt.NDArray[np.float64]:
    """The weight of each host in ``fitting`` (places in the columns); higher is better."""
    total = np.zeros(len(fitting), dtype=np.float64)
    for name in WEIGHED:
        if name in snapshot.classes:
            total += _normalise(snapshot.free[snapshot.classes.index(name), fitting])
    return total


def _normalise(raw: Amounts) -> npt.NDArray[np.float64]:
    if not len(raw):
        return np.zeros(0, dtype=np.float64)
    least, most = raw.min(), raw.max()
    if least == most:
        return np.zeros(len(raw), dtype=np.float64)
    return np.asarray((raw - least) / float(most - least), dtype=np.float64)
