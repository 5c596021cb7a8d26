"""Start: power the guest on."""

from __future__ import annotations

from cell.conductor.steps import guests, records
from cell.conductor.workflow import Workflow, minutes
from cellcloud.lifecycle import Operation

START = Workflow(
    operation=Operation.START,
    steps=(guests.power, guests.wait, records.mark_active),
    deadline=minutes(10),
    on_failure=records.keep_state,
)
