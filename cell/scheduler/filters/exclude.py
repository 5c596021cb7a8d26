"""Hosts that just failed the request are not tried again."""

from __future__ import annotations

import numpy as np

from cell.scheduler.snapshot import Flags, Snapshot
from cellcloud.model.placement import SelectRequest


def passes(snapshot: Snapshot, request: SelectRequest) -> Flags:
    """All hosts but those the request excludes."""
    mask = np.ones(len(snapshot.hosts), dtype=np.bool_)
    mask[[snapshot.place_of[host] for host in request.exclude if host in snapshot.place_of]] = False
    return mask
