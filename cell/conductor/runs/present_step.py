"""Where a run is among the steps of its workflow, whichever release stored it: by the names of its steps, since their
numbers differ between releases.

A step that was removed is passed over. One that is not known here is of a newer release, and is left to it for as long
as the run has time; then the run goes on without it: it is undone, unless it can only go forward.
"""

from __future__ import annotations

from dataclasses import replace

from cell.conductor.workflow import Workflow
from cell.conductor.workflows import REGISTRY
from cellcloud.model.run import LeasedRun

_COMMAND = "guests.power guests.wait records.settle"
_IMAGE = "images.ensure guests.copy guests.copied guests.upload guests.uploaded"
_MOVE = "moves.claim moves.set_aside moves.fetch moves.bind moves.switch moves.arrive moves.settle"
NUMBERED = {
    "create": "networks.allocate_ports guests.spawn guests.wait records.settle",
    "delete": "guests.destroy moves.destroy_elsewhere networks.release_ports records.mark_deleted",
    "createImage": f"{_IMAGE} records.settle",
    "createBackup": f"{_IMAGE} images.rotate records.settle",
    "soft_delete": f"moves.confirm_first {_COMMAND}",
    "restore": "moves.confirm_first guests.power guests.wait images.discard records.settle",
    "resize": _MOVE,
    "migrate": _MOVE,
    "confirmResize": "moves.discard moves.settle",
    "revertResize": "moves.find_aside moves.leave moves.bind_back moves.switch_back moves.put_back moves.settle",
    "rebuild": "rebuild.check guests.prepare guests.prepared records.rebuild guests.rebuild guests.rebuilt"
    " records.settle",
    "rescue": "guests.rescue guests.wait records.settle",
    "shelve": "images.ensure guests.stop guests.copy guests.copied guests.upload guests.uploaded guests.rest"
    " records.settle",
    "shelveOffload": "images.check guests.destroy networks.unbind records.settle",
    "attach_volume": "volumes.connect volumes.attach volumes.complete records.settle",
    "detach_volume": "volumes.mark volumes.detach volumes.give_back records.settle",
    "extend_volume": "volumes.extend records.settle",
    "attach_interface": "ports.bind ports.attach ports.complete records.settle",
    "detach_interface": "ports.mark ports.detach ports.give_back records.settle",
    "unshelve": "networks.bind guests.start guests.started images.discard records.settle",
}
"""Operation -> its steps in the last release that stored their numbers only; all others were ``_COMMAND``."""


def find_present_step(run: LeasedRun) -> LeasedRun | None:
    """Return the run with the number that its present step has in this release; None where it is another's to take."""
    workflow = REGISTRY.get(run.operation)
    if workflow is None:
        return None
    if run.trail == workflow.trail(run.step):
        return run
    index = _find_index(run, workflow)
    return None if index is None else replace(run, step=index, trail=workflow.trail(index))


def _find_index(run: LeasedRun, workflow: Workflow) -> int | None:
    if run.direction == "move":
        return 0  # it begins again
    numbers = {step.name: number for number, step in enumerate(workflow.steps)}
    *passed, present = _trail_of(run)
    if present in numbers:
        return numbers[present]
    last = max((numbers[name] for name in passed if name in numbers), default=-1)
    is_removed = present in workflow.removed
    if not (is_removed or run.overdue):
        return None
    onward = run.direction == "do" and (is_removed or workflow.is_committed(last))
    return min(max(last + onward, 0), len(workflow.steps) - 1)


def _trail_of(run: LeasedRun) -> list[str]:
    """Names count if they were stored with the number: a release that does not know them stores that alone."""
    names = run.trail.split()
    if len(names) != run.step + 1:
        names = NUMBERED.get(run.operation, _COMMAND).split()[: run.step + 1]
    return names
