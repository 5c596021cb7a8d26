"""Begin operations on servers that exist: each is a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from cell.conductor.runs import begin_moves, begin_ports, begin_volumes, checkpoint
from cell.conductor.runs.begin_run import begin_run, new_run
from cell.conductor.runs.step_runner import RunServices, RunState, take_passive_steps
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import claims, feed, runs, servers, user_data
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model import codec
from cellcloud.model.guest_commands import GuestCommand
from cellcloud.model.operations import FIRST_VARIANTS, Operation, OperationSpec, spec_of
from cellcloud.model.placement_messages import DeleteRequest
from cellcloud.model.run import Lease, OperationRequest, RunArguments
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import TaskState, VmState

RECLAIMED_AT_ONCE = 100
IN_REBUILD = frozenset(
    {"image", "name", "metadata", "keypair", "user_data", "admin_pass", "hostname", "description"}
    | {"access_ip_v4", "access_ip_v6", "disk_config"}
)
_LARGE: dict[str, Any] = {"metadata": {}, "tags": (), "networks": None, "security_groups": (), "keypair": None}
AT_ONCE = "at once"  # who holds runs that are moved in the transaction in which they begin


@retried
def begin_operation(
    database: Database, context: RequestContext, server_id: str, operation: Operation, arguments: RunArguments
) -> ServerRecord:
    """Return the record after the operation's run has begun; asked again by the same request, as it is now. Raises
    NotFound, Conflict, Invalid."""
    asked = OperationRequest(
        request_id=context.request_id, user_id=context.user_id, project_id=context.project_id, arguments=arguments
    )
    spec = spec_of(operation, arguments.type)
    with database.write() as connection:
        if runs.has_begun(connection, server_id, operation, context.request_id):
            return servers.list_by_id(connection, [server_id])[0]
        asked = structs.replace(asked, arguments=_without_password(connection, arguments))
        if spec.preempts:
            record = _begin_delete(connection, server_id, asked)
        elif spec.waits:
            record = _begin_soft_delete(connection, server_id, asked)
        elif operation in begin_volumes.STATES:
            record = begin_volumes.begin(connection, server_id, operation, asked)
        elif operation in begin_ports.CHANGES:
            record = begin_ports.begin(connection, server_id, operation, asked)
        else:
            record = servers.get(connection, server_id, lock=True)
            _check(connection, record, spec)
            if arguments.spec_changes:
                asked = structs.replace(asked, arguments=_with_spec(connection, record, arguments))
            changes = begin_moves.changes_of(connection, operation, record, asked)
            record = begin_run(connection, server_id, spec, asked, changes)
        feed.append(connection, [record])
    return record


def _begin_delete(connection: Connection, server_id: str, asked: OperationRequest) -> ServerRecord:
    found = _begin_deletes(connection, {server_id: asked})
    if server_id not in found:
        raise errors.NotFound(f"Instance {server_id} could not be found.")
    fresh = [new_run(record, Operation.DELETE, asked) for record, is_fresh in found.values() if is_fresh]
    runs.insert(connection, fresh)
    return found[server_id][0]


def _begin_soft_delete(connection: Connection, server_id: str, asked: OperationRequest) -> ServerRecord:
    """In whatever state the server is: one that never ran, or is on no host, is deleted at once; one with an operation
    under way is put away once that has ended; repeated, it changes nothing."""
    record = servers.get(connection, server_id, lock=True)
    active = runs.find_active(connection, server_id)
    if record.held or record.launched_at is None or record.host is None:
        return _begin_delete(connection, server_id, asked)
    if active is None:
        if record.vm_state == VmState.SOFT_DELETED:
            return record
        return checkpoint.begin_soft_delete(connection, record, asked)
    ending = active in (Operation.DELETE, Operation.SOFT_DELETE)
    if ending or servers.list_requested_deletes(connection, [server_id]):
        return record
    return checkpoint.request_soft_delete(connection, record, asked)


def _with_spec(connection: Connection, record: ServerRecord, arguments: RunArguments) -> RunArguments:
    """Return the arguments with the spec that the changes come to; texts are kept apart, and what may be large and is
    not asked for is left out. Raises Invalid."""
    unknown = arguments.spec_changes.keys() - IN_REBUILD
    if unknown:
        raise errors.Invalid(f"A rebuild does not set {', '.join(sorted(unknown))}.")
    changes = arguments.spec_changes
    if "user_data" in changes:
        changes = changes | {"user_data_id": ""}
    wanted: ServerSpec = codec.from_plain(codec.to_plain(record.spec) | changes, ServerSpec)
    (kept,) = user_data.keep(connection, user_data.CELL, [wanted])
    unasked = {name: empty for name, empty in _LARGE.items() if name not in changes}
    return structs.replace(arguments, spec=replace(kept, **unasked), spec_changes=dict.fromkeys(changes, ""))


def _without_password(connection: Connection, arguments: RunArguments) -> RunArguments:
    """Return what a run is stored with: a password is kept beside it, for whoever starts the guest."""
    if not arguments.admin_pass:
        return arguments
    return structs.replace(
        arguments, admin_pass="", admin_pass_id=user_data.keep_password(connection, arguments.admin_pass)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunDeletes:
    """``records``: by id, of the servers that there are. ``commands``: to be sent."""

    records: Mapping[str, ServerRecord]
    commands: Sequence[GuestCommand]


@retried
def begin_deletes(database: Database, services: RunServices, requests: Sequence[DeleteRequest]) -> BegunDeletes:
    """Begin the deletes of many servers in one transaction, and take their runs as far as nothing outside is needed."""
    asked = {
        one.server_id: OperationRequest(request_id=one.request_id, user_id=one.user_id, project_id=one.project_id)
        for one in requests
    }
    with database.write() as connection:
        return _begin_all(connection, services, asked)


@retried
def reclaim(database: Database, services: RunServices, request_id: str, seconds: float) -> BegunDeletes:
    """Begin to delete for good some servers that have been soft-deleted for longer than that, and still are: a restore
    that comes at the same time comes wholly before, and keeps its server, or after, and is refused."""
    with database.write() as connection:
        old = servers.lock_reclaimable(connection, seconds, limit=RECLAIMED_AT_ONCE)
        asked = {
            one.id: OperationRequest(request_id=request_id, user_id=one.spec.user_id, project_id=one.spec.project_id)
            for one in old
        }
        return _begin_all(connection, services, asked)


@retried
def begin_offloads(database: Database, request_id: str, seconds: float) -> list[ServerRecord]:
    """Begin to remove from their hosts some servers that have been shelved for longer than that, and still are."""
    spec = FIRST_VARIANTS[Operation.SHELVE_OFFLOAD]
    with database.write() as connection:
        found = servers.lock_offloadable(connection, seconds, RECLAIMED_AT_ONCE)
        active = runs.list_operations(connection, [one.id for one in found])
        idle = [one.id for one in found if one.id not in active]
        begun = servers.begin_operations(connection, idle, spec.task_state)
        asked = {
            one.id: OperationRequest(request_id=request_id, user_id=one.spec.user_id, project_id=one.spec.project_id)
            for one in begun
        }
        runs.insert(connection, [new_run(one, spec.operation, asked[one.id]) for one in begun])
        feed.append(connection, begun)
    return begun


def _begin_all(connection: Connection, services: RunServices, asked: Mapping[str, OperationRequest]) -> BegunDeletes:
    found = _begin_deletes(connection, asked)
    fresh = [record for record, is_fresh in found.values() if is_fresh]
    new = [new_run(record, Operation.DELETE, asked[record.id]) for record in fresh]
    begun = runs.insert(connection, new, Lease(owner=AT_ONCE, seconds=0.0))
    moved = [RunState(run=run, record=record) for run, record in zip(begun, fresh, strict=True)]
    passive = services.within(connection)
    for state in moved:
        take_passive_steps(state, passive)
    checkpoint.store(connection, moved)
    feed.append(connection, [record for record, _ in found.values()])
    return BegunDeletes(
        records={server_id: record for server_id, (record, _) in found.items()},
        commands=[command for state in moved for command in state.commands],
    )


def _check(connection: Connection, record: ServerRecord, spec: OperationSpec) -> None:
    refusal = spec.refusal(record)
    if refusal:
        raise errors.Conflict(refusal)
    if record.task_state in spec.overtakes:
        runs.retire(connection, record.id, f"It was overtaken by a {spec.operation}.")
    elif runs.find_active(connection, record.id) is not None:
        what = f"Cannot '{spec.operation}' instance {record.id} while it is in"
        raise errors.Conflict(f"{what} task_state {record.task_state}")


def _begin_deletes(
    connection: Connection, asked: Mapping[str, OperationRequest]
) -> dict[str, tuple[ServerRecord, bool]]:
    """By id, of those that there are: the record as it is now, and whether a run is to begin.

    Delete preempts: a held server goes at once, a run under way is turned round and followed by the delete.
    """
    records = servers.lock_living(connection, asked)
    dropped = servers.drop_held(connection, [each.id for each in records.values() if each.held])
    claims.release_all(connection, dropped)
    active = runs.list_operations(connection, list(records))
    requested = servers.list_requested_deletes(connection, list(records))
    known = {*dropped, *(server_id for server_id, before in requested.items() if not before.arguments.soft)}
    known |= {server_id for server_id, operation in active.items() if operation == Operation.DELETE}
    fresh = [server_id for server_id in records if server_id not in active and server_id not in known]
    begun = servers.begin_operations(connection, fresh, TaskState.DELETING)
    turned = [records[server_id] for server_id in active if server_id not in known]
    runs.cancel(connection, [each.id for each in turned])
    changed = servers.request_deletes(connection, turned, asked)
    others = [*changed, *servers.list_by_id(connection, dropped)]
    unchanged = {each.id: (each, False) for each in records.values()}
    return unchanged | {each.id: (each, False) for each in others} | {each.id: (each, True) for each in begun}
