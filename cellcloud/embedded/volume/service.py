"""What the parts of the embedded volume service have in common: the database, the images, and the way to the cells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cellcloud import errors
from cellcloud.clients.image import ImageClient
from cellcloud.db import cells, volume_quotas, volume_types
from cellcloud.db.engine import Connection, Database
from cellcloud.model.block_storage import VolumeType
from cellcloud.rpc.transport import Transport
from cellcloud.rpc.volume_store import VolumeStore

DEFAULT_TYPE = "__DEFAULT__"
DEFAULT_ZONE = "nova"
Reach = Callable[[str, str], VolumeStore]


class CellVolumes:
    """The volume services of the cells, by cell and host. Safe to call from several threads."""

    def __init__(self, database: Database, transports: Mapping[str, Transport] | None = None) -> None:
        self._database = database
        self._transports = dict(transports or {})
        self._clients: dict[tuple[str, str], VolumeStore] = {}
        self._lock = threading.Lock()

    def __call__(self, cell: str, host: str) -> VolumeStore:
        """Return a volume service. Raises NotFound for a cell that there is not."""
        with self._lock:
            if (cell, host) not in self._clients:
                self._clients[cell, host] = self._transport(cell).client(VolumeStore, server=host)
            return self._clients[cell, host]

    def _transport(self, cell: str) -> Transport:
        if cell not in self._transports:
            with self._database.read() as connection:
                urls = cells.list_transports(connection)
            if cell not in urls:
                raise errors.NotFound(f"Cell {cell} could not be found.")
            self._transports[cell] = Transport(cell, urls[cell])
        return self._transports[cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeViewer:
    """For whom the service looks or acts."""

    project_id: str
    user_id: str = ""
    is_admin: bool = False
    is_service: bool = False

    @property
    def only(self) -> str | None:
        """The project whose things are shown; None: everybody's."""
        return None if self.is_admin or self.is_service else self.project_id


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeService:
    """``reach``: returns the volume service of a cell's host."""

    database: Database
    images: ImageClient
    reach: Reach
    limits: Mapping[str, int] = field(default_factory=lambda: dict(volume_quotas.DEFAULTS))

    def limits_of(self, c: Connection) -> dict[str, int]:
        """Return every resource with its default limit: those of each type are limitless."""
        names = volume_types.names_of(c).values()
        of_types = {
            volume_quotas.of_type(resource, name): volume_quotas.UNLIMITED
            for resource in volume_quotas.COUNTED
            for name in names
        }
        return {**self.limits, **of_types}


def get_type(c: Connection, wanted: str, project_id: str | None) -> VolumeType:
    """Return a type by id or name. Raises NotFound."""
    found = volume_types.find_type(c, wanted, project_id=project_id)
    if found is None:
        raise errors.NotFound(f"Volume type {wanted[:64]} could not be found.")
    return found


def default_type(c: Connection, project_id: str) -> VolumeType:
    """Return the type of a project's new volumes that name none. Raises Misconfigured where there is none at all."""
    own = volume_types.find_default(c, project_id)
    found = volume_types.find_type(c, own or DEFAULT_TYPE)
    if found is None:
        raise errors.Misconfigured(f"There is no volume type {DEFAULT_TYPE}.")
    return found
