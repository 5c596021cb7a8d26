"""What a server went through, as its cell's runs tell it."""

from __future__ import annotations

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import server_index
from cellcloud.model.operations import Operation
from cellcloud.model.run import RunRecord
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import VmState
from top_api.operations.server_in_cell import find_server
from top_api.services import ApiServices


def find_deleted_too(services: ApiServices, server_id: str, project_id: str | None, *, deleted: bool) -> ServerRecord:
    """Return the server, also when it is deleted and ``deleted`` asks for those. Raises NotFound."""
    if not deleted:
        return find_server(services, server_id, project_id)
    with services.database.read() as connection:
        record = server_index.find_record(connection, server_id, project_id=project_id, deleted=None)
    if record is None:
        raise errors.NotFound(f"Instance {server_id[:64]} could not be found.")
    return record


def list_actions(services: ApiServices, context: RequestContext, record: ServerRecord) -> list[RunRecord]:
    """Newest first. Raises Unreachable."""
    runs: list[RunRecord] = []
    if record.cell:
        runs = services.cells.conductor(record.cell).list_runs(services.cells.budget(context), record.id, False)
    if not any(run.operation == Operation.CREATE for run in runs):
        runs = [*runs, _accepted(record)]
    return runs


def get_action(services: ApiServices, context: RequestContext, record: ServerRecord, request_id: str) -> RunRecord:
    """Return one of a server's actions. Raises NotFound, Unreachable."""
    for run in list_actions(services, context, record):
        if run.request_id == request_id:
            return run
    raise errors.NotFound(f"Action for request_id {request_id[:64]} on instance {record.id} not found")


def _accepted(record: ServerRecord) -> RunRecord:
    """Return the create as the top knows it: before or without a cell, or when its run is forgotten there."""
    built = record.launched_at is not None
    failed = record.vm_state == VmState.ERROR and not built
    return RunRecord(
        id=record.id,
        server_id=record.id,
        operation=Operation.CREATE,
        state="failed" if failed else "done" if built else "running",
        step="",
        direction="do",
        attempt=1,
        request_id=record.spec.request_id,
        user_id=record.spec.user_id,
        project_id=record.spec.project_id,
        generation=0,
        message=record.fault.message if failed and record.fault else "",
        created_at=record.created_at,
        finished_at=record.updated_at if failed else record.launched_at,
    )
