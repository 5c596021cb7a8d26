"""New volumes follow the first server that they are attached to: what nobody was ever let write is made again in the
server's cell, and reserved there in the transaction that leaves the other place.

Each copy that is not the volume's place has a task that deletes it, put before the copy is asked for and held back
while it is being made: whoever dies in between leaves nothing behind. The volume's generation tells whether anything
else was done to it meanwhile; a copy that is made again is of a later one, which a late delete leaves alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cellcloud import errors
from cellcloud.clients.volume import out_of_reach
from cellcloud.context import RequestContext
from cellcloud.db import cells, server_index, volume_hosts
from cellcloud.db import volumes as db
from cellcloud.db.engine import Connection, transact
from cellcloud.embedded.volume.service import VolumeService
from cellcloud.embedded.volume.volumes import task_of_creation
from cellcloud.model.block_storage import BlockVolume, TaskKind, VolumeHost, VolumeTask, VolumeTaskState
from cellcloud.model.image import Image
from cellcloud.rpc.transport import IN_MEMORY

OVERSUBSCRIPTION = 20.0  # GiB promised a real one, as Cinder's default has it
HOLD = 600.0  # seconds after which a copy that did not become the volume is deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A volume made again at ``to``. ``removal``: the task that deletes it, unless it becomes the volume."""

    to: VolumeHost
    removal: VolumeTask


def is_reached_everywhere(c: Connection) -> bool:
    """Return whether all cells are in one process, where each host reaches each volume."""
    return all(url.startswith(IN_MEMORY) for url in cells.list_transports(c).values())


def ensure_copy(
    service: VolumeService, context: RequestContext, volume_id: str, server_id: str | None, project_id: str | None
) -> Copy | None:
    """Make an available volume again in its server's cell; None where it is there, or not to be had. Raises NotFound;
    Invalid for one that stays where it is; TryLater while the cell does not answer, or is not ready."""
    with service.database.read() as c:
        seen = db.get_volume(c, volume_id, project_id=project_id)
        if seen.status != "available" or not _elsewhere(c, seen, server_id):
            return None
    image = _image(service, seen)

    def prepare(c: Connection) -> tuple[Copy, VolumeTask] | None:
        volume = db.get_volume(c, volume_id, project_id=project_id, lock=True)
        cell = _elsewhere(c, volume, server_id)
        if volume.status != "available" or not cell:
            return None
        if volume.image_id != seen.image_id:
            raise errors.Stale(f"Volume {volume.id} has changed meanwhile.")
        host = choose_host(c, replace(volume, cell=cell, availability_zone="")) if volume.movable else None
        if host is None:
            raise errors.Invalid(out_of_reach(volume.id))
        copy = Copy(to=host, removal=_hold(c, volume, host))
        return copy, task_of_creation(replace(volume, generation=copy.removal.generation), image)

    prepared = transact(service.database, prepare)
    if prepared is None:
        return None
    copy, task = prepared
    _make(service, context, copy, task)
    return copy


def _elsewhere(c: Connection, volume: BlockVolume, server_id: str | None) -> str:
    """Return the cell that a volume is out of reach of while its server is there."""
    if server_id is None or not volume.host or is_reached_everywhere(c):
        return ""
    cell = server_index.cells_of(c, [server_id]).get(server_id, "")
    return "" if cell == volume.cell else cell


def _image(service: VolumeService, volume: BlockVolume) -> Image | None:
    """Return the image that a volume is made of. Raises Invalid where it cannot be made of it again."""
    if volume.image_id is None or not volume.movable:
        return None
    try:
        image = service.images.get_image(volume.image_id, project_id=volume.project_id, is_admin=True)
    except errors.NotFound:
        raise errors.Invalid(out_of_reach(volume.id)) from None
    if image.status != "active":
        raise errors.Invalid(out_of_reach(volume.id))
    return image


def _hold(c: Connection, volume: BlockVolume, host: VolumeHost) -> VolumeTask:
    """Return the removal of a copy, held back; that of an earlier attempt, which may be ready, if it is as good."""
    task_id = _removal_id(volume.id, host.cell, host.host)
    held = db.find_held_task(c, task_id)
    if held is not None and held.generation == volume.generation:
        return held
    generation = db.next_generation(c, volume.id)
    task = VolumeTask(id=task_id, kind=TaskKind.DELETE, volume_id=volume.id, generation=generation)
    db.put_task(c, task, host.cell, host.host, hold=HOLD)
    return task


def _removal_id(volume_id: str, cell: str, host: str) -> str:
    return str(uuid.uuid5(uuid.UUID(volume_id), f"{cell}/{host}"))


def _make(service: VolumeService, context: RequestContext, copy: Copy, task: VolumeTask) -> None:
    """Have a copy made. Raises TryLater; Invalid where that failed."""
    store = service.reach(copy.to.cell, copy.to.host)
    while context.remaining() > 0:
        for outcome in store.perform(context, [task]):
            if outcome.state is VolumeTaskState.DONE:
                return
            if outcome.state is VolumeTaskState.FAILED:
                raise errors.Invalid(out_of_reach(task.volume_id), detail=outcome.message)
            if outcome.message:
                raise errors.Unreachable(outcome.message)
    raise errors.Busy(f"Volume {task.volume_id} is still being made in the server's cell. Try again in a minute.")


def follow(c: Connection, volume: BlockVolume, server_id: str | None, copy: Copy | None) -> Mapping[str, Any]:
    """Return what a free volume's row becomes for a server, which reaches it then; the row is locked. What is left of
    it elsewhere is deleted. Raises Invalid for one that stays; Stale where the copy is not, or no longer, the one that
    is needed."""
    cell = _elsewhere(c, volume, server_id)
    if not cell:
        return {}
    if not volume.movable or volume.status != "available":
        raise errors.Invalid(out_of_reach(volume.id))
    current = copy is not None and volume.generation == copy.removal.generation
    if copy is None or not current or copy.to.cell != cell or db.find_held_task(c, copy.removal.id) != copy.removal:
        raise errors.Stale(f"Volume {volume.id} has changed meanwhile.")
    db.end_task(c, copy.removal)
    generation = db.next_generation(c, volume.id)
    task_id = _removal_id(volume.id, volume.cell, volume.host)
    left = VolumeTask(id=task_id, kind=TaskKind.DELETE, volume_id=volume.id, generation=generation)
    db.put_task(c, left, volume.cell, volume.host)
    return {"cell": copy.to.cell, "host": copy.to.host, "availability_zone": copy.to.zone}


def choose_host(c: Connection, volume: BlockVolume) -> VolumeHost | None:
    """Return the volume service with the most room, of the volume's cell and zone where it named them."""
    known = [each.host for each in volume_hosts.list_hosts(c) if each.up and each.enabled and not each.frozen]
    promised = db.size_by_host(c)
    zone, zones = volume.availability_zone, {host.zone for host in known}
    room = {
        host: host.total_gb * OVERSUBSCRIPTION - promised.get((host.cell, host.host), 0)
        for host in known
        if host.free_gb > 0 and volume.cell in ("", host.cell) and (zone not in zones or host.zone == zone)
    }
    fitting = {host: left for host, left in room.items() if left >= volume.size}
    return max(fitting, key=lambda host: (fitting[host], host.free_gb, host.host), default=None)
