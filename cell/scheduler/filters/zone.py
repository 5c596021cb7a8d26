"""A host must be in the availability zone that was asked for."""

from __future__ import annotations

import numpy as np

from cell.scheduler.snapshot import Flags, Snapshot
from cellcloud.model.placement import SelectRequest


def passes(snapshot: Snapshot, request: SelectRequest) -> Flags:
    """Which hosts are in the request's zone; all when it names none."""
    zone = request.spec.availability_zone
    if not zone:
        return np.ones(len(snapshot.hosts), dtype=np.bool_)
    return np.asarray(snapshot.zones == zone, dtype=np.bool_)
