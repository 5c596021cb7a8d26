"""How the actions of a server look at each microversion. A run is one event: its steps stay inside."""

from __future__ import annotations

from typing import Any

from cellcloud.model.operations import Operation, event_of
from cellcloud.model.run import RunRecord
from cellcloud.model.server import ServerRecord
from top_api.request_pipeline import Call
from top_api.views.servers import hashed_host
from top_api.views.times import show_microsecond


def brief(call: Call, run: RunRecord) -> dict[str, Any]:
    """Return an item of the list."""
    shown: dict[str, Any] = {
        "action": Operation.DELETE if run.operation == Operation.SOFT_DELETE else run.operation,
        "instance_uuid": run.server_id,
        "request_id": run.request_id,
        "user_id": run.user_id,
        "project_id": run.project_id,
        "start_time": show_microsecond(run.created_at),
        "message": "Error" if _failed(run) else None,
    }
    if call.version >= (2, 58):
        shown["updated_at"] = show_microsecond(run.finished_at or run.created_at)
    return shown


def detail(call: Call, run: RunRecord, record: ServerRecord) -> dict[str, Any]:
    """One action with its event."""
    shown = brief(call, run)
    whole = call.allows("os_compute_api:os-instance-actions:events")
    if call.version >= (2, 51) or whole:
        name = event_of(run.operation)
        shown["events"] = [_event(call, run, record, name, whole=whole)] if name else []
    return shown


def _event(call: Call, run: RunRecord, record: ServerRecord, name: str, *, whole: bool) -> dict[str, Any]:
    result = None
    if run.finished_at is not None:
        result = "Error" if _failed(run) else "Success"
    event: dict[str, Any] = {
        "event": name,
        "start_time": show_microsecond(run.created_at),
        "finish_time": show_microsecond(run.finished_at),
        "result": result,
    }
    if whole:
        event["traceback"] = None
    if call.version >= (2, 62):
        host = run.host or record.host
        event["hostId"] = hashed_host(record.spec.project_id, host)
        if whole:
            event["host"] = host or ""
    if call.version >= (2, 84) and call.allows("os_compute_api:os-instance-actions:events:details"):
        event["details"] = run.message or None
    return event


def _failed(run: RunRecord) -> bool:
    return run.state in ("failed", "undone")
