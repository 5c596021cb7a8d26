"""Begin one run: its row, and its server's next generation and task state."""

from __future__ import annotations

from msgspec import structs

from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import runs, servers
from cellcloud.db.engine import Connection
from cellcloud.model.operations import FIRST_VARIANTS, ON_DEVICES, Operation, OperationSpec
from cellcloud.model.run import NewRun, OperationRequest
from cellcloud.model.server import NO_CHANGES, ServerChanges, ServerRecord


def begin_run(
    connection: Connection,
    server_id: str,
    spec: OperationSpec,
    asked: OperationRequest,
    changes: ServerChanges = NO_CHANGES,
) -> ServerRecord:
    """Insert the run, give the server its next generation, the operation's task state, and what else changes with it.
    The caller holds the row.

    Raises NotFound.
    """
    begun = servers.begin_operations(connection, [server_id], spec.task_state)
    if not begun:
        raise errors.NotFound(f"Instance {server_id} could not be found.")
    runs.insert(connection, [new_run(begun[0], spec.operation, asked)])
    return (servers.change(connection, server_id, changes) if changes else None) or begun[0]


def find_device_run(connection: Connection, record: ServerRecord, operation: Operation) -> str | None:
    """Return what is under way with another of the server's devices, behind which one on a device waits. Raises
    Conflict where the server's state, or something else that is under way, refuses the operation."""
    refusal = FIRST_VARIANTS[operation].refusal(record)
    if refusal:
        raise errors.Conflict(refusal)
    active = runs.find_active(connection, record.id)
    if active is not None and active not in ON_DEVICES:
        raise errors.Conflict(f"Cannot '{operation}' instance {record.id} while it is in task_state {active}")
    return active


def new_run(record: ServerRecord, operation: Operation, asked: OperationRequest) -> NewRun:
    """Return what the run of an operation begins with, for a server that was just given its generation."""
    workflow = REGISTRY[operation]
    return NewRun(
        server_id=record.id,
        operation=operation,
        generation=record.generation,
        asked=structs.replace(asked, project_id=asked.project_id or record.spec.project_id),
        deadline=workflow.deadline,
        host=record.host or "",
        trail=workflow.trail(0),
        direction="move" if operation == Operation.UNSHELVE and record.host is None else "do",
    )
