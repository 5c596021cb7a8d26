"""Create: from a confirmed claim to a running guest.

Until the guest has started everything can be taken back, and is: in reverse order, when a step fails, when the
deadline passes, or when the user deletes the server meanwhile. A host that cannot is left for another; with none left
the cell gives the server up, and the top places it in another cell.
"""

from __future__ import annotations

from cell.conductor.steps import guests, records, reschedule, volumes
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

CREATE = Workflow(
    operation=Operation.CREATE,
    steps=(volumes.prepare, guests.spawn, guests.wait, records.settle),
    deadline=minutes(30),
    on_failure=records.give_up,
    elsewhere=reschedule.find_another,
)
