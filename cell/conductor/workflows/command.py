"""What a host does to a guest that it has, by one command: start, stop, reboot and the like.

A host that cannot leaves the server what it was.
"""

from __future__ import annotations

from cell.conductor.steps import guests, records
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation


def command_workflow(operation: Operation) -> Workflow:
    """Return the program of an operation that has none of its own."""
    return Workflow(
        operation=operation,
        steps=(guests.power, guests.wait, records.settle),
        deadline=minutes(10),
        on_failure=records.keep_state,
    )
