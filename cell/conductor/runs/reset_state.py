"""Reset a server's state by an administrator's word: Nova's ``os-resetState``.

Nothing is lost or doubled by it. What a single command to the host was to do is given up, and what becomes of the guest
its host tells. A build is taken back, so that nothing of it is left. What only goes forward, or holds room twice,
is not reset; nor is a server that no host has, whose disk is an image: only its state tells that.
"""

from __future__ import annotations

from msgspec import UNSET

from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import feed, runs, servers
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model.operations import ImmediateAction, Operation
from cellcloud.model.run import NewRun, OperationRequest
from cellcloud.model.server import ServerChanges, ServerRecord
from cellcloud.server_states import VmState

RESETTABLE = (VmState.ACTIVE, VmState.ERROR)
UNDONE = (Operation.CREATE, Operation.REBUILD)  # which leave a server in ERROR when they are given up
BY_ADMIN = "An administrator has reset the server's state."


@retried
def reset_state(database: Database, context: RequestContext, server_id: str, state: str) -> ServerRecord:
    """Set the record to that state, which is one of RESETTABLE, and to no task. Raises NotFound, Invalid, Conflict."""
    if state not in RESETTABLE:
        raise errors.Invalid(f"A server's state cannot be reset to {state[:32]}.")
    asked = OperationRequest(request_id=context.request_id, user_id=context.user_id, project_id=context.project_id)
    with database.write() as connection:
        record = servers.get(connection, server_id, lock=True)
        _end_run(connection, record, state)
        changes = ServerChanges(vm_state=state, task_state=None, fault=None if state == VmState.ACTIVE else UNSET)
        changed = servers.change(connection, server_id, changes)
        if changed is None:
            raise errors.NotFound(f"Instance {server_id} could not be found.")
        done = NewRun(
            server_id=server_id,
            operation=ImmediateAction.RESET_STATE,
            generation=record.generation,
            asked=asked,
            deadline=0.0,
            host=record.host or "",
        )
        runs.insert_finished(connection, done)
        feed.append(connection, [changed])
    return changed


def _end_run(connection: Connection, record: ServerRecord, state: str) -> None:
    what = f"Cannot 'reset_state' instance {record.id} while it is in"
    unconfirmed = record.vm_state == VmState.SOFT_DELETED and record.migration is not None
    if record.held or unconfirmed or record.vm_state in (VmState.RESIZED, VmState.SHELVED_OFFLOADED):
        raise errors.Conflict(f"{what} vm_state {record.vm_state}")
    operation = runs.find_active(connection, record.id)
    if operation is None:
        return
    deleting = bool(servers.list_requested_deletes(connection, [record.id]))
    if operation in UNDONE and state == VmState.ERROR and not deleting:
        runs.expire(connection, record.id)
        return
    workflow = REGISTRY.get(operation)  # None: one of a newer release
    holds = workflow is None or any(step.undo is not None or step.commit for step in workflow.steps)
    if deleting or holds or operation in (*UNDONE, Operation.SOFT_DELETE):
        raise errors.Conflict(f"{what} task_state {record.task_state}")
    runs.retire(connection, record.id, BY_ADMIN)
