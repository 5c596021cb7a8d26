"""A host must be enabled and heard of."""

from __future__ import annotations

from cell.scheduler.snapshot import Flags, Snapshot
from cellcloud.model.placement import SelectRequest


def passes(snapshot: Snapshot, request: SelectRequest) -> Flags:
    """Which hosts may take servers at all."""
    return snapshot.usable
