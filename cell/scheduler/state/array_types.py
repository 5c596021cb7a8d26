"""Arrays over the hosts of a cell: an element for each host, at its position."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Amounts = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]
Places = Amounts
"""Positions of hosts, in the order in which equal ones are preferred."""
