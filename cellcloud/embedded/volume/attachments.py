"""Attachments: which server has a volume where. What a cell exports follows what stands here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from cellcloud import errors
from cellcloud.context import RequestContext, service_context
from cellcloud.db import pagination_snapshots
from cellcloud.db import volume_attachments as db
from cellcloud.db import volumes as db_volumes
from cellcloud.db.engine import Connection, transact
from cellcloud.db.listing import Page
from cellcloud.embedded.volume import relocation
from cellcloud.embedded.volume.service import VolumeService, VolumeViewer
from cellcloud.embedded.volume.volumes import begin, change
from cellcloud.model import codec
from cellcloud.model.block_storage import Attachment, BlockVolume, Connector, TaskKind, VolumeConnection

HELD = frozenset({"available", "reserved", "attaching", "in-use", "detaching"})
"""Statuses of a volume that follow from its attachments."""
_BUDGET = 25.0  # seconds that a cell has to make or export a volume
_ATTEMPTS = 4  # to reserve a volume that others change meanwhile


def status_of(attachments: Sequence[Attachment]) -> str:
    """Return the status of a volume with these attachments."""
    known = {attachment.status for attachment in attachments}
    return next(
        (
            status
            for each, status in (("attached", "in-use"), ("attaching", "attaching"), ("reserved", "reserved"))
            if each in known
        ),
        "available",
    )


def list_attachments(service: VolumeService, project_id: str | None, page: Page) -> list[Attachment]:
    """Return attachments of a project; None: of all. Raises NotFound for an unknown marker."""
    return pagination_snapshots.listed(
        service.database, page.walk, lambda c: db.list_attachments(c, project_id=project_id, page=page)
    )


def get_attachment(service: VolumeService, viewer: VolumeViewer, attachment_id: str) -> Attachment:
    """Return an attachment. Raises NotFound for another project's."""
    with service.database.read() as c:
        return db.get_attachment(c, attachment_id, project_id=viewer.only)


def create_attachment(
    service: VolumeService,
    viewer: VolumeViewer,
    volume_id: str,
    server_id: str | None,
    *,
    mode: str | None = None,
    attachment_id: str = "",
) -> Attachment:
    """Keep a volume for a server, whose cell a new one follows. Raises NotFound, Invalid while another has it and it is
    not for several, or out of the server's reach; TryLater while that cell does not answer.
    ``attachment_id``: the one that it shall have; one that is there is answered as it is."""
    new_id = attachment_id or str(uuid.uuid4())
    context = service_context(_BUDGET)
    for left in reversed(range(_ATTEMPTS)):
        copy = relocation.ensure_copy(service, context, volume_id, server_id, viewer.only)
        try:
            _reserve(service, viewer, volume_id, server_id, mode, new_id, copy)
            break
        except errors.Stale:
            if not left:
                raise
    return get_attachment(service, viewer, new_id)


def _reserve(
    service: VolumeService,
    viewer: VolumeViewer,
    volume_id: str,
    server_id: str | None,
    mode: str | None,
    new_id: str,
    copy: relocation.Copy | None,
) -> None:
    """Keep a volume where its server reaches it. Raises Stale where the place of either has changed."""

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        held = db.list_of(c, [volume.id])[volume.id]
        if any(each.id == new_id for each in held):
            return {}
        _check_free(volume, held, server_id)
        wanted = mode or ("ro" if volume.readonly else "rw")
        if volume.readonly and wanted == "rw":
            raise errors.Invalid(f"Invalid attaching mode 'rw' for volume {volume.id}, which is read-only.")
        new = Attachment(
            id=new_id,
            volume_id=volume.id,
            project_id=volume.project_id,
            status="reserved",
            server_id=server_id,
            mode=wanted,
        )
        placed = relocation.follow(c, volume, server_id, copy)
        db.insert_attachment(c, new)
        return {**placed, "status": status_of([*held, new])}

    change(service, viewer, volume_id, work)


def _check_free(volume: BlockVolume, held: Sequence[Attachment], server_id: str | None) -> None:
    """Check that one more may have a volume: of one that is not for several, only the server that has it already, on
    its way to another host. Raises Invalid."""
    if volume.status == "available" and not held:
        return
    if volume.status in ("in-use", "reserved", "attaching", "available") and held:
        mine = server_id is not None and all(each.server_id == server_id for each in held)
        if volume.multiattach or mine:
            return
    wanted = "available or downloading" if not volume.multiattach else "available, in-use or reserved"
    raise errors.Invalid(
        f"Invalid volume: Volume {volume.id} status must be {wanted} to reserve, but the current status is "
        f"{volume.status}."
    )


