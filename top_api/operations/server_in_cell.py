"""What operations on a server that exists have in common: finding it, and carrying its cell's answer back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import server_groups, server_index
from cellcloud.db.engine import Database, retried
from cellcloud.model.operations import OperationSpec
from cellcloud.model.server import ServerRecord
from cellcloud.model.tag_metadata_changes import ItemChanges
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import VmState
from top_api.request_pipeline import Call
from top_api.services import ApiServices

CHANGED_IN = frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.SUSPENDED, VmState.STOPPED})
"""The states in which a server's metadata and tags are changed."""
_MOST_ID = 64  # characters; a longer id is nobody's


def find_server(services: ApiServices, server_id: str, project_id: str | None) -> ServerRecord:
    """Return the server, if the project (None: any) has it. Raises NotFound, the same for foreign and unknown ids."""
    record = None
    if len(server_id) <= _MOST_ID:
        with services.database.read() as connection:
            record = server_index.find_record(connection, server_id, project_id=project_id)
    if record is None:
        raise errors.NotFound(f"Instance {server_id[:_MOST_ID]} could not be found.")
    return record


def look_up_server(call: Call, arguments: Mapping[str, str]) -> None:
    """Find the server of a path for its handler and for policy. Raises NotFound."""
    call.server = find_server(call.services, arguments["server_id"], call.project_filter)


def check_unlocked(context: RequestContext, record: ServerRecord) -> None:
    """Refuse a locked server, unless an administrator asks. Raises Conflict."""
    if record.locked and not context.is_admin:
        raise errors.Conflict(f"Instance {record.id} is locked")


def check_state(record: ServerRecord, verb: str, states: Collection[VmState]) -> None:
    """Refuse a server in another state. Raises Conflict."""
    if record.vm_state not in states:
        raise errors.Conflict(f"Cannot '{verb}' instance {record.id} while it is in vm_state {record.vm_state}")


def check_may_begin(record: ServerRecord, spec: OperationSpec) -> None:
    """Refuse at once what the cell would, before anything is made for it. Raises Conflict."""
    refusal = spec.refusal(record)
    if refusal:
        raise errors.Conflict(refusal)


def tell_cell(
    services: ApiServices,
    context: RequestContext,
    record: ServerRecord,
    verb: str,
    ask: Callable[[Conductor, RequestContext], ServerRecord],
) -> ServerRecord:
    """Let the server's cell do something, and put its answer into the index, so that the caller reads it next.

    Raises Conflict while no cell has the server yet, and whatever the cell raises.
    """
    if not record.cell:
        raise errors.Conflict(f"Cannot '{verb}' instance {record.id} while it is in vm_state {record.vm_state}")
    answer = ask(services.cells.conductor(record.cell), services.cells.budget(context))
    return save_answer(services.database, answer, record.cell)


@retried
def save_answer(database: Database, record: ServerRecord, cell: str) -> ServerRecord:
    """Return a cell's newer copy of a server, into the index."""
    mine = replace(record, cell=cell)
    with database.write() as connection:
        server_index.upsert(connection, [mine])
    return mine


def begin(
    services: ApiServices,
    context: RequestContext,
    record: ServerRecord,
    spec: OperationSpec,
    asked: Mapping[str, object] | None = None,
) -> ServerRecord:
    """Begin an operation in the server's cell, with what else is asked of it. Raises Conflict, Unreachable,
    and what the cell refuses."""
    check_unlocked(context, record)
    if not record.cell:
        check_may_begin(record, spec)
    record = _without_deleted_group(services, context, record, spec.operation)
    arguments: dict[str, object] = ({"type": spec.variant} if spec.variant else {}) | dict(asked or {})
    return tell_cell(
        services,
        context,
        record,
        spec.operation,
        lambda conductor, patient: conductor.begin_operation(patient, record.id, spec.operation, arguments),
    )


def _without_deleted_group(
    services: ApiServices, context: RequestContext, record: ServerRecord, verb: str
) -> ServerRecord:
    """Let the cell forget the server's group, where it was deleted since: a server that is moved obeys it no more."""
    if record.spec.group is None or not record.cell:
        return record
    with services.database.read() as connection:
        there = server_groups.find(connection, [record.spec.group.id])
    return record if there else change(services, context, record, verb, {"group": None})


def change(
    services: ApiServices, context: RequestContext, record: ServerRecord, verb: str, changes: dict[str, object]
) -> ServerRecord:
    """Set whole values of a server in its cell. Raises Conflict, Unreachable."""
    return tell_cell(
        services, context, record, verb, lambda conductor, patient: conductor.update_server(patient, record.id, changes)
    )


def change_items(
    services: ApiServices, context: RequestContext, record: ServerRecord, verb: str, changes: ItemChanges
) -> ServerRecord:
    """Change single items of a server's sets in its cell.

    Raises NotFound for what is not there, Invalid and QuotaExceeded for too many, Conflict, Unreachable.
    """
    return tell_cell(
        services, context, record, verb, lambda conductor, patient: conductor.change_items(patient, record.id, changes)
    )
