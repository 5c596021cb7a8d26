"""Resize and cold migrate: to another host, or on the server's own; and how a move ends, confirmed or reverted.

Until it is confirmed both hosts hold room for the server, and its old host keeps what it was.
"""

from __future__ import annotations

from cell.conductor.steps import moves, records
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

LONGEST = minutes(240)  # of disks that are copied
_STEPS = (moves.claim, moves.set_aside, moves.fetch, moves.bind, moves.switch, moves.arrive, moves.settle)

RESIZE = Workflow(operation=Operation.RESIZE, steps=_STEPS, deadline=LONGEST, on_failure=moves.give_up)
MIGRATE = Workflow(operation=Operation.MIGRATE, steps=_STEPS, deadline=LONGEST, on_failure=moves.give_up)
CONFIRM_RESIZE = Workflow(
    operation=Operation.CONFIRM_RESIZE,
    steps=(moves.discard, moves.settle_confirmed),
    deadline=minutes(30),
    on_failure=records.keep_state,
)
REVERT_RESIZE = Workflow(
    operation=Operation.REVERT_RESIZE,
    steps=(
        moves.find_aside,
        moves.leave,
        moves.bind_back,
        moves.switch_back,
        moves.put_back,
        moves.settle_reverted,
    ),
    deadline=minutes(30),
    on_failure=moves.stay_moved,
)
