"""Ports of a server that exists: attached and detached.

A port that cannot be attached is given back. One that the guest does not let go of stays attached.
"""

from __future__ import annotations

from cell.conductor.steps import ports, records
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

ATTACH_INTERFACE = Workflow(
    operation=Operation.ATTACH_INTERFACE,
    steps=(ports.bind, ports.attach, ports.complete, records.settle),
    deadline=minutes(10),
    on_failure=records.keep_state,
)
DETACH_INTERFACE = Workflow(
    operation=Operation.DETACH_INTERFACE,
    steps=(ports.mark, ports.detach, ports.give_back, records.settle),
    deadline=minutes(20),
    on_failure=records.keep_state,
)
