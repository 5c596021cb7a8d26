"""Reboot: restart the guest, by its own means (SOFT) or by its power (HARD)."""

from __future__ import annotations

from cell.conductor.steps import guests, records
from cell.conductor.workflow import Workflow, minutes
from cellcloud.lifecycle import Operation

REBOOT = Workflow(
    operation=Operation.REBOOT,
    steps=(guests.power, guests.wait, records.mark_active),
    deadline=minutes(10),
    on_failure=records.keep_state,
)
