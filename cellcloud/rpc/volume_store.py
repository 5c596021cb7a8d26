"""The verbs of a cell's volume service, which keeps volumes' files and exports them."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.block_storage import Connector, HeldVolume, TaskOutcome, VolumeConnection, VolumeHost, VolumeTask
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.interface import call, served_by


@served_by(Role.VOLUME, callers=(Role.TOP,))
class VolumeStore(Protocol):
    @call(timeout=10.0)
    def perform(self, context: RequestContext, tasks: list[VolumeTask]) -> list[TaskOutcome]:
        """Begin each task that is not begun, and tell how far each is. The same task twice is once; one that is older
        than the volume's last change has been done, or is never."""
        ...

    @call(timeout=20.0)
    def connect(
        self,
        context: RequestContext,
        volume_id: str,
        attachment_id: str,
        generation: int,
        connector: Connector,
        mode: str,
        shared: bool,
    ) -> VolumeConnection:
        """Export a volume for a host. Unless it is ``shared`` whatever was exported to another host ends first. Raises
        NotFound, Stale, HostRefused."""
        ...

    @call(timeout=5.0)
    def describe(self, context: RequestContext) -> VolumeHost:
        """Return where the service is and what room it has."""
        ...

    @call(timeout=10.0, pages=("id",))
    def list_volumes(self, context: RequestContext) -> list[HeldVolume]:
        """Return every volume that has files or an export here."""
        ...
