"""Steps and endings that change nothing but the server's record."""

from __future__ import annotations

from cell.conductor.workflow import Done, Step, Turn, World
from cellcloud.clock import now
from cellcloud.db.runs import LeasedRun
from cellcloud.db.servers import NOW
from cellcloud.lifecycle import PowerState, VmState
from cellcloud.model.server import Fault, ServerRecord


def _active(turn: Turn, world: World) -> Done:
    changes = {"vm_state": VmState.ACTIVE, "task_state": None, "power_state": PowerState.RUNNING, "fault": None}
    if turn.record.launched_at is None:
        changes["launched_at"] = NOW  # type: ignore[assignment]
    return Done(changes=changes)


def _stopped(turn: Turn, world: World) -> Done:
    return Done(
        changes={"vm_state": VmState.STOPPED, "task_state": None, "power_state": PowerState.SHUTDOWN, "fault": None}
    )


def _deleted(turn: Turn, world: World) -> Done:
    changes = {
        "vm_state": VmState.DELETED,
        "task_state": None,
        "power_state": PowerState.NOSTATE,
        "deleted": True,
        "terminated_at": NOW,
        "ports": (),
    }
    return Done(changes=changes, release_claims=True)


def mark_error(run: LeasedRun, record: ServerRecord) -> Done:
    """ERROR with the reason; everything the run had taken has been given back."""
    fault = Fault(code=500, message=run.message or "The server could not be built.", created=now(), details=run.detail)
    changes = {
        "vm_state": VmState.ERROR,
        "task_state": None,
        "power_state": PowerState.NOSTATE,
        "host": None,
        "ports": (),
        "fault": fault,
    }
    return Done(changes=changes, release_claims=True)


def keep_state(run: LeasedRun, record: ServerRecord) -> Done:
    """The server stays what it was; the operation's record says what went wrong."""
    return Done(changes={"task_state": None})


mark_active = Step(name="records.mark_active", do=_active, passive=True)
mark_stopped = Step(name="records.mark_stopped", do=_stopped, passive=True)
mark_deleted = Step(name="records.mark_deleted", do=_deleted, passive=True)
