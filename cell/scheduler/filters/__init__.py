"""The rules that a host must meet, one a file, in the order they are asked.

Room is not among them: the kernel looks for it last, over the hosts that these left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cell.scheduler.filters import exclude, requested_host, status, zone
from cell.scheduler.snapshot import Flags, Snapshot
from cellcloud.model.placement import SelectRequest

Filter = Callable[[Snapshot, SelectRequest], Flags]

FILTERS: Sequence[tuple[str, Filter]] = (
    ("status", status.passes),
    ("zone", zone.passes),
    ("requested_host", requested_host.passes),
    ("exclude", exclude.passes),
)
