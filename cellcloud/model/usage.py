"""Usage: what a server used of a flavor's amounts, and for how long."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cellcloud.server_states import VmState

ENDED = frozenset({VmState.DELETED, VmState.SOFT_DELETED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUsage:
    """From ``launched_at`` until ``terminated_at`` (None: it goes on). ``flavor``: its name. Memory MiB, disk GiB."""

    id: str
    project_id: str
    name: str
    flavor: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    vm_state: str
    launched_at: dt.datetime | None
    terminated_at: dt.datetime | None

    def seconds(self, begin: dt.datetime, end: dt.datetime) -> float:
        """Return how long it ran between the two."""
        if self.launched_at is None:
            return 0.0
        until = end if self.terminated_at is None else min(end, self.terminated_at)
        return max(0.0, (until - max(begin, self.launched_at)).total_seconds())

    @property
    def state(self) -> str:
        """The word of usage reports for its state."""
        ended = self.terminated_at is not None or self.vm_state in ENDED
        return "terminated" if ended else self.vm_state
