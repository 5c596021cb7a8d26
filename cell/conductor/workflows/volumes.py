"""Volumes of a server that exists: attached, detached, and seen in their new size.

A volume that cannot be attached is given back. One that the guest does not let go of stays attached.
"""

from __future__ import annotations

from cell.conductor.steps import records, volumes
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

ATTACH_VOLUME = Workflow(
    operation=Operation.ATTACH_VOLUME,
    steps=(volumes.connect, volumes.attach, volumes.complete, records.settle),
    deadline=minutes(10),
    on_failure=records.keep_state,
)
DETACH_VOLUME = Workflow(
    operation=Operation.DETACH_VOLUME,
    steps=(volumes.mark, volumes.detach, volumes.give_back, records.settle),
    deadline=minutes(20),
    on_failure=records.keep_state,
)
EXTEND_VOLUME = Workflow(
    operation=Operation.EXTEND_VOLUME,
    steps=(volumes.extend, records.settle),
    deadline=minutes(10),
    on_failure=records.keep_state,
)
