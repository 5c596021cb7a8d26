"""Volumes of servers: what is asked for is checked with their service and reserved there, then begun in the cell.

Whoever was refused by the cell gives the volume back at once; who does not know whether it was begun, only while no
host has been let reach it. A reservation that nobody came back to, as its process died, is taken up by the next
request for the same server and volume, and so is the note that one is about to be detached; who owns volumes takes
both back where none comes.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from cellcloud import errors
from cellcloud.clients.volume import VolumeClient, out_of_reach
from cellcloud.context import RequestContext
from cellcloud.model import codec
from cellcloud.model.operations import Operation, spec_of
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import AttachedVolume, Volume, find
from cellcloud.server_states import VmState
from top_api.microversion import Microversion
from top_api.operations.server_in_cell import begin, change, check_may_begin, check_unlocked
from top_api.services import ApiServices

SHELVED = (VmState.SHELVED, VmState.SHELVED_OFFLOADED)
SHELVED_SINCE, MULTIATTACH_SINCE = (2, 20), (2, 60)


def service_of(services: ApiServices) -> VolumeClient:
    """Return the volume service. Raises Unreachable where there is none."""
    if services.volumes is None:
        raise errors.Unreachable("This cloud has no volume service.")
    return services.volumes


def get_volume(services: ApiServices, context: RequestContext, volume_id: str) -> Volume:
    """Return a volume that the caller may see. Raises NotFound."""
    return service_of(services).get_volume(volume_id, project_id=context.project_id, is_admin=context.is_admin)


def attach(
    services: ApiServices, context: RequestContext, record: ServerRecord, wanted: dict[str, Any], version: Microversion
) -> AttachedVolume:
    """Begin to attach a volume; return it with its name in the guest. Raises NotFound, Invalid, Conflict, Forbidden."""
    spec = spec_of(Operation.ATTACH_VOLUME)
    _check(context, record, spec.operation, version)
    volume = get_volume(services, context, wanted["volumeId"])
    _check_free(record, volume)
    if volume.multiattach and version < MULTIATTACH_SINCE:
        raise errors.Invalid("Multiattach volumes are only supported starting with compute API version 2.60.")
    if record.vm_state == VmState.SHELVED_OFFLOADED and (wanted.get("tag") or volume.multiattach):
        what = "Tagged volume attachment" if wanted.get("tag") else "Attaching multiattach volumes"
        raise errors.Invalid(f"{what} is not supported for shelved-offloaded instances.")
    if volume.encrypted:
        raise errors.Invalid(f"Invalid volume: volume {volume.id} is encrypted, which no host here can open.")
    if volume.cell and record.cell and volume.cell != record.cell and not volume.follows:
        raise errors.Invalid(out_of_reach(volume.id))
    volumes = service_of(services)
    attachment_id = _reserve(volumes, volume, record.id)
    asked = AttachedVolume(
        id=str(uuid.uuid4()),
        volume_id=volume.id,
        attachment_id=attachment_id,
        tag=wanted.get("tag"),
        delete_on_termination=wanted.get("delete_on_termination", False),
        multiattach=volume.multiattach,
        size_gb=volume.size_gb,
    )
    try:
        begun = begin(services, context, record, spec, {"volume": codec.to_plain(asked)})
    except errors.CellcloudError as error:
        with suppress(errors.CellcloudError):
            if not isinstance(error, errors.TryLater) or volumes.get_volume(volume.id).status == "reserved":
                volumes.delete_attachment(attachment_id)
        raise
    return find(begun.volumes, volume.id) or asked


def _check(context: RequestContext, record: ServerRecord, operation: Operation, version: Microversion) -> None:
    """Refuse what the cell would, and servers that are shelved where clients do not know of that. Raises Conflict."""
    check_unlocked(context, record)
    if record.vm_state in SHELVED and version < SHELVED_SINCE:
        what = f"Cannot '{operation}' instance {record.id} while it is in"
        raise errors.Conflict(f"{what} vm_state {record.vm_state}")
    check_may_begin(record, spec_of(operation))


def _check_free(record: ServerRecord, volume: Volume) -> None:
    if find(record.volumes, volume.id) is not None:
        raise errors.Invalid(f"Invalid volume: volume {volume.id} already attached")
    if volume.attached_to and not volume.multiattach:
        on = " ".join(volume.attached_to)
        raise errors.Invalid(f"Invalid volume: volume {volume.id} is already attached to instances: {on}")


def _reserve(volumes: VolumeClient, volume: Volume, server_id: str) -> str:
    """Return the attachment. Raises Invalid where somebody else was faster, or the volume is in another state."""
    try:
        return volumes.create_attachment(volume.id, server_id)
    except errors.Conflict as error:
        raise errors.Invalid(error.message) from error


def detach(
    services: ApiServices, context: RequestContext, record: ServerRecord, volume_id: str, version: Microversion
) -> None:
    """Begin to detach a volume. Raises NotFound, Invalid, Conflict."""
    spec = spec_of(Operation.DETACH_VOLUME)
    volume = get_volume(services, context, volume_id)
    held = get_attached(record, volume_id)
    if held.is_root:
        raise errors.Invalid("Cannot detach a root device volume")
    _check(context, record, spec.operation, version)
    noted = record.vm_state != VmState.SHELVED_OFFLOADED and _note_detaching(service_of(services), volume, held)
    try:
        begin(services, context, record, spec, {"volume": codec.to_plain(held)})
    except errors.CellcloudError:
        if noted:
            with suppress(errors.CellcloudError):
                service_of(services).roll_detaching(volume_id)
        raise


def _note_detaching(volumes: VolumeClient, volume: Volume, held: AttachedVolume) -> bool:
    """Return whether it was noted; False where somebody has who did not come back: nothing is done with it in the cell.
    Raises Invalid."""
    if volume.status == "detaching" and not held.is_pending:
        return False
    try:
        volumes.begin_detaching(volume.id)
    except errors.Conflict as error:
        raise errors.Invalid(error.message) from error
    return True


def get_attached(record: ServerRecord, volume_id: str) -> AttachedVolume:
    """Return a volume of the server's. Raises NotFound."""
    held = find(record.volumes, volume_id)
    if held is None:
        raise errors.NotFound(f"Instance {record.id} is not attached to volume {volume_id[:64]}")
    return held


def update(services: ApiServices, context: RequestContext, record: ServerRecord, volume_id: str, wanted: Any) -> None:
    """Say whether a volume is deleted with its server; all else that is given must be as it is. Raises NotFound,
    Invalid."""
    held = get_attached(record, volume_id)
    fixed = {"id": held.volume_id, "serverId": record.id, "device": held.device, "tag": held.tag}
    for name, value in fixed.items():
        if name in wanted and wanted[name] != value:
            raise errors.Invalid(f"The {name} property is not mutable")
    if "delete_on_termination" in wanted:
        goes = {volume_id: wanted["delete_on_termination"]}
        change(services, context, record, "update_volume_attachment", {"delete_on_termination": goes})


def swap(services: ApiServices, context: RequestContext, volume_id: str) -> None:
    """Refuse to swap a volume. Raises NotFound; Conflict where not its service asks for it; Invalid."""
    if not get_volume(services, context, volume_id).migration_status:
        raise errors.Conflict(f"volume {volume_id} is not migrating; this API should only be called by Cinder")
    raise errors.Invalid("Volumes of servers are migrated here only once they are detached.")
