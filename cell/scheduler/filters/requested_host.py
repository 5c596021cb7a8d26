"""A server may be asked onto one host by name."""

from __future__ import annotations

import numpy as np

from cell.scheduler.snapshot import Flags, Snapshot
from cellcloud.model.placement import SelectRequest


def passes(snapshot: Snapshot, request: SelectRequest) -> Flags:
    """Only the host that the request names; all when it names none."""
    name = request.spec.host
    if not name:
        return np.ones(len(snapshot.hosts), dtype=np.bool_)
    mask = np.zeros(len(snapshot.hosts), dtype=np.bool_)
    if name in snapshot.place_of:
        mask[snapshot.place_of[name]] = True
    return mask
