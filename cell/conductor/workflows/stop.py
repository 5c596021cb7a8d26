"""Stop: let the guest power off, or cut its power after the time the host allows."""

from __future__ import annotations

from cell.conductor.steps import guests, records
from cell.conductor.workflow import Workflow, minutes
from cellcloud.lifecycle import Operation

STOP = Workflow(
    operation=Operation.STOP,
    steps=(guests.power, guests.wait, records.mark_stopped),
    deadline=minutes(10),
    on_failure=records.keep_state,
)
