"""Begin one run: its row, and its server's next generation and task state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import runs, servers
from cellcloud.db.cell_schema import servers as servers_table
from cellcloud.db.engine import Connection
from cellcloud.lifecycle import TaskState
from cellcloud.model.operations import Operation
from cellcloud.model.server import ServerRecord


def begin_run(
    connection: Connection, server_id: str, operation: Operation, asked: dict[str, Any], *, task_state: TaskState
) -> ServerRecord:
    """Insert the run, give the server its next generation and the operation's task state. The caller holds the row.

    ``asked``: request_id, user_id, project_id, arguments.
    """
    changes = {"generation": servers_table.c.generation + 1, "task_state": task_state}
    record = servers.change(connection, server_id, changes)
    if record is None:
        raise errors.NotFound(f"Instance {server_id} could not be found.")
    runs.insert(connection, [new_run(record, operation, asked)])
    return record


def new_run(record: ServerRecord, operation: Operation, asked: Mapping[str, Any]) -> runs.NewRun:
    """What the run of an operation begins with, for a server that was just given its generation."""
    return runs.NewRun(
        server_id=record.id,
        operation=operation,
        generation=record.generation,
        request_id=asked.get("request_id", ""),
        user_id=asked.get("user_id", ""),
        project_id=asked.get("project_id", record.spec.project_id),
        arguments=asked.get("arguments", {}),
        deadline=REGISTRY[operation].deadline,
    )
