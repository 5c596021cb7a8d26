"""Soft delete: the guest is powered off, and everything else kept until the server is restored or reclaimed.

An accepted delete is one: a host that cannot, or does not answer, does not keep the server from its end. A move that
waited for such a host is ended before the server is used again.
"""

from __future__ import annotations

from cell.conductor.steps import guests, moves, records, shelving
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

SOFT_DELETE = Workflow(
    operation=Operation.SOFT_DELETE,
    steps=(moves.confirm_first, guests.power, guests.wait, records.settle),
    deadline=minutes(10),
    on_failure=records.put_away,
)
RESTORE = Workflow(
    operation=Operation.RESTORE,
    steps=(moves.confirm_first, guests.power, guests.wait, shelving.discard_left, shelving.settle_restored),
    deadline=minutes(10),
    on_failure=records.keep_state,
)
