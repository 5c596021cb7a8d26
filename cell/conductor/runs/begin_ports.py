"""Begin what is done with the ports of a server that exists.

Several may be asked for at once: what is to be done with each stands in the server's record from the moment in which it
was accepted, and each has a run of its own, one after the other.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from cell.conductor.runs.begin_run import begin_run, find_device_run
from cellcloud import errors
from cellcloud.db import servers
from cellcloud.db.engine import Connection
from cellcloud.model.network import Plugging, Port, PortChange, find_port, with_port
from cellcloud.model.operations import FIRST_VARIANTS, Operation
from cellcloud.model.run import OperationRequest, RunArguments
from cellcloud.model.server import ServerChanges, ServerRecord

CHANGES = {
    Operation.ATTACH_INTERFACE: Plugging.ATTACHING,
    Operation.DETACH_INTERFACE: Plugging.DETACHING,
}
OPERATIONS = {kind: operation for operation, kind in CHANGES.items()}


def begin(connection: Connection, server_id: str, operation: Operation, asked: OperationRequest) -> ServerRecord:
    """Return the record after a run has begun, or will once the runs of other devices have ended; asked again by the
    same request, as it is now. Raises NotFound, Conflict, Invalid."""
    record = servers.get(connection, server_id, lock=True)
    wanted = asked.arguments.port
    if wanted is None:
        raise errors.Invalid("The operation needs a port.")
    known = find_port(record.ports, wanted.id)
    change = PortChange(kind=CHANGES[operation], request_id=asked.request_id, user_id=asked.user_id)
    if known is not None and known.change == change:
        return record
    active = find_device_run(connection, record, operation)
    port = _added(known, wanted) if operation is Operation.ATTACH_INTERFACE else _held(known, wanted)
    port = replace(port, change=change)
    changes = ServerChanges(ports=with_port(record.ports, port))
    if active is not None:
        return servers.change(connection, server_id, changes) or record
    return begin_run(connection, server_id, FIRST_VARIANTS[operation], _about(port, asked), changes)


def begin_next(connection: Connection, record: ServerRecord) -> ServerRecord:
    """Begin what waits to be done with a port of a server of which nothing else is under way, and return its record as
    it is now. The caller holds the row."""
    waiting = next((one for one in record.ports if one.change is not None), None)
    if waiting is None or waiting.change is None or record.deleted:
        return record
    by = waiting.change
    asked = OperationRequest(request_id=by.request_id, user_id=by.user_id, project_id=record.spec.project_id)
    return begin_run(connection, record.id, FIRST_VARIANTS[OPERATIONS[by.kind]], _about(waiting, asked))


def _about(port: Port, asked: OperationRequest) -> OperationRequest:
    return structs.replace(asked, arguments=RunArguments(port=port))


def _added(known: Port | None, wanted: Port) -> Port:
    if known is not None:
        raise errors.Conflict(f"Port {wanted.id} is still in use.")
    return wanted


def _held(known: Port | None, wanted: Port) -> Port:
    if known is None:
        raise errors.NotFound(f"Port {wanted.id} is not attached")
    if known.change is not None:
        raise errors.Conflict(f"Port {wanted.id} is {known.change.kind}.")
    return known
