"""What clients of before there was an attachments API ask of a volume: to reserve, attach, detach and connect it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import volume_attachments as db
from cellcloud.db import volumes as db_volumes
from cellcloud.db.engine import Connection
from cellcloud.embedded.volume.attachments import check_deletable, connect_attachment, end, status_of
from cellcloud.embedded.volume.service import VolumeService, VolumeViewer
from cellcloud.embedded.volume.volumes import change, require_status
from cellcloud.model.block_storage import Attachment, BlockVolume

_HOST = "host"


def reserve(service: VolumeService, viewer: VolumeViewer, volume_id: str) -> None:
    """Keep an available volume for whoever attaches it next. Raises Invalid."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, *(("available", "in-use") if volume.multiattach else ("available",)))
        return {"status": "attaching"}

    change(service, viewer, volume_id, work)


def unreserve(service: VolumeService, viewer: VolumeViewer, volume_id: str) -> None:
    """Keep a volume no longer; one that is not kept is left alone."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        if volume.status != "attaching":
            return {}
        held = [each for each in db.list_of(c, [volume.id])[volume.id] if each.status == "attached"]
        return {"status": status_of(held)}

    change(service, viewer, volume_id, work)


def begin_detaching(service: VolumeService, viewer: VolumeViewer, volume_id: str) -> None:
    """Note that a volume is about to be given back. Raises Invalid for one that is not in use."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, "in-use")
        return {"status": "detaching"}

    change(service, viewer, volume_id, work)


def roll_detaching(service: VolumeService, viewer: VolumeViewer, volume_id: str) -> None:
    """Note that it is not, after all; one that is not detaching is left alone."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        return {"status": "in-use"} if volume.status == "detaching" else {}

    change(service, viewer, volume_id, work)


def attach(
    service: VolumeService,
    viewer: VolumeViewer,
    volume_id: str,
    *,
    server_id: str | None,
    host: str | None,
    mountpoint: str,
    mode: str | None,
) -> None:
    """Note that a server, or a host, has a volume. Raises Invalid."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, "available", "attaching", "reserved", *(("in-use",) if volume.multiattach else ()))
        if volume.readonly and mode == "rw":
            raise errors.Invalid(f"Invalid attaching mode 'rw' for volume {volume.id}, which is read-only.")
        db_volumes.pin_volume(c, volume)
        held = db.list_of(c, [volume.id])[volume.id]
        known = next((each for each in held if server_id and each.server_id == server_id), None)
        if known is not None:
            db.update_attachment(c, known.id, {"status": "attached", "mountpoint": mountpoint})
            return {"status": "in-use"}
        made = Attachment(
            id=str(uuid.uuid4()),
            volume_id=volume.id,
            project_id=volume.project_id,
            status="attached",
            server_id=server_id,
            mode=mode or ("ro" if volume.readonly else "rw"),
            mountpoint=mountpoint,
            connector={_HOST: host} if host else {},
        )
        db.insert_attachment(c, made)
        return {"status": "in-use"}

    change(service, viewer, volume_id, work)


def detach(service: VolumeService, viewer: VolumeViewer, volume_id: str, attachment_id: str | None) -> None:
    """Note that nobody has a volume any more, or not by that attachment. Raises NotFound, Invalid where there are
    several and none is named; Conflict as for an attachment that is deleted."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        held = db.list_of(c, [volume.id])[volume.id]
        chosen = [each for each in held if attachment_id in (None, each.id)]
        if attachment_id is not None and not chosen:
            raise errors.NotFound(f"Volume attachment could not be found with filter: attachment_id = {attachment_id}.")
        if attachment_id is None and len(chosen) > 1:
            raise errors.Invalid("Detach volume failed: More than one attachment, but no attachment_id provided.")
        for each in chosen:
            check_deletable(each, viewer)
            end(c, volume, each)
        return {"status": status_of([each for each in held if each not in chosen])}

    change(service, viewer, volume_id, work)


def initialize_connection(
    service: VolumeService, viewer: VolumeViewer, volume_id: str, connector: Mapping[str, Any]
) -> Mapping[str, object]:
    """Export a volume to the host of the connector; returns how it is had. Raises Invalid, HostRefused, Unreachable."""
    host = str(connector.get(_HOST) or "")
    made = str(uuid.uuid5(uuid.UUID(volume_id), host))

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        require_status(volume, "attaching", "reserved", "available", "in-use", "detaching")
        if all(each.id != made for each in db.list_of(c, [volume.id])[volume.id]):
            attachment = Attachment(
                id=made,
                volume_id=volume.id,
                project_id=volume.project_id,
                status="attaching",
                mode="ro" if volume.readonly else "rw",
            )
            db.insert_attachment(c, attachment)
        return {}

    change(service, viewer, volume_id, work)
    return connect_attachment(service, viewer, made, connector, keep_status=True).connection_info


def terminate_connection(
    service: VolumeService, viewer: VolumeViewer, volume_id: str, connector: Mapping[str, Any] | None
) -> None:
    """Export a volume to the host of the connector no longer; without one, to nobody. Raises Conflict where a server
    uses it and not a service asks."""
    host = str((connector or {}).get(_HOST) or "")

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        held = db.list_of(c, [volume.id])[volume.id]
        for each in held:
            check_deletable(each, viewer)
        gone = [each for each in held if each.server_id is None and each.host and host in ("", each.host)]
        for each in gone:
            end(c, volume, each)
        return {}

    change(service, viewer, volume_id, work)
