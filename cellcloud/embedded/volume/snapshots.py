"""Snapshots of volumes, in use or not: the content as it is at one moment."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import pagination_snapshots, volume_quotas
from cellcloud.db import volume_snapshots as db
from cellcloud.db import volumes as db_volumes
from cellcloud.db.engine import Connection, transact
from cellcloud.db.listing import Page
from cellcloud.embedded.volume.service import VolumeService, VolumeViewer, get_type
from cellcloud.embedded.volume.volumes import begin
from cellcloud.model.block_storage import BlockSnapshot, TaskKind

_DELETABLE = frozenset({"available", "error", "error_deleting"})
_ONLINE = frozenset({"available", "in-use"})


def get_snapshot(service: VolumeService, viewer: VolumeViewer, snapshot_id: str) -> BlockSnapshot:
    """Return a snapshot. Raises NotFound for another project's."""
    with service.database.read() as c:
        return db.get_snapshot(c, snapshot_id, project_id=viewer.only)


def list_snapshots(service: VolumeService, project_id: str | None, page: Page) -> list[BlockSnapshot]:
    """Return snapshots of a project; None: of all. Raises NotFound for an unknown marker."""
    return pagination_snapshots.listed(
        service.database, page.walk, lambda c: db.list_snapshots(c, project_id=project_id, page=page)
    )


def create_snapshot(
    service: VolumeService,
    viewer: VolumeViewer,
    volume_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
    snapshot_id: str = "",
) -> BlockSnapshot:
    """Accept a new snapshot, with ``force`` also of a volume in use. Raises NotFound, Invalid, QuotaExceeded.
    ``snapshot_id``: the one that it shall have; one that is there is answered as it is."""
    new_id = snapshot_id or str(uuid.uuid4())

    def work(c: Connection) -> BlockSnapshot:
        volume = db_volumes.get_volume(c, volume_id, project_id=viewer.only, lock=True)
        known = [each for each in db.list_of_volume(c, volume.id) if each.id == new_id]
        if known:
            return known[0]
        if volume.status not in (_ONLINE if force else ("available",)):
            wanted = "available or in-use" if force else "available"
            raise errors.Invalid(
                f"Invalid volume: Volume {volume.id} status must be {wanted}, but current status is: {volume.status}."
            )
        kind = get_type(c, volume.type_id, None)
        counted = volume_quotas.amounts(kind.name, snapshots=1, gigabytes=volume.size)
        volume_quotas.reserve(c, volume.project_id, counted, service.limits_of(c))
        made = BlockSnapshot(
            id=new_id,
            volume_id=volume.id,
            project_id=volume.project_id,
            user_id=viewer.user_id,
            size=volume.size,
            status="creating",
            name=name,
            description=description,
            metadata=dict(metadata or {}),
            type_id=volume.type_id,
        )
        db.insert_snapshot(c, made)
        db_volumes.pin_volume(c, volume)
        begin(c, volume, TaskKind.SNAPSHOT, task_id=new_id, snapshot_id=new_id, size=volume.size)
        return db.get_snapshot(c, new_id)

    return transact(service.database, work)


def change(
    service: VolumeService,
    viewer: VolumeViewer,
    snapshot_id: str,
    work: Callable[[Connection, BlockSnapshot], Mapping[str, Any]],
) -> BlockSnapshot:
    """Write what ``work`` returns of a snapshot whose row is locked; it may be asked again. Raises NotFound."""

    def locked(c: Connection) -> BlockSnapshot:
        snapshot = db.get_snapshot(c, snapshot_id, project_id=viewer.only, lock=True)
        changes = work(c, snapshot)
        if changes:
            db.update_snapshot(c, snapshot.id, changes)
        return db.get_snapshot(c, snapshot.id)

    return transact(service.database, locked)


def delete_snapshot(service: VolumeService, viewer: VolumeViewer, snapshot_id: str, *, force: bool = False) -> None:
    """Accept that a snapshot goes, with ``force`` whatever its status is. Raises NotFound, Invalid."""
    before = get_snapshot(service, viewer, snapshot_id)

    def work(c: Connection) -> None:
        volume = db_volumes.get_volume(c, before.volume_id, lock=True)
        snapshot = db.get_snapshot(c, snapshot_id, lock=True)
        if snapshot.status == "deleting" and not force:
            return
        if snapshot.status not in _DELETABLE and not force:
            raise errors.Invalid(
                f"Invalid snapshot: Snapshot status must be one of available, error or error_deleting to delete, but "
                f"current status is: {snapshot.status}."
            )
        db.update_snapshot(c, snapshot.id, {"status": "deleting"})
        begin(c, volume, TaskKind.DELETE_SNAPSHOT, task_id=snapshot.id, snapshot_id=snapshot.id)

    transact(service.database, work)
