"""Server: what was asked for (ServerSpec) and what is (ServerRecord)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, structs

from cellcloud import server_states
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.keypair import Keypair
from cellcloud.model.migration import Migration
from cellcloud.model.network import Port, RequestedNetwork
from cellcloud.model.numa import Placed
from cellcloud.model.server_group import ServerGroup
from cellcloud.model.volume import BlockDevice, Volumes
from cellcloud.server_states import VmState


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """Everything a cell needs to build a server without asking anybody: it travels with the request.

    ``user_data`` is base64 text as the API took it; in records it is left out, and kept under ``user_data_id``.
    ``scheduler_hints`` that are large likewise, but for the group: ``hints_id`` then says that they are not all here.
    ``large_fields_id``, ``kept_as``: likewise, see module ``large_fields``; records that are read have these fields.
    ``admin_pass`` likewise; it is given where a config drive will tell the guest of it. ``sealed_password``: the last
    that was set in the guest or that it has posted, readable with its keypair's private key.
    ``shelved_image``: the one that it is put away as, or is about to be. ``root_image``: what its root disk was made
    from, where that is not ``image``.
    ``networks`` None means "auto": the project's own network. ``placement_proof``: see the module of that name.
    ``placed``: what the claim of the host it is built on has of NUMA cells and devices; ``volumes``: those that the
    server has, and how its host reaches them. Only commands to hosts tell these. ``block_devices``: the disks it was
    asked for with, where these are not its image's and its flavor's. ``cell``: the only one that reaches its volumes.
    """

    id: str
    name: str
    project_id: str
    user_id: str
    flavor: Flavor
    image: Image
    hostname: str = ""
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    keypair: Keypair | None = None
    user_data: str | None = None
    user_data_id: str = ""
    admin_pass: str = field(default="", repr=False)
    admin_pass_id: str = ""
    sealed_password: str = ""
    config_drive: bool = False
    networks: tuple[RequestedNetwork, ...] | None = None
    security_groups: tuple[str, ...] = ("default",)
    availability_zone: str | None = None
    host: str | None = None
    scheduler_hints: dict[str, object] = field(default_factory=dict)
    hints_id: str = ""
    large_fields_id: str = ""
    kept_as: str = ""
    disk_config: str = "MANUAL"
    access_ip_v4: str = ""
    access_ip_v6: str = ""
    reservation_id: str = ""
    launch_index: int = 0
    request_id: str = ""
    created_at: dt.datetime | None = None
    placement_proof: str = ""
    group: ServerGroup | None = None
    placed: Placed | None = None
    shelved_image: Image | None = None
    root_image: Image | None = None
    volumes: Volumes = ()
    block_devices: tuple[BlockDevice, ...] = ()
    cell: str = ""

    @property
    def is_volume_backed(self) -> bool:
        """Whether its root disk is a volume: it has no image then, but for what the volume says of its own."""
        return not self.image.id

    def resources(self) -> dict[str, int]:
        """Return what it asks of its host, by resource classes."""
        amounts = self.flavor.resources()
        if self.is_volume_backed:
            amounts["DISK_GB"] -= self.flavor.root_gb
        return amounts


IN_SPEC = frozenset(
    {
        "name",
        "description",
        "security_groups",
        "metadata",
        "tags",
        "access_ip_v4",
        "access_ip_v6",
        "hostname",
        "disk_config",
        "sealed_password",
    }
)
"""What can be set of a server's spec at any time, an operation under way or not."""
GROUP = "group"  # None: the server's group is gone


