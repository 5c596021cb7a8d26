"""Begin what is done with a server's volumes.

Several may be asked for at once: what is to be done with each volume stands in the server's record from the moment in
which it was accepted, and each has a run of its own, one after the other.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from cell.conductor.runs.begin_run import begin_run, find_device_run
from cellcloud import errors
from cellcloud.db import servers
from cellcloud.db.engine import Connection
from cellcloud.model.operations import FIRST_VARIANTS, Operation
from cellcloud.model.run import OperationRequest, RunArguments
from cellcloud.model.server import ServerChanges, ServerRecord
from cellcloud.model.volume import AttachedVolume, AttachmentState, find, free_device, with_changed
from cellcloud.model.volume_names import bus_of, names_taken

STATES = {
    Operation.ATTACH_VOLUME: AttachmentState.ATTACHING,
    Operation.DETACH_VOLUME: AttachmentState.DETACHING,
    Operation.EXTEND_VOLUME: AttachmentState.EXTENDING,
}
TOO_MANY = "The maximum allowed number of disk devices to attach to a single instance has been exceeded."
OPERATIONS = {state: operation for operation, state in STATES.items()}


def begin(connection: Connection, server_id: str, operation: Operation, asked: OperationRequest) -> ServerRecord:
    """Return the record after a run has begun, or will once the runs of other volumes have ended; asked again by the
    same request, or by one that took up the reservation of one before, as it is now. Raises NotFound, Conflict,
    Invalid."""
    record = servers.get(connection, server_id, lock=True)
    wanted = asked.arguments.volume
    if wanted is None:
        raise errors.Invalid("The operation needs a volume.")
    known = find(record.volumes, wanted.volume_id)
    if known is not None and known.request_id == asked.request_id and known.state == STATES[operation]:
        return record
    if known is not None and operation is Operation.ATTACH_VOLUME and known.attachment_id == wanted.attachment_id:
        return record
    active = find_device_run(connection, record, operation)
    volume = _added(record, wanted) if operation is Operation.ATTACH_VOLUME else _held(known, wanted)
    volume = replace(volume, state=STATES[operation], request_id=asked.request_id, user_id=asked.user_id)
    changes = ServerChanges(volumes=with_changed(record.volumes, volume))
    if active is not None:
        return servers.change(connection, server_id, changes) or record
    return begin_run(connection, server_id, FIRST_VARIANTS[operation], _about(volume, asked), changes)


def begin_next(connection: Connection, record: ServerRecord) -> ServerRecord:
    """Begin what waits to be done with a volume of a server of which nothing else is under way, and return its record
    as it is now. The caller holds the row."""
    waiting = next((one for one in record.volumes if one.is_pending), None)
    if waiting is None or record.deleted:
        return record
    asked = OperationRequest(request_id=waiting.request_id, user_id=waiting.user_id, project_id=record.spec.project_id)
    return begin_run(connection, record.id, FIRST_VARIANTS[OPERATIONS[waiting.state]], _about(waiting, asked))


def _about(volume: AttachedVolume, asked: OperationRequest) -> OperationRequest:
    return structs.replace(asked, arguments=RunArguments(volume=replace(volume, connection={})))


def _added(record: ServerRecord, wanted: AttachedVolume) -> AttachedVolume:
    """Return a volume with a name that is free in the guest. Raises Invalid for one that the server has, Forbidden
    where no name is left."""
    if find(record.volumes, wanted.volume_id) is not None:
        raise errors.Invalid(f"Invalid volume: volume {wanted.volume_id} already attached")
    bus = bus_of(record.spec)
    device = free_device(bus, names_taken(record.spec, record.volumes))
    if device is None:
        raise errors.Forbidden(
            "The maximum allowed number of disk devices to attach to a single instance has been exceeded."
        )
    return replace(wanted, device=device, bus=bus)


def _held(known: AttachedVolume | None, wanted: AttachedVolume) -> AttachedVolume:
    """Return the volume as the server has it, with what is new of it. Raises NotFound, Conflict while something else is
    done with it."""
    if known is None:
        raise errors.NotFound(f"The server is not attached to volume {wanted.volume_id}")
    if known.is_pending:
        raise errors.Conflict(f"Volume {wanted.volume_id} is {known.state}.")
    return replace(known, size_gb=wanted.size_gb or known.size_gb)
