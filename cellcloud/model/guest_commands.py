"""What a cell tells its hosts to do with guests, and what they answer: commands and events, and the orders of a
comparison of what a host has with what it should have."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from cellcloud import errors
from cellcloud.model.image import Image
from cellcloud.model.network import Port
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume import AttachedVolume


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """One thing to do to one guest. Repeating it is harmless; ``run_id`` + ``step`` name the answer's addressee.

    Every kind is a class of its own, with the arguments that it takes; one without any is named as the driver's verb.
    ``host``: the one it is for, where a message carries commands for several.
    """

    run_id: str
    step: str
    server_id: str
    generation: int
    request_id: str = ""
    host: str = ""

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)


class DefiningCommand(Command, frozen=True, kw_only=True):
    """A command with what the guest is made from: to make it, or to define it again where that got lost."""

    spec: ServerSpec
    ports: tuple[Port, ...] = ()


class Spawn(DefiningCommand, frozen=True, kw_only=True, tag="spawn"): ...


class Start(DefiningCommand, frozen=True, kw_only=True, tag="start"): ...


class Stop(Command, frozen=True, kw_only=True, tag="stop"): ...


class RebootSoft(Command, frozen=True, kw_only=True, tag="reboot_soft"): ...


class RebootHard(DefiningCommand, frozen=True, kw_only=True, tag="reboot_hard"): ...


class Destroy(Command, frozen=True, kw_only=True, tag="destroy"): ...


class Pause(Command, frozen=True, kw_only=True, tag="pause"): ...


class Unpause(Command, frozen=True, kw_only=True, tag="unpause"): ...


class Suspend(Command, frozen=True, kw_only=True, tag="suspend"): ...


class Resume(Command, frozen=True, kw_only=True, tag="resume"): ...


class Rescue(DefiningCommand, frozen=True, kw_only=True, tag="rescue"):
    """``image``: what the guest is started from, beside its own root disk. ``spec.admin_pass`` is for that system."""

    image: Image


class Unrescue(Command, frozen=True, kw_only=True, tag="unrescue"):
    """``running``: whether the guest runs afterwards."""

    running: bool = True


class ImageCommand(Command, frozen=True, kw_only=True):
    """A command about a copy of the guest's root disk that is to become an image."""

    image_id: str


class Snapshot(ImageCommand, frozen=True, kw_only=True, tag="snapshot"): ...


class UploadSnapshot(ImageCommand, frozen=True, kw_only=True, tag="upload_snapshot"): ...


class DiscardSnapshot(ImageCommand, frozen=True, kw_only=True, tag="discard_snapshot"): ...


class PrepareRebuild(DefiningCommand, frozen=True, kw_only=True, tag="prepare_rebuild"):
    """Make what the guest is rebuilt from, beside what it has."""


class Rebuild(DefiningCommand, frozen=True, kw_only=True, tag="rebuild"):
    """``run``: whether it runs afterwards. ``keep_ephemeral``: its ephemeral disk stays as it is."""

    run: bool = True
    keep_ephemeral: bool = False


class VolumeCommand(Command, frozen=True, kw_only=True):
    """A command about a volume of the guest's, which says how its host reaches it."""

    volume: AttachedVolume


class AttachVolume(VolumeCommand, frozen=True, kw_only=True, tag="attach_volume"): ...


class DetachVolume(VolumeCommand, frozen=True, kw_only=True, tag="detach_volume"):
    """Have the guest let go of it; the answer says that it has."""


class ExtendVolume(VolumeCommand, frozen=True, kw_only=True, tag="extend_volume"):
    """Let the guest see the size that the volume has by now."""


class PortCommand(Command, frozen=True, kw_only=True):
    """A command about a port of the guest's."""

    port: Port


class AttachPort(PortCommand, frozen=True, kw_only=True, tag="attach_port"): ...


class DetachPort(PortCommand, frozen=True, kw_only=True, tag="detach_port"):
    """Have the guest let go of it; the answer says that it has."""


class SetAside(Command, frozen=True, kw_only=True, tag="set_aside"):
    """Power the guest off and keep all of it out of the way: it may be moved, or put back."""


class OfferDisks(Command, frozen=True, kw_only=True, tag="offer_disks"):
    """Let who has what the answer's outputs say fetch the disks of a guest that is set aside."""


class FetchDisks(DefiningCommand, frozen=True, kw_only=True, tag="fetch_disks"):
    """Copy the disks of a guest that ``source`` has set aside, and make them fit. ``offer``: that host's answer to
    OfferDisks; empty where it is this one."""

    source: str
    offer: dict[str, str] = {}


class Arrive(DefiningCommand, frozen=True, kw_only=True, tag="arrive"):
    """Make a guest of disks that were fetched, and start it if it is to run."""

    running: bool = True


class MoveBack(DefiningCommand, frozen=True, kw_only=True, tag="move_back"):
    """Put a guest that is set aside in its place again, over what is there, and start it if it is to run."""

    running: bool = True


class Discard(Command, frozen=True, kw_only=True, tag="discard"):
    """Remove what is set aside of the guest, and nothing else of it."""


Moving = SetAside | OfferDisks | FetchDisks | Arrive | MoveBack | Discard


GuestCommand = (
    Spawn
    | Start
    | Stop
    | RebootSoft
    | RebootHard
    | Destroy
    | Pause
    | Unpause
    | Suspend
    | Resume
    | Snapshot
    | UploadSnapshot
    | DiscardSnapshot
    | SetAside
    | OfferDisks
    | FetchDisks
    | Arrive
    | MoveBack
    | Discard
    | PrepareRebuild
    | Rebuild
    | Rescue
    | Unrescue
    | AttachVolume
    | DetachVolume
    | ExtendVolume
    | AttachPort
    | DetachPort
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEvent:
    """The outcome of a command, or (``run_id`` empty) a change nobody asked for, or how far a command is: ``progress``,
    in percent.

    ``error`` is the name of a class of cellcloud.errors, empty for success; ``error_kinds`` its ancestors' after it,
    for a receiver that does not know it.
    """

    host: str
    server_id: str
    generation: int
    power_state: int
    run_id: str = ""
    step: str = ""
    error: str = ""
    message: str = ""
    detail: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    error_kinds: tuple[str, ...] = ()
    progress: int | None = None

    @property
    def known_error(self) -> str:
        """The name of the nearest class that is known here; empty for success."""
        return errors.nearest([self.error, *self.error_kinds]).__name__ if self.error else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGuest:
    """What the cell's records say a host should hold; the host compares and corrects.

    ``running``: True or False as recorded, None while a run is under way (leave it alone). ``paused``,
    ``suspended``: it does not run, and its memory is kept, on the host's disk where it is suspended.
    """

    server_id: str
    generation: int
    running: bool | None
    project_id: str = ""
    paused: bool = False
    suspended: bool = False


class OrderKind(StrEnum):
    """What a cell may tell a host to do with a guest that is not among those it expects there."""

    DESTROY = "destroy"  # its record says deleted, or an operator said so
    STOP = "stop"  # its record, no older than it, has the server elsewhere
    FENCE = "fence"
    DISCARD = "discard"  # what is set aside beside it: its record says that the move is over


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOrder:
    """``generation``: of what the order is based on; a guest that is newer by now is left alone."""

    server_id: str
    kind: OrderKind
    generation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOrders:
    """A cell's answer to the list of a host's guests: those it should hold, and what to do with some others."""

    expected: tuple[ExpectedGuest, ...] = ()
    orders: tuple[GuestOrder, ...] = ()