def connect_attachment(
    service: VolumeService,
    viewer: VolumeViewer,
    attachment_id: str,
    connector: Mapping[str, Any],
    *,
    keep_status: bool = False,
) -> Attachment:
    """Export the volume to the host of the connector, and keep how it is had. Raises NotFound, Conflict, HostRefused,
    Unreachable; may be asked again."""
    where = _connector(connector)
    attachment = get_attachment(service, viewer, attachment_id)

    def reserve(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        known = db.get_attachment(c, attachment_id)
        kept = {"host": where.host, "connector": dict(connector)}
        status = "attached" if known.status == "attached" else "attaching"
        db.update_attachment(c, attachment_id, {**kept, "status": status})
        db_volumes.pin_volume(c, volume)
        db_volumes.next_generation(c, volume.id)
        return {} if keep_status else _held(c, volume)

    volume = change(service, viewer, attachment.volume_id, reserve)
    connection = _connect(service, service_context(_BUDGET), volume, attachment, where)

    def keep(c: Connection) -> Attachment:
        held = db_volumes.get_volume(c, volume.id, lock=True)
        info = connection_info(connection)
        if not db.update_attachment(c, attachment_id, {"connection_info": info}):
            begin(c, held, TaskKind.DISCONNECT, task_id=attachment_id, attachment_id=attachment_id)
            return attachment
        return db.get_attachment(c, attachment_id)

    kept = transact(service.database, keep)
    return kept if kept is not attachment else get_attachment(service, viewer, attachment_id)


def _connect(
    service: VolumeService, context: RequestContext, volume: BlockVolume, attachment: Attachment, where: Connector
) -> VolumeConnection:
    return service.reach(volume.cell, volume.host).connect(
        context, volume.id, attachment.id, volume.generation, where, attachment.mode, volume.multiattach
    )


def _connector(given: Mapping[str, Any]) -> Connector:
    """Read a connector. Raises Invalid for one without a host."""
    host = given.get("host")
    if not isinstance(host, str) or not 0 < len(host) <= 255:
        raise errors.Invalid("Invalid input received: The connector names no host.")
    texts = {name: str(given.get(name) or "") for name in ("ip", "boot_id")}
    return Connector(host=host, **texts)


def connection_info(connection: VolumeConnection) -> dict[str, Any]:
    """Return a connection as Cinder's drivers tell it."""
    plain = asdict(connection)
    data: dict[str, Any] = {
        "volume_id": connection.volume_id,
        "access_mode": connection.access_mode,
        "export": connection.export,
        "generation": connection.generation,
        "format": "raw",
        "serial": connection.volume_id,
        "discard": True,
        "qos_specs": None,
        "encrypted": False,
        "cacheable": False,
    }
    if connection.socket:
        data["socket"] = connection.socket
    else:
        data |= {name: codec.to_plain(plain[name]) for name in ("host", "port", "tls_hostname", "credentials")}
        data["tls"] = True
    return {"driver_volume_type": "nbd", "data": data}


def complete_attachment(service: VolumeService, viewer: VolumeViewer, attachment_id: str) -> None:
    """Note that the server has the volume now, on a host or, as it is on none, with its next. Raises NotFound."""
    attachment = get_attachment(service, viewer, attachment_id)

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        known = db.get_attachment(c, attachment_id)
        if known.status != "attached":
            db.update_attachment(c, attachment_id, {"status": "attached", "mountpoint": _mountpoint(known)})
        return _held(c, volume)

    change(service, viewer, attachment.volume_id, work)


def _mountpoint(attachment: Attachment) -> str:
    given = attachment.connector.get("mountpoint")
    return str(given)[:255] if given else "/dev/na"


def delete_attachment(service: VolumeService, viewer: VolumeViewer, attachment_id: str) -> list[Attachment]:
    """End an attachment and the export that is only its own; returns those that are left. Raises NotFound; Conflict
    where a server uses the volume and not a service asks."""
    attachment = get_attachment(service, viewer, attachment_id)
    check_deletable(attachment, viewer)

    def work(c: Connection, volume: BlockVolume) -> Mapping[str, Any]:
        end(c, volume, db.get_attachment(c, attachment_id))
        return _held(c, volume)

    change(service, viewer, attachment.volume_id, work)
    with service.database.read() as c:
        return db.list_of(c, [attachment.volume_id])[attachment.volume_id]


def check_deletable(attachment: Attachment, viewer: VolumeViewer) -> None:
    """Check that what a server uses is given back by Compute alone. Raises Conflict."""
    if attachment.server_id and attachment.host is not None and not viewer.is_service:
        raise errors.Conflict(f"Detach volume from instance {attachment.server_id} using the Compute API")


def discard_attachment(service: VolumeService, attachment_id: str) -> None:
    """End an attachment of which nothing came. Absent is success."""
    with suppress(errors.NotFound):
        delete_attachment(service, VolumeViewer(project_id="", is_service=True), attachment_id)


def end(c: Connection, volume: BlockVolume, attachment: Attachment) -> None:
    """Forget an attachment of a volume that is locked, and have its export ended."""
    db.delete_attachment(c, attachment.id)
    if attachment.host is not None:
        begin(c, volume, TaskKind.DISCONNECT, task_id=attachment.id, attachment_id=attachment.id)


def _held(c: Connection, volume: BlockVolume) -> dict[str, Any]:
    """Return the status that follows from who has the volume, where it is not busy with something else."""
    status = status_of(db.list_of(c, [volume.id])[volume.id])
    if volume.status in HELD:
        return {"status": status}
    return {"previous_status": status} if volume.previous_status in HELD else {}
