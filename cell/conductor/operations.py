"""Operations on servers that exist: begin a run, or change the record at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cell.conductor.saving import begin_run
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import claims, feed, runs, servers
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.lifecycle import ALLOWED, HARD_REBOOT_FROM, Operation, TaskState
from cellcloud.model import codec, items
from cellcloud.model.items import ItemChanges
from cellcloud.model.server import ServerRecord, ServerSpec

TASK_STATES = {
    Operation.START: TaskState.POWERING_ON,
    Operation.STOP: TaskState.POWERING_OFF,
    Operation.DELETE: TaskState.DELETING,
}
IN_SPEC = frozenset({"name", "description", "metadata", "tags", "access_ip_v4", "access_ip_v6", "hostname"})
LOCK = frozenset({"locked", "locked_by", "locked_reason"})


@retried
def begin_operation(
    database: Database, context: RequestContext, server_id: str, operation: Operation, arguments: dict[str, Any]
) -> ServerRecord:
    """The record after the operation's run has begun. Raises NotFound, Conflict."""
    asked = {
        "request_id": context.request_id,
        "user_id": context.user_id,
        "project_id": context.project_id,
        "arguments": arguments,
    }
    with database.write() as connection:
        record = servers.get(connection, server_id, lock=True)
        if operation is Operation.DELETE:
            record = _begin_delete(connection, record, asked)
        else:
            _check(connection, record, operation, arguments)
            record = begin_run(connection, server_id, operation, asked, task_state=_task_state(operation, arguments))
        feed.append(connection, [record])
    return record


def _task_state(operation: Operation, arguments: dict[str, Any]) -> TaskState:
    if operation is Operation.REBOOT:
        return TaskState.REBOOTING_HARD if arguments.get("type") == "HARD" else TaskState.REBOOTING
    return TASK_STATES[operation]


def _check(connection: Connection, record: ServerRecord, operation: Operation, arguments: dict[str, Any]) -> None:
    hard = operation is Operation.REBOOT and arguments.get("type") == "HARD"
    allowed = HARD_REBOOT_FROM if hard else ALLOWED[operation]
    what = f"Cannot '{operation}' instance {record.id} while it is in"
    if record.held or record.vm_state not in allowed:
        raise errors.Conflict(f"{what} vm_state {record.vm_state}")
    if runs.find_active(connection, record.id) is not None or record.task_state is not None:
        raise errors.Conflict(f"{what} task_state {record.task_state}")
    if record.host is None:
        raise errors.Conflict(f"Instance {record.id} is on no host; delete it and create it again.")


def _begin_delete(connection: Connection, record: ServerRecord, asked: dict[str, Any]) -> ServerRecord:
    """Delete preempts: a held server goes at once, a run under way is turned round and followed by the delete."""
    if record.held:
        servers.drop_held(connection, [record.id])
        claims.release(connection, [record.id])
        return servers.list_by_id(connection, [record.id])[0]
    active = runs.find_active(connection, record.id)
    if active == Operation.DELETE or servers.list_requested_deletes(connection, [record.id]):
        return record
    if active is None:
        return begin_run(connection, record.id, Operation.DELETE, asked, task_state=TaskState.DELETING)
    runs.cancel(connection, record.id)
    changed = servers.change(
        connection,
        record.id,
        {"delete_requested": True, "delete_context": asked, "task_state": TaskState.DELETING},
    )
    return changed or record


@retried
def update_server(database: Database, context: RequestContext, server_id: str, changes: dict[str, Any]) -> ServerRecord:
    """Set whole values of the record. Raises NotFound, Invalid for a value that cannot be set so."""
    unknown = set(changes) - IN_SPEC - LOCK
    if unknown:
        raise errors.Invalid(f"A server has no settable {', '.join(sorted(unknown))}.")
    with database.write() as connection:
        record = servers.get(connection, server_id, lock=True)
        values: dict[str, Any] = {name: value for name, value in changes.items() if name in LOCK}
        if values.get("locked") is False and record.locked_by == "admin" and not context.is_admin:
            raise errors.Forbidden(f"Instance {server_id} was locked by an administrator.")
        in_spec = {name: value for name, value in changes.items() if name in IN_SPEC}
        if in_spec:
            plain = codec.to_plain(record.spec) | in_spec
            values["spec"] = replace(record.spec, **_fields(codec.from_plain(plain, ServerSpec), in_spec))
        changed = servers.change(connection, server_id, values)
        if changed is None:
            raise errors.NotFound(f"Instance {server_id} could not be found.")
        feed.append(connection, [changed])
    return changed


@retried
def change_items(database: Database, context: RequestContext, server_id: str, changes: ItemChanges) -> ServerRecord:
    """Change single items of the record's sets. Raises NotFound, Invalid, QuotaExceeded."""
    with database.write() as connection:
        record = servers.get(connection, server_id, lock=True)
        spec = items.applied(record.spec, changes)
        if spec == record.spec:
            return record
        changed = servers.change(connection, server_id, {"spec": spec})
        if changed is None:
            raise errors.NotFound(f"Instance {server_id} could not be found.")
        feed.append(connection, [changed])
    return changed


def _fields(spec: ServerSpec, names: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in names}
