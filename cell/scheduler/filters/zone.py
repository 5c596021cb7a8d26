"""A host must be in the availability zone that was asked for."""

from __future__ import annotations

import numpy as np

from cell.scheduler.snapshot import Flags, Snapshot
from cellcloud.model.placement import SelectRequest


def passes(snapshot: Snapshot, request: SelectRequest) -> Flags:
    """Which hosts are in the request's zone; all when it names none."""
    zone = request.spec.availability_zone
    count = len(snapshot.hosts)
    if not zone:
        return np.ones(count, dtype=np.bool_)
    return snapshot.in_zone.get(zone, np.zeros(count, dtype=np.bool_))
