"""Rescue: the host fetches the image and starts the guest from it. Where that fails the guest is what it was."""

from __future__ import annotations

from cell.conductor.steps import guests, records, rescue
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

RESCUE = Workflow(
    operation=Operation.RESCUE,
    steps=(rescue.rescue, guests.wait, records.settle),
    deadline=minutes(30),
    on_failure=records.keep_state,
)
