"""The scheduler's kernel in plain Python with numpy: the reference that the compiled one must equal.

Columns are int64 arrays of one length, one element a host.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]


def fitting(free: npt.NDArray[np.int64], need: Column, allowed: Mask) -> Column:
    """Indices of hosts that have room.

    ``free`` is (classes, hosts), ``need`` (classes,), ``allowed`` (hosts,) with 0 for hosts a filter refused.
    """
    fits = allowed != 0
    for row, amount in zip(free, need, strict=True):
        fits &= row >= amount
    return np.flatnonzero(fits).astype(np.int64)