def with_accepted(spec: ServerSpec, now: ServerSpec, *, given: Collection[str]) -> ServerSpec:
    """Return an operation's spec with what can be set at any time as it is ``now``, but for the fields that the
    operation is ``given``."""
    return replace(spec, **{name: getattr(now, name) for name in (IN_SPEC | {GROUP}) - set(given)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFault:
    """Why a server is in ERROR. ``message`` is for its owner, ``details`` for administrators."""

    code: int
    message: str
    created: dt.datetime
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """A server as its cell holds it: the content of the feed and of the top's index.

    ``version`` grows by one at each change and orders copies; ``generation`` grows by one at each operation and
    orders commands to the host. ``held`` until the top confirms the placement.
    ``locked_by``: "owner" or "admin", who locked it; "" where it is not locked. ``cell`` is filled in by the top.
    ``placement``: the number that the top gave its placement in the cell, higher with each; whose number is highest has
    the server's ports. ``migrations``: the newest, in the order in which they began. ``volumes``: those that it has, or
    is about to have or to give back.
    """

    spec: ServerSpec
    version: int
    generation: int
    vm_state: str
    task_state: str | None = None
    power_state: int = 0
    held: bool = False
    host: str | None = None
    node: str | None = None
    availability_zone: str | None = None
    host_status: str = "UP"
    ports: tuple[Port, ...] = ()
    fault: ServerFault | None = None
    locked: bool = False
    locked_by: str = ""
    locked_reason: str | None = None
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    launched_at: dt.datetime | None = None
    terminated_at: dt.datetime | None = None
    deleted: bool = False
    cell: str = ""
    placement: int = 0
    migrations: tuple[Migration, ...] = ()
    volumes: Volumes = ()

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def given_up(self) -> bool:
        """Whether the cell could not build the server and has nothing of it any more: another cell may."""
        return self.deleted and self.vm_state == VmState.BUILDING

    @property
    def migration(self) -> Migration | None:
        """The one that is under way, or waits to be confirmed or reverted."""
        newest = self.migrations[-1] if self.migrations else None
        return None if newest is None or newest.is_over else newest

    @property
    def is_soft_deleted(self) -> bool:
        """Whether it rests until it is restored or reclaimed: it counts for no quota."""
        return self.vm_state == VmState.SOFT_DELETED and self.task_state is None

    @property
    def progress(self) -> int:
        """Percent of a move's disks that are copied."""
        return self.migration.progress if self.migration else 0

    @property
    def zone(self) -> str:
        """The zone it is in, or asked for while it is in none."""
        return self.availability_zone or self.spec.availability_zone or ""

    @property
    def status(self) -> str:
        """The API's status word."""
        return server_states.status_of(self.vm_state, self.task_state)


_TIMES = ("launched", "terminated", "soft_deleted", "unconfirmed", "shelved")


class ServerChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a server's record; what is not given stays. ``launched``, ``terminated``, ``soft_deleted``:
    that it was, now by the database's clock. ``unconfirmed``: whether, from now on, its move waits to be confirmed;
    ``shelved``: whether it waits to be offloaded."""

    spec: ServerSpec | UnsetType = UNSET
    vm_state: str | UnsetType = UNSET
    task_state: str | UnsetType | None = UNSET
    power_state: int | UnsetType = UNSET
    host: str | UnsetType | None = UNSET
    availability_zone: str | UnsetType | None = UNSET
    ports: tuple[Port, ...] | UnsetType = UNSET
    fault: ServerFault | UnsetType | None = UNSET
    locked: bool | UnsetType = UNSET
    locked_by: str | UnsetType = UNSET
    locked_reason: str | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET
    placement: int | UnsetType = UNSET
    migrations: tuple[Migration, ...] | UnsetType = UNSET
    volumes: Volumes | UnsetType = UNSET
    launched: bool = False
    terminated: bool = False
    soft_deleted: bool = False
    unconfirmed: bool | UnsetType = UNSET
    shelved: bool | UnsetType = UNSET

    def __bool__(self) -> bool:
        return self != NO_CHANGES

    def given(self) -> dict[str, Any]:
        """Return the values that are given, by the record's names."""
        values = {name: getattr(self, name) for name in self.__struct_fields__ if name not in _TIMES}
        return {name: value for name, value in values.items() if value is not UNSET}

    def followed_by(self, later: ServerChanges) -> ServerChanges:
        """Both, one after the other."""
        if not self:
            return later
        both = {
            "launched": self.launched or later.launched,
            "terminated": self.terminated or later.terminated,
            "soft_deleted": self.soft_deleted or later.soft_deleted,
            "unconfirmed": self.unconfirmed if later.unconfirmed is UNSET else later.unconfirmed,
            "shelved": self.shelved if later.shelved is UNSET else later.shelved,
        }
        return structs.replace(self, **later.given(), **both)

    def applied(self, record: ServerRecord) -> ServerRecord:
        """Return the record with them, but for times."""
        return replace(record, **self.given()) if self else record


NO_CHANGES = ServerChanges()
