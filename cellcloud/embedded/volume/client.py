"""The embedded volume service as cells use it: the port of the volume service, without HTTP between."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress

from cellcloud import errors
from cellcloud.clients.volume import Connector, not_found
from cellcloud.db import volume_attachments, volume_types
from cellcloud.db import volumes as db
from cellcloud.db.listing import Page
from cellcloud.embedded.volume import attachments, relocation, reservations, snapshots, volumes
from cellcloud.embedded.volume.service import VolumeService, VolumeViewer
from cellcloud.embedded.volume.volumes import VolumeRequest
from cellcloud.model.block_storage import Attachment, BlockSnapshot, BlockVolume
from cellcloud.model.volume import READ_WRITE, Connection, NewVolume, Volume, VolumeSnapshot

_MARKS = uuid.UUID("6d1b2f0e-6f0e-4a4c-9a43-0d6f3b7c1a55")  # ids of what has a mark are made of it


class EmbeddedVolumes:
    """Implements ``VolumeClient``. Safe to call from several threads."""

    def __init__(self, service: VolumeService) -> None:
        self._service = service
        self._cloud = VolumeViewer(project_id="", is_admin=True, is_service=True)

    def get_url(self) -> str:
        """See ``VolumeClient``."""
        return ""

    # ---- in the name of a project ------------------------------------------------------------------------------------
    def get_volume(self, volume_id: str, *, project_id: str = "", is_admin: bool = True) -> Volume:
        """See ``VolumeClient``."""
        found = volumes.get_volume(self._service, self._viewer(project_id, is_admin), volume_id)
        return self._shown(found)

    def get_snapshot(self, snapshot_id: str, *, project_id: str = "", is_admin: bool = True) -> VolumeSnapshot:
        """See ``VolumeClient``."""
        return _snapshot(snapshots.get_snapshot(self._service, self._viewer(project_id, is_admin), snapshot_id))

    def list_volumes(self, project_id: str, *, offset: int, limit: int) -> list[Volume]:
        """See ``VolumeClient``."""
        found, theirs = volumes.list_volumes(self._service, project_id, _newest(offset + limit))
        return self._all_shown(found[offset:], theirs)

    def list_snapshots(self, project_id: str, *, offset: int, limit: int) -> list[VolumeSnapshot]:
        """See ``VolumeClient``."""
        found = snapshots.list_snapshots(self._service, project_id, _newest(offset + limit))
        return [_snapshot(one) for one in found[offset:]]

    def _viewer(self, project_id: str, is_admin: bool) -> VolumeViewer:
        return self._cloud if is_admin else VolumeViewer(project_id=project_id)

    def _shown(self, volume: BlockVolume) -> Volume:
        with self._service.database.read() as c:
            held = volume_attachments.list_of(c, [volume.id])
        return self._all_shown([volume], held)[0]

    def _all_shown(self, found: Sequence[BlockVolume], held: Mapping[str, Sequence[Attachment]]) -> list[Volume]:
        with self._service.database.read() as c:
            names = volume_types.names_of(c)
            everywhere = relocation.is_reached_everywhere(c)
        return [_volume(one, held[one.id], names, everywhere=everywhere) for one in found]

    # ---- made for servers --------------------------------------------------------------------------------------------
    def ensure_volume(self, wanted: NewVolume) -> Volume:
        """See ``VolumeClient``."""
        viewer = VolumeViewer(project_id=wanted.project_id, user_id=wanted.user_id)
        request = VolumeRequest(
            size=wanted.size_gb or None,
            name=wanted.name,
            description=wanted.description,
            metadata=wanted.metadata,
            volume_type=wanted.volume_type or None,
            availability_zone=wanted.availability_zone or None,
            snapshot_id=wanted.snapshot_id or None,
            source_volid=wanted.source_volume_id or None,
            image_id=wanted.image_id or None,
            cell=wanted.cell,
        )
        made = volumes.create_volume(self._service, viewer, request, volume_id=_id_of(wanted.mark))
        return self._shown(made)

    def find_volume(self, mark: str, *, project_id: str) -> Volume | None:
        """See ``VolumeClient``."""
        try:
            return self.get_volume(_id_of(mark))
        except errors.NotFound:
            return None

    def delete_volume(self, volume_id: str) -> None:
        """See ``VolumeClient``."""
        with suppress(errors.NotFound):
            volumes.delete_volume(self._service, self._cloud, volume_id)

    def ensure_snapshot(
        self, volume_id: str, *, mark: str, name: str, description: str = "", force: bool = True
    ) -> VolumeSnapshot:
        """See ``VolumeClient``."""
        with self._service.database.read() as c:
            volume = db.get_volume(c, volume_id)
        viewer = VolumeViewer(project_id=volume.project_id, user_id=volume.user_id)
        made = snapshots.create_snapshot(
            self._service,
            viewer,
            volume_id,
            name=name,
            description=description,
            force=force,
            snapshot_id=_id_of(mark),
        )
        return _snapshot(made)

    def find_snapshot(self, mark: str, *, volume_id: str) -> VolumeSnapshot | None:
        """See ``VolumeClient``."""
        try:
            return self.get_snapshot(_id_of(mark))
        except errors.NotFound:
            return None

    def delete_snapshot(self, snapshot_id: str) -> None:
        """See ``VolumeClient``."""
        with suppress(errors.NotFound):
            snapshots.delete_snapshot(self._service, self._cloud, snapshot_id)

    def reimage_volume(self, volume_id: str, image_id: str) -> None:
        """See ``VolumeClient``."""
        volumes.reimage_volume(self._service, self._cloud, volume_id, image_id, reserved=True)

    # ---- attachments -------------------------------------------------------------------------------------------------
    def create_attachment(self, volume_id: str, server_id: str, *, mode: str = READ_WRITE) -> str:
        """See ``VolumeClient``. An attachment that an earlier request left for the same server, and that no host was
        ever let reach the volume by, is taken for this one."""
        with self._service.database.read() as c:
            left = volume_attachments.list_of_server(c, server_id)
        for one in left:
            if one.volume_id == volume_id and one.status == "reserved":
                return one.id
        return attachments.create_attachment(self._service, self._cloud, volume_id, server_id, mode=mode).id

    def update_attachment(self, attachment_id: str, connector: Connector) -> Connection:
        """See ``VolumeClient``."""
        made = attachments.connect_attachment(self._service, self._cloud, attachment_id, connector)
        return dict(made.connection_info)

    def complete_attachment(self, attachment_id: str) -> None:
        """See ``VolumeClient``."""
        attachments.complete_attachment(self._service, self._cloud, attachment_id)

    def delete_attachment(self, attachment_id: str) -> None:
        """See ``VolumeClient``."""
        attachments.discard_attachment(self._service, attachment_id)

    def list_attachments(self, server_id: str) -> Sequence[tuple[str, str]]:
        """See ``VolumeClient``."""
        with self._service.database.read() as c:
            return [(each.id, each.volume_id) for each in volume_attachments.list_of_server(c, server_id)]

    def begin_detaching(self, volume_id: str) -> None:
        """See ``VolumeClient``."""
        try:
            reservations.begin_detaching(self._service, self._cloud, volume_id)
        except errors.NotFound as error:
            raise errors.NotFound(not_found(volume_id)) from error

    def roll_detaching(self, volume_id: str) -> None:
        """See ``VolumeClient``."""
        with suppress(errors.NotFound):
            reservations.roll_detaching(self._service, self._cloud, volume_id)


def _id_of(mark: str) -> str:
    return str(uuid.uuid5(_MARKS, mark) if mark else uuid.uuid4())


def _newest(limit: int) -> Page:
    return Page(sort=(("created_at", False),), limit=limit)


def _volume(volume: BlockVolume, held: Sequence[Attachment], names: Mapping[str, str], *, everywhere: bool) -> Volume:
    return Volume(
        id=volume.id,
        status=volume.status,
        size_gb=volume.size,
        project_id=volume.project_id,
        name=volume.name or "",
        description=volume.description or "",
        availability_zone=volume.availability_zone,
        created_at=volume.created_at.isoformat() if volume.created_at else "",
        volume_type=names.get(volume.type_id, ""),
        snapshot_id=volume.snapshot_id,
        metadata=dict(volume.metadata),
        multiattach=volume.multiattach,
        bootable=volume.bootable,
        attached_to=tuple(each.server_id for each in held if each.server_id and each.status == "attached"),
        image=dict(volume.image_metadata or {}),
        cell="" if everywhere else volume.cell,
        follows=volume.movable and not everywhere,
    )


def _snapshot(snapshot: BlockSnapshot) -> VolumeSnapshot:
    return VolumeSnapshot(
        id=snapshot.id,
        volume_id=snapshot.volume_id,
        status=snapshot.status,
        size_gb=snapshot.size,
        project_id=snapshot.project_id,
        name=snapshot.name or "",
        description=snapshot.description or "",
        created_at=snapshot.created_at.isoformat() if snapshot.created_at else "",
    )
