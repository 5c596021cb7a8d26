"""Volumes given to another project: one offers, whoever knows the key accepts."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import pagination_snapshots, volume_attachments, volume_quotas, volume_snapshots
from cellcloud.db import volume_transfers as db
from cellcloud.db import volumes as db_volumes
from cellcloud.db.engine import Connection, transact
from cellcloud.db.listing import Page
from cellcloud.embedded.volume.service import VolumeService, VolumeViewer, get_type
from cellcloud.embedded.volume.volumes import change, require_status
from cellcloud.model.block_storage import BlockVolume, Transfer

OFFERED = "awaiting-transfer"


def list_transfers(service: VolumeService, project_id: str | None, page: Page) -> list[Transfer]:
    """Return what a project offers; None: what all do. Raises NotFound for an unknown marker."""
    return pagination_snapshots.listed(
        service.database, page.walk, lambda c: db.list_transfers(c, project_id=project_id, page=page)
    )


def get_transfer(service: VolumeService, viewer: VolumeViewer, transfer_id: str) -> Transfer:
    """Return an offer. Raises NotFound for another project's."""
    with service.database.read() as c:
        return db.get_transfer(c, transfer_id, project_id=viewer.only)


def create_transfer(
    service: VolumeService, viewer: VolumeViewer, volume_id: str, name: str | None, *, no_snapshots: bool
) -> tuple[Transfer, str]:
    """Offer an available volume; returns the offer and its key, which is told once. Raises NotFound, Invalid."""
    key, transfer_id = secrets.token_hex(8), str(uuid.uuid4())

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, "available")
        made = Transfer(
            id=transfer_id,
            volume_id=volume.id,
            name=name,
            source_project_id=volume.project_id,
            no_snapshots=no_snapshots,
        )
        db.insert_transfer(c, made, _hash(key))
        return {"status": OFFERED}

    change(service, viewer, volume_id, work)
    with service.database.read() as c:
        return db.get_transfer(c, transfer_id), key


def delete_transfer(service: VolumeService, viewer: VolumeViewer, transfer_id: str) -> None:
    """Offer a volume no longer. Raises NotFound."""

    def work(c: Connection) -> None:
        transfer = db.get_transfer(c, transfer_id, project_id=viewer.only)
        db_volumes.get_volume(c, transfer.volume_id, lock=True)
        db.delete_transfer(c, transfer.id)
        db_volumes.update_volume(c, transfer.volume_id, {"status": "available"}, of=(OFFERED,))

    transact(service.database, work)


def accept_transfer(service: VolumeService, viewer: VolumeViewer, transfer_id: str, key: str) -> Transfer:
    """Take a volume that is on offer, with its snapshots unless they were left out. Raises NotFound, Invalid for
    another key, QuotaExceeded."""

    def work(c: Connection) -> Transfer:
        transfer, known = db.get_with_key(c, transfer_id, lock=True)
        if not hmac.compare_digest(known, _hash(key)):
            raise errors.Invalid(f"Invalid auth key: Attempt to transfer {transfer_id} with invalid auth key.")
        volume = db_volumes.get_volume(c, transfer.volume_id, lock=True)
        if volume.status != OFFERED:
            raise errors.Invalid(f"Invalid volume: Volume {volume.id} is not {OFFERED}.")
        snapshots = [] if transfer.no_snapshots else volume_snapshots.list_of_volume(c, volume.id)
        kind = get_type(c, volume.type_id, None).name
        held = volume_quotas.amounts(
            kind,
            volumes=1,
            gigabytes=volume.size + sum(each.size for each in snapshots),
            snapshots=len(snapshots),
        )
        volume_quotas.reserve(c, viewer.project_id, held, service.limits_of(c))
        volume_quotas.release(c, volume.project_id, held)
        mine = {"project_id": viewer.project_id, "user_id": viewer.user_id}
        db_volumes.update_volume(c, volume.id, {**mine, "status": "available"})
        for each in snapshots:
            volume_snapshots.update_snapshot(c, each.id, mine)
        volume_attachments.give_to(c, volume.id, viewer.project_id)
        db.delete_transfer(c, transfer.id)
        return transfer

    return transact(service.database, work)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
