"""Volumes by Cinder, through its attachments API.

A server's attachments are deleted with a service token beside the account's own: Cinder lets nobody else give back what
a server has. Volumes are made in a session of the project that they are for, since Cinder makes them in that of the
token; for this the service account needs a role in it, such as one that projects inherit from their domain.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from keystoneauth1.session import Session

from cellcloud import errors
from cellcloud.clients.session import RestService, make_session
from cellcloud.clients.volume import Connector, not_found
from cellcloud.config import Config
from cellcloud.model.volume import READ_WRITE, Connection, NewVolume, Volume, VolumeSnapshot

T = TypeVar("T", Volume, VolumeSnapshot)
MICROVERSION = "volume 3.70"
MARK = "cellcloud_device"  # of a volume's or a snapshot's metadata: what it was made for
REACH = "cellcloud:reach"  # what the embedded service says of a volume to services: where it is to be had
_VERSION = {"OpenStack-API-Version": MICROVERSION}
_SNAPSHOT_VERSION = {"OpenStack-API-Version": "volume 3.65"}  # the last that asks whether those in use are meant, too


class CinderClient:
    """Implements ``VolumeClient``. ``session_of``: makes a session of the account in a project."""

    def __init__(self, session: Session, *, url: str = "", session_of: Callable[[str], Session] | None = None) -> None:
        self._session = session
        self._url = url
        self._session_of = session_of or (lambda _: session)
        self._service = RestService(session, "volumev3", url=url)
        self._lock = threading.Lock()
        self._projects: dict[str, RestService] = {}

    @classmethod
    def from_config(cls, config: Config) -> CinderClient:
        """With the service account of ``[identity]``; the endpoint comes from its catalog."""
        return cls(
            make_session(config.identity),
            session_of=lambda project_id: make_session(config.identity, project_id=project_id),
        )

    def get_url(self) -> str:
        """See ``VolumeClient``."""
        return self._service.get_url()

    # ---- in the name of a project ------------------------------------------------------------------------------------
    def get_volume(self, volume_id: str, *, project_id: str = "", is_admin: bool = True) -> Volume:
        """See ``VolumeClient``."""
        return _visible(_volume(self._get("volume", volume_id)), project_id, is_admin)

    def get_snapshot(self, snapshot_id: str, *, project_id: str = "", is_admin: bool = True) -> VolumeSnapshot:
        """See ``VolumeClient``."""
        return _visible(_snapshot(self._get("snapshot", snapshot_id)), project_id, is_admin)

    def list_volumes(self, project_id: str, *, offset: int, limit: int) -> list[Volume]:
        """See ``VolumeClient``."""
        return [_volume(one) for one in self._page("volumes", project_id, offset, limit)]

    def list_snapshots(self, project_id: str, *, offset: int, limit: int) -> list[VolumeSnapshot]:
        """See ``VolumeClient``."""
        return [_snapshot(one) for one in self._page("snapshots", project_id, offset, limit)]

    def _page(self, plural: str, project_id: str, offset: int, limit: int) -> list[dict[str, Any]]:
        asked = {"all_tenants": "1", "project_id": project_id, "offset": str(offset), "limit": str(limit)}
        found: list[dict[str, Any]] = self._service.get(f"/{plural}/detail", asked, headers=_VERSION)[plural]
        return found

    def _get(self, kind: str, known_as: str) -> dict[str, Any]:
        try:
            body: dict[str, Any] = self._service.get(_path(kind, known_as), headers=_VERSION)[kind]
        except errors.NotFound as error:
            raise errors.NotFound(f"{kind.capitalize()} {known_as[:64]} could not be found.") from error
        return body

    # ---- made for servers --------------------------------------------------------------------------------------------
    def ensure_volume(self, wanted: NewVolume) -> Volume:
        """See ``VolumeClient``."""
        service = self._of_project(wanted.project_id)
        known = self.find_volume(wanted.mark, project_id=wanted.project_id) if wanted.mark else None
        if known is not None:
            return known
        named = {
            "size": wanted.size_gb,
            "name": wanted.name,
            "description": wanted.description,
            "volume_type": wanted.volume_type,
            "availability_zone": wanted.availability_zone,
            "imageRef": wanted.image_id,
            "snapshot_id": wanted.snapshot_id,
            "source_volid": wanted.source_volume_id,
        }
        body: dict[str, Any] = {key: value for key, value in named.items() if value}
        body["metadata"] = wanted.metadata | ({MARK: wanted.mark} if wanted.mark else {})
        asked = {"volume": body, "OS-SCH-HNT:scheduler_hints": {"cell": wanted.cell} if wanted.cell else {}}
        return self.get_volume(service.post("/volumes", asked, headers=_VERSION)["volume"]["id"])

    def find_volume(self, mark: str, *, project_id: str) -> Volume | None:
        """See ``VolumeClient``."""
        found = _marked(self._of_project(project_id), "volumes", mark)
        return None if found is None else self.get_volume(found["id"])

    def delete_volume(self, volume_id: str) -> None:
        """See ``VolumeClient``."""
        self._service.delete(_path("volume", volume_id), headers=_VERSION)

    def ensure_snapshot(
        self, volume_id: str, *, mark: str, name: str, description: str = "", force: bool = True
    ) -> VolumeSnapshot:
        """See ``VolumeClient``. In the volume's project."""
        service = self._of_project(self.get_volume(volume_id).project_id)
        found = _marked(service, "snapshots", mark) if mark else None
        if found is None:
            body: dict[str, Any] = {"volume_id": volume_id, "name": name, "description": description, "force": force}
            body["metadata"] = {MARK: mark} if mark else {}
            found = service.post("/snapshots", {"snapshot": body}, headers=_SNAPSHOT_VERSION)["snapshot"]
        return _snapshot(found)

    def find_snapshot(self, mark: str, *, volume_id: str) -> VolumeSnapshot | None:
        """See ``VolumeClient``."""
        try:
            service = self._of_project(self.get_volume(volume_id).project_id)
        except errors.NotFound:
            return None  # a volume that has a snapshot is there
        found = _marked(service, "snapshots", mark)
        return None if found is None else _snapshot(found)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """See ``VolumeClient``."""
        self._service.delete(_path("snapshot", snapshot_id), headers=_VERSION)

    def _of_project(self, project_id: str) -> RestService:
        with self._lock:
            if project_id not in self._projects:
                self._projects[project_id] = RestService(self._session_of(project_id), "volumev3", url=self._url)
            return self._projects[project_id]

    def reimage_volume(self, volume_id: str, image_id: str) -> None:
        """See ``VolumeClient``."""
        asked = {"os-reimage": {"image_id": image_id, "reimage_reserved": True}}
        self._service.act(f"{_path('volume', volume_id)}/action", asked, headers=_VERSION)

    # ---- attachments -------------------------------------------------------------------------------------------------
    def create_attachment(self, volume_id: str, server_id: str, *, mode: str = READ_WRITE) -> str:
        """See ``VolumeClient``. An attachment that an earlier request left for the same server, and that no host was
        ever let reach the volume by, is taken for this one."""
        left = self._list(server_id)
        for one in left:
            if one["volume_id"] == volume_id and one["status"] == "reserved":
                return str(one["id"])
        body = {"volume_uuid": volume_id, "instance_uuid": server_id, "mode": mode}
        made = self._service.post("/attachments", {"attachment": body}, headers=_VERSION)
        return str(made["attachment"]["id"])

    def update_attachment(self, attachment_id: str, connector: Connector) -> Connection:
        """See ``VolumeClient``."""
        body = {"attachment": {"connector": dict(connector)}}
        told = self._service.put(_path("attachment", attachment_id), body, headers=_VERSION)
        return _connection(told["attachment"]["connection_info"])

    def complete_attachment(self, attachment_id: str) -> None:
        """See ``VolumeClient``."""
        self._service.act(f"{_path('attachment', attachment_id)}/action", {"os-complete": {}}, headers=_VERSION)

    def delete_attachment(self, attachment_id: str) -> None:
        """See ``VolumeClient``."""
        token = self._session.get_token()
        headers = _VERSION | ({"X-Service-Token": token} if token else {})
        self._service.delete(_path("attachment", attachment_id), headers=headers)

    def list_attachments(self, server_id: str) -> Sequence[tuple[str, str]]:
        """See ``VolumeClient``."""
        return [(one["id"], one["volume_id"]) for one in self._list(server_id)]

    def _list(self, server_id: str) -> list[dict[str, Any]]:
        asked = {"instance_id": server_id, "all_tenants": "1"}
        found: list[dict[str, Any]] = self._service.get("/attachments/detail", asked, headers=_VERSION)["attachments"]
        return found

    def begin_detaching(self, volume_id: str) -> None:
        """See ``VolumeClient``."""
        self._service.act(f"{_path('volume', volume_id)}/action", {"os-begin_detaching": {}}, headers=_VERSION)

    def roll_detaching(self, volume_id: str) -> None:
        """See ``VolumeClient``."""
        try:
            if self.get_volume(volume_id).status == "detaching":
                self._service.act(f"{_path('volume', volume_id)}/action", {"os-roll_detaching": {}}, headers=_VERSION)
        except errors.NotFound:
            return


