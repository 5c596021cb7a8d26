"""Run: one operation under way, and the action record that users see of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.network import Port
from cellcloud.model.operations import OperationSpec, spec_of
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume import AttachedVolume


class RunArguments(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an operation was asked with. ``type``: of its variant. ``keep_ports``, of a delete: another cell has the
    server, and goes on with its ports. ``image``: the one to make, or to rescue from; ``rotation``: how many of its
    kind are left then. ``admin_pass``: for the guest; a run has only ``admin_pass_id``, under which it is kept.
    ``soft``, of a delete that waits for another operation's end: the server is kept for a while. ``flavor``,
    ``disk_config``: of a resize. ``host``: where a server is to be moved to; empty: wherever there is room.
    ``zone``, of an unshelve: the one that the server is pinned to from now on; None: to none.

    ``spec_changes``, of a rebuild: what it gives the server, by names of its spec; from its beginning on ``spec`` is
    what the server will be, with the ids of texts instead of these. ``keep_ephemeral``: its ephemeral disk stays.
    ``reimage``, of a rebuild: the image that is written to the server's root volume.
    ``volume``: the one that is attached, detached or extended; ``port``: the one that is attached or detached."""

    type: str = ""
    keep_ports: bool = False
    image: Image | None = None
    rotation: int = 0
    soft: bool = False
    flavor: Flavor | None = None
    disk_config: str = ""
    host: str = ""
    spec_changes: dict[str, Any] = {}
    spec: ServerSpec | None = None
    keep_ephemeral: bool = False
    reimage: str = ""
    admin_pass: str = ""
    admin_pass_id: str = ""
    zone: str | UnsetType | None = UNSET
    volume: AttachedVolume | None = None
    port: Port | None = None


class OperationRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who asked for an operation, and with what."""

    request_id: str = ""
    user_id: str = ""
    project_id: str = ""
    arguments: RunArguments = RunArguments()


class GuestResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a host answered to a command, as its run keeps it. ``error``: the name of a class of cellcloud.errors, empty
    for success."""

    error: str = ""
    message: str = ""
    detail: str = ""
    power_state: int = 0
    outputs: dict[str, str] = {}


class TriedHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host that could not do it, and why."""

    host: str
    error: str
    message: str


class RunOutputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What steps leave for later ones. ``tried``: hosts of earlier tries. ``put_off``: how often the host has put off
    the present step. ``put_back``: the run stood in a backup that was put back, and may have come to its end since."""

    tried: tuple[TriedHost, ...] = ()
    put_off: int = 0
    put_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What a run begins with. ``generation`` is the one its server has just been given; ``deadline`` in seconds.
    ``host``: where the server is. ``trail``: the name of its first step. ``direction``: "move" for one that is to be
    given a host first."""

    server_id: str
    operation: str
    generation: int
    asked: OperationRequest
    deadline: float
    host: str = ""
    trail: str = ""
    direction: str = "do"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedRun:
    """A run that the holder of lease ``lease_number`` may move. ``step``: the number of its present step; ``trail``:
    the names of those up to it; both as whoever stored it has them. ``step_since``: when its present step was first
    taken; None: not yet. ``overdue``: its deadline has passed. Both by the database's clock."""

    id: str
    server_id: str
    operation: str
    step: int
    trail: str
    direction: str
    arguments: RunArguments
    outputs: RunOutputs
    events: dict[str, GuestResult]
    generation: int
    attempt: int
    step_since: dt.datetime | None
    cancel_requested: bool
    overdue: bool
    error: str
    message: str
    detail: str
    request_id: str
    user_id: str
    project_id: str
    lease_number: int

    @property
    def spec(self) -> OperationSpec:
        """The operation's row of the table."""
        return spec_of(self.operation, self.arguments.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who may move runs, and for how many seconds. ``busy``: ids of runs the owner is at work on, which it does not
    take a second time."""

    owner: str
    seconds: float
    busy: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """When a step was first taken: in this process, ``began`` seconds of its monotonic clock; or before, ``since`` by
    the database's."""

    began: float = 0.0
    since: dt.datetime | None = None

    def at(self, now: dt.datetime, monotonic: float) -> dt.datetime:
        """By the database's clock, given both clocks' present time."""
        return self.since or now - dt.timedelta(seconds=max(0.0, monotonic - self.began))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A run's state to store. ``wait``: seconds until it is due again, its lease given back; None keeps the lease.
    ``finished``: the state it ends in, or nothing. ``step_time``: of the present step, if it was taken."""

    run: LeasedRun
    wait: float | None = None
    finished: str = ""
    step_time: StepTime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """A step's end, at ``ended`` seconds of this process's monotonic clock. ``outcome``: done | failed."""

    run_id: str
    step: str
    direction: str
    outcome: str
    attempt: int
    step_time: StepTime
    ended: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A row of ``run_steps``: what a step did, once per direction."""

    step: str
    direction: str
    outcome: str
    attempt: int = 1
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    message: str = ""
    outputs: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A row of ``runs`` for operators. ``state``: running | done | failed | undone. ``direction``: do | undo.
    ``host``: where the server was for it."""

    id: str
    server_id: str
    operation: str
    state: str
    step: str
    direction: str
    attempt: int
    request_id: str
    user_id: str
    project_id: str
    generation: int
    cancel_requested: bool = False
    error: str = ""
    message: str = ""
    lease_owner: str | None = None
    run_at: dt.datetime | None = None
    deadline: dt.datetime | None = None
    created_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    steps: tuple[StepRecord, ...] = ()
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One line of ``cellctl server timeline``: when, what kind of record, and what it says."""

    at: dt.datetime
    kind: str
    text: str
    request_id: str = ""
