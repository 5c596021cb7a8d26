"""Delete: the guest goes first, then what it used, then the record. There is no way back from the first step on."""

from __future__ import annotations

from cell.conductor.steps import guests, moves, records, shelving
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

DELETE = Workflow(
    operation=Operation.DELETE,
    steps=(guests.destroy, moves.destroy_elsewhere, shelving.release, records.mark_deleted),
    deadline=minutes(30),
    on_failure=records.keep_state,
)