def _marked(service: RestService, plural: str, mark: str) -> dict[str, Any] | None:
    """Return what was made with that mark."""
    found = service.get(f"/{plural}/detail", {"metadata": json.dumps({MARK: mark})}, headers=_VERSION)[plural]
    return next((one for one in found if one.get("metadata", {}).get(MARK) == mark), None)


def _visible(found: T, project_id: str, is_admin: bool) -> T:
    if not is_admin and found.project_id != project_id:
        kind = "Volume" if isinstance(found, Volume) else "Snapshot"
        raise errors.NotFound(f"{kind} {found.id} could not be found.")
    return found


def _path(kind: str, known_as: str) -> str:
    """Return the path of a thing. Raises NotFound for what is a step up or no step on a way, not an id."""
    if known_as in ("", ".", ".."):
        raise errors.NotFound(not_found(known_as))
    return f"/{kind}s/{quote(known_as, safe='')}"


def _connection(told: dict[str, Any]) -> Connection:
    """Return it in the form that drivers know: an attachment has its data beside the kind."""
    if "data" in told:
        return told
    kind = told.get("driver_volume_type", "")
    return {"driver_volume_type": kind, "data": dict(told)}


def _volume(body: dict[str, Any]) -> Volume:
    servers = (one.get("server_id") for one in body.get("attachments", ()))
    reach = body.get(REACH) or {}
    return Volume(
        id=body["id"],
        status=body.get("status") or "",
        size_gb=int(body.get("size") or 0),
        project_id=body.get("os-vol-tenant-attr:tenant_id") or "",
        name=body.get("name") or "",
        description=body.get("description") or "",
        availability_zone=body.get("availability_zone") or "",
        created_at=body.get("created_at") or "",
        volume_type=body.get("volume_type") or "",
        snapshot_id=body.get("snapshot_id"),
        metadata=body.get("metadata") or {},
        multiattach=bool(body.get("multiattach")),
        bootable=str(body.get("bootable")).lower() == "true",
        encrypted=bool(body.get("encrypted")),
        migration_status=body.get("os-vol-mig-status-attr:migstat"),
        attached_to=tuple(server for server in servers if server),
        image=body.get("volume_image_metadata") or {},
        cell=str(reach.get("cell") or ""),
        follows=bool(reach.get("follows")),
    )


def _snapshot(body: dict[str, Any]) -> VolumeSnapshot:
    return VolumeSnapshot(
        id=body["id"],
        volume_id=body.get("volume_id") or "",
        status=body.get("status") or "",
        size_gb=int(body.get("size") or 0),
        project_id=body.get("os-extended-snapshot-attributes:project_id") or body.get("project_id") or "",
        name=body.get("name") or "",
        description=body.get("description") or "",
        created_at=body.get("created_at") or "",
    )
